//! What there is to hear of, and how each piece of it is called.
//!
//! Owns the ids of events. They are of one process: the next one, be it after a kill or an upgrade, gives others, so that
//! none is ever taken for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

use super::super::batch::Batch;
use super::filter::Filter;

/// Something that happened beside requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another configuration is in force: its version.
    ConfigReloaded(u64),
    /// A channel was tried, by hand or by the clock: what came of it, a JSON object.
    RunCompleted(Arc<str>),
    /// A channel was changed, or fares otherwise than before: a JSON object with its `name` and `state`.
    ChannelUpdated(Arc<str>),
}

impl Event {
    /// A channel was tried, and `told` came of it.
    pub fn run_completed(told: &Value) -> Self {
        Self::RunCompleted(told.to_string().into())
    }

    /// A channel was changed or fares otherwise, and `told` is its name and state.
    pub fn channel_updated(told: &Value) -> Self {
        Self::ChannelUpdated(told.to_string().into())
    }

    /// Its name, as the stream has it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConfigReloaded(_) => "config_reloaded",
            Self::RunCompleted(_) => "run_completed",
            Self::ChannelUpdated(_) => "channel_updated",
        }
    }

    /// What it says, a JSON object.
    pub fn data(&self) -> Arc<str> {
        match self {
            Self::ConfigReloaded(version) => format!("{{\"version\":{version}}}").into(),
            Self::RunCompleted(json) | Self::ChannelUpdated(json) => json.clone(),
        }
    }

    /// Bytes that it holds in memory.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::ConfigReloaded(_) => 0,
            Self::RunCompleted(json) | Self::ChannelUpdated(json) => json.len(),
        }
    }
}

/// What an event is called: the process, a hyphen, and a number that goes up by one with each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();

    /// Only as it was given: anything else is none of ours.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.split_once('-').ok_or(())?;
        let id = Self { epoch: u64::from_str_radix(epoch, 16).or(Err(()))?, number: number.parse().or(Err(()))? };
        (id.to_string() == text).then_some(id).ok_or(())
    }
}

/// What a follower hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Requests that have ended.
    Records(Records),
    /// Something else.
    Event(EventId, Event),
    /// Before it goes on behind this id, so many records were not heard, and perhaps other events; `None`: nobody knows
    /// how many.
    Missed(EventId, Option<u64>),
}

/// Some records.
#[derive(Clone, Debug)]
pub struct Records {
    pub(super) batch: Arc<Batch>,
    pub(super) first: EventId,
    /// So many at the beginning were heard already.
    pub(super) heard: usize,
}

impl Records {
    /// The id of each record that `filter` admits with its line, without the line feed.
    pub fn lines<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = (EventId, &'a [u8])> {
        let EventId { epoch, number } = self.first;
        let numbered = (number..).zip(self.batch.iter()).skip(self.heard);
        let admitted = numbered.filter(|(_, (entry, _))| filter.admits(entry));
        admitted.map(move |(number, (_, line))| (EventId { epoch, number }, line.strip_suffix(b"\n").unwrap_or(line)))
    }

    /// The id of the last of them.
    pub fn last(&self) -> EventId {
        let more = self.batch.len().saturating_sub(1) as u64;
        EventId { number: self.first.number + more, ..self.first }
    }

    /// Those behind the one with this id.
    pub fn after(self, id: EventId) -> Self {
        let heard = usize::try_from((id.number + 1).saturating_sub(self.first.number)).unwrap_or(usize::MAX);
        Self { heard, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::batch_of;
    use super::*;

    #[test]
    fn an_id_is_read_only_as_it_was_given() {
        let id = EventId { epoch: 0xabc, number: 17 };
        assert_eq!(id.to_string(), "0000000000000abc-17");
        assert_eq!("0000000000000abc-17".parse(), Ok(id));
        for text in ["", "-", "17", "abc-17", "0000000000000ABC-17", "0000000000000abc-017", "0000000000000abc-+17"] {
            assert_eq!(text.parse::<EventId>(), Err(()), "{text}");
        }
    }

    #[test]
    fn records_go_on_behind_any_of_them() {
        let id = |number| EventId { epoch: 1, number };
        let batch = batch_of([("{\"a\":1}", 1), ("{\"a\":2}", 2), ("{\"a\":3}", 3)]);
        let records = Records { batch: Arc::new(batch), first: id(5), heard: 0 };
        let filter = Filter::default();
        assert_eq!(records.lines(&filter).map(|(id, _)| id).collect::<Vec<_>>(), [id(5), id(6), id(7)]);
        let rest = records.clone().after(id(5));
        assert_eq!(rest.lines(&filter).collect::<Vec<_>>(), [(id(6), &b"{\"a\":2}"[..]), (id(7), b"{\"a\":3}")]);
        assert_eq!(records.after(id(7)).lines(&filter).count(), 0);
    }

    #[test]
    fn an_event_has_a_name_and_says_json() {
        let run = Event::run_completed(&serde_json::json!({ "ok": true, "text": "two\nlines" }));
        assert_eq!((run.name(), &*run.data()), ("run_completed", r#"{"ok":true,"text":"two\nlines"}"#));
        assert_eq!(&*Event::ConfigReloaded(3).data(), r#"{"version":3}"#);
    }
}
