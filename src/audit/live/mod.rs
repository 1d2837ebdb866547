//! Who follows records as they come: the admin API's stream of events.
//!
//! Owns the followers and what waits for each. One who reads too slowly misses records and is told how many; nobody
//! waits for one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::batch::{Batch, Entry, term};
use super::history::StatusFilter;

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
    /// The id of each record that `filter` admits with its line, without the line feed.
    pub fn lines<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = (u128, &'a [u8])> {
        let admitted = self.0.iter().filter(|(entry, _)| filter.admits(entry));
        admitted.map(|(entry, line)| (entry.id, line.strip_suffix(b"\n").unwrap_or(line)))
    }
}

/// Which records somebody wants to hear of. What is not said is not asked; names are told by their terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    key: Option<u64>,
    user: Option<u64>,
    model: Option<u64>,
    channel: Option<u64>,
    status: Option<StatusFilter>,
}

impl Filter {
    /// Only those of the key with this name.
    pub fn key(&mut self, name: &str) {
        self.key = Some(term(name));
    }

    /// Only those of this user.
    pub fn user(&mut self, name: &str) {
        self.user = Some(term(name));
    }

    /// Only those that asked for this model.
    pub fn model(&mut self, name: &str) {
        self.model = Some(term(name));
    }

    /// Only those that this channel served.
    pub fn channel(&mut self, name: &str) {
        self.channel = Some(term(name));
    }

    /// Only those with such a status.
    pub fn status(&mut self, status: StatusFilter) {
        self.status = Some(status);
    }

    fn admits(&self, entry: &Entry) -> bool {
        let named =
            [(self.key, entry.key), (self.user, entry.user), (self.model, entry.model), (self.channel, entry.channel)];
        named.into_iter().all(|(wanted, term)| wanted.is_none_or(|wanted| wanted == term))
            && self.status.is_none_or(|status| status.admits(entry.status))
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
    filter: Filter,
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

    /// One more, who hears of what `filter` admits; `None`: there are too many.
    pub(crate) fn follow(&self, filter: &Filter) -> Option<Following> {
        let mut followers = self.lock();
        followers.retain(|follower| !follower.sender.is_closed());
        if followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        let (sender, receiver) = channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        followers.push(Follower { sender, filter: filter.clone(), missed: missed.clone() });
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
                    Heard::Records(records) => records.lines(&follower.filter).count() as u64,
                    Heard::ConfigReloaded(_) => 0,
                };
                follower.missed.fetch_add(records, Ordering::Relaxed);
            }
            !follower.sender.is_closed()
        });
    }

    /// Nobody hears of anything any more: their streams end.
    pub(crate) fn end(&self) {
        self.lock().clear();
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
        let (mut one, other) = (live.follow(&Filter::default()).unwrap(), live.follow(&Filter::default()).unwrap());
        drop(other);
        live.tell(&records(7));
        live.tell(&Heard::ConfigReloaded(3));
        let Some(Heard::Records(heard)) = one.next().await else { panic!("records come first") };
        assert_eq!(heard.lines(&Filter::default()).collect::<Vec<_>>(), [(7, &b"{}"[..]), (7, b"{}")]);
        assert!(matches!(one.next().await, Some(Heard::ConfigReloaded(3))));
        drop(one);
        assert!(!live.is_followed());
    }

    #[test]
    fn a_filter_admits_what_has_all_that_is_asked() {
        let alice = "{\"key_name\":\"alice\",\"model_requested\":\"gpt\"}";
        let records = Records(Arc::new(batch_of([(alice, 1), ("{\"key_name\":\"bob\"}", 2)])));
        let ids = |filter: &Filter| records.lines(filter).map(|(id, _)| id).collect::<Vec<_>>();
        let mut filter = Filter::default();
        assert_eq!(ids(&filter), [1, 2]);
        filter.key("alice");
        assert_eq!(ids(&filter), [1]);
        filter.model("gpt");
        filter.status("2xx".parse().unwrap());
        assert_eq!(ids(&filter), [1]);
        filter.status("404".parse().unwrap());
        assert_eq!(ids(&filter), []);
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_what_it_missed() {
        let live = Live::default();
        let mut none = Filter::default();
        none.key("nobody");
        let (mut slow, other) = (live.follow(&Filter::default()).unwrap(), live.follow(&none).unwrap());
        for id in 0..WAITING as u128 + 3 {
            live.tell(&records(id));
        }
        assert_eq!((slow.take_missed(), slow.take_missed()), (6, 0));
        assert_eq!(other.take_missed(), 0, "it would not have heard of them");
        live.end();
        drop(other);
        assert!(slow.next().await.is_some());
    }

    #[tokio::test]
    async fn there_are_no_more_than_so_many() {
        let live = Live::default();
        let all: Vec<_> = std::iter::from_fn(|| live.follow(&Filter::default())).collect();
        assert_eq!(all.len(), MAX_FOLLOWERS);
        drop(all);
        assert!(live.follow(&Filter::default()).is_some());
    }
}
