//! Who follows records as they come: the admin API's stream of events.
//!
//! Owns the followers and what waits for each. One who reads too slowly misses records and is told how many; nobody
//! waits for one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::batch::Batch;

/// Followers at a time: dashboards and people at terminals.
pub(crate) const MAX_FOLLOWERS: usize = 32;
/// Batches that wait for one follower: a quarter of a second at full load, a minute of a quiet gateway.
const WAITING: usize = 64;

/// Something that a follower hears of.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Records.
    Records(Records),
    /// Another configuration is in force: its version.
    ConfigReloaded(u64),
}

/// Some records.
#[derive(Clone, Debug)]
pub struct Records(pub(crate) Arc<Batch>);

impl Records {
    /// Each record's id with its line, without the line feed.
    pub fn lines(&self) -> impl Iterator<Item = (u128, &[u8])> {
        self.0.iter().map(|(entry, line)| (entry.id, line.strip_suffix(b"\n").unwrap_or(line)))
    }
}

/// The followers.
#[derive(Debug, Default)]
pub(crate) struct Live {
    followers: Mutex<Vec<Follower>>,
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Follower {
    sender: Sender<Heard>,
    missed: Arc<AtomicU64>,
}

/// A follower's side: it follows until this is dropped.
#[derive(Debug)]
pub struct Following {
    receiver: Receiver<Heard>,
    missed: Arc<AtomicU64>,
    count: Arc<AtomicUsize>,
}

impl Live {
    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// One more; `None`: there are too many.
    pub(crate) fn follow(&self) -> Option<Following> {
        let mut followers = self.lock();
        followers.retain(|follower| !follower.sender.is_closed());
        if followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        followers.push(Follower { sender, missed: missed.clone() });
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Following { receiver, missed, count: self.count.clone() })
    }

    /// Tells all followers.
    pub(crate) fn tell(&self, heard: &Heard) {
        if !self.is_followed() {
            return;
        }
        self.lock().retain(|follower| {
            if follower.sender.try_send(heard.clone()).is_err() {
                let records = match heard {
                    Heard::Records(records) => records.0.len() as u64,
                    Heard::ConfigReloaded(_) => 0,
                };
                follower.missed.fetch_add(records, Ordering::Relaxed);
            }
            !follower.sender.is_closed()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    /// What comes next; `None`: nothing will.
    pub async fn next(&mut self) -> Option<Heard> {
        self.receiver.recv().await
    }

    /// How many records were missed since this was last asked.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::batch_of;
    use super::*;

    fn records(id: u128) -> Heard {
        Heard::Records(Records(Arc::new(batch_of([("{}", id), ("{}", id)]))))
    }

    #[tokio::test]
    async fn each_follower_hears_all_until_it_is_dropped() {
        let live = Live::default();
        assert!(!live.is_followed());
        let (mut one, other) = (live.follow().unwrap(), live.follow().unwrap());
        drop(other);
        live.tell(&records(7));
        live.tell(&Heard::ConfigReloaded(3));
        let Some(Heard::Records(heard)) = one.next().await else { panic!("records come first") };
        assert_eq!(heard.lines().collect::<Vec<_>>(), [(7, &b"{}"[..]), (7, b"{}")]);
        assert!(matches!(one.next().await, Some(Heard::ConfigReloaded(3))));
        drop(one);
        assert!(!live.is_followed());
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_what_it_missed() {
        let live = Live::default();
        let mut slow = live.follow().unwrap();
        for id in 0..WAITING as u128 + 3 {
            live.tell(&records(id));
        }
        assert_eq!((slow.take_missed(), slow.take_missed()), (6, 0));
        assert!(slow.next().await.is_some());
    }

    #[tokio::test]
    async fn there_are_no_more_than_so_many() {
        let live = Live::default();
        let all: Vec<_> = std::iter::from_fn(|| live.follow()).collect();
        assert_eq!(all.len(), MAX_FOLLOWERS);
        drop(all);
        assert!(live.follow().is_some());
    }
}
