//! The meter of one answer: fed with its bytes as they pass, it ends with what they cost.
//!
//! It reads streams of events, JSON in one piece, JSON arrays and lines, compressed or not, and any
//! split of the bytes gives the same reading. It never changes a byte, and takes neither the time
//! nor a price.
//!
//! # Estimates
//!
//! Where nothing was reported, output is estimated from the generated text that was delivered: a
//! token for four bytes of ASCII and for three of anything else; at least one. Input is estimated
//! as a token for four bytes of the request.

use crate::decode::Decoder;
pub use crate::decode::Encoding;
use crate::protocol::dialect::{Dialect, Want};
use crate::route::Operation;
use crate::sse::Scanner;
use crate::tally::{Billable, End, Tally};
use crate::usage::Usage;
use crate::walk::Walker;

/// How an answer's body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Server-sent events.
    Sse,
    /// One JSON document.
    Json,
    /// One JSON array whose elements arrive over time, as Gemini streams without `alt=sse`.
    JsonArray,
    /// A JSON document a line.
    Ndjson,
    /// Anything else: its bytes are counted.
    Opaque,
}

impl Shape {
    /// The shape of an answer with this `Content-Type`, whose parameters do not matter.
    pub fn of(operation: Operation, content_type: Option<&str>) -> Shape {
        let essence = content_type.and_then(|t| t.split(';').next()).unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        let suffix = essence.len().checked_sub("+json".len()).and_then(|at| essence.get(at..));
        if is("text/event-stream") {
            Shape::Sse
        } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
            Shape::Ndjson
        } else if is("application/json") || suffix.is_some_and(|s| s.eq_ignore_ascii_case("+json")) {
            if operation == Operation::GeminiStream { Shape::JsonArray } else { Shape::Json }
        } else {
            Shape::Opaque
        }
    }
}

/// What an answer came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The tokens.
    pub usage: Usage,
    /// Server-sent events, `[DONE]` aside; 0 for other shapes.
    pub events: u64,
    /// Values in reports that are no number of tokens, and reports that are no JSON.
    pub invalid: u64,
    /// The provider's last report as it stood in the bytes, at most 16 KiB of it.
    pub raw: Option<Box<str>>,
    /// The model that the upstream says it used.
    pub model: Option<Box<str>>,
    /// Whether an answer with a 2xx status carries a protocol's error.
    pub failed: bool,
    /// Bytes of the body as the upstream sent it.
    pub body_bytes: u64,
}

/// Reads one answer.
pub struct Meter {
    operation: Operation,
    decoder: Option<Decoder>,
    /// Whether the rest of the body cannot be read.
    blind: bool,
    body_bytes: u64,
    reader: Box<Reader>,
}

/// What is fed with the decoded bytes.
struct Reader {
    shape: Shape,
    scanner: Scanner,
    walker: Walker<Want>,
    tally: Tally,
}

impl Meter {
    /// A meter for the answer to `operation`.
    pub fn new(operation: Operation, shape: Shape, encoding: Encoding) -> Meter {
        let shape = if encoding == Encoding::Unknown { Shape::Opaque } else { shape };
        let dialect = Dialect::of(operation);
        let reader = Reader {
            shape,
            scanner: Scanner::new(),
            walker: match shape {
                Shape::Sse | Shape::Opaque => dialect.event_walker(),
                Shape::Json | Shape::JsonArray | Shape::Ndjson => dialect.document_walker(),
            },
            tally: Tally::new(dialect),
        };
        Meter {
            operation,
            decoder: if shape == Shape::Opaque { None } else { Decoder::new(encoding) },
            blind: shape == Shape::Opaque,
            body_bytes: 0,
            reader: Box::new(reader),
        }
    }

    /// Reads the next bytes of the body, as the upstream sent them.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.body_bytes += chunk.len() as u64;
        if self.blind {
            return;
        }
        let reader = &mut self.reader;
        if let Some(decoder) = &mut self.decoder {
            // What cannot be decoded, or is a bomb, is not read on: it will be estimated.
            if decoder.feed(chunk, |decoded| reader.feed(decoded)).is_err() {
                self.blind = true;
                self.decoder = None;
            }
        } else {
            reader.feed(chunk);
        }
    }

    /// Whether generated output was seen: text, reasoning, a call of a tool. In an answer that is
    /// not streamed, and in one that cannot be read, that is its first byte.
    pub fn has_first_token(&self) -> bool {
        let reader = &self.reader;
        if self.blind || reader.shape == Shape::Json {
            self.body_bytes > 0
        } else {
            reader.tally.begun || !reader.walker.text.is_empty()
        }
    }

    /// The end of the answer. `complete` is false if it was cut, by whichever side; `status` is the
    /// upstream's; `prompt_bytes` is the size of the request's body.
    pub fn finish(&mut self, complete: bool, status: u16, prompt_bytes: u64) -> Reading {
        let success = (200..300).contains(&status);
        self.reader.end();
        let streamed = matches!(self.reader.shape, Shape::Sse | Shape::Ndjson);
        let mut text = self.reader.tally.text().and(self.reader.walker.text);
        if self.blind && text.is_empty() {
            text.add_opaque(self.body_bytes);
        }
        let billable = match self.operation {
            _ if !success || self.body_bytes == 0 => Billable::Nothing,
            Operation::OpenAiEmbeddings | Operation::GeminiEmbed => Billable::Input,
            Operation::OpenAiOther => Billable::StreamedText,
            _ => Billable::Generation,
        };
        let tally = &mut self.reader.tally;
        let usage = if self.operation.is_billed() {
            let single = self.reader.shape == Shape::Json;
            tally.settle(&End { complete, single, streamed, billable, text, prompt_bytes })
        } else {
            Usage::default()
        };
        Reading {
            usage,
            events: tally.events,
            invalid: tally.invalid,
            raw: tally.take_raw(),
            model: tally.model.take(),
            failed: success && tally.failed,
            body_bytes: self.body_bytes,
        }
    }
}

impl Reader {
    fn feed(&mut self, bytes: &[u8]) {
        let Reader { shape, scanner, walker, tally } = self;
        match shape {
            Shape::Sse => scanner.feed(bytes, |event| tally.event(event, walker)),
            Shape::Json => {
                if !walker.feed_values(bytes, |found| tally.found(found)) {
                    walker.feed(bytes, |found| tally.found(found));
                } else if !tally.reports_output() {
                    walker.count_text(bytes);
                }
            }
            Shape::JsonArray => walker.feed(bytes, |found| tally.found(found)),
            Shape::Ndjson => {
                for piece in bytes.split_inclusive(|&b| b == b'\n') {
                    walker.feed(piece, |found| tally.found(found));
                    if piece.ends_with(b"\n") {
                        // A line that was cut short does not swallow the next.
                        walker.end(|found| tally.found(found));
                    }
                }
            }
            Shape::Opaque => {}
        }
    }

    fn end(&mut self) {
        let Reader { shape, scanner, walker, tally } = self;
        if *shape == Shape::Sse {
            scanner.finish(|event| tally.leftover(event, walker));
        } else {
            walker.end(|found| tally.found(found));
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("operation", &self.operation)
            .field("shape", &self.reader.shape)
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}
