//! What is written in the events of OpenAI's Responses API, and of transcription.
//!
//! Source: the reference of streaming events. Each delta names its item and its part of that; a tool's name stands
//! in the event that begins the item. `.done` events repeat what deltas said, and count only where there were none.

use super::node::Node;
use super::transcript::{Kind, Place, Transcript};

pub(super) fn read(event: Node<'_>, transcript: &mut Transcript) {
    let [name, item, delta, output, content, summary] =
        event.members(["type", "item", "delta", "output_index", "content_index", "summary_index"]);
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
            let [response] = event.members(["response"]);
            if let Some([Some(error)]) = response.map(|response| response.members(["error"])) {
                transcript.push_aside(Kind::Error, error.raw().as_bytes());
            }
        }
        _ => {
            let Some((kind, whole)) = said(&name) else { return };
            // What is said of a call has no part.
            let place = if kind == Kind::Call { Place { part: 0, ..place } } else { place };
            let piece = match whole {
                None => delta,
                Some(_) if transcript.has(place, kind) => None,
                Some(key) => event.members([key])[0],
            };
            transcript.push(place, kind, &piece.and_then(Node::string).unwrap_or_default());
        }
    }
}

/// What an event of this type says; if it is all of it, under which key.
fn said(name: &[u8]) -> Option<(Kind, Option<&'static str>)> {
    Some(match name {
        b"response.output_text.delta" | b"response.audio.transcript.delta" | b"transcript.text.delta" => {
            (Kind::Text, None)
        }
        b"response.output_text.done" | b"transcript.text.done" => (Kind::Text, Some("text")),
        b"response.reasoning_text.delta" | b"response.reasoning_summary_text.delta" => (Kind::Reasoning, None),
        b"response.reasoning_text.done" | b"response.reasoning_summary_text.done" => (Kind::Reasoning, Some("text")),
        b"response.refusal.delta" => (Kind::Refusal, None),
        b"response.refusal.done" => (Kind::Refusal, Some("refusal")),
        b"response.function_call_arguments.delta"
        | b"response.mcp_call_arguments.delta"
        | b"response.custom_tool_call_input.delta"
        | b"response.code_interpreter_call_code.delta" => (Kind::Call, None),
        b"response.function_call_arguments.done" | b"response.mcp_call_arguments.done" => {
            (Kind::Call, Some("arguments"))
        }
        b"response.custom_tool_call_input.done" => (Kind::Call, Some("input")),
        b"response.code_interpreter_call_code.done" => (Kind::Call, Some("code")),
        _ => return None,
    })
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
