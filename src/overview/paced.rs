//! A value that many ask for and that costs something to make.
//!
//! Owns that whoever asks, and however often, makes it no dearer: it is made once a second at most, and never so often
//! that the making takes more than a hundredth of the time. Knows nothing of what it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nobody sees a second pass.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Nobody believes what is older.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// So many times as long as it took it is kept.
const REST: u32 = 100;

/// The value, and until when it is good.
#[derive(Debug)]
pub(super) struct Paced<T>(Mutex<Option<(T, Instant)>>);

impl<T: Clone> Paced<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The value at `now`, made anew if it is too old. Who asks meanwhile waits for the one that is being made.
    pub(super) fn get(&self, now: Instant, make: impl FnOnce() -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, until)) = &*kept
            && now < *until
        {
            return value.clone();
        }
        let begun = Instant::now();
        let value = make();
        let rest = (begun.elapsed() * REST).clamp(AT_MOST_EVERY, AT_LEAST_EVERY);
        *kept = Some((value.clone(), now + rest));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn it_is_made_once_a_second_and_less_often_if_it_is_dear() {
        let (paced, made, start) = (Paced::new(), Cell::new(0), Instant::now());
        let get = |after_ms: u64, takes_ms: u64| {
            paced.get(start + Duration::from_millis(after_ms), || {
                std::thread::sleep(Duration::from_millis(takes_ms));
                made.set(made.get() + 1);
                made.get()
            })
        };
        assert_eq!([get(0, 0), get(999, 0), get(1000, 30), get(2000, 0), get(3900, 0)], [1, 1, 2, 2, 2]);
        assert_eq!(get(11_001, 0), 3, "never older than ten seconds");
    }
}
