//! What is known of models at channels, for want of a channel that knows it itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_filters::monitor::{Change, Standing, Streak};

use crate::channels::Channel;

/// By channel, then by model.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Mutex<HashMap<String, HashMap<String, Streak>>>);

impl Verdicts {
    /// Takes the result of a probe of `model`, as clients call it.
    pub(super) fn judged(&self, channel: &Channel, model: &str, passed: bool) -> Change {
        self.lock().entry(channel.name().to_string()).or_default().entry(model.to_owned()).or_default().take(passed)
    }

    /// Takes what was known of `model` before a restart.
    pub(super) fn restore(&self, channel: &Channel, model: &str, standing: Standing) {
        let mut all = self.lock();
        all.entry(channel.name().to_string()).or_default().insert(model.to_owned(), Streak::from(standing));
    }

    /// What is known of `model`.
    pub(super) fn verdict(&self, channel: &Channel, model: &str) -> Standing {
        let all = self.lock();
        all.get(&**channel.name()).and_then(|models| models.get(model)).map_or(Standing::Unknown, |s| s.standing())
    }

    /// Forgets what is known of models that `keep` does not tell: they are no longer probed.
    pub(super) fn forget(&self, channel: &Channel, keep: impl Fn(&str) -> bool) {
        if let Some(models) = self.lock().get_mut(&**channel.name()) {
            models.retain(|model, _| keep(model));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Streak>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
