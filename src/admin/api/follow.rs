//! `GET /admin/api/events`: what happens, as server-sent events while it happens.
//!
//! Owns the form of the stream and the meaning of its parameters. Who follows too slowly misses records, and is told how
//! many; who comes back goes on where they were. Knows nothing of how events come, nor of how long they are kept.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::document::schemas::text;
use super::table::{Endpoint, Parameter};
use super::{answer, problem};
use crate::admin::server::Shared;
use crate::audit::{EventId, Filter, Following, Heard, Records};

/// Silence is broken so often: proxies on the way close what says nothing for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A piece of the stream is no longer than this and one record: it waits in memory for whoever reads slowly.
const MAX_PIECE: usize = 64 * 1024;
/// What browsers send of themselves when they come back.
const LAST_EVENT_ID: &str = "last-event-id";

/// What is said of the stream in the document.
const KINDS: &str = "A stream without an end. The data of each event is a JSON object. `request`: the record of a request that has ended, the only kind that is filtered. `config_reloaded`: its `version`. `channel_updated`: `name`, `state` (as a channel has it, or removed) and `cooling_until` of a channel that was changed, drained, or begins or ceases to cool down. `run_completed`: what came of trying a channel, with `channel`, `by` and `time`. `missed`: `records`, how many came too fast to be sent; null where nobody knows, so that lists are to be asked for anew.";

const UNKNOWN: &str = "unknown parameter; there are key, user, model, channel, status and last_event_id";

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let exact = || json!({ "type": "string", "minLength": 1 });
    let status = json!({ "type": "string", "pattern": "^([1-9][0-9]{2}|[1-9]xx|none)$" });
    vec![
        Endpoint::admin(Method::GET, "/admin/api/events", "follow", follow)
            .about("What happens, while it happens, as server-sent events, each with an id to come back with.")
            .takes(Parameter::query("key", "Only requests of the key with this name.", exact()))
            .takes(Parameter::query("user", "Only requests of this user.", exact()))
            .takes(Parameter::query("model", "Only requests that asked for this model.", exact()))
            .takes(Parameter::query("channel", "Only requests that this channel served.", exact()))
            .takes(Parameter::query("status", "Only requests with this status, this class, or none.", status))
            .takes(Parameter::query("last_event_id", "As the header Last-Event-ID, for clients that can send none; the header counts.", exact()))
            .takes(Parameter::header("Last-Event-ID", "The id of the last event that was heard: what came after it is sent first. With one that is too old, or of another process, the stream begins with `missed`.", text()))
            .gives_as(200, KINDS, Some(("text/event-stream", text())))
            .refuses(&[problem::UNAVAILABLE]),
    ]
}

async fn follow(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let Asked { filter, last } = match parse(&parameters) {
        Ok(asked) => asked,
        Err((parameter, message)) => return answer::bad_parameter(&parameter, message),
    };
    // A browser that comes back by itself asks with the URL of its first time: its header is newer.
    let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    let last = header.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned()).or(last);
    let Some(following) = shared.state().follow(&filter, last.as_deref()) else {
        return answer::unavailable("as many follow already as may; try again later");
    };
    let mut response = Response::new(Body::from_stream(events(following, filter)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// What is asked in the query.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    filter: Filter,
    /// The id of the event that was heard last.
    last: Option<String>,
}

fn parse(parameters: &[(String, String)]) -> Result<Asked, (String, &'static str)> {
    let mut asked = Asked::default();
    let filter = &mut asked.filter;
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name.as_str()) {
            return Err((name.clone(), "given more than once"));
        }
        if value.is_empty() {
            return Err((name.clone(), "is empty; leave it out to hear of all"));
        }
        seen.push(name);
        match name.as_str() {
            "key" => filter.key(value),
            "user" => filter.user(value),
            "model" => filter.model(value),
            "channel" => filter.channel(value),
            "status" => {
                let status = value.parse().map_err(|()| "must be a status such as 429, a class such as 4xx, or none");
                filter.status(status.map_err(|message| (name.clone(), message))?);
            }
            "last_event_id" => asked.last = Some(value.clone()),
            _ => return Err((name.clone(), UNKNOWN)),
        }
    }
    Ok(asked)
}

/// The stream, between two of its pieces.
struct Stream {
    following: Following,
    filter: Filter,
    /// What is left of records that are more than one piece.
    rest: Option<Records>,
    has_begun: bool,
    /// When a piece was last said.
    said: Instant,
    heartbeat: Duration,
}

impl Stream {
    fn new(following: Following, filter: Filter) -> Self {
        Self { following, filter, rest: None, has_begun: false, said: Instant::now(), heartbeat: HEARTBEAT }
    }

    /// The next piece. The first one comes at once, so that whoever asks knows that it has begun.
    async fn next(&mut self) -> Option<String> {
        let piece = if self.has_begun { self.what_comes().await? } else { format!(": follows\n\n{}", self.place()) };
        self.has_begun = true;
        self.said = Instant::now();
        Some(piece)
    }

    async fn what_comes(&mut self) -> Option<String> {
        let mut piece = String::new();
        while piece.is_empty() {
            if let Some(records) = self.rest.take() {
                self.rest = put(records, &self.filter, &mut piece);
                continue;
            }
            // Counted from the last piece: what the filter keeps back breaks no silence.
            match tokio::time::timeout_at(self.said + self.heartbeat, self.following.next()).await {
                Ok(Some(Heard::Records(records))) => self.rest = Some(records),
                Ok(Some(Heard::Event(id, event))) => put_event(id, event.name(), &event.data(), &mut piece),
                Ok(Some(Heard::Missed(id, records))) => {
                    put_event(id, "missed", &json!({ "records": records }).to_string(), &mut piece);
                }
                Ok(None) => return None,
                Err(_) => piece = format!(": still here\n{}", self.place()),
            }
        }
        Some(piece)
    }

    /// An id alone is no event, and where a client goes on that breaks off here: without it one that hears little would
    /// come back with an id that is long forgotten.
    fn place(&self) -> String {
        format!("id: {}\n\n", self.following.id())
    }
}

/// The stream's pieces.
fn events(following: Following, filter: Filter) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Stream::new(following, filter), |mut stream| async {
        let piece = stream.next().await?;
        Some((Ok(piece.into()), stream))
    })
}

/// Puts as many records as go into one piece; gives the others.
fn put(records: Records, filter: &Filter, piece: &mut String) -> Option<Records> {
    let mut full = None;
    for (id, line) in records.lines(filter) {
        // A record is JSON on one line, and so of UTF-8.
        put_event(id, "request", &String::from_utf8_lossy(line), piece);
        if piece.len() >= MAX_PIECE {
            full = Some(id);
            break;
        }
    }
    full.map(|id| records.after(id))
}

fn put_event(id: EventId, name: &str, data: &str, piece: &mut String) {
    // Into memory.
    let _ = write!(piece, "id: {id}\nevent: {name}\n");
    for line in data.lines() {
        let _ = writeln!(piece, "data: {line}");
    }
    piece.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Event, Live, batch_of};

    fn mistake(parameters: &[(&str, &str)]) -> Option<(String, &'static str)> {
        let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        parse(&owned).err()
    }

    #[test]
    fn parameters_are_understood_or_named() {
        assert_eq!(
            mistake(&[
                ("key", "a"),
                ("user", "b"),
                ("model", "c"),
                ("channel", "d"),
                ("status", "4xx"),
                ("last_event_id", "?")
            ]),
            None
        );
        for (parameters, name) in [
            (&[("kee", "a")][..], "kee"),
            (&[("key", "a"), ("key", "b")], "key"),
            (&[("status", "4x")], "status"),
            (&[("user", "")], "user"),
        ] {
            assert_eq!(mistake(parameters).map(|(parameter, _)| parameter).as_deref(), Some(name));
        }
    }

    fn records(live: &Live, key: &str, count: u128, bytes: usize) {
        let line = format!("{{\"key_name\":\"{key}\",\"x\":\"{}\"}}", "x".repeat(bytes));
        live.publish_records(&batch_of((1..=count).map(|id| (&*line, id))), Instant::now().into_std());
    }

    fn of(live: &Live, key: Option<&str>, after: Option<&str>) -> Stream {
        let mut filter = Filter::default();
        key.into_iter().for_each(|key| filter.key(key));
        let mut stream = Stream::new(live.follow(&filter, after).unwrap(), filter);
        stream.heartbeat = Duration::from_millis(40);
        stream
    }

    #[tokio::test]
    async fn each_piece_has_an_id_to_come_back_with() {
        let live = Live::default();
        let mut stream = of(&live, None, None);
        let begun = stream.next().await.unwrap();
        let id = begun.strip_prefix(": follows\n\nid: ").unwrap().strip_suffix("-0\n\n").unwrap().to_owned();
        live.publish(Event::ConfigReloaded(3));
        records(&live, "alice", 2, 1);
        live.publish(Event::RunCompleted("{\n}".into()));
        let record = "{\"key_name\":\"alice\",\"x\":\"x\"}";
        let expected = [
            format!("id: {id}-1\nevent: config_reloaded\ndata: {{\"version\":3}}\n\n"),
            format!("id: {id}-2\nevent: request\ndata: {record}\n\nid: {id}-3\nevent: request\ndata: {record}\n\n"),
            format!("id: {id}-4\nevent: run_completed\ndata: {{\ndata: }}\n\n"),
            format!(": still here\nid: {id}-4\n\n"),
        ];
        for piece in expected {
            assert_eq!(stream.next().await, Some(piece));
        }
        let mut lost = of(&live, None, Some("elsewhere-1"));
        lost.next().await;
        let missed = format!("id: {id}-4\nevent: missed\ndata: {{\"records\":null}}\n\n");
        assert_eq!(lost.next().await, Some(missed));
        live.end();
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn what_the_filter_keeps_back_breaks_no_silence_and_moves_the_place_to_come_back_to() {
        let live = Live::default();
        let mut stream = of(&live, Some("bob"), None);
        let begun = stream.next().await.unwrap();
        let busy = async {
            loop {
                records(&live, "alice", 1, 1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let piece = tokio::select! {
            piece = stream.next() => piece.unwrap(),
            () = busy => unreachable!("it goes on"),
        };
        let place = piece.strip_prefix(": still here\nid: ").unwrap().trim_end();
        assert!(!begun.contains(place), "{begun} {place}");
        records(&live, "bob", 1, 1);
        drop(stream);
        let mut back = of(&live, Some("bob"), Some(place));
        back.next().await;
        assert!(back.next().await.unwrap().contains("event: request"));
    }

    #[tokio::test]
    async fn many_records_are_many_pieces_and_none_is_said_twice() {
        let live = Live::default();
        let mut stream = of(&live, None, None);
        let mut text = stream.next().await.unwrap();
        records(&live, "alice", 40, MAX_PIECE / 3);
        live.publish(Event::ConfigReloaded(3));
        while !text.contains("config_reloaded") {
            let piece = stream.next().await.unwrap();
            assert!(piece.len() < MAX_PIECE * 3 / 2, "{}", piece.len());
            text.push_str(&piece);
        }
        let numbers: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.split_once('-')).collect();
        let expected: Vec<String> = (0..=41).map(|number| number.to_string()).collect();
        assert_eq!(numbers.iter().map(|(_, number)| *number).collect::<Vec<_>>(), expected);
    }
}
