//! An answer before it is sent: its pieces, and what each of them reports.
//!
//! Knows how a server-sent event and an error look, not what a protocol puts into an event.

use bytes::Bytes;
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::usage::Usage;

use super::json::{Json, object};

/// `text/event-stream`
pub(super) const SSE: &str = "text/event-stream; charset=utf-8";
/// `application/json`
pub(super) const JSON: &str = "application/json";

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) stream: bool,
    pub(super) pieces: Vec<Piece>,
}

/// What is written at once, delays and splits apart.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Server-sent events in it: 0 or 1.
    pub(super) events: u64,
    /// The usage as far as it is reported once this piece has arrived.
    pub(super) usage: Option<Usage>,
    /// Whether it is there only because `include_usage` was asked for.
    pub(super) on_request: bool,
}

impl Piece {
    pub(super) fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), events: 0, usage: None, on_request: false }
    }

    /// An event without a name.
    pub(super) fn sse(data: &str) -> Self {
        Self { events: 1, ..Self::raw(format!("data: {data}\n\n")) }
    }

    /// An event with a name.
    pub(super) fn event(name: &str, data: &str) -> Self {
        Self { events: 1, ..Self::raw(format!("event: {name}\ndata: {data}\n\n")) }
    }

    pub(super) fn reporting(self, usage: Usage) -> Self {
        Self { usage: Some(usage), ..self }
    }
}

impl Answer {
    /// A JSON body in one piece.
    pub(super) fn json(body: &Json, usage: Option<Usage>) -> Self {
        let piece = Piece { usage, ..Piece::raw(body.get().to_owned()) };
        Self { status: 200, content_type: JSON, stream: false, pieces: vec![piece] }
    }

    pub(super) fn stream(content_type: &'static str, pieces: Vec<Piece>) -> Self {
        Self { status: 200, content_type, stream: true, pieces }
    }

    pub(super) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: 200, content_type, stream: false, pieces: vec![Piece::raw(body)] }
    }

    /// An error as the provider of `operation` words it.
    pub(super) fn error(operation: Operation, status: u16, message: &str) -> Self {
        let body = match operation.protocol() {
            _ if operation == Operation::OllamaChat => object! { "error": message },
            Protocol::OpenAi => {
                let (kind, code) = match status {
                    401 => ("invalid_request_error", Some("invalid_api_key")),
                    429 => ("rate_limit_error", Some("rate_limit_exceeded")),
                    500.. => ("server_error", None),
                    _ => ("invalid_request_error", None),
                };
                object! { "error": object! { "message": message, "type": kind, "param": (), "code": code } }
            }
            Protocol::Anthropic => {
                let kind = match status {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    529 => "overloaded_error",
                    500.. => "api_error",
                    _ => "invalid_request_error",
                };
                object! {
                    "type": "error",
                    "error": object! { "type": kind, "message": message },
                    "request_id": "req_011CMock",
                }
            }
            Protocol::Gemini => {
                let name = match status {
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    503 => "UNAVAILABLE",
                    500.. => "INTERNAL",
                    _ => "INVALID_ARGUMENT",
                };
                object! { "error": object! { "code": status, "message": message, "status": name } }
            }
        };
        Self { status, ..Self::json(&body, None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_providers_shape() {
        for (operation, expected) in [
            (
                Operation::OpenAiChat,
                r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            ),
            (
                Operation::AnthropicMessages,
                r#"{"type":"error","error":{"type":"authentication_error","message":"no"},"request_id":"req_011CMock"}"#,
            ),
            (Operation::GeminiStream, r#"{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}"#),
            (Operation::OllamaChat, r#"{"error":"no"}"#),
        ] {
            let answer = Answer::error(operation, 401, "no");
            assert_eq!(answer.status, 401);
            assert_eq!(answer.pieces[0].bytes, expected, "{operation}");
        }
    }
}
