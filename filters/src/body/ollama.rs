//! What is written in the lines of Ollama's native API.
//!
//! Source: Ollama's `docs/api.md`, of `/api/chat` and `/api/generate`.

use super::node::Node;
use super::transcript::{Kind, Transcript};

/// What is read of a line.
pub(super) const KEYS: [&str; 3] = ["message", "response", "thinking"];

pub(super) fn read([message, response, thinking]: [Option<Node<'_>>; 3], transcript: &mut Transcript) {
    say(Kind::Reasoning, thinking, transcript);
    say(Kind::Text, response, transcript);
    let Some(message) = message else { return };
    let [content, thinking, calls] = message.members(["content", "thinking", "tool_calls"]);
    say(Kind::Reasoning, thinking, transcript);
    say(Kind::Text, content, transcript);
    if let Some(calls) = calls {
        calls.each(|call| {
            if let [Some(function)] = call.members(["function"]) {
                let [name, arguments] = function.members(["name", "arguments"]);
                let arguments = arguments.map(Node::raw).unwrap_or_default();
                transcript.push_call(0, &name.and_then(Node::string).unwrap_or_default(), arguments.as_bytes());
            }
        });
    }
}

fn say(kind: Kind, value: Option<Node<'_>>, transcript: &mut Transcript) {
    transcript.push_next(0, kind, &value.and_then(Node::string).unwrap_or_default());
}
