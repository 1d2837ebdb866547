//! How long a client is waited for.
//!
//! Only the time counts in which bytes wait for the client, or the client is asked for bytes: a stream
//! whose upstream is slow uses none of it. Bytes that move give time back. Refuses to know any clock.

use std::time::Duration;

use tokio::time::Instant;

/// The time that is left for one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    most: Duration,
    /// So many bytes give a second back; 0: any byte gives back all.
    rate: u64,
    left: Duration,
    since: Option<Instant>,
    moved: u64,
}

impl Patience {
    /// `most` of it, of which `rate` bytes give a second back.
    pub(crate) fn new(most: Duration, rate: u64) -> Self {
        Self { most, rate, left: most, since: None, moved: 0 }
    }

    /// The client is waited for at `now`, after it has moved so many bytes. Gives when it has lost its time.
    pub(super) fn wait(&mut self, now: Instant, moved: u64) -> Instant {
        self.moved += moved;
        self.settle(now);
        self.since = Some(now);
        now + self.left
    }

    /// Whether the client is being waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// The client has moved so many bytes.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    /// The client is not waited for any more.
    pub(super) fn stop(&mut self, now: Instant) {
        if self.since.is_some() {
            self.settle(now);
            self.since = None;
        }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// The client was waited for so long, and then had moved so many bytes.
    pub(crate) fn spent(&mut self, waited: Duration, moved: usize) {
        self.left = self.left.saturating_sub(waited);
        self.moved = moved as u64;
        self.give_back();
    }

    fn settle(&mut self, now: Instant) {
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.left = self.left.saturating_sub(waited);
        self.give_back();
    }

    fn give_back(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        if moved > 0 {
            let earned = match self.rate {
                0 => self.most,
                rate => Duration::from_micros(moved.saturating_mul(1_000_000) / rate),
            };
            self.left = self.left.saturating_add(earned).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes `bytes` after each `pause`, with ten seconds of patience. Gives after how many seconds it is lost.
    fn lost_after(rate: u64, pause: u32, bytes: u64) -> Option<u32> {
        let start = Instant::now();
        let mut patience = Patience::new(10 * SECOND, rate);
        let mut due = patience.wait(start, 0);
        for second in 1..1_000 {
            let now = start + second * SECOND;
            if now >= due {
                return Some(second);
            }
            if second % pause == 0 {
                due = patience.wait(now, bytes);
            }
        }
        None
    }

    #[test]
    fn without_a_rate_any_byte_gives_back_all() {
        assert_eq!(lost_after(0, 9, 1), None);
        assert_eq!(lost_after(0, 11, 1_000_000), Some(10), "silence is not forgiven");
    }

    #[test]
    fn a_rate_is_held_in_the_long_run() {
        assert_eq!(lost_after(100, 1, 100), None, "as fast as demanded");
        assert_eq!(lost_after(100, 5, 500), None, "in lumps");
        assert_eq!(lost_after(100, 1, 50), Some(19), "half as fast: half of each second is lost");
        assert_eq!(lost_after(100, 1, 0), Some(10));
    }

    #[test]
    fn time_in_which_nothing_waits_is_not_counted() {
        let start = Instant::now();
        let mut patience = Patience::new(10 * SECOND, 100);
        let mut now = start;
        for _ in 0..100 {
            assert!(patience.wait(now, 0) > now);
            now += SECOND / 20;
            patience.stop(now);
            now += 60 * SECOND;
        }
        assert_eq!(patience.left(), 5 * SECOND);
        patience.stop(now + 60 * SECOND);
        assert_eq!(patience.left(), 5 * SECOND, "it had stopped already");
    }

    #[test]
    fn no_more_is_given_back_than_there_was() {
        let start = Instant::now();
        let mut patience = Patience::new(10 * SECOND, 1);
        patience.wait(start, 0);
        assert_eq!(patience.wait(start + SECOND, u64::MAX / 2), start + 11 * SECOND);
    }

    #[test]
    fn a_wait_that_somebody_else_times_counts_the_same() {
        let mut patience = Patience::new(10 * SECOND, 100);
        patience.spent(4 * SECOND, 100);
        assert_eq!(patience.left(), 7 * SECOND);
        patience.spent(20 * SECOND, 0);
        assert_eq!(patience.left(), Duration::ZERO);
    }
}
