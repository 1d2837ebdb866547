//! `POST /v1/completions` and `/v1/embeddings`.
//!
//! Knows nothing of chats.

use serde_json::Value;
use weir_filters::usage::Usage;

use super::answer::{Answer, Piece, SSE};
use super::ask::Ask;
use super::json::{Json, Object, object};
use super::openai::{done, wants_usage};
use super::quirk::Quirk;

/// Numbers of a vector: enough to look like one.
const DIMENSIONS: usize = 8;

pub(super) fn completions(ask: &Ask) -> Answer {
    let reply = ask.reply();
    let usage = ask.usage(reply.tokens());
    if !ask.stream {
        let choice = choice(&reply.text(), Some("stop"));
        return Answer::json(&completion(ask, &[choice], true, Some(&usage)), Some(usage));
    }
    let asked = wants_usage(ask);
    let mut pieces: Vec<Piece> =
        reply.words.iter().map(|word| Piece::sse(completion(ask, &[choice(word, None)], asked, None).get())).collect();
    pieces.push(Piece::sse(completion(ask, &[choice("", Some("stop"))], asked, None).get()));
    if asked {
        let chunk = completion(ask, &[], true, Some(&usage));
        pieces.push(Piece { on_request: true, ..Piece::sse(chunk.get()).reporting(usage) });
    }
    pieces.push(done());
    Answer::stream(SSE, pieces)
}

pub(super) fn embeddings(ask: &Ask) -> Answer {
    let inputs = match ask.member("input").and_then(Value::as_array) {
        Some(list) if !list.first().is_some_and(Value::is_number) => list.len(),
        _ => 1,
    };
    let base64 = ask.member("encoding_format").is_some_and(|format| format == "base64");
    let data: Vec<Json> = (0..inputs)
        .map(|index| {
            let vector = vector(ask, index);
            let mut item = Object::new();
            item.put("object", "embedding");
            item.put("index", &index);
            if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                item.put("embedding", &encode_base64(&bytes));
            } else {
                item.put("embedding", &vector);
            }
            item.done()
        })
        .collect();
    let usage = ask.usage(0);
    let report = object! { "prompt_tokens": usage.input(), "total_tokens": usage.total() };
    let body = object! { "object": "list", "data": data, "model": ask.model, "usage": report };
    Answer::json(&body, Some(usage))
}

/// A vector derived from the request; eighths are exact in any float.
pub(super) fn vector(ask: &Ask, index: usize) -> Vec<f32> {
    (0..DIMENSIONS).map(|at| (f32::from(ask.noise(index * DIMENSIONS + at)) - 128.0) / 128.0).collect()
}

/// Base64 with padding, as in RFC 4648, section 4.
pub(super) fn encode_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_usize, |word, byte| (word << 8) | usize::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let shown = place <= group.len();
            text.push(if shown { char::from(ALPHABET[(word >> (18 - 6 * place)) & 63]) } else { '=' });
        }
    }
    text
}

fn choice(text: &str, reason: Option<&str>) -> Json {
    object! { "text": text, "index": 0, "logprobs": (), "finish_reason": reason }
}

/// `reports`: whether there is a member `usage` at all; it is null where there is none yet.
fn completion(ask: &Ask, choices: &[Json], reports: bool, usage: Option<&Usage>) -> Json {
    let mut body = Object::new();
    body.put("id", &ask.id("cmpl-"));
    body.put("object", "text_completion");
    body.put("created", &ask.created());
    body.put("model", &ask.model);
    body.put("choices", choices);
    if reports {
        body.put("usage", &usage.map(|usage| Quirk::None.report(usage)));
    }
    body.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode_base64(bytes.as_bytes()), text);
        }
    }
}
