//! What other gateways say of upstream keys, taken for what it is worth now.
//!
//! Owns which word counts: the newest of each key, if it is not old. Refuses to know what a key's state is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use weir_filters::import::Verdict;

use super::Word;
use crate::channels::Channels;

/// Older words say nothing of now: a cooldown is over by then.
const RECENT_MS: u64 = 300_000;

/// The newest words of a running gateway, so that parts of a file, and files, may come in any order.
#[derive(Debug, Default)]
pub(crate) struct Words(Mutex<HashMap<Name, u64>>);

/// A channel's name and a key's. There are no more than are configured: nothing else is remembered.
type Name = (String, String);

impl Words {
    /// Tells the channels what is new and recent; gives of how many keys.
    pub(crate) fn tell(&self, channels: &Channels, words: &[Word], now_ms: u64, now: Instant) -> u64 {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.retain(|_, time_ms| *time_ms >= now_ms.saturating_sub(RECENT_MS));
        let mut told: HashMap<Name, Verdict> = HashMap::new();
        for Word { time_ms, status } in words {
            // A clock that is ahead elsewhere must not have the last word for longer than until now.
            let time_ms = now_ms.min(*time_ms);
            let is_recent = time_ms >= now_ms.saturating_sub(RECENT_MS);
            let says_something = matches!(status.verdict, Verdict::Good | Verdict::Refused | Verdict::Slow);
            if !is_recent || !says_something {
                continue;
            }
            let Some((channel, key)) = channels.find_key(&status.provider, status.names()) else { continue };
            let name = (channel.name().to_string(), channel.key(key).name.clone());
            // Of one moment the last counts: the tries of a request are in their order.
            if newest.get(&name).is_none_or(|known| *known <= time_ms) {
                newest.insert(name.clone(), time_ms);
                told.insert(name, status.verdict);
            }
        }
        for ((channel, key), verdict) in &told {
            if let Some((found, place)) = channels.find_key(channel, [key.as_str()].into_iter()) {
                found.told(place, *verdict, now);
            }
        }
        told.len() as u64
    }
}
