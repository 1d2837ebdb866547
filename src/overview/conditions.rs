//! Which channels have begun or ceased to cool down, told to those who follow.
//!
//! Owns what was seen of their health at the last look. Threads that serve say nothing of it: what turns within a second and
//! back is not told. While all is well a look reads one word a channel and key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use weir_filters::health::Condition;

use crate::channels::Channel;
use crate::control::fares;
use crate::proxy::Shared;

/// Those of channels that are not well, each with its keys'.
type Ill = HashMap<Arc<str>, Vec<Condition>>;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Conditions(Ill);

impl Conditions {
    /// Looks again, and tells of each channel that fares otherwise than before.
    pub(super) fn look(&mut self, shared: &Shared, now: Instant) {
        let live = shared.live.load();
        let is_watched = shared.audit.is_watched();
        for changed in self.changed(live.channels().iter(), now) {
            if is_watched {
                shared.audit.publish(fares(changed, now));
            }
        }
    }

    fn changed<'c>(&mut self, channels: impl Iterator<Item = &'c Arc<Channel>>, now: Instant) -> Vec<&'c Channel> {
        let mut ill = Ill::new();
        let mut changed = Vec::new();
        for channel in channels {
            let before = self.0.get(channel.name());
            let is_ill = conditions(channel, now).any(|condition| condition != Condition::Healthy);
            if !is_ill && before.is_none() {
                continue;
            }
            let conditions: Vec<_> = conditions(channel, now).collect();
            if before != Some(&conditions) {
                changed.push(&**channel);
            }
            if is_ill {
                ill.insert(channel.name().clone(), conditions);
            }
        }
        self.0 = ill;
        changed
    }
}

/// Its own, and its keys'.
fn conditions(channel: &Channel, now: Instant) -> impl Iterator<Item = Condition> {
    let keys = 0..channel.config().keys.len();
    std::iter::once(channel.condition(now)).chain(keys.map(move |place| channel.key_condition(place, now)))
}
