//! A [`Health`] that all threads share. While all is well, asking and reporting cost a load each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use weir_filters::health::{Blow, Condition, Cooldown, Health, Standing, Ticket};

/// Bits of the glance below those of the round.
const CODE_BITS: u32 = 2;
/// Healthy, and a whole answer changes nothing.
const SPOTLESS: u64 = 0;
/// Healthy, and a whole answer is to be reported.
const BLEMISHED: u64 = 1;
/// To be looked at.
const UNWELL: u64 = 2;

/// The health of one channel or key.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// What matters of `health` while all is well: its round and a code. It may be behind for a moment,
    /// which lets one request more through, or loses one whole answer.
    glance: AtomicU64,
    health: Mutex<Health>,
}

impl Vitals {
    /// Whether it may be asked.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.glance() {
            (_, SPOTLESS | BLEMISHED) => Standing::Ready,
            _ => self.lock().standing(now),
        }
    }

    /// How it fares.
    pub(super) fn condition(&self, now: Instant) -> Condition {
        match self.glance() {
            (_, SPOTLESS | BLEMISHED) => Condition::Healthy,
            _ => self.lock().condition(now),
        }
    }

    /// Leave to ask it, if it may be asked.
    pub(super) fn claim(&self, now: Instant) -> Option<Ticket> {
        match self.glance() {
            (round, SPOTLESS | BLEMISHED) => Some(Ticket::in_round(round)),
            _ => self.change(|health| health.claim(now)),
        }
    }

    /// Leave to ask it all the same.
    pub(super) fn force(&self) -> Ticket {
        match self.glance() {
            (round, SPOTLESS | BLEMISHED) => Ticket::in_round(round),
            _ => self.lock().force(),
        }
    }

    /// An answer has begun that is no failure.
    pub(super) fn answered(&self, ticket: Ticket, cooldown: &Cooldown) {
        if self.glance().1 == UNWELL {
            self.change(|health| health.answered(ticket, cooldown));
        }
    }

    /// An answer was whole.
    pub(super) fn succeeded(&self, ticket: Ticket) {
        if self.glance().1 == BLEMISHED {
            self.change(|health| health.succeeded(ticket));
        }
    }

    /// It failed. `true`: with this it cools down.
    pub(super) fn failed(&self, ticket: Ticket, blow: Blow, cooldown: &Cooldown, now: Instant) -> bool {
        self.change(|health| health.failed(ticket, blow, cooldown, now))
    }

    /// Nothing came of it that says anything.
    pub(super) fn abandoned(&self, ticket: Ticket, now: Instant) {
        if ticket.is_trial() {
            self.change(|health| health.abandoned(ticket, now));
        }
    }

    fn glance(&self) -> (u32, u64) {
        let glance = self.glance.load(Ordering::Relaxed);
        (u32::try_from(glance >> CODE_BITS).unwrap_or_default(), glance & ((1 << CODE_BITS) - 1))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.lock();
        let changed = change(&mut health);
        let code = match (health.is_healthy(), health.is_spotless()) {
            (true, true) => SPOTLESS,
            (true, false) => BLEMISHED,
            (false, _) => UNWELL,
        };
        // Under the lock, so that the last change is the one that stays.
        self.glance.store(u64::from(health.round()) << CODE_BITS | code, Ordering::Relaxed);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;

    const COOLDOWN: Cooldown = Cooldown { failures: 2, time: Duration::from_secs(10) };

    #[test]
    fn one_of_many_threads_gets_the_trial() {
        let (vitals, start) = (Vitals::default(), Instant::now());
        for _ in 0..2 {
            vitals.failed(vitals.claim(start).unwrap(), Blow::default(), &COOLDOWN, start);
        }
        assert_eq!(vitals.claim(start), None);
        let later = start + COOLDOWN.time;
        let claimed: usize = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..8).map(|_| scope.spawn(|| vitals.claim(later))).collect();
            claims.into_iter().filter_map(|claim| claim.join().unwrap()).count()
        });
        assert_eq!(claimed, 1);
    }

    proptest! {
        /// The short cuts change nothing.
        #[test]
        fn it_behaves_as_the_health_that_it_shares(acts in prop::collection::vec((0..6_u8, 0..8_usize), 0..120)) {
            let (vitals, mut health, mut now) = (Vitals::default(), Health::default(), Instant::now());
            let mut tickets = vec![];
            for (act, at) in acts {
                let ticket = (!tickets.is_empty()).then(|| tickets[at % tickets.len().max(1)]);
                match (act, ticket) {
                    (0, _) => {
                        let (one, other) = (vitals.claim(now), health.claim(now));
                        prop_assert_eq!(one, other);
                        tickets.extend(one);
                    }
                    (1, Some(ticket)) => {
                        vitals.answered(ticket, &COOLDOWN);
                        health.answered(ticket, &COOLDOWN);
                    }
                    (2, Some(ticket)) => {
                        vitals.succeeded(ticket);
                        health.succeeded(ticket);
                    }
                    (3, Some(ticket)) => {
                        let blow = Blow { is_final: at == 7, wait: None };
                        prop_assert_eq!(
                            vitals.failed(ticket, blow, &COOLDOWN, now),
                            health.failed(ticket, blow, &COOLDOWN, now)
                        );
                    }
                    (4, Some(ticket)) => {
                        vitals.abandoned(ticket, now);
                        health.abandoned(ticket, now);
                    }
                    _ => now += Duration::from_secs(at as u64),
                }
                prop_assert_eq!(vitals.standing(now), health.standing(now));
                prop_assert_eq!(vitals.condition(now), health.condition(now));
                prop_assert_eq!(vitals.force(), health.force());
                prop_assert_eq!(&*vitals.lock(), &health);
            }
        }
    }
}
