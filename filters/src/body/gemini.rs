//! What is written in the chunks of Google's Gemini API.
//!
//! Source: the `Part` type of the API reference. Parts have no numbers that hold for more than their chunk, and calls
//! come whole. Results of code that was run, images and other data are left out.

use super::node::Node;
use super::transcript::{Kind, Transcript};

/// What is read of a chunk.
pub(super) const KEYS: [&str; 1] = ["candidates"];

pub(super) fn read([candidates]: [Option<Node<'_>>; 1], transcript: &mut Transcript) {
    let Some(candidates) = candidates else { return };
    candidates.each(|candidate| {
        let [index, content] = candidate.members(["index", "content"]);
        let choice = index.and_then(Node::number).unwrap_or(0);
        if let Some([Some(parts)]) = content.map(|content| content.members(["parts"])) {
            parts.each(|part| read_part(choice, part, transcript));
        }
    });
}

fn read_part(choice: u64, part: Node<'_>, transcript: &mut Transcript) {
    let [text, thought, call, code] = part.members(["text", "thought", "functionCall", "executableCode"]);
    if let Some(text) = text.and_then(Node::string) {
        let kind = if thought.map(Node::raw) == Some("true") { Kind::Reasoning } else { Kind::Text };
        transcript.push_next(choice, kind, &text);
    }
    if let Some(call) = call {
        let [name, arguments] = call.members(["name", "args"]);
        let arguments = arguments.map(Node::raw).unwrap_or_default();
        transcript.push_call(choice, &name.and_then(Node::string).unwrap_or_default(), arguments.as_bytes());
    }
    if let Some(code) = code {
        let [code] = code.members(["code"]);
        transcript.push_call(choice, b"executableCode", &code.and_then(Node::string).unwrap_or_default());
    }
}
