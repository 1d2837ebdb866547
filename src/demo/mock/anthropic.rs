//! Anthropic's Messages API: `POST /v1/messages` and `/v1/messages/count_tokens`.
//!
//! Input tokens exclude the cache; a stream reports its input at the start and cumulative output in
//! `message_delta`. Knows nothing of beta features.

use weir_filters::usage::{Source, Usage};

use super::answer::{Answer, Piece, SSE};
use super::ask::{Ask, Reply, ToolCall};
use super::json::{Json, Object, object};

/// Output tokens in `message_start`: a placeholder, replaced by what `message_delta` says.
const PLACEHOLDER: u64 = 1;

pub(super) fn messages(ask: &Ask) -> Answer {
    let reply = ask.reply();
    let usage = usage(ask, &reply);
    if ask.stream {
        return stream(ask, &reply, usage);
    }
    let content = if let Some(call) = &reply.tool {
        tool_use(ask, &call.name, &call.arguments)
    } else {
        object! { "type": "text", "text": reply.text() }
    };
    let body = message(ask, &[content], Some(stop_reason(&reply)), &report(&usage));
    Answer::json(&body, Some(usage))
}

/// Never billed: nothing is reported as used.
pub(super) fn count_tokens(ask: &Ask) -> Answer {
    Answer::json(&object! { "input_tokens": ask.prompt_tokens() }, None)
}

/// Sonnet reads and writes caches, of both lives; the others use none.
fn usage(ask: &Ask, reply: &Reply) -> Usage {
    let mut usage = ask.usage(reply.tokens());
    if ask.model.starts_with("claude-sonnet") {
        let quarter = usage.input_uncached / 4;
        usage.cache_read = quarter;
        usage.cache_write_5m = quarter + 1;
        usage.cache_write_1h = quarter - 1;
        usage.input_uncached -= 3 * quarter;
    }
    usage
}

fn stream(ask: &Ask, reply: &Reply, usage: Usage) -> Answer {
    let first = Usage { output: PLACEHOLDER, source: Source::Partial, ..usage };
    let start = object! { "type": "message_start", "message": message(ask, &[], None, &report(&first)) };
    let mut pieces = vec![Piece::event("message_start", start.get()).reporting(first)];
    let block = if let Some(call) = &reply.tool {
        tool_use(ask, &call.name, &serde_json::json!({}))
    } else {
        object! { "type": "text", "text": "" }
    };
    send(&mut pieces, "content_block_start", &[("index", &0_u8)], Some(("content_block", block)));
    send(&mut pieces, "ping", &[], None);
    for word in &reply.words {
        let delta = object! { "type": "text_delta", "text": word };
        send(&mut pieces, "content_block_delta", &[("index", &0)], Some(("delta", delta)));
    }
    for piece in reply.tool.iter().flat_map(ToolCall::pieces) {
        let delta = object! { "type": "input_json_delta", "partial_json": piece };
        send(&mut pieces, "content_block_delta", &[("index", &0)], Some(("delta", delta)));
    }
    send(&mut pieces, "content_block_stop", &[("index", &0)], None);
    if ask.model.starts_with("claude-opus") {
        // Several deltas may come, each with the total so far.
        let so_far = Usage { output: usage.output / 2, ..usage };
        pieces.push(message_delta(None, &so_far));
    }
    pieces.push(message_delta(Some(stop_reason(reply)), &usage));
    send(&mut pieces, "message_stop", &[], None);
    Answer::stream(SSE, pieces)
}

fn send(pieces: &mut Vec<Piece>, kind: &str, numbers: &[(&str, &u8)], member: Option<(&str, Json)>) {
    let mut event = Object::new();
    event.put("type", kind);
    for (name, number) in numbers {
        event.put(name, number);
    }
    if let Some((name, value)) = member {
        event.put(name, &value);
    }
    pieces.push(Piece::event(kind, event.done().get()));
}

fn message_delta(stop_reason: Option<&str>, usage: &Usage) -> Piece {
    let event = object! {
        "type": "message_delta",
        "delta": object! { "stop_reason": stop_reason, "stop_sequence": () },
        "usage": object! {
            "input_tokens": usage.input_uncached,
            "cache_creation_input_tokens": usage.cache_write(),
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": usage.output,
        },
    };
    Piece::event("message_delta", event.get()).reporting(*usage)
}

fn message(ask: &Ask, content: &[Json], stop_reason: Option<&str>, usage: &Json) -> Json {
    object! {
        "model": ask.model,
        "id": ask.id("msg_"),
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": (),
        "usage": usage,
    }
}

fn report(usage: &Usage) -> Json {
    object! {
        "input_tokens": usage.input_uncached,
        "cache_creation_input_tokens": usage.cache_write(),
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": object! {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "service_tier": "standard",
    }
}

fn tool_use(ask: &Ask, name: &str, input: &serde_json::Value) -> Json {
    object! { "type": "tool_use", "id": ask.id("toolu_"), "name": name, "input": input }
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.tool.is_some() { "tool_use" } else { "end_turn" }
}
