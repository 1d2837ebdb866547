//! What is written in the events of OpenAI's Responses API, and of transcription.
//!
//! Source: the reference of streaming events. Each delta names its item and its part of that; a tool's name stands
//! in the event that begins the item. `.done` events repeat what deltas said, and count only where there were none.

use super::node::Node;
use super::transcript::{Kind, Place, Transcript};

/// What is read of an event: what it is and where it belongs, and how the kinds name what they say.
pub(super) const KEYS: [&str; 12] = [
    "type",
    "output_index",
    "content_index",
    "summary_index",
    "item",
    "response",
    "delta",
    "text",
    "refusal",
    "arguments",
    "input",
    "code",
];

pub(super) fn read(members: [Option<Node<'_>>; 12], transcript: &mut Transcript) {
    let [name, output, content, summary, item, response, delta, text, refusal, arguments, input, code] = members;
    let Some(name) = name.and_then(Node::string) else { return };
    let number = |node: Option<Node<'_>>| node.and_then(Node::number).unwrap_or(0);
    let place = Place { choice: 0, item: number(output), part: number(content.or(summary)) };
    match &*name {
        b"response.output_item.added" => {
            if let Some(item) = item {
                begin_call(place, item, transcript);
            }
        }
        b"response.failed" => {
            if let Some([Some(error)]) = response.map(|response| response.members(["error"])) {
                transcript.push_aside(Kind::Error, error.raw().as_bytes());
            }
        }
        _ => {
            let Some((kind, is_whole)) = said(&name) else { return };
            // What is said of a call has no part.
            let place = if kind == Kind::Call { Place { part: 0, ..place } } else { place };
            let piece = match kind {
                _ if !is_whole => delta,
                _ if transcript.has(place, kind) => None,
                Kind::Refusal => refusal,
                Kind::Call => arguments.or(input).or(code),
                _ => text,
            };
            transcript.push(place, kind, &piece.and_then(Node::string).unwrap_or_default());
        }
    }
}

/// What an event of this type says, and whether it is all that was said before in deltas.
fn said(name: &[u8]) -> Option<(Kind, bool)> {
    let (what, is_whole) = match name.strip_suffix(b".delta") {
        Some(what) => (what, false),
        None => (name.strip_suffix(b".done")?, true),
    };
    let kind = match what {
        b"response.output_text" | b"response.audio.transcript" | b"transcript.text" => Kind::Text,
        b"response.reasoning_text" | b"response.reasoning_summary_text" => Kind::Reasoning,
        b"response.refusal" => Kind::Refusal,
        b"response.function_call_arguments"
        | b"response.mcp_call_arguments"
        | b"response.custom_tool_call_input"
        | b"response.code_interpreter_call_code" => Kind::Call,
        _ => return None,
    };
    Some((kind, is_whole))
}

/// Items that are calls are called so: `function_call`, `web_search_call`. The tools of OpenAI have no other name.
fn begin_call(place: Place, item: Node<'_>, transcript: &mut Transcript) {
    let [kind, name] = item.members(["type", "name"]);
    let kind = kind.and_then(Node::string).unwrap_or_default();
    if kind.ends_with(b"_call") {
        let name = name.and_then(Node::string).unwrap_or(kind);
        transcript.call(Place { part: 0, ..place }, &name, b"");
    }
}
