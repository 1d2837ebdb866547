//! Owns what was taken within the last minute. Refuses to know who took it.

use super::Taken;

/// How many seconds an amount stays: a whole minute, and what is left of the second it was taken in. So no
/// span of sixty seconds ever holds more than the limit, and each amount is free again within 61.
const SECONDS: usize = 61;

/// Requests and tokens by the second in which they were taken. Both stand together: a request takes both.
#[derive(Debug)]
pub(super) struct Minute {
    /// The second of the newest slot.
    newest: u64,
    sum: Taken,
    slots: Box<[Taken; SECONDS]>,
}

impl Minute {
    pub(super) fn new(second: u64) -> Self {
        Self { newest: second, sum: Taken::default(), slots: Box::new([Taken::default(); SECONDS]) }
    }

    /// Forgets what has left the minute. A second that lies behind the newest changes nothing: threads read
    /// the clock before they come here.
    pub(super) fn advance(&mut self, second: u64) {
        let Some(passed) = second.checked_sub(self.newest).filter(|passed| *passed > 0) else { return };
        if passed >= SECONDS as u64 {
            *self.slots = [Taken::default(); SECONDS];
            self.sum = Taken::default();
        } else {
            for next in self.newest + 1..=second {
                let left = std::mem::take(&mut self.slots[place(next)]);
                self.sum = Taken { requests: self.sum.requests - left.requests, tokens: self.sum.tokens - left.tokens };
            }
        }
        self.newest = second;
    }

    /// What is taken at the moment.
    pub(super) fn sum(&self) -> Taken {
        self.sum
    }

    /// The newest second.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The second from which on nothing is taken, if nothing is added until then.
    pub(super) fn free_from(&self) -> u64 {
        self.newest + SECONDS as u64
    }

    /// Takes an amount in the newest second.
    pub(super) fn take(&mut self, amount: Taken) {
        self.replace(self.newest, Taken::default(), amount);
    }

    /// Adds what was taken in an earlier second; what has left the minute is gone.
    pub(super) fn add(&mut self, second: u64, amount: Taken) {
        self.replace(second.min(self.newest), Taken::default(), amount);
    }

    /// Puts `new` in the place of what was taken in `second`; what has left the minute stays gone.
    pub(super) fn replace(&mut self, second: u64, old: Taken, new: Taken) {
        if second + SECONDS as u64 <= self.newest {
            return;
        }
        for sum in [&mut self.slots[place(second)], &mut self.sum] {
            sum.requests = (sum.requests - old.requests).saturating_add(new.requests);
            sum.tokens = (sum.tokens - old.tokens).saturating_add(new.tokens);
        }
    }

    /// The first second in which no more than `most` is taken of what `count` counts, if nothing is added
    /// until then.
    pub(super) fn falls_to(&self, most: u64, count: impl Fn(&Taken) -> u64) -> u64 {
        let mut left = count(&self.sum);
        let oldest = (self.newest + 1).saturating_sub(SECONDS as u64);
        for second in oldest..=self.newest {
            if left <= most {
                return second + SECONDS as u64 - 1;
            }
            left -= count(&self.slots[place(second)]);
        }
        self.newest + SECONDS as u64
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}
