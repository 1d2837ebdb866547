//! When a channel is probed.
//!
//! Time is cut into slots of the channel's interval, and each slot has one run, somewhere in its first nine tenths. Where
//! the slots begin depends on the channel's name, and where in a slot on its number too: so that a thousand channels are
//! probed one after the other, that two gateways with the same configuration are not in step for ever, and that a gateway
//! that starts anew finds the same times again, and knows which run a slot has had.

/// The times of one channel's runs, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    every_ms: u64,
    seed: u64,
}

impl Schedule {
    /// Of a channel with this name that is probed so often.
    pub fn new(channel: &str, every_ms: u64) -> Self {
        Self { every_ms: every_ms.max(1), seed: hash(channel.as_bytes().iter().copied(), 0) }
    }

    /// The slot of a time.
    pub fn slot(&self, at_ms: u64) -> u64 {
        (at_ms + self.seed % self.every_ms) / self.every_ms
    }

    /// When the run of a slot is due.
    pub fn due(&self, slot: u64) -> u64 {
        let begins = (slot * self.every_ms).saturating_sub(self.seed % self.every_ms);
        let span = self.every_ms - self.every_ms / 10;
        begins + hash(slot.to_le_bytes().into_iter(), self.seed) % span
    }

    /// The slot whose run comes next: that of `at_ms`, if it has had none, or the one behind it.
    pub fn next(&self, at_ms: u64, last_run: Option<u64>) -> u64 {
        let slot = self.slot(at_ms);
        if last_run.is_some_and(|last| last >= slot) { last_run.unwrap_or_default() + 1 } else { slot }
    }
}

/// FNV-1a with another end: it must be the same in every process and version.
fn hash(bytes: impl Iterator<Item = u8>, seed: u64) -> u64 {
    let sum =
        bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mixed = (sum ^ (sum >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u64 = 60_000;
    const NOW: u64 = 1_764_500_000_000;

    #[test]
    fn each_slot_has_one_run_in_it() {
        let schedule = Schedule::new("openai", EVERY);
        let first = schedule.slot(NOW);
        for slot in first..first + 500 {
            let due = schedule.due(slot);
            assert_eq!(schedule.slot(due), slot);
            let next = schedule.due(slot + 1);
            assert!(next > due && next - due < 2 * EVERY, "{slot}");
        }
    }

    #[test]
    fn a_slot_that_has_had_its_run_has_no_other() {
        let schedule = Schedule::new("openai", EVERY);
        let slot = schedule.slot(NOW);
        assert_eq!(schedule.next(NOW, None), slot);
        assert_eq!(schedule.next(NOW, Some(slot - 1)), slot);
        assert_eq!(schedule.next(NOW, Some(slot)), slot + 1);
        // The clock was set back.
        assert_eq!(schedule.next(NOW, Some(slot + 5)), slot + 6);
    }

    #[test]
    fn many_channels_are_spread_over_their_interval() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            let schedule = Schedule::new(&format!("channel-{n}"), EVERY);
            let due = schedule.due(schedule.slot(NOW));
            tenths[usize::try_from(due % EVERY * 10 / EVERY).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn the_times_do_not_change_from_version_to_version() {
        assert_eq!(hash(b"openai".iter().copied(), 0), 0x5104_6135_fcfd_2674);
    }
}
