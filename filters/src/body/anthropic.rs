//! What is written in the events of Anthropic's Messages API.
//!
//! Source: its page on streaming. What tools of the server gave back was not written by the model and is left out,
//! as are signatures, citations and thinking that is encrypted.

use super::node::Node;
use super::transcript::{Kind, Place, Transcript};
use crate::text::says_nothing;

/// What is read of an event.
pub(super) const KEYS: [&str; 3] = ["index", "content_block", "delta"];

pub(super) fn read([index, block, delta]: [Option<Node<'_>>; 3], transcript: &mut Transcript) {
    let place = Place { item: index.and_then(Node::number).unwrap_or(0), ..Place::default() };
    if let Some(block) = block {
        let [kind, name, id, input] = block.members(["type", "name", "id", "input"]);
        let kind = kind.and_then(Node::string).unwrap_or_default();
        // `tool_use`, `server_tool_use`, `mcp_tool_use`.
        if kind.ends_with(b"tool_use") {
            let (name, id) = (name.and_then(Node::string), id.and_then(Node::string));
            transcript.call(place, &name.unwrap_or_default(), &id.unwrap_or_default());
            // An empty object stands for what the deltas will bring.
            if let Some(input) = input.map(Node::raw).filter(|input| !says_nothing(input.as_bytes())) {
                transcript.push(place, Kind::Call, input.as_bytes());
            }
        } else if matches!(&*kind, b"text" | b"thinking") {
            say(place, block, transcript);
        }
    }
    if let Some(delta) = delta {
        say(place, delta, transcript);
    }
}

fn say(place: Place, node: Node<'_>, transcript: &mut Transcript) {
    let [text, thinking, input] = node.members(["text", "thinking", "partial_json"]);
    for (kind, value) in [(Kind::Text, text), (Kind::Reasoning, thinking), (Kind::Call, input)] {
        transcript.push(place, kind, &value.and_then(Node::string).unwrap_or_default());
    }
}
