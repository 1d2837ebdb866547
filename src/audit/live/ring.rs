//! What was told last, for who comes back.
//!
//! Owns the numbers of events and how long they are kept. Refuses to know who hears them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::batch::Batch;
use super::event::Event;

/// What is kept at most: some twenty thousand records, which is a minute of three hundred a second. Whoever is away for
/// longer finds more in the lists than anybody wants to be sent.
const MAX_BYTES: usize = 16 << 20;
/// And for how long: a page comes back within half a minute, four times over.
pub(super) const MAX_AGE: Duration = Duration::from_secs(120);

/// The last events, numbered from 1.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The number of the last one.
    last: u64,
}

/// What was told at once.
#[derive(Debug)]
pub(super) struct Kept {
    /// The number of the first of it.
    pub(super) first: u64,
    pub(super) what: What,
    at: Instant,
}

#[derive(Debug)]
pub(super) enum What {
    Records(Arc<Batch>),
    Event(Event),
    /// Records were lost before they came here.
    Loss,
}

impl Kept {
    /// The number of the last of it.
    pub(super) fn last(&self) -> u64 {
        let more = match &self.what {
            What::Records(batch) => batch.len().saturating_sub(1),
            What::Event(_) | What::Loss => 0,
        };
        self.first + more as u64
    }

    fn size(&self) -> usize {
        let held = match &self.what {
            What::Records(batch) => batch.size(),
            What::Event(event) => event.size(),
            What::Loss => 0,
        };
        held + size_of::<Self>()
    }
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, last: 0 }
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether all that came after the event of that number is here.
    pub(super) fn goes_on_after(&self, number: u64) -> bool {
        let oldest = self.kept.front().map_or(self.last + 1, |kept| kept.first);
        (oldest - 1..=self.last).contains(&number)
    }

    /// The oldest that has something after the event of that number.
    pub(super) fn after(&self, number: u64) -> Option<&Kept> {
        self.kept.get(self.kept.partition_point(|kept| kept.last() <= number))
    }

    /// One more, to be followed by [`Ring::evict`].
    pub(super) fn push(&mut self, what: What, now: Instant) {
        let kept = Kept { first: self.last + 1, what, at: now };
        self.last = kept.last();
        self.bytes += kept.size();
        self.kept.push_back(kept);
    }

    /// Takes the oldest out if there is no more room for it, or it is too old. The newest always has room.
    pub(super) fn evict(&mut self, now: Instant) -> Option<Kept> {
        let is_too_much = self.bytes > MAX_BYTES && self.kept.len() > 1;
        let is_too_old = now.saturating_duration_since(self.kept.front()?.at) >= MAX_AGE;
        if !is_too_much && !is_too_old {
            return None;
        }
        let evicted = self.kept.pop_front()?;
        self.bytes -= evicted.size();
        Some(evicted)
    }

    /// From here on events are not told: nothing goes on after any that was.
    pub(super) fn break_off(&mut self) {
        *self = Self { last: self.last + 1, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::batch_of;
    use super::*;

    fn records(count: u128) -> What {
        What::Records(Arc::new(batch_of((1..=count).map(|id| ("{}", id)))))
    }

    fn large() -> What {
        What::Event(Event::RunCompleted("x".repeat(MAX_BYTES / 2).into()))
    }

    #[test]
    fn each_event_has_the_next_number() {
        let (mut ring, now) = (Ring::new(), Instant::now());
        assert!(ring.goes_on_after(0) && !ring.goes_on_after(1) && ring.after(0).is_none());
        ring.push(records(3), now);
        ring.push(What::Event(Event::ConfigReloaded(2)), now);
        let after = |number| ring.after(number).map(|kept| (kept.first, kept.last()));
        assert_eq!([0, 1, 2, 3, 4].map(after), [Some((1, 3)), Some((1, 3)), Some((1, 3)), Some((4, 4)), None]);
        assert_eq!([0, 1, 4, 5, u64::MAX].map(|n| ring.goes_on_after(n)), [true, true, true, false, false]);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much_and_the_newest_stays() {
        let (mut ring, now) = (Ring::new(), Instant::now());
        for _ in 0..3 {
            ring.push(large(), now);
        }
        let evicted: Vec<u64> = std::iter::from_fn(|| ring.evict(now)).map(|kept| kept.first).collect();
        assert_eq!(evicted, [1, 2], "two and what they are kept in are more than there is room for");
        assert_eq!([0, 1, 2, 3].map(|n| ring.goes_on_after(n)), [false, false, true, true]);
        ring.push(What::Event(Event::RunCompleted("x".repeat(2 * MAX_BYTES).into())), now);
        assert_eq!(ring.evict(now).map(|kept| kept.first), Some(3));
        assert!(ring.evict(now).is_none() && ring.goes_on_after(3));
    }

    #[test]
    fn what_is_too_old_goes_and_who_has_heard_it_goes_on() {
        let (mut ring, now) = (Ring::new(), Instant::now());
        ring.push(records(2), now);
        assert!(ring.evict(now + MAX_AGE / 2).is_none());
        assert_eq!(ring.evict(now + MAX_AGE).map(|kept| kept.last()), Some(2));
        assert_eq!([0, 1, 2].map(|n| ring.goes_on_after(n)), [false, false, true]);
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn nothing_goes_on_behind_a_break() {
        let (mut ring, now) = (Ring::new(), Instant::now());
        ring.push(records(2), now);
        ring.break_off();
        assert_eq!([1, 2, 3].map(|n| ring.goes_on_after(n)), [false, false, true]);
        ring.push(records(1), now);
        assert_eq!(ring.after(3).map(|kept| kept.first), Some(4));
    }
}
