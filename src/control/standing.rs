//! How a channel does, as rows and events tell it.
//!
//! Owns the words for it, and that whoever follows hears of every channel that is changed here. How channels fare between
//! two changes is seen by who looks ([`crate::overview`]).

use std::time::Instant;

use serde_json::{Value, json};
use weir_filters::calendar;
use weir_filters::health::Condition;

use crate::audit::Event;
use crate::channels;
use crate::config::Channel;

use super::{Control, now_ms};

/// Its state, and until when it cools down; `None`: it is not in force.
pub(super) fn standing(running: Option<&channels::Channel>, now: Instant) -> (&'static str, Option<Instant>) {
    let condition = running.map_or(Condition::Healthy, |running| running.condition(now));
    let state = match running {
        None => "disabled",
        Some(running) if running.is_drained() => "draining",
        Some(_) => condition.name(),
    };
    (state, condition.until())
}

/// A moment as the time of day, where `now` is both.
pub(super) fn time_of(moment: Instant, now: (Instant, u64)) -> String {
    let ahead = u64::try_from(moment.saturating_duration_since(now.0).as_millis()).unwrap_or(u64::MAX);
    calendar::rfc3339(now.1.saturating_add(ahead))
}

/// A channel in force is told of.
pub(crate) fn fares(channel: &channels::Channel, now: Instant) -> Event {
    let (state, until) = standing(Some(channel), now);
    let until = until.map(|until| time_of(until, (now, now_ms())));
    Event::channel_updated(&json!({ "name": **channel.name(), "state": state, "cooling_until": until }))
}

impl Control {
    /// Tells of a channel with this row.
    pub(super) fn tell_of(&self, row: &Value) {
        if !self.shared.audit.is_watched() {
            return;
        }
        let told = json!({ "name": row["name"], "state": row["state"], "cooling_until": row["cooling_until"] });
        self.shared.audit.publish(Event::channel_updated(&told));
    }

    /// Tells that the channel that was made under a name is gone. One that the file declares may be there still.
    pub(super) fn tell_of_removed(&self, name: &str) {
        match self.show::<Channel>(name) {
            Ok(row) => self.tell_of(&row),
            Err(_) => self.tell_of(&json!({ "name": name, "state": "removed" })),
        }
    }
}
