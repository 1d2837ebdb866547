//! One who follows: how far it has heard, and what it has missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::filter::Filter;
use super::ring::{Kept, What};

/// Who takes nothing of what waits for so long does not read any more, and makes room for others.
const MAX_STALL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) number: u64,
    pub(super) filter: Filter,
    /// The number of the event that it has heard last.
    pub(super) heard: u64,
    /// What it was not told of yet.
    pub(super) missed: Option<Missed>,
    /// Since when something has waited that it does not take.
    pub(super) waits_since: Option<Instant>,
    pub(super) wake: Arc<Notify>,
}

/// What a follower has not heard and will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// So many records, and perhaps other events.
    Records(u64),
    /// Nobody knows how much.
    Unknown,
}

impl Missed {
    /// How many records, if anybody knows.
    pub(super) const fn records(self) -> Option<u64> {
        match self {
            Self::Records(records) => Some(records),
            Self::Unknown => None,
        }
    }

    const fn and(self, more: Self) -> Self {
        match (self, more) {
            (Self::Records(before), Self::Records(more)) => Self::Records(before + more),
            _ => Self::Unknown,
        }
    }
}

impl Follower {
    /// Whether it has left what waits for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.waits_since.is_some_and(|since| now.saturating_duration_since(since) >= MAX_STALL)
    }

    /// `kept` is gone, whether this follower has heard it or not.
    pub(super) fn misses(&mut self, kept: &Kept) {
        if kept.last() <= self.heard {
            return;
        }
        let heard = usize::try_from((self.heard + 1).saturating_sub(kept.first)).unwrap_or(usize::MAX);
        self.heard = kept.last();
        let missed = match &kept.what {
            What::Records(batch) => {
                let wanted = batch.iter().skip(heard).filter(|(entry, _)| self.filter.admits(entry)).count();
                if wanted == 0 {
                    return;
                }
                Missed::Records(wanted as u64)
            }
            What::Event(_) => Missed::Records(0),
            What::Loss => Missed::Unknown,
        };
        self.missed = Some(self.missed.map_or(missed, |before| before.and(missed)));
    }
}
