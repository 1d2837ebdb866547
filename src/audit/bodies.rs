//! Bodies of a request and its answer, kept while they pass.
//!
//! Owns how much of them is kept, of one and of all together. They are copied: a piece of a stream would keep the whole
//! read that brought it. Refuses to know what a body says: that is read by the collector.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_filters::body::{self, Captured};
use weir_filters::decode::Encoding;
use weir_filters::mask::Mask;
use weir_filters::meter::Shape;
use weir_filters::record::BodyPlaces;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use crate::config::{Audit, Bodies};

use super::batch::Batch;
use super::shards::Left;

/// The most text of a body that is recorded with `bodies: truncated`.
const TRUNCATED: usize = 2 << 10;
/// A stream says the same in so many times more bytes than the text that it brings.
const STREAM_FACTOR: usize = 16;
/// The most that is kept of one stream.
const MAX_STREAM: usize = 4 << 20;
/// All that is kept of all requests under way: more is not kept, and the record says that its body is cut.
const MAX_ALL: usize = 128 << 20;

/// How much of bodies is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Of a body's text, in its record.
    pub(crate) text: usize,
    /// Of a stream's bytes, to find its text.
    stream: usize,
}

impl Caps {
    /// What the configuration says; `None`: no bodies are recorded.
    pub(crate) fn of(audit: &Audit) -> Option<Self> {
        let text = match audit.bodies {
            Bodies::None => return None,
            Bodies::Truncated => TRUNCATED.min(audit.max_body),
            Bodies::Full => audit.max_body,
        };
        Some(Self { text, stream: (text * STREAM_FACTOR).clamp(text, MAX_STREAM.max(text)) })
    }
}

/// Bytes that all requests keep.
#[derive(Debug, Default)]
pub(crate) struct Room(AtomicUsize);

/// What stands in a record for a body that is not there.
const NULL: &[u8] = b"null";

/// What is kept of one body.
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of all of it.
    pub(crate) total: u64,
    /// Whether some of it was not kept.
    pub(crate) is_cut: bool,
    pub(crate) layout: Layout,
    cap: usize,
    room: Arc<Room>,
}

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) encoding: Encoding,
}

impl Part {
    fn new(cap: usize, room: Arc<Room>) -> Self {
        let layout = Layout { shape: Shape::Json, encoding: Encoding::Identity };
        Self { bytes: Vec::new(), total: 0, is_cut: false, layout, cap, room }
    }

    /// Keeps what there is room for.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.total += piece.len() as u64;
        let wanted = piece.len().min(self.cap - self.bytes.len());
        self.is_cut |= wanted < piece.len();
        if wanted == 0 {
            return;
        }
        if self.room.0.fetch_add(wanted, Ordering::Relaxed) + wanted > MAX_ALL {
            self.room.0.fetch_sub(wanted, Ordering::Relaxed);
            self.is_cut = true;
            // What comes later would stand behind a gap.
            self.cap = self.bytes.len();
            return;
        }
        self.bytes.extend_from_slice(&piece[..wanted]);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// What is kept of a request under way.
pub(crate) struct Capture {
    pub(crate) caps: Caps,
    pub(crate) request: Part,
    /// Room for a stream's bytes: whether the answer is one is not known yet.
    pub(crate) response: Part,
    /// What must not be recorded.
    pub(crate) secrets: Vec<Secret>,
}

impl Capture {
    pub(crate) fn new(caps: Caps, room: &Arc<Room>) -> Self {
        Self {
            caps,
            request: Part::new(caps.text, room.clone()),
            response: Part::new(caps.stream, room.clone()),
            secrets: Vec::new(),
        }
    }

    /// Bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        self.request.bytes.len() + self.response.bytes.len()
    }
}

/// Bodies that belong into a record which has been put.
pub(crate) struct Kept {
    /// Where they stand in the lines.
    pub(crate) places: BodyPlaces,
    pub(crate) operation: Option<Operation>,
    pub(crate) capture: Box<Capture>,
}

/// The batch, with its bodies in the records: each takes the place of the `null` that stands for it.
pub(super) fn put_into(left: Left) -> Batch {
    let Left { mut batch, bodies, .. } = left;
    if bodies.is_empty() {
        return batch;
    }
    let plain = std::mem::take(&mut batch.lines);
    let mut lines = Vec::with_capacity(plain.len() + bodies.iter().map(|kept| kept.capture.size()).sum::<usize>());
    let (mut copied, mut grown) = (0, Vec::new());
    for kept in bodies {
        let Capture { caps, request, response, secrets } = &*kept.capture;
        let mask = Mask::new(&secrets.iter().map(Secret::expose).collect::<Vec<_>>());
        for (place, part) in [(kept.places.request, request), (kept.places.response, response)] {
            if part.total > 0 {
                lines.extend_from_slice(&plain[copied..place]);
                let begun = lines.len();
                // What an upstream sends is read here: whatever it is, the records of others go on.
                let put = AssertUnwindSafe(|| body::put(&mut lines, &part.captured(kept.operation), caps.text, &mask));
                if catch_unwind(put).is_err() {
                    log::error!("audit: the body of a request could not be read, and is left out");
                    lines.truncate(begun);
                    lines.extend_from_slice(NULL);
                }
                copied = place + NULL.len();
            }
        }
        grown.push((kept.places.response, lines.len() - copied));
    }
    lines.extend_from_slice(&plain[copied..]);
    let mut more = 0;
    let mut grown = grown.into_iter().peekable();
    for entry in &mut batch.entries {
        if let Some((_, by)) = grown.next_if(|(place, _)| *place < entry.end) {
            more = by;
        }
        entry.end += more;
    }
    batch.lines = lines;
    batch
}

impl Part {
    fn captured(&self, operation: Option<Operation>) -> Captured<'_> {
        let Layout { shape, encoding } = self.layout;
        let operation = operation.unwrap_or(Operation::OpenAiOther);
        Captured { operation, shape, encoding, bytes: &self.bytes, total: self.total, cut: self.is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Entry;
    use super::*;

    fn caps(bodies: Bodies, max_body: usize) -> Option<Caps> {
        Caps::of(&Audit { bodies, max_body, ..Audit::default() })
    }

    #[test]
    fn the_configuration_says_how_much_is_kept() {
        assert_eq!(caps(Bodies::None, 64 << 10), None);
        assert_eq!(caps(Bodies::Truncated, 64 << 10), Some(Caps { text: 2048, stream: 32 << 10 }));
        assert_eq!(caps(Bodies::Truncated, 100), Some(Caps { text: 100, stream: 1600 }));
        assert_eq!(caps(Bodies::Full, 64 << 10), Some(Caps { text: 64 << 10, stream: 1 << 20 }));
        assert_eq!(caps(Bodies::Full, 16 << 20), Some(Caps { text: 16 << 20, stream: 16 << 20 }));
    }

    #[test]
    fn a_body_is_kept_up_to_its_cap_and_counted_whole() {
        let room = Arc::new(Room::default());
        let mut capture = Capture::new(Caps { text: 5, stream: 80 }, &room);
        for piece in ["abc", "", "def", "g"] {
            capture.request.push(piece.as_bytes());
        }
        let Part { bytes, total, is_cut, .. } = &capture.request;
        assert_eq!((&bytes[..], *total, *is_cut), (&b"abcde"[..], 7, true));
        assert_eq!((capture.size(), room.0.load(Ordering::Relaxed)), (5, 5));
        drop(capture);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_body_comes_into_its_own_record() {
        let room = Arc::new(Room::default());
        let mut left = Left::default();
        for (id, request, response) in
            [(1, "", ""), (2, "ask sk-canary-1", ""), (3, "", ""), (4, "q", "a\"\n"), (5, "", "b")]
        {
            let lines = &mut left.batch.lines;
            lines.extend_from_slice(format!("{{\"id\":{id},\"request_body\":").as_bytes());
            let request_at = lines.len();
            lines.extend_from_slice(b"null,\"response_body\":");
            let places = BodyPlaces { request: request_at, response: lines.len() };
            lines.extend_from_slice(b"null}\n");
            let end = lines.len();
            left.batch.entries.push(Entry { end, id, time_ms: 0, status: 200, key: 0, user: 0, model: 0, channel: 0 });
            if id != 1 {
                let mut capture = Capture::new(Caps { text: 100, stream: 100 }, &room);
                capture.secrets.push(Secret::new("sk-canary-1"));
                capture.request.push(request.as_bytes());
                capture.response.push(response.as_bytes());
                left.keep(Kept { places, operation: None, capture: Box::new(capture) });
            }
        }
        let batch = put_into(left);
        let read: Vec<serde_json::Value> =
            batch.iter().map(|(_, line)| serde_json::from_slice(line).unwrap()).collect();
        let texts: Vec<_> = read
            .iter()
            .map(|r| [&r["id"], &r["request_body"]["text"], &r["response_body"]["text"]].map(ToString::to_string))
            .collect();
        let expected = [
            ["1", "null", "null"],
            ["2", "\"ask [secret]\"", "null"],
            ["3", "null", "null"],
            ["4", "\"q\"", "\"a\\\"\\n\""],
            ["5", "null", "\"b\""],
        ];
        assert_eq!(texts, expected);
        assert_eq!(room.0.load(Ordering::Relaxed), 0, "nothing is kept any more");
    }

    #[test]
    fn all_together_are_bounded_and_nothing_stands_behind_a_gap() {
        let room = Arc::new(Room(AtomicUsize::new(MAX_ALL - 4)));
        let mut part = Part::new(100, room.clone());
        for piece in ["ab", "cde", "f"] {
            part.push(piece.as_bytes());
        }
        assert_eq!((&part.bytes[..], part.total, part.is_cut), (&b"ab"[..], 6, true));
        drop(part);
        assert_eq!(room.0.load(Ordering::Relaxed), MAX_ALL - 4);
    }
}
