//! Turns an answer into a response body: compression, splitting, pauses, a break in the middle.
//!
//! Tells the ledger what goes out; knows nothing of what it means.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::answer::{Answer, Piece};
use super::ask::count;
use super::book::{Book, Entry, Recorder};
use super::trouble::{Coder, Trouble};

/// A break follows what was written by this long, so that the bytes before it are on the wire.
const BEFORE_BREAK: Duration = Duration::from_millis(20);

/// The body of every response of the mock.
pub(super) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A body ready to be sent.
pub(super) struct Delivery {
    /// For `content-length`; `None`: chunked.
    pub(super) length: Option<u64>,
    pub(super) body: Body,
}

struct Write {
    bytes: Bytes,
    on_request: bool,
    /// Whether it begins a piece.
    begins: bool,
    /// The piece that it ends.
    ends: Option<Piece>,
}

struct State {
    writes: VecDeque<Write>,
    broken: bool,
    delay: Option<Duration>,
    recorder: Recorder,
}

/// Enters the request in the ledger and prepares its answer.
pub(super) fn deliver(answer: Answer, trouble: &Trouble, book: Arc<Book>, entry: Entry) -> io::Result<Delivery> {
    let is_stream = answer.stream;
    let mut coder = Coder::new(trouble.coding)?;
    let mut pieces = answer.pieces;
    let broken = is_stream && trouble.cut_after.is_some_and(|events| cut(&mut pieces, events));
    let mut encoded = Vec::with_capacity(pieces.len());
    for piece in pieces {
        encoded.push((coder.write(&piece.bytes)?, piece));
    }
    if !broken && let Some((bytes, _)) = encoded.last_mut() {
        let end = coder.finish()?;
        if !end.is_empty() {
            *bytes = [&bytes[..], &end].concat().into();
        }
    }
    let length = (!is_stream).then(|| encoded.iter().map(|(bytes, _)| count(bytes.len())).sum());
    let half = !is_stream && trouble.cut_after.is_some();
    if half {
        for (bytes, piece) in &mut encoded {
            bytes.truncate(bytes.len() / 2);
            piece.usage = None;
        }
    }
    let writes = encoded.into_iter().flat_map(|(bytes, piece)| split(&bytes, piece, trouble.chunk)).collect();
    let state = State { writes, broken: broken || half, delay: trouble.delay, recorder: Recorder::new(book, entry) };
    if state.writes.is_empty() && !state.broken {
        state.recorder.finished();
    }
    Ok(Delivery { length, body: Body::new(StreamBody::new(frames(state))) })
}

/// A body that no ledger follows.
pub(super) fn unrecorded(bytes: impl Into<Bytes>) -> Body {
    use http_body_util::{BodyExt, Full};
    Body::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

/// Keeps what goes out until `events` events were sent. Whether there are that many.
fn cut(pieces: &mut Vec<Piece>, events: u64) -> bool {
    let mut sent = 0;
    let mut kept = 0;
    while sent < events {
        let Some(piece) = pieces.get(kept) else { return false };
        sent += piece.events;
        kept += 1;
    }
    pieces.truncate(kept);
    true
}

fn split(bytes: &Bytes, piece: Piece, chunk: Option<usize>) -> Vec<Write> {
    let on_request = piece.on_request;
    let size = chunk.unwrap_or(bytes.len()).max(1);
    let mut writes: Vec<Write> = (0..bytes.len().max(1))
        .step_by(size)
        .map(|from| Write {
            bytes: bytes.slice(from.min(bytes.len())..(from.saturating_add(size)).min(bytes.len())),
            on_request,
            begins: from == 0,
            ends: None,
        })
        .collect();
    if let Some(last) = writes.last_mut() {
        last.ends = Some(piece);
    }
    writes
}

fn frames(state: State) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    stream::unfold(state, |mut state| async move {
        let Some(write) = state.writes.pop_front() else {
            if !state.broken {
                return None;
            }
            state.broken = false;
            tokio::time::sleep(BEFORE_BREAK).await;
            return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), state));
        };
        match state.delay {
            Some(delay) if write.begins => tokio::time::sleep(delay).await,
            // Lets the connection flush, so that every write is a write on the wire.
            _ => tokio::task::yield_now().await,
        }
        state.recorder.wrote(&write.bytes, write.on_request);
        if let Some(piece) = &write.ends {
            state.recorder.piece_done(piece);
        }
        if state.writes.is_empty() && !state.broken {
            state.recorder.finished();
        }
        Some((Ok(Frame::data(write.bytes)), state))
    })
}
