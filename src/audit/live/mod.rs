//! Who follows what happens while it does: the admin API's stream of events.
//!
//! ```text
//! collector ─► ring ◄─ each follower, from the last event that it has heard
//! whoever changes something ─┘
//! ```
//!
//! Owns the followers. There is one ring for all of them: somebody who comes back goes on where they were, and one who
//! reads too slowly misses what falls out of it and is told so. Nobody waits for a follower, and while there is none, nor
//! was a while ago, nothing is kept.

mod event;
mod filter;
mod follower;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::batch::Batch;
pub(crate) use event::{Event, EventId, Heard, Records};
pub(crate) use filter::Filter;
use follower::{Follower, Missed};
use ring::{MAX_AGE, Ring, What};

/// Followers at a time: dashboards and people at terminals.
pub(crate) const MAX_FOLLOWERS: usize = 32;

/// The followers, and what they hear of.
#[derive(Clone, Debug)]
pub(crate) struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Tells this process's events from those of others.
    epoch: u64,
    /// Whether events are kept. Written under the lock alone; threads that serve read nothing else of this.
    is_watched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    followers: Vec<Follower>,
    /// How many there have been.
    count: u64,
    /// Since when there has been no follower.
    empty_since: Option<Instant>,
    /// Nothing comes any more.
    is_over: bool,
}

/// A follower's side: it follows until this is dropped.
#[derive(Debug)]
pub struct Following {
    inner: Arc<Inner>,
    number: u64,
    /// Of what was heard last.
    id: EventId,
    wake: Arc<Notify>,
}

enum Taken {
    Heard(Heard),
    Nothing,
    Over,
}

impl Default for Live {
    fn default() -> Self {
        let state = State { ring: Ring::new(), followers: Vec::new(), count: 0, empty_since: None, is_over: false };
        Self(Arc::new(Inner { epoch: epoch(), is_watched: AtomicBool::new(false), state: Mutex::new(state) }))
    }
}

impl Live {
    /// Whether anybody follows, or may come back to follow on.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.is_watched.load(Ordering::Relaxed)
    }

    /// One more, who hears of what `filter` admits: behind the event with the id `after`, or else from now on. `None`:
    /// there are too many.
    pub(crate) fn follow(&self, filter: &Filter, after: Option<&str>) -> Option<Following> {
        let mut state = self.0.lock();
        if state.followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        let last = state.ring.last();
        let (heard, missed) = match after.map(|id| self.0.number_of(id).filter(|n| state.ring.goes_on_after(*n))) {
            None => (last, None),
            Some(Some(number)) => (number, None),
            Some(None) => (last, Some(Missed::Unknown)),
        };
        state.count += 1;
        let (number, wake) = (state.count, Arc::new(Notify::new()));
        let filter = filter.clone();
        state.followers.push(Follower { number, filter, heard, missed, waits_since: None, wake: wake.clone() });
        state.empty_since = None;
        self.0.is_watched.store(true, Ordering::Relaxed);
        let id = self.0.id(heard);
        Some(Following { inner: self.0.clone(), number, id, wake })
    }

    /// Tells of something that happened beside requests. It costs nothing while nobody follows.
    pub(crate) fn publish(&self, event: Event) {
        self.tell(|| What::Event(event), Instant::now());
    }

    /// Tells of records. They are copied: the batch's memory goes round, and has more room than is written.
    pub(crate) fn publish_records(&self, batch: &Batch, now: Instant) {
        let copy = || Batch { lines: batch.lines.clone(), entries: batch.entries.clone(), access: Vec::new() };
        self.tell(|| What::Records(Arc::new(copy())), now);
    }

    /// Tells that records were lost, of whom nobody knows.
    pub(super) fn publish_loss(&self, now: Instant) {
        self.tell(|| What::Loss, now);
    }

    fn tell(&self, what: impl FnOnce() -> What, now: Instant) {
        if !self.is_watched() {
            return;
        }
        let what = what();
        let mut state = self.0.lock();
        if !self.is_watched() {
            return;
        }
        state.ring.push(what, now);
        state.evict(now);
        for follower in &mut state.followers {
            follower.waits_since.get_or_insert(now);
            follower.wake.notify_one();
        }
    }

    /// Lets go of what is too old, of who does not read, and of everything if nobody has followed for a while. To be
    /// called again and again.
    pub(super) fn tidy(&self, now: Instant) {
        if !self.is_watched() {
            return;
        }
        let mut state = self.0.lock();
        state.evict(now);
        state.followers.retain(|follower| {
            let is_stalled = follower.is_stalled(now);
            if is_stalled {
                log::warn!("who followed the events has read nothing for a minute, and is let go");
                follower.wake.notify_one();
            }
            !is_stalled
        });
        if state.followers.is_empty() {
            let since = *state.empty_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= MAX_AGE {
                state.ring.break_off();
                self.0.is_watched.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Nothing more will come: the streams end behind what there is.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        state.followers.iter().for_each(|follower| follower.wake.notify_one());
    }
}

#[cfg(test)]
impl Live {
    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.0.lock().followers.len()
    }
}

impl Inner {
    fn id(&self, number: u64) -> EventId {
        EventId { epoch: self.epoch, number }
    }

    /// The number of an event of this process.
    fn number_of(&self, id: &str) -> Option<u64> {
        let EventId { epoch, number } = id.parse().ok()?;
        (epoch == self.epoch).then_some(number)
    }

    fn take(&self, number: u64, now: Instant) -> Taken {
        let mut state = self.lock();
        let State { ring, followers, is_over, .. } = &mut *state;
        let Some(follower) = followers.iter_mut().find(|follower| follower.number == number) else {
            return Taken::Over;
        };
        if let Some(missed) = follower.missed.take() {
            return Taken::Heard(Heard::Missed(self.id(follower.heard), missed.records()));
        }
        let Some(kept) = ring.after(follower.heard) else {
            return if *is_over { Taken::Over } else { Taken::Nothing };
        };
        let first = self.id(kept.first);
        let heard = match &kept.what {
            What::Records(batch) => {
                Heard::Records(Records { batch: batch.clone(), first, heard: 0 }.after(self.id(follower.heard)))
            }
            What::Event(event) => Heard::Event(first, event.clone()),
            What::Loss => Heard::Missed(first, None),
        };
        follower.heard = kept.last();
        follower.waits_since = ring.after(follower.heard).map(|_| now);
        Taken::Heard(heard)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn evict(&mut self, now: Instant) {
        while let Some(kept) = self.ring.evict(now) {
            self.followers.iter_mut().for_each(|follower| follower.misses(&kept));
        }
    }
}

impl Following {
    /// What comes next; `None`: nothing will.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            // What comes between this look and the wait leaves word in `wake`.
            match self.inner.take(self.number, Instant::now()) {
                Taken::Heard(heard) => {
                    self.id = self.inner.id(match &heard {
                        Heard::Records(records) => records.last().number,
                        Heard::Event(id, _) | Heard::Missed(id, _) => id.number,
                    });
                    return Some(heard);
                }
                Taken::Nothing => self.wake.notified().await,
                Taken::Over => return None,
            }
        }
    }

    /// The id behind which it goes on: that of what was heard last, whether the filter has admitted it or not.
    pub fn id(&self) -> EventId {
        self.id
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.followers.retain(|follower| follower.number != self.number);
        if state.followers.is_empty() {
            state.empty_since = Some(Instant::now());
        }
    }
}

/// What no other process has drawn.
fn epoch() -> u64 {
    let mut random = [0; 8];
    if getrandom::fill(&mut random).is_ok() {
        return u64::from_le_bytes(random);
    }
    // Nobody else starts in this very nanosecond, unless the clock is set back to it.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}
