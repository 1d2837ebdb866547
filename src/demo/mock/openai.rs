//! `POST /v1/chat/completions`, plain and streamed, with every quirk.
//!
//! Knows nothing of the other OpenAI operations.

use serde_json::Value;
use weir_filters::route::Operation;
use weir_filters::usage::Usage;

use super::answer::{Answer, Piece, SSE};
use super::ask::{Ask, Reply, count};
use super::json::{Json, Object, object};
use super::quirk::Quirk;

/// Whether a stream was asked to report its usage.
pub(super) fn wants_usage(ask: &Ask) -> bool {
    ask.member("stream_options").and_then(|options| options.get("include_usage")) == Some(&Value::Bool(true))
}

/// The sentinel that ends a stream.
pub(super) fn done() -> Piece {
    Piece { events: 0, ..Piece::sse("[DONE]") }
}

pub(super) fn chat(ask: &Ask) -> Answer {
    let quirk = Quirk::of(&ask.model);
    if ask.member("stream_options").is_some() {
        if quirk == Quirk::Mistral {
            let detail = object! {
                "type": "extra_forbidden",
                "loc": ["body", "stream_options"],
                "msg": "Extra inputs are not permitted",
            };
            let body = object! {
                "object": "error",
                "message": object! { "detail": [detail] },
                "type": "invalid_request_error",
                "param": (),
                "code": (),
            };
            return Answer { status: 422, ..Answer::json(&body, None) };
        }
        if !ask.stream {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Answer::error(Operation::OpenAiChat, 400, message);
        }
    }
    let reply = ask.reply();
    let usage = quirk.usage(ask, &reply);
    if ask.stream { Chunks::new(ask, quirk, usage).answer(&reply) } else { plain(ask, quirk, &reply, usage) }
}

fn plain(ask: &Ask, quirk: Quirk, reply: &Reply, usage: Usage) -> Answer {
    let mut message = Object::new();
    message.put("role", "assistant");
    if let Some(call) = &reply.tool {
        message.put("content", &());
        let function = object! { "name": call.name, "arguments": call.arguments.to_string() };
        let call = object! { "id": ask.id("call_"), "type": "function", "function": function };
        message.put("tool_calls", &[call]);
    } else {
        message.put("content", &reply.text());
    }
    message.put("refusal", &());
    message.put("annotations", &[(); 0]);
    let mut choice = Object::new();
    choice.put("index", &0);
    choice.put("message", &message.done());
    choice.put("logprobs", &());
    choice.put("finish_reason", finish_reason(reply));
    if quirk == Quirk::Azure {
        choice.put("content_filter_results", &filter_results());
    }
    let mut body = Object::new();
    body.put("id", &ask.id("chatcmpl-"));
    body.put("object", "chat.completion");
    body.put("created", &ask.created());
    body.put("model", &ask.model);
    if quirk == Quirk::Azure {
        body.put("prompt_filter_results", &prompt_filter_results());
    }
    if quirk == Quirk::OpenRouter {
        body.put("provider", "Mock");
    }
    body.put("choices", &[choice.done()]);
    body.put("usage", &quirk.report(&usage));
    body.put("system_fingerprint", "fp_mock");
    if quirk == Quirk::LlamaCpp {
        body.put("timings", &timings(&usage));
    }
    Answer::json(&body.done(), Some(usage))
}

/// A stream being written.
struct Chunks<'a> {
    ask: &'a Ask,
    quirk: Quirk,
    usage: Usage,
    asked: bool,
    pieces: Vec<Piece>,
}

impl<'a> Chunks<'a> {
    fn new(ask: &'a Ask, quirk: Quirk, usage: Usage) -> Self {
        Self { ask, quirk, usage, asked: wants_usage(ask), pieces: Vec::new() }
    }

    fn answer(mut self, reply: &Reply) -> Answer {
        match self.quirk {
            Quirk::OpenRouter => {
                self.pieces.extend(vec![Piece::raw(": OPENROUTER PROCESSING\n\n"); 2]);
            }
            Quirk::Azure => {
                let first = object! {
                    "choices": [(); 0],
                    "created": 0,
                    "id": "",
                    "model": "",
                    "object": "",
                    "prompt_filter_results": prompt_filter_results(),
                };
                self.pieces.push(Piece::sse(first.get()));
            }
            _ => {}
        }
        self.delta(object! { "role": "assistant", "content": "", "refusal": () }, 0);
        for (at, word) in reply.words.iter().enumerate() {
            self.delta(object! { "content": word }, count(at) + 1);
            if self.quirk == Quirk::OpenRouter && at == 0 {
                self.pieces.push(Piece::raw(": OPENROUTER PROCESSING\n\n"));
            }
        }
        if let Some(call) = &reply.tool {
            let function = object! { "name": call.name, "arguments": "" };
            let head = object! { "index": 0, "id": self.ask.id("call_"), "type": "function", "function": function };
            self.delta(object! { "tool_calls": [head] }, 2);
            for (at, piece) in call.pieces().iter().enumerate() {
                let part = object! { "index": 0, "function": object! { "arguments": piece } };
                self.delta(object! { "tool_calls": [part] }, 3 + count(at));
            }
        }
        self.last(finish_reason(reply));
        if self.quirk == Quirk::Azure {
            let late = object! {
                "content_filter_offsets": object! { "check_offset": 0, "start_offset": 0, "end_offset": 64 },
                "content_filter_results": filter_results(),
                "finish_reason": (),
                "index": 0,
            };
            let chunk = self.chunk(&[late], None);
            self.pieces.push(Piece::sse(chunk.get()));
        }
        if self.asked && self.quirk != Quirk::Kimi {
            self.usage_chunk();
        }
        self.pieces.push(done());
        Answer::stream(SSE, self.pieces)
    }

    /// A chunk with one delta; `generated` tokens have been sent with it.
    fn delta(&mut self, delta: Json, generated: u64) {
        let choice = object! { "index": 0, "delta": delta, "logprobs": (), "finish_reason": () };
        if self.quirk == Quirk::Vllm {
            let so_far = Usage { output: generated, ..self.usage };
            let chunk = self.chunk(&[choice], Some(&so_far));
            self.pieces.push(Piece::sse(chunk.get()).reporting(so_far));
        } else {
            let chunk = self.chunk(&[choice], None);
            self.pieces.push(Piece::sse(chunk.get()));
        }
    }

    fn last(&mut self, reason: &str) {
        let usage = self.usage;
        let mut choice = Object::new();
        choice.put("index", &0);
        choice.put("delta", &object! {});
        choice.put("logprobs", &());
        choice.put("finish_reason", reason);
        if self.quirk == Quirk::Kimi {
            choice.put("usage", &self.quirk.report(&usage));
        }
        let at_top = matches!(self.quirk, Quirk::Mistral | Quirk::Vllm);
        let chunk = self.chunk(&[choice.done()], at_top.then_some(&usage));
        let piece = Piece::sse(chunk.get());
        self.pieces.push(if at_top || self.quirk == Quirk::Kimi { piece.reporting(usage) } else { piece });
    }

    /// The chunk that `include_usage` asks for.
    fn usage_chunk(&mut self) {
        let usage = self.usage;
        let chunk = self.chunk(&[], Some(&usage));
        self.pieces.push(Piece { on_request: true, ..Piece::sse(chunk.get()).reporting(usage) });
    }

    fn chunk(&self, choices: &[Json], usage: Option<&Usage>) -> Json {
        let mut chunk = Object::new();
        chunk.put("id", &self.ask.id("chatcmpl-"));
        chunk.put("object", "chat.completion.chunk");
        chunk.put("created", &self.ask.created());
        chunk.put("model", &self.ask.model);
        chunk.put("system_fingerprint", "fp_mock");
        if self.quirk == Quirk::OpenRouter {
            chunk.put("provider", "Mock");
        }
        chunk.put("choices", choices);
        if let Some(usage) = usage {
            chunk.put("usage", &self.quirk.report(usage));
            if self.quirk == Quirk::LlamaCpp {
                chunk.put("timings", &timings(usage));
            }
        } else if self.asked {
            chunk.put("usage", &());
        }
        chunk.done()
    }
}

fn finish_reason(reply: &Reply) -> &'static str {
    if reply.tool.is_some() { "tool_calls" } else { "stop" }
}

fn timings(usage: &Usage) -> Json {
    object! {
        "cache_n": usage.cache_read,
        "prompt_n": usage.input_uncached,
        "prompt_ms": 12.5,
        "predicted_n": usage.output,
        "predicted_ms": 40.25,
    }
}

fn filter_results() -> Json {
    let safe = object! { "filtered": false, "severity": "safe" };
    object! { "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe }
}

fn prompt_filter_results() -> [Json; 1] {
    [object! { "prompt_index": 0, "content_filter_results": filter_results() }]
}
