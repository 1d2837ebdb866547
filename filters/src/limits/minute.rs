//! Owns what was taken within the last minute. Refuses to know of what.

/// How many seconds an amount stays: a whole minute, and what is left of the second it was taken in. So no
/// span of sixty seconds ever holds more than the limit, and each amount is free again within 61.
const SECONDS: usize = 61;

/// Amounts by the second in which they were taken.
#[derive(Debug)]
pub(super) struct Minute {
    slots: [u64; SECONDS],
    /// The second of the newest slot.
    newest: u64,
    sum: u64,
}

impl Minute {
    pub(super) fn new(second: u64) -> Self {
        Self { slots: [0; SECONDS], newest: second, sum: 0 }
    }

    /// Forgets what has left the minute. A second that lies behind the newest changes nothing: threads read
    /// the clock before they come here.
    pub(super) fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.newest);
        for next in (self.newest + 1..=second).take(SECONDS) {
            let slot = &mut self.slots[place(next)];
            self.sum -= *slot;
            *slot = 0;
        }
        if passed > SECONDS as u64 {
            // Each slot was passed at least once.
            self.slots = [0; SECONDS];
            self.sum = 0;
        }
        self.newest = self.newest.max(second);
    }

    /// What is taken at the moment.
    pub(super) fn sum(&self) -> u64 {
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
    pub(super) fn take(&mut self, amount: u64) {
        self.slots[place(self.newest)] += amount;
        self.sum += amount;
    }

    /// Adds what was taken in an earlier second; what has left the minute is gone.
    pub(super) fn add(&mut self, second: u64, amount: u64) {
        self.replace(second.min(self.newest), 0, amount);
    }

    /// Puts `new` in the place of what was taken in `second`; what has left the minute stays gone.
    pub(super) fn replace(&mut self, second: u64, old: u64, new: u64) {
        if second + SECONDS as u64 <= self.newest {
            return;
        }
        let slot = &mut self.slots[place(second)];
        *slot = (*slot - old).saturating_add(new);
        self.sum = (self.sum - old).saturating_add(new);
    }

    /// The first second in which no more than `most` is taken, if nothing is added until then.
    pub(super) fn falls_to(&self, most: u64) -> u64 {
        let mut left = self.sum;
        let oldest = (self.newest + 1).saturating_sub(SECONDS as u64);
        for second in oldest..=self.newest {
            if left <= most {
                return second + SECONDS as u64 - 1;
            }
            left -= self.slots[place(second)];
        }
        self.newest + SECONDS as u64
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}
