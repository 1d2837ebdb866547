//! Small requests that a person has Weir make, to see what comes of them: of a channel, and of the gateway itself.
//!
//! Owns one exchange from its connection to its end, bounded in time and size. What is asked and what the answer is worth
//! is decided in [`weir_filters::probe`]. Nothing here runs on a thread that serves, and its connections are its own: none
//! comes from the pool of those, nor goes there.

mod ask;
mod channel;
mod once;
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::catalog::Refused;
use crate::config::Listen;
use crate::proxy::Shared;

pub use channel::RunAsked;
pub(crate) use once::{Errand, Tells, Told};
pub use proxy::ProxyAsked;

/// How long one may take in all: the admin listener waits a little longer.
const MAX_TIME: Duration = Duration::from_secs(25);
/// How many are under way at once. They are made by hand.
const MAX_AT_ONCE: usize = 4;
/// The most that is kept of an answer's text, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// What makes them.
pub(crate) struct Trials {
    shared: Arc<Shared>,
    /// Where the gateway itself listens.
    listen: Vec<Listen>,
    room: Arc<Semaphore>,
}

impl Trials {
    pub(crate) fn new(shared: Arc<Shared>, listen: Vec<Listen>) -> Self {
        Self { shared, listen, room: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// Room for one more.
    fn slot(&self) -> Result<OwnedSemaphorePermit, Refused> {
        self.room.clone().try_acquire_owned().map_err(|_| Refused::Conflict {
            code: "busy",
            message: format!("{MAX_AT_ONCE} trials are under way already: ask again when one has ended"),
        })
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
