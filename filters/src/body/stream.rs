//! A stream put together into what the model wrote.
//!
//! Owns: which protocol is read, what ends the reading, and what counts as an error. Knows not what a protocol's
//! documents say.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::node::Node;
use super::split::Splitter;
use super::transcript::{Kind, Transcript};
use super::{Captured, Shown, Text, anthropic, boundary, chat, decode, gemini, ollama, responses};
use crate::decode::Encoding;
use crate::mask::Mask;
use crate::route::Operation;
use crate::sse::Event;
use crate::text::says_nothing;

/// How many times the bytes that were kept are read of a compressed stream. Streams of events are compressed to a
/// thirtieth at best, bombs to a thousandth.
const MAX_RATIO: usize = 64;

/// Reads a protocol's document; false if it is none.
type Reader = fn(&str, &mut Transcript) -> bool;

/// What the model wrote; none if this is no stream of a known protocol, or nothing was written in it.
pub(super) fn reassemble<'a>(body: &Captured<'_>, cap: usize, mask: &Mask) -> Option<Shown<'a>> {
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
    // A document without these bytes has no error: within a string the quotes would be escaped.
    static ERROR: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"error\""));
    if event.data.trim_ascii() == b"[DONE]" {
        return true;
    }
    let data = utf8(event.data);
    if !data.trim().is_empty() && !read(&data, transcript) && event.whole {
        let kind = if event.name == b"error" { Kind::Error } else { Kind::Data };
        transcript.push_aside(kind, data.as_bytes());
    } else if event.name == b"error" || ERROR.find(event.data).is_some() {
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
