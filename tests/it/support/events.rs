//! The admin API's stream of events, as a browser reads it.

use serde_json::Value;

use super::{Gateway, Streamed};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Event {
    /// The process that gave its id, and the number of it.
    pub(crate) fn place(&self) -> (&str, u64) {
        let (epoch, number) = self.id.split_once('-').expect("two parts");
        (epoch, number.parse().expect("a number"))
    }
}

/// A stream that is followed.
pub(crate) struct Events {
    stream: Streamed,
    unread: String,
    /// What to come back with.
    pub(crate) last: String,
}

impl Gateway {
    /// Follows what happens, with a query; from `last` on, if there is one, as a header says it.
    pub(crate) async fn follow(&self, query: &str, last: Option<&str>) -> Events {
        let request = self.admin("GET", &format!("/admin/api/events{query}"));
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let stream = request.stream().await;
        assert_eq!((stream.answer.status, stream.answer.header("content-type")), (200, "text/event-stream"));
        let mut events = Events { stream, unread: String::new(), last: String::new() };
        while events.last.is_empty() {
            assert_eq!(events.piece().await, Some(None), "no event before the place where it begins");
        }
        events
    }
}

impl Events {
    /// The next event; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.piece().await? {
                return Some(event);
            }
        }
    }

    /// The next event of that name.
    pub(crate) async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.expect("the stream has no end");
            if event.name == name {
                return event.data;
            }
        }
    }

    /// What stands before the next empty line: an event, or something else.
    async fn piece(&mut self) -> Option<Option<Event>> {
        let end = loop {
            if let Some(end) = self.unread.find("\n\n") {
                break end;
            }
            let piece = self.stream.next().await?;
            self.unread.push_str(std::str::from_utf8(&piece).expect("events of ASCII"));
        };
        let text: String = self.unread.drain(..end + 2).collect();
        let field = |name: &str| {
            let of = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
            text.lines().find_map(of)
        };
        let Some(id) = field("id") else { return Some(None) };
        self.last.clone_from(&id);
        let (Some(name), Some(data)) = (field("event"), field("data")) else { return Some(None) };
        Some(Some(Event { id, name, data: serde_json::from_str(&data).expect("JSON") }))
    }
}
