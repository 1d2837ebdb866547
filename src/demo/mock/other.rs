//! The rest of the OpenAI API: files, batches, images, audio, moderations, stored responses.
//!
//! Stores nothing but the last responses; the other objects are derived from the request.

use std::collections::VecDeque;
use std::sync::Mutex;

use http::Method;
use sha2::{Digest, Sha256};
use weir_filters::route::Operation;
use weir_filters::usage::Usage;

use super::answer::{Answer, Piece, SSE};
use super::ask::{Ask, count};
use super::book::hex;
use super::json::{Json, object};

/// Responses kept for `GET /v1/responses/{id}`.
const STORED_RESPONSES: usize = 64;
/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// Tokens of an image.
const IMAGE_TOKENS: u64 = 272;
/// Tokens of a recording, whatever is in it.
const AUDIO_TOKENS: u64 = 25;

/// Responses that can be asked for again.
#[derive(Default)]
pub(super) struct Stored(Mutex<VecDeque<(String, Json)>>);

impl Stored {
    pub(super) fn keep(&self, id: String, response: Json) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.retain(|(known, _)| *known != id);
        kept.push_back((id, response));
        if kept.len() > STORED_RESPONSES {
            kept.pop_front();
        }
    }

    fn find(&self, id: &str) -> Option<Json> {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == id).map(|(_, response)| response.clone())
    }
}

/// A multipart form's field.
pub(super) struct Field<'a> {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) content: &'a [u8],
}

/// The fields of a `multipart/form-data` body; what is malformed is left out.
pub(super) fn form<'a>(content_type: &str, body: &'a [u8]) -> Vec<Field<'a>> {
    let Some((_, boundary)) = content_type.split_once("boundary=") else { return Vec::new() };
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    let mark = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut rest = body;
    while let Some(at) = find(rest, mark.as_bytes()) {
        rest = &rest[at + mark.len()..];
        let end = find(rest, mark.as_bytes()).unwrap_or(0);
        let part = rest[..end].strip_prefix(b"\r\n").unwrap_or_default();
        let Some(head) = find(part, b"\r\n\r\n") else { continue };
        let content = &part[head + 4..];
        let head = String::from_utf8_lossy(&part[..head]).into_owned();
        if let Some(name) = parameter(&head, "name") {
            let content = content.strip_suffix(b"\r\n").unwrap_or(content);
            fields.push(Field { name, file_name: parameter(&head, "filename"), content });
        }
    }
    fields
}

/// The answer to `path`, which is below `/v1/`.
pub(super) fn other(method: &Method, path: &str, ask: &Ask, fields: &[Field<'_>], stored: &Stored) -> Answer {
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (method.as_str(), &parts[..]) {
        ("GET", ["files"]) => list(&[file("file-mock", "data.jsonl", 17)]),
        ("POST", ["files"]) => upload(fields),
        ("GET", ["files", id]) => Answer::json(&file(id, "data.jsonl", 17), None),
        ("GET", ["files", _, "content"]) => Answer::bytes("application/octet-stream", "{\"line\":\"first\"}\n"),
        ("DELETE", ["files", id]) => deleted("file", id),
        ("GET", ["batches"]) => list(&[batch("batch_mock", ask)]),
        ("POST", ["batches"]) => Answer::json(&batch(&ask.id("batch_"), ask), None),
        ("GET", ["batches", id]) | ("POST", ["batches", id, "cancel"]) => Answer::json(&batch(id, ask), None),
        ("POST", ["images", "generations" | "edits" | "variations"]) => image(ask),
        ("POST", ["audio", "transcriptions" | "translations"]) => transcription(ask, fields),
        ("POST", ["audio", "speech"]) => Answer::bytes("audio/mpeg", ask.reply().text().into_bytes()),
        ("POST", ["moderations"]) => moderation(ask),
        // What it cost was reported when it was made; reading it again uses no token.
        ("GET", ["responses", id]) => match stored.find(id) {
            Some(response) => Answer::json(&response, None),
            None => Answer::error(Operation::OpenAiOther, 404, "Response not found."),
        },
        ("GET", ["responses", _, "input_items"]) => list(&[]),
        ("DELETE", ["responses", id]) => deleted("response", id),
        _ => Answer::error(Operation::OpenAiOther, 404, "The mock does not serve this."),
    }
}

/// `GET /v1/models` of the provider.
pub(super) fn models(names: &[&str]) -> Answer {
    let models: Vec<Json> = names
        .iter()
        .map(|name| object! { "id": name, "object": "model", "created": 1_763_596_800, "owned_by": "mock" })
        .collect();
    list(&models)
}

fn list(data: &[Json]) -> Answer {
    Answer::json(&object! { "object": "list", "data": data, "has_more": false }, None)
}

fn deleted(object: &str, id: &str) -> Answer {
    Answer::json(&object! { "id": id, "object": object, "deleted": true }, None)
}

fn file(id: &str, name: &str, bytes: u64) -> Json {
    object! {
        "id": id,
        "object": "file",
        "bytes": bytes,
        "created_at": 1_763_596_800,
        "expires_at": (),
        "filename": name,
        "purpose": "batch",
        "status": "processed",
        "status_details": (),
    }
}

fn upload(fields: &[Field<'_>]) -> Answer {
    let Some(sent) = fields.iter().find(|field| field.name == "file") else {
        return Answer::error(Operation::OpenAiOther, 400, "'file' is a required property");
    };
    let digest = hex(&Sha256::digest(sent.content).into());
    let name = sent.file_name.as_deref().unwrap_or("upload");
    Answer::json(&file(&format!("file-{}", &digest[..24]), name, count(sent.content.len())), None)
}

fn batch(id: &str, ask: &Ask) -> Json {
    let given = |name: &str| ask.member(name).cloned();
    object! {
        "id": id,
        "object": "batch",
        "endpoint": given("endpoint").unwrap_or_else(|| "/v1/chat/completions".into()),
        "errors": (),
        "input_file_id": given("input_file_id").unwrap_or_else(|| "file-mock".into()),
        "completion_window": given("completion_window").unwrap_or_else(|| "24h".into()),
        "status": "validating",
        "output_file_id": (),
        "error_file_id": (),
        "created_at": 1_763_596_800,
        "request_counts": object! { "total": 0, "completed": 0, "failed": 0 },
        "metadata": (),
    }
}

/// GPT image models report tokens; DALL·E does not.
fn image(ask: &Ask) -> Answer {
    let data = [object! { "b64_json": PIXEL }];
    if !ask.model.starts_with("gpt-image") {
        return Answer::json(&object! { "created": ask.created(), "data": data }, None);
    }
    let usage = ask.usage(IMAGE_TOKENS);
    let body = object! {
        "created": ask.created(),
        "data": data,
        "background": "opaque",
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": object! {
            "total_tokens": usage.total(),
            "input_tokens": usage.input(),
            "output_tokens": usage.output,
            "input_tokens_details": object! { "text_tokens": usage.input(), "image_tokens": 0 },
        },
    };
    Answer::json(&body, Some(usage))
}

/// Whisper reports seconds; the GPT models report tokens and can stream.
fn transcription(ask: &Ask, fields: &[Field<'_>]) -> Answer {
    let Some(recording) = fields.iter().find(|field| field.name == "file") else {
        return Answer::error(Operation::OpenAiOther, 400, "'file' is a required property");
    };
    let digest = hex(&Sha256::digest(recording.content).into());
    let words = ["Heard", " a", " recording", " called", " ", &digest[..8]];
    let text = words.concat();
    if ask.model.starts_with("whisper") {
        let usage = object! { "type": "duration", "seconds": 3 };
        return Answer::json(&object! { "text": text, "usage": usage }, None);
    }
    let output = count(words.len());
    let usage = Usage { input_uncached: AUDIO_TOKENS, ..ask.usage(output) };
    let report = object! {
        "type": "tokens",
        "total_tokens": usage.total(),
        "input_tokens": usage.input(),
        "input_token_details": object! { "text_tokens": 0, "audio_tokens": AUDIO_TOKENS },
        "output_tokens": usage.output,
    };
    if !ask.stream {
        return Answer::json(&object! { "text": text, "usage": report }, Some(usage));
    }
    let mut pieces: Vec<Piece> =
        words.iter().map(|word| Piece::sse(object! { "type": "transcript.text.delta", "delta": word }.get())).collect();
    let last = object! { "type": "transcript.text.done", "text": text, "usage": report };
    pieces.push(Piece::sse(last.get()).reporting(usage));
    Answer::stream(SSE, pieces)
}

fn moderation(ask: &Ask) -> Answer {
    let names = [
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    let each = |value: fn() -> serde_json::Value| -> serde_json::Map<String, serde_json::Value> {
        names.iter().map(|name| ((*name).to_owned(), value())).collect()
    };
    let result = object! {
        "flagged": false,
        "categories": each(|| false.into()),
        "category_scores": each(|| 0.01.into()),
        "category_applied_input_types": each(|| serde_json::json!(["text"])),
    };
    Answer::json(&object! { "id": ask.id("modr-"), "model": ask.model, "results": [result] }, None)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// `name="value"` out of a part's head; `filename` is not mistaken for `name`.
fn parameter(head: &str, name: &str) -> Option<String> {
    let value = head.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))?;
    let value = value.lines().next()?.trim();
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_apart() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
            --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\
            Content-Type: text/plain\r\n\r\n{\r\n}\r\n--x--\r\n";
        let fields = form("multipart/form-data; boundary=\"x\"", body);
        let seen: Vec<_> =
            fields.iter().map(|field| (field.name.as_str(), field.file_name.as_deref(), field.content)).collect();
        assert_eq!(seen, [("purpose", None, &b"batch"[..]), ("file", Some("a.jsonl"), &b"{\r\n}"[..])]);
    }

    #[test]
    fn a_malformed_form_has_no_fields() {
        for body in [&b""[..], b"--x", b"--x--", b"--x\r\nno head", b"--x\r\n\r\n\r\n--x--"] {
            assert_eq!(form("multipart/form-data; boundary=x", body).len(), 0);
        }
        assert_eq!(form("multipart/form-data", b"--x").len(), 0);
    }

    #[test]
    fn only_the_last_responses_are_kept() {
        let stored = Stored::default();
        for number in 0..=STORED_RESPONSES {
            stored.keep(number.to_string(), object! { "n": number });
        }
        assert!(stored.find("0").is_none());
        assert_eq!(stored.find("1").expect("kept").get(), r#"{"n":1}"#);
    }
}
