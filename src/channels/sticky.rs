//! Which channel each conversation had last.
//!
//! A table of its own, not a rule such as a hash: a conversation that had to move stays where it went, because
//! that is where the provider's cache of it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Parts of the table, each with its own lock: two requests wait for each other only if their conversations
/// are in the same part at the same moment.
const SHARDS: usize = 64;

/// Conversations in a generation of a part. Two generations are 65,536 conversations in all, some 5 MB. One
/// that is forgotten may go to another channel and costs its provider's cache.
const MAX_ENTRIES: usize = 512;

/// The table. It outlives configurations.
#[derive(Debug)]
pub struct Sticky(Box<[Mutex<Shard>]>);

/// When the young generation is full it becomes the old one, and what was old is forgotten: whoever had a
/// turn lately is in one of them, and nothing is ever searched.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    channel: Arc<str>,
    until: Instant,
}

impl Default for Sticky {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Sticky {
    /// The name of the channel that `conversation` had last.
    pub fn last(&self, conversation: u64, now: Instant) -> Option<Arc<str>> {
        let shard = self.shard(conversation);
        let entry = shard.young.get(&conversation).or_else(|| shard.old.get(&conversation))?;
        (now < entry.until).then(|| entry.channel.clone())
    }

    /// `conversation` is served by `channel`, which is remembered for `ttl`.
    pub fn remember(&self, conversation: u64, channel: &Arc<str>, ttl: Duration, now: Instant) {
        let shard = &mut *self.shard(conversation);
        if shard.young.len() >= MAX_ENTRIES && !shard.young.contains_key(&conversation) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(conversation, Entry { channel: channel.clone(), until: now + ttl });
    }

    fn shard(&self, conversation: u64) -> MutexGuard<'_, Shard> {
        // Conversations are numbered by a hash.
        let at = usize::try_from(conversation % SHARDS as u64).unwrap_or_default();
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn a_conversation_is_remembered_until_its_time_is_over() {
        let (table, now) = (Sticky::default(), Instant::now());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        table.remember(1, &a, TTL, now);
        table.remember(2, &b, TTL, now);
        assert_eq!(table.last(1, now + TTL / 2), Some(a.clone()));
        assert_eq!(table.last(1, now + TTL), None);
        table.remember(1, &a, TTL, now + TTL / 2);
        assert_eq!(table.last(1, now + TTL), Some(a), "its last turn counts");
        table.remember(1, &b, TTL, now + TTL);
        assert_eq!(table.last(1, now + TTL), Some(b), "it has moved");
        assert_eq!(table.last(3, now), None);
    }

    #[test]
    fn the_table_is_bounded_and_the_newest_is_in_it() {
        let (table, now) = (Sticky::default(), Instant::now());
        let channel: Arc<str> = "a".into();
        for n in 0..3 * (SHARDS * MAX_ENTRIES) as u64 {
            table.remember(n, &channel, TTL, now);
            assert!(table.last(n, now).is_some(), "{n}");
            assert!(table.last(0, now).is_some(), "whoever has turns is never forgotten");
            table.remember(0, &channel, TTL, now);
        }
        for shard in &table.0 {
            let shard = shard.lock().unwrap();
            assert!(shard.young.len() <= MAX_ENTRIES && shard.old.len() == MAX_ENTRIES);
        }
    }
}
