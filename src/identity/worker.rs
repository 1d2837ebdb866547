//! The one thread on which passwords are hashed and sessions are written.
//!
//! Owns that at most one hash is made at a time, and that few wait: each takes its memory and a core for a while, and
//! anybody may ask for one. The thread stands back behind those that serve.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::ledger::priority;

/// Passwords that wait to be looked at. At some tens of milliseconds each that is a second.
const MAX_WAITING: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// Does one thing after the other.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
}

/// A place among those who wait for a hash.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Worker {
    /// Starts the thread. It ends with this.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, waiting): (Sender<Job>, Receiver<Job>) = channel();
        Builder::new().name("weir-identity".into()).spawn(move || {
            priority::stand_back();
            for job in waiting {
                // What panics has been logged; whoever waits for it hears that there is no answer.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        })?;
        Ok(Self { jobs, places: Arc::new(Semaphore::new(MAX_WAITING)) })
    }

    /// A place for a hash; `None`: too many wait.
    pub(super) fn place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// Does `job` after what was asked for before. What it gives comes over the channel, or nothing, if it panicked.
    pub(super) fn ask<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may wait any more.
            let _ = answer.send(job());
        });
        // If there is no thread, the channel closes without an answer.
        let _ = self.jobs.send(job);
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_in_order_and_one_that_panics_ends_nothing() {
        let worker = Worker::start().unwrap();
        let first = worker.ask(|| 1);
        let broken = worker.ask(|| -> u8 { panic!("a mistake") });
        let second = worker.ask(|| 2);
        assert_eq!((first.blocking_recv(), second.blocking_recv()), (Ok(1), Ok(2)));
        assert!(broken.blocking_recv().is_err());
    }

    #[test]
    fn places_are_few_and_come_back() {
        let worker = Worker::start().unwrap();
        let places: Vec<_> = std::iter::from_fn(|| worker.place()).collect();
        assert_eq!(places.len(), MAX_WAITING);
        drop(places);
        assert!(worker.place().is_some());
    }
}
