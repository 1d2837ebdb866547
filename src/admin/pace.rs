//! How often somebody may have their own figures summed.
//!
//! Owns the counting. A question without a range goes through all days that the ledger has, and new totals wait
//! meanwhile: who has any client key at all must not be able to keep that going.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use weir_filters::throttle::{Pace, Throttle};

use crate::catalog::Owner;

/// The page of one's own usage asks five questions at once, and one every few seconds after that.
const QUESTIONS: Pace = Pace { burst: 60, every_ms: 500 };

/// Places for owners; two of one place share what there is.
const PLACES: usize = 4096;

/// Questions of all owners.
pub(crate) struct Paces {
    throttle: Mutex<Throttle>,
    /// Nobody outside can choose whose place they share.
    seed: RandomState,
    started: Instant,
}

impl Paces {
    pub(in crate::admin) fn new() -> Self {
        Self {
            throttle: Mutex::new(Throttle::new(QUESTIONS, PLACES)),
            seed: RandomState::new(),
            started: Instant::now(),
        }
    }

    /// Takes a question of this owner.
    ///
    /// # Errors
    /// In how many seconds there is one, from 1.
    pub(in crate::admin) fn take(&self, owner: &Owner) -> Result<(), u64> {
        let subject = match owner {
            Owner::User(name) => self.seed.hash_one(("user", name)),
            Owner::Key { id, .. } => self.seed.hash_one(("key", id)),
        };
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Nothing is half done under it when something panics.
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.take(subject, now_ms).map_err(|wait_ms| wait_ms.div_ceil(1000).max(1))
    }
}
