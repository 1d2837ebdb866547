//! The body of a request or an answer as its record shows it.
//!
//! A stream of a known protocol is put together into what the model wrote. Everything else is kept as it came: as
//! text if it is UTF-8, in base64 otherwise. What was compressed is decompressed; known secrets are masked. An
//! auditor reads here what was said, so that
//!
//! - answers are plain text, choices one after the other, each but the first behind a line `[choice 1]`;
//! - what is not the answer stands on lines of its own: `[reasoning] …`, `[refusal] …`, `[call] tool(arguments)`, and
//!   in the end `[error] …` and `[data] …` for an event that is no JSON. Reasoning is kept because it was delivered;
//! - images, sound and what tools gave back are left out;
//! - a stream in which the model wrote nothing is kept as it came, an error with all that stands around it.
//!
//! Work and memory are bounded by the bytes that were kept and by the cap, whatever they say.
//!
//! Knows not which bodies are recorded, nor who kept their bytes.

mod anthropic;
mod base64;
mod chat;
mod gemini;
mod kept;
mod node;
mod ollama;
mod responses;
mod split;
mod stream;
mod transcript;

use std::borrow::Cow;

use crate::decode::{Decoder, Encoding};
use crate::json;
use crate::mask::Mask;
use crate::meter::Shape;
use crate::route::Operation;

/// How many compressed bytes are decoded before it is asked whether more is wanted.
const STEP: usize = 512;

/// A body as it passed, of a request (which is no stream: [`Shape::Json`] or [`Shape::Opaque`]) or of an answer.
#[derive(Clone, Copy)]
pub struct Captured<'a> {
    /// What was asked for: it tells whose stream this is.
    pub operation: Operation,
    /// How the body is laid out.
    pub shape: Shape,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Its bytes, or the first of them.
    pub bytes: &'a [u8],
    /// How many bytes it had.
    pub total: u64,
    /// Whether bytes are missing at its end: they were not kept, or never came.
    pub cut: bool,
}

/// Appends the body as a JSON object: `text`, `encoding` (`utf-8` or `base64`), `bytes` (of the whole body, as it
/// passed), `truncated` (whether there was more than is in the text) and `reassembled`.
///
/// `cap` is in bytes of UTF-8; the text of a body that is none has the base64 of so many bytes, a third more.
pub fn put(out: &mut Vec<u8>, body: &Captured<'_>, cap: usize, mask: &Mask) {
    let shown = stream::reassemble(body, cap, mask).unwrap_or_else(|| kept::keep(body, cap, mask));
    out.extend_from_slice(b"{\"text\":");
    let encoding = match &shown.text {
        Text::Utf8(text) => {
            json::put_str(out, text);
            "utf-8"
        }
        Text::Base64(bytes) => {
            out.push(b'"');
            base64::put(out, bytes);
            out.push(b'"');
            "base64"
        }
    };
    out.extend_from_slice(b",\"encoding\":\"");
    out.extend_from_slice(encoding.as_bytes());
    out.extend_from_slice(b"\",\"bytes\":");
    json::put_u64(out, body.total);
    for (key, value) in [(",\"truncated\":", shown.truncated), (",\"reassembled\":", shown.reassembled)] {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }
    out.push(b'}');
}

impl Captured<'_> {
    fn is_cut(&self) -> bool {
        self.cut || self.total > self.bytes.len() as u64
    }
}

// It holds what people said.
impl std::fmt::Debug for Captured<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Captured { operation, shape, encoding, bytes, total, cut } = self;
        write!(f, "Captured({operation}, {shape:?}, {encoding:?}, {} of {total} bytes, cut: {cut})", bytes.len())
    }
}

/// What the record shows.
struct Shown<'a> {
    text: Text<'a>,
    truncated: bool,
    reassembled: bool,
}

enum Text<'a> {
    Utf8(Cow<'a, str>),
    Base64(Cow<'a, [u8]>),
}

/// Passes the decoded bytes on as long as they are wanted; whether all of them were passed on.
fn decode(body: &Captured<'_>, mut each: impl FnMut(&[u8]) -> bool) -> bool {
    let Some(mut decoder) = Decoder::new(body.encoding) else {
        each(body.bytes);
        return true;
    };
    body.bytes.chunks(STEP).all(|chunk| {
        let mut wanted = true;
        let fed = decoder.feed(chunk, |piece| wanted = wanted && each(piece));
        fed.is_ok() && wanted
    })
}

/// The last place before `at` at which no character is split.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
