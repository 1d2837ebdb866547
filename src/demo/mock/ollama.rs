//! Ollama's native API: `POST /api/chat` and `/api/generate`, which stream NDJSON unless told not to.
//!
//! Knows nothing of Ollama's OpenAI-compatible side.

use weir_filters::usage::Usage;

use super::answer::{Answer, Piece};
use super::ask::{Ask, count};
use super::json::{Object, object};

/// `is_chat`: `/api/chat`, otherwise `/api/generate`.
pub(super) fn generate(ask: &Ask, is_chat: bool) -> Answer {
    let reply = ask.reply();
    let usage = ask.usage(reply.tokens());
    let line = |text: &str, last: Option<&Usage>, tool: bool| {
        let mut line = Object::new();
        line.put("model", &ask.model);
        line.put("created_at", "2025-11-20T00:00:00.000000Z");
        if is_chat {
            let mut message = Object::new();
            message.put("role", "assistant");
            message.put("content", text);
            if let (true, Some(call)) = (tool, &reply.tool) {
                let function = object! { "name": call.name, "arguments": call.arguments };
                message.put("tool_calls", &[object! { "function": function }]);
            }
            line.put("message", &message.done());
        } else {
            line.put("response", text);
        }
        line.put("done", &last.is_some());
        if let Some(usage) = last {
            line.put("done_reason", "stop");
            line.put("total_duration", &174_560_334_u64);
            line.put("load_duration", &101_397_084_u64);
            line.put("prompt_eval_count", &usage.input());
            line.put("prompt_eval_duration", &13_074_791_u64);
            line.put("eval_count", &usage.output);
            line.put("eval_duration", &(count(reply.words.len()) * 1_000_000));
        }
        line.done()
    };
    if !ask.stream {
        return Answer::json(&line(&reply.text(), Some(&usage), true), Some(usage));
    }
    let mut pieces: Vec<Piece> =
        reply.words.iter().map(|word| Piece::raw(format!("{}\n", line(word, None, false)))).collect();
    if reply.tool.is_some() {
        pieces.push(Piece::raw(format!("{}\n", line("", None, true))));
    }
    pieces.push(Piece::raw(format!("{}\n", line("", Some(&usage), false))).reporting(usage));
    Answer::stream("application/x-ndjson", pieces)
}
