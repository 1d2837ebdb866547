//! `POST /v1/responses`: one object, or the typed events that build it up.
//!
//! Knows nothing of where responses are stored.

use weir_filters::usage::Usage;

use super::answer::{Answer, Piece, SSE};
use super::ask::{Ask, Reply};
use super::json::{Json, Object, object};
use super::quirk::Quirk;

/// The answer, and the finished response object that `GET /v1/responses/{id}` gives later.
pub(super) fn responses(ask: &Ask) -> (Answer, Json) {
    let reply = ask.reply();
    let usage = Quirk::None.usage(ask, &reply);
    let whole = response(ask, "completed", &[item(ask, &reply, "completed")], Some(&usage));
    let answer = if ask.stream { stream(ask, &reply, &whole, usage) } else { Answer::json(&whole, Some(usage)) };
    (answer, whole)
}

/// The id under which it is stored.
pub(super) fn id(ask: &Ask) -> String {
    ask.id("resp_")
}

fn stream(ask: &Ask, reply: &Reply, whole: &Json, usage: Usage) -> Answer {
    let started = response(ask, "in_progress", &[], None);
    let mut events = Events { pieces: Vec::new() };
    events.send("response.created", &[("response", &started)]);
    events.send("response.in_progress", &[("response", &started)]);
    let zero = object_number(0);
    let finished = item(ask, reply, "completed");
    events.send("response.output_item.added", &[("output_index", &zero), ("item", &item_start(ask, reply))]);
    let item_id = string(&item_id(ask, reply));
    let place = [("item_id", &item_id), ("output_index", &zero)];
    if let Some(call) = &reply.tool {
        for piece in call.pieces() {
            let delta = string(&piece);
            events.send("response.function_call_arguments.delta", &[place[0], place[1], ("delta", &delta)]);
        }
        let arguments = string(&call.arguments.to_string());
        let name = string(&call.name);
        let rest = [place[0], place[1], ("name", &name), ("arguments", &arguments)];
        events.send("response.function_call_arguments.done", &rest);
    } else {
        let at = [place[0], place[1], ("content_index", &zero)];
        let (empty, full, none) = (part(""), part(&reply.text()), list());
        events.send("response.content_part.added", &[at[0], at[1], at[2], ("part", &empty)]);
        for word in &reply.words {
            let delta = string(word);
            let members = [at[0], at[1], at[2], ("delta", &delta), ("logprobs", &none)];
            events.send("response.output_text.delta", &members);
        }
        let text = string(&reply.text());
        let members = [at[0], at[1], at[2], ("text", &text), ("logprobs", &none)];
        events.send("response.output_text.done", &members);
        events.send("response.content_part.done", &[at[0], at[1], at[2], ("part", &full)]);
    }
    events.send("response.output_item.done", &[("output_index", &zero), ("item", &finished)]);
    events.send("response.completed", &[("response", whole)]);
    let mut pieces = events.pieces;
    if let Some(last) = pieces.last_mut() {
        last.usage = Some(usage);
    }
    Answer::stream(SSE, pieces)
}

struct Events {
    pieces: Vec<Piece>,
}

impl Events {
    fn send(&mut self, kind: &str, members: &[(&str, &Json)]) {
        let mut event = Object::new();
        event.put("type", kind);
        event.put("sequence_number", &self.pieces.len());
        for (name, value) in members {
            event.put(name, value);
        }
        self.pieces.push(Piece::event(kind, event.done().get()));
    }
}

fn response(ask: &Ask, status: &str, output: &[Json], usage: Option<&Usage>) -> Json {
    let report = usage.map(|usage| {
        object! {
            "input_tokens": usage.input(),
            "input_tokens_details": object! { "cached_tokens": usage.cache_read, "cache_write_tokens": 0 },
            "output_tokens": usage.output,
            "output_tokens_details": object! { "reasoning_tokens": usage.reasoning },
            "total_tokens": usage.total(),
        }
    });
    let given = |name: &str| ask.member(name).cloned().unwrap_or(serde_json::Value::Null);
    let tools = ask.member("tools").cloned().unwrap_or_else(|| serde_json::Value::Array(Vec::new()));
    object! {
        "id": id(ask),
        "object": "response",
        "created_at": ask.created(),
        "status": status,
        "background": false,
        "error": (),
        "incomplete_details": (),
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": given("previous_response_id"),
        "reasoning": object! { "effort": (), "summary": () },
        "store": true,
        "temperature": 1.0,
        "text": object! { "format": object! { "type": "text" } },
        "tool_choice": "auto",
        "tools": tools,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": report,
        "user": (),
        "metadata": object! {},
    }
}

fn item_id(ask: &Ask, reply: &Reply) -> String {
    ask.id(if reply.tool.is_some() { "fc_" } else { "msg_" })
}

fn item(ask: &Ask, reply: &Reply, status: &str) -> Json {
    match &reply.tool {
        Some(call) => function_call(ask, reply, status, &call.name, &call.arguments.to_string()),
        None => message(ask, reply, status, &[part(&reply.text())]),
    }
}

/// The item as a stream announces it: still empty.
fn item_start(ask: &Ask, reply: &Reply) -> Json {
    match &reply.tool {
        Some(call) => function_call(ask, reply, "in_progress", &call.name, ""),
        None => message(ask, reply, "in_progress", &[]),
    }
}

fn message(ask: &Ask, reply: &Reply, status: &str, content: &[Json]) -> Json {
    object! {
        "id": item_id(ask, reply), "type": "message", "status": status, "content": content, "role": "assistant",
    }
}

fn function_call(ask: &Ask, reply: &Reply, status: &str, name: &str, arguments: &str) -> Json {
    object! {
        "id": item_id(ask, reply),
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": ask.id("call_"),
        "name": name,
    }
}

fn part(text: &str) -> Json {
    object! { "type": "output_text", "annotations": list(), "logprobs": list(), "text": text }
}

fn string(text: &str) -> Json {
    raw(super::json::text(text))
}

fn object_number(number: u64) -> Json {
    raw(number.to_string())
}

fn list() -> Json {
    raw("[]".into())
}

fn raw(text: String) -> Json {
    serde_json::value::RawValue::from_string(text).expect("the callers above write JSON")
}
