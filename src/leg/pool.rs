//! Idle connections to upstreams.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Shards of the pool: each worker thread keeps to its own, so that its lock is not shared.
const SHARDS: usize = 16;
/// The most idle connections a shard keeps for one upstream; the oldest goes first. It bounds
/// descriptors, and is above what a thread's burst leaves behind.
const MAX_IDLE: usize = 256;
/// How often a shard drops what has expired, whichever upstream it belongs to: a host that moved to
/// another address, or a channel that a reload removed, is never asked for again.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Idle values by upstream. `C` is a connection; the pool never looks into it.
#[derive(Debug)]
pub(super) struct Pool<K, C> {
    shards: Box<[Mutex<Shard<K, C>>]>,
}

#[derive(Debug)]
struct Shard<K, C> {
    idle: HashMap<K, Vec<(C, Instant)>, BuildHasherDefault<OneWord>>,
    swept: Option<Instant>,
}

impl<K: Clone + Eq + Hash, C> Pool<K, C> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(Shard { idle: HashMap::default(), swept: None })).collect() }
    }

    /// The most recently used connection to `upstream`: of this thread, else of another one.
    pub(super) fn take(&self, upstream: &K, now: Instant) -> Option<C> {
        let own = shard_of_this_thread();
        (0..SHARDS).find_map(|i| {
            // Another thread's shard is only looked at if that does not mean waiting.
            let mut shard = if i == 0 {
                self.shards[own].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
            } else {
                self.shards[(own + i) % SHARDS].try_lock().ok()?
            };
            let idle = shard.idle.get_mut(upstream)?;
            let (connection, until) = idle.pop()?;
            // The newest has the latest deadline: if it is over, so are all below it.
            if until <= now {
                idle.clear();
                return None;
            }
            Some(connection)
        })
    }

    /// Keeps `connection` for `idle_timeout`.
    pub(super) fn put(&self, upstream: &K, connection: C, idle_timeout: Duration, now: Instant) {
        let mut shard = self.shards[shard_of_this_thread()].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if shard.swept.is_none_or(|swept| now >= swept + SWEEP_EVERY) {
            shard.swept = Some(now);
            shard.idle.retain(|_, idle| {
                idle.retain(|(_, until)| *until > now);
                !idle.is_empty()
            });
        }
        let Some(idle) = shard.idle.get_mut(upstream) else {
            // The key is only copied for the first connection to an upstream.
            shard.idle.insert(upstream.clone(), vec![(connection, now + idle_timeout)]);
            return;
        };
        let surplus = (idle.len() + 1).saturating_sub(MAX_IDLE);
        idle.drain(..surplus);
        idle.push((connection, now + idle_timeout));
    }
}

/// Hashes keys that write one word, by a multiplication.
#[derive(Debug, Default)]
struct OneWord(u64);

impl Hasher for OneWord {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, word: u64) {
        // The constant is 2^64 divided by the golden ratio; the table uses the upper bits too.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS));
    SHARD.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_newest_connection_of_the_same_upstream_is_taken() {
        let (pool, now) = (Pool::<u64, _>::new(), Instant::now());
        pool.put(&1, "a", MINUTE, now);
        pool.put(&1, "b", MINUTE, now);
        pool.put(&2, "c", MINUTE, now);
        assert_eq!(pool.take(&1, now), Some("b"));
        assert_eq!(pool.take(&1, now), Some("a"));
        assert_eq!(pool.take(&1, now), None);
        assert_eq!(pool.take(&2, now), Some("c"));
    }

    #[test]
    fn an_expired_connection_is_not_taken() {
        let (pool, now) = (Pool::<u64, _>::new(), Instant::now());
        pool.put(&1, "a", MINUTE, now);
        assert_eq!(pool.take(&1, now + MINUTE), None);
        assert_eq!(pool.take(&1, now), None, "it was dropped");
    }

    #[test]
    fn connections_to_upstreams_that_nobody_asks_for_are_dropped() {
        let (pool, now) = (Pool::<u64, _>::new(), Instant::now());
        let gone = std::sync::Arc::new(());
        pool.put(&1, gone.clone(), MINUTE, now);
        pool.put(&2, std::sync::Arc::new(()), MINUTE, now + 2 * MINUTE);
        assert_eq!(std::sync::Arc::strong_count(&gone), 1);
    }

    #[test]
    fn a_connection_of_another_thread_is_taken_when_there_is_none_of_this_one() {
        let (pool, now) = (Pool::<u64, _>::new(), Instant::now());
        pool.put(&1, "a", MINUTE, now);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(pool.take(&1, now), Some("a")));
        });
    }

    #[test]
    fn the_pool_is_bounded() {
        let (pool, now) = (Pool::<u64, _>::new(), Instant::now());
        for i in 0..=MAX_IDLE {
            pool.put(&1, i, MINUTE, now);
        }
        let kept: Vec<_> = std::iter::from_fn(|| pool.take(&1, now)).collect();
        assert_eq!((kept.len(), kept[0], kept[MAX_IDLE - 1]), (MAX_IDLE, MAX_IDLE, 1));
    }
}
