//! The body of a request or an answer as its record shows it.
//!
//! A stream of a known protocol is put together into what the model wrote. Everything else is kept as it came: as
//! text if it is UTF-8, in base64 otherwise. What was compressed is decompressed; known secrets are masked. An
//! auditor reads here what was said, so that
//!
//! - answers are plain text, choices one after the other, each but the first behind a line `[choice 1]`;
//! - what is not the answer stands on lines of its own: `[reasoning] …`, `[refusal] …`, `[call] tool(arguments)`, and
//!   in the end `[error] …` and `[data] …` for an event that is no JSON. Reasoning is kept because it was delivered;
//! - images, audio and what tools gave back is left out;
//! - a stream in which the model wrote nothing is kept as it came, an error with all that stands around it.
//!
//! Work and memory are bounded by the bytes that were kept and by the cap, whatever they say.
//!
//! Knows not which bodies are recorded, nor who kept their bytes.

mod anthropic;
mod base64;
mod chat;
mod gemini;
mod node;
mod ollama;
mod responses;
mod split;
mod transcript;

use std::borrow::Cow;

use memchr::memmem;

use crate::decode::{Decoder, Encoding};
use crate::json;
use crate::mask::Mask;
use crate::meter::Shape;
use crate::route::Operation;
use crate::sse::Event;
use crate::text::says_nothing;
use node::Node;
use split::Splitter;
use transcript::{Kind, Transcript};

/// How many times the bytes that were kept are read of a compressed stream. Streams of events are compressed to a
/// thirtieth at best, bombs to a thousandth.
const MAX_RATIO: usize = 64;

/// How many compressed bytes are decoded before it is asked whether more is wanted.
const STEP: usize = 512;

/// A body as it passed.
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
    let shown = reassemble(body, cap, mask).unwrap_or_else(|| keep(body, cap, mask));
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

/// Reads a protocol's document; false if it is none.
type Reader = fn(&str, &mut Transcript) -> bool;

struct Shown<'a> {
    text: Text<'a>,
    truncated: bool,
    reassembled: bool,
}

enum Text<'a> {
    Utf8(Cow<'a, str>),
    Base64(Cow<'a, [u8]>),
}

/// What the model wrote; none if this is no stream of a known protocol, or nothing was written in it.
fn reassemble<'a>(body: &Captured<'_>, cap: usize, mask: &Mask) -> Option<Shown<'a>> {
    let read = reader(body.operation)?;
    let mut splitter = Splitter::of(body.shape).filter(|_| body.encoding != Encoding::Unknown)?;
    let mut transcript = Transcript::new(cap);
    let mut events_whole = true;
    let mut left = body.bytes.len().saturating_mul(MAX_RATIO);
    let bytes_whole = decode(body, |piece| {
        splitter.feed(piece, |event| events_whole &= read_event(event, read, &mut transcript));
        left = left.saturating_sub(piece.len());
        left > 0 && !transcript.is_cut()
    });
    // What had no end is read if it is whole nevertheless.
    splitter.finish(|event| {
        if Node::document(&utf8(event.data), []).is_some() {
            read_event(event, read, &mut transcript);
        }
    });
    if transcript.is_empty() {
        return None;
    }
    let mut truncated = body.is_cut() || !bytes_whole || !events_whole || transcript.is_cut();
    let mut text = transcript.write(mask);
    truncated |= text.len() > cap;
    text.truncate(boundary(&text, cap));
    Some(Shown { text: Text::Utf8(text.into()), truncated, reassembled: true })
}

fn reader(operation: Operation) -> Option<Reader> {
    match operation {
        Operation::OpenAiChat | Operation::OpenAiCompletions => {
            Some(|text, transcript| read_document(text, chat::KEYS, chat::read, transcript))
        }
        Operation::OpenAiResponses | Operation::OpenAiOther => {
            Some(|text, transcript| read_document(text, responses::KEYS, responses::read, transcript))
        }
        Operation::OllamaChat => Some(|text, transcript| read_document(text, ollama::KEYS, ollama::read, transcript)),
        Operation::AnthropicMessages => {
            Some(|text, transcript| read_document(text, anthropic::KEYS, anthropic::read, transcript))
        }
        Operation::GeminiGenerate | Operation::GeminiStream => {
            Some(|text, transcript| read_document(text, gemini::KEYS, gemini::read, transcript))
        }
        Operation::OpenAiEmbeddings
        | Operation::AnthropicCountTokens
        | Operation::GeminiEmbed
        | Operation::GeminiCountTokens
        | Operation::Models => None,
    }
}

/// Reads one event; whether all of it was there.
fn read_event(event: Event<'_>, read: Reader, transcript: &mut Transcript) -> bool {
    if event.data.trim_ascii() == b"[DONE]" {
        return true;
    }
    let data = utf8(event.data);
    if !data.trim().is_empty() && !read(&data, transcript) && event.whole {
        let kind = if event.name == b"error" { Kind::Error } else { Kind::Data };
        transcript.push_aside(kind, data.as_bytes());
    } else if event.name == b"error" || memmem::find(event.data, b"\"error\"").is_some() {
        read_error(&data, event.name == b"error", transcript);
    }
    event.whole
}

/// The protocol's error, if the document has one or is one: all protocols call it so.
fn read_error(document: &str, is_error: bool, transcript: &mut Transcript) {
    let Some([error, kind]) = Node::document(document, ["error", "type"]) else { return };
    match error.filter(|error| !says_nothing(error.raw().as_bytes())) {
        Some(error) => {
            let error = error.string().unwrap_or_else(|| error.raw().as_bytes().into());
            transcript.push_aside(Kind::Error, &error);
        }
        None if is_error || kind.and_then(Node::string).as_deref() == Some(b"error") => {
            transcript.push_aside(Kind::Error, document.as_bytes());
        }
        None => {}
    }
}

fn read_document<'a, const N: usize>(
    text: &'a str,
    keys: [&str; N],
    read: fn([Option<Node<'a>>; N], &mut Transcript),
    transcript: &mut Transcript,
) -> bool {
    Node::document(text, keys).map(|members| read(members, transcript)).is_some()
}

/// What is not UTF-8 is read as clients read it.
fn utf8(data: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(data).map_or_else(|_| String::from_utf8_lossy(data), Cow::Borrowed)
}

/// The body as it came, without its compression.
fn keep<'a>(body: &Captured<'a>, cap: usize, mask: &Mask) -> Shown<'a> {
    let (head, is_whole) = decoded_head(body, cap);
    let truncated = !is_whole || body.is_cut();
    // Where it is cut, that may be in the middle of a character.
    let end = match std::str::from_utf8(&head) {
        Err(error) if truncated && error.error_len().is_none() => error.valid_up_to(),
        _ => head.len(),
    };
    let apply = if truncated { Mask::apply_cut } else { Mask::apply };
    let masked = match head {
        Cow::Borrowed(head) => apply(mask, &head[..end]),
        Cow::Owned(head) => Cow::Owned(apply(mask, &head[..end]).into_owned()),
    };
    let text = match masked {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Text::Utf8(text.into()),
            Err(_) => Text::Base64(bytes.into()),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(mut text) => {
                // The mark may be longer than the beginning of a secret.
                text.truncate(boundary(&text, cap));
                Text::Utf8(text.into())
            }
            Err(error) => {
                let mut bytes = error.into_bytes();
                bytes.truncate(cap);
                Text::Base64(bytes.into())
            }
        },
    };
    Shown { text, truncated, reassembled: false }
}

/// Up to `cap` bytes of the body, decoded if they can be, and whether that is all there are.
fn decoded_head<'a>(body: &Captured<'a>, cap: usize) -> (Cow<'a, [u8]>, bool) {
    let mut head = Vec::new();
    if Decoder::new(body.encoding).is_some() {
        let mut is_whole = true;
        let is_sound = decode(body, |piece| {
            let room = cap - head.len();
            head.extend_from_slice(&piece[..piece.len().min(room)]);
            is_whole = piece.len() <= room;
            is_whole
        });
        if !head.is_empty() || is_sound || !is_whole {
            return (head.into(), is_sound && is_whole);
        }
    }
    // What is not what it claims to be is shown as it is.
    (body.bytes[..body.bytes.len().min(cap)].into(), body.bytes.len() <= cap)
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
