//! What is written in the chunks of OpenAI's chat, of legacy completions, and of what is compatible with them.
//!
//! Sources: the OpenAI API reference; for reasoning those of DeepSeek and vLLM (`reasoning_content`), OpenRouter
//! (`reasoning`) and Mistral (content in parts).

use super::node::Node;
use super::transcript::{Kind, Place, Transcript};

/// What is read of a chunk.
pub(super) const KEYS: [&str; 1] = ["choices"];

pub(super) fn read([choices]: [Option<Node<'_>>; 1], transcript: &mut Transcript) {
    let Some(choices) = choices else { return };
    choices.each(|choice| {
        let [index, delta, text] = choice.members(["index", "delta", "text"]);
        let place = Place { choice: index.and_then(Node::number).unwrap_or(0), ..Place::default() };
        say(place, Kind::Text, text, transcript);
        if let Some(delta) = delta {
            read_delta(place, delta, transcript);
        }
    });
}

fn read_delta(place: Place, delta: Node<'_>, transcript: &mut Transcript) {
    let [content, reasoning_content, reasoning, refusal, calls, legacy_call, audio] =
        delta.members(["content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"]);
    // Who sends both repeats the one in the other.
    if !say(place, Kind::Reasoning, reasoning_content, transcript) {
        say(place, Kind::Reasoning, reasoning, transcript);
    }
    if let Some(content) = content
        && !say(place, Kind::Text, Some(content), transcript)
    {
        read_parts(place, content, transcript);
    }
    say(place, Kind::Refusal, refusal, transcript);
    if let Some(audio) = audio {
        let [words] = audio.members(["transcript"]);
        say(place, Kind::Text, words, transcript);
    }
    if let Some(call) = legacy_call {
        read_function(place, b"", call, transcript);
    }
    if let Some(calls) = calls {
        calls.each(|call| {
            let [index, id, function, custom] = call.members(["index", "id", "function", "custom"]);
            let id = id.and_then(Node::string).unwrap_or_default();
            // Place 0 is that of a call by the legacy name.
            let item = index.and_then(Node::number).unwrap_or(0).saturating_add(1);
            if let Some(function) = function.or(custom) {
                read_function(Place { item, ..place }, &id, function, transcript);
            }
        });
    }
}

/// Content in parts: of text, and of thinking that consists of such parts.
fn read_parts(place: Place, parts: Node<'_>, transcript: &mut Transcript) {
    parts.each(|part| {
        let [text, thinking] = part.members(["text", "thinking"]);
        say(place, Kind::Text, text, transcript);
        if let Some(thinking) = thinking {
            thinking.each(|part| {
                let [text] = part.members(["text"]);
                say(place, Kind::Reasoning, text, transcript);
            });
        }
    });
}

fn read_function(place: Place, id: &[u8], function: Node<'_>, transcript: &mut Transcript) {
    let [name, arguments, input] = function.members(["name", "arguments", "input"]);
    transcript.call(place, &name.and_then(Node::string).unwrap_or_default(), id);
    if let Some(arguments) = arguments.or(input) {
        // Some give an object in place of the string.
        let arguments = arguments.string().unwrap_or_else(|| arguments.raw().as_bytes().into());
        transcript.push(place, Kind::Call, &arguments);
    }
}

/// Whether the value is a string that says something.
fn say(place: Place, kind: Kind, value: Option<Node<'_>>, transcript: &mut Transcript) -> bool {
    let piece = value.and_then(Node::string).unwrap_or_default();
    transcript.push(place, kind, &piece);
    !piece.is_empty()
}
