//! One request of the mock: whose it is, whether it may, what it gets.
//!
//! Refuses to know shapes; those are each protocol's.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;
use weir_filters::usage::Usage;

use super::answer::{Answer, JSON};
use super::ask::{Ask, count};
use super::book::{Book, Entry};
use super::deliver::{Body, deliver, unrecorded};
use super::gemini::Form;
use super::json::{Json, object};
use super::other::{Field, Stored, form};
use super::trouble::Trouble;
use super::{anthropic, completions, gemini, ollama, openai, other, responses};

/// The largest request body: above Weir's own default of 32 MiB.
const MAX_BODY: usize = 64 << 20;

const OPENAI_MODELS: [&str; 3] = ["gpt-4o-mini", "text-embedding-3-small", "deepseek-chat"];
const ANTHROPIC_MODELS: [&str; 2] = ["claude-sonnet-4-5", "claude-opus-4-1"];
const GEMINI_MODELS: [&str; 2] = ["gemini-2.5-flash", "gemini-embedding-001"];

/// What all connections share.
pub(super) struct State {
    pub(super) upstream_key: Secret,
    pub(super) book: Arc<Book>,
    pub(super) stored: Stored,
}

impl State {
    /// Answers one request.
    pub(super) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        if path == "/mock/ledger" {
            return Ok(self.ledger(&head.method));
        }
        let (operation, endpoint) = Endpoint::of(&head.method, &path, &head.headers);
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            let answer = Answer::error(operation, 413, "The body is too large, or was not sent whole.");
            return Ok(plain(413, answer.pieces.into_iter().map(|piece| piece.bytes).next().unwrap_or_default()));
        };
        let asked = Asked {
            method: &head.method,
            path: &path,
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            body: &body.to_bytes(),
        };
        Ok(self.answer(&asked, operation, endpoint).unwrap_or_else(|_| plain(500, "{}")))
    }

    fn ledger(&self, method: &Method) -> Response<Body> {
        match *method {
            Method::GET => plain(200, self.book.json().get().to_owned()),
            Method::DELETE => {
                self.book.clear();
                plain(200, "{}")
            }
            _ => plain(405, "{}"),
        }
    }

    fn answer(
        &self,
        asked: &Asked<'_>,
        operation: Operation,
        endpoint: Endpoint<'_>,
    ) -> std::io::Result<Response<Body>> {
        let trouble = Trouble::of(asked.headers);
        let content_type = asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fields = if content_type.starts_with("multipart/") { form(content_type, asked.body) } else { Vec::new() };
        let json: Option<Value> = serde_json::from_slice(asked.body).ok();
        let field = |name: &str| {
            let found = fields.iter().find(|field| field.name == name)?;
            Some(String::from_utf8_lossy(found.content).into_owned())
        };
        let named = json.as_ref().and_then(|body| body.get("model")?.as_str().map(str::to_owned));
        let model = match endpoint {
            Endpoint::Gemini(model, _) => model.to_owned(),
            _ => named.or_else(|| field("model")).unwrap_or_default(),
        };
        let stream = json.as_ref().and_then(|body| body.get("stream")?.as_bool());
        let stream = match endpoint {
            Endpoint::Gemini(_, verb) => verb == "streamGenerateContent",
            Endpoint::Ollama { .. } => stream.unwrap_or(true),
            _ => stream.unwrap_or_else(|| field("stream").is_some_and(|value| value == "true")),
        };
        let is_malformed = json.is_none() && endpoint.takes_json();
        let ask = Ask::new(model, stream, json.unwrap_or(Value::Null), trouble.words);
        let (authentic, strays) = self.credentials(asked, operation.protocol());

        let answer = if !authentic && operation != Operation::Models {
            Answer::error(operation, 401, "The upstream key is missing or wrong.")
        } else if let Some(status) = trouble.status {
            Answer::error(operation, status, "This trouble was asked for.")
        } else if is_malformed {
            Answer::error(operation, 400, "The body is not JSON.")
        } else {
            self.content(asked, &endpoint, &ask, &fields)
        };
        let (status, content_type) = (answer.status, answer.content_type);
        let entry = asked.entry(operation, &ask, &answer, strays);
        let delivery = deliver(answer, &trouble, Arc::clone(&self.book), entry)?;
        let mut response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, content_type)
            // What providers send and a gateway takes away.
            .header("server", "mock")
            .header("set-cookie", "__cf_bm=mock; Path=/; HttpOnly")
            .header(
                if operation.protocol() == Protocol::Anthropic { "request-id" } else { "x-request-id" },
                ask.id("req_"),
            );
        if let Some(length) = delivery.length {
            response = response.header(CONTENT_LENGTH, length);
        }
        if let Some(coding) = trouble.coding {
            response = response.header(CONTENT_ENCODING, coding.name());
        }
        if status == 429 {
            response = response.header(RETRY_AFTER, "1");
        }
        response.body(delivery.body).map_err(std::io::Error::other)
    }

    fn content(&self, asked: &Asked<'_>, endpoint: &Endpoint<'_>, ask: &Ask, fields: &[Field<'_>]) -> Answer {
        match *endpoint {
            Endpoint::Chat => openai::chat(ask),
            Endpoint::Completions => completions::completions(ask),
            Endpoint::Embeddings => completions::embeddings(ask),
            Endpoint::Responses => {
                let (answer, response) = responses::responses(ask);
                self.stored.keep(responses::id(ask), response);
                answer
            }
            Endpoint::Other => other::other(asked.method, asked.path, ask, fields, &self.stored),
            Endpoint::Messages => anthropic::messages(ask),
            Endpoint::CountTokens => anthropic::count_tokens(ask),
            Endpoint::Gemini(_, "generateContent") => gemini::generate(ask, Form::Plain),
            Endpoint::Gemini(_, "streamGenerateContent") => {
                let sse = asked.query.split('&').any(|parameter| parameter == "alt=sse");
                gemini::generate(ask, if sse { Form::Sse } else { Form::Array })
            }
            Endpoint::Gemini(_, "embedContent") => gemini::embed(ask, false),
            Endpoint::Gemini(_, "batchEmbedContents") => gemini::embed(ask, true),
            Endpoint::Gemini(_, "countTokens") => gemini::count_tokens(ask),
            Endpoint::Gemini(..) => Answer::error(Operation::GeminiGenerate, 404, "The mock does not serve this."),
            Endpoint::Ollama { chat } => ollama::generate(ask, chat),
            Endpoint::Models(Protocol::OpenAi) => other::models(&OPENAI_MODELS),
            Endpoint::Models(Protocol::Anthropic) => Answer::json(&anthropic_models(), None),
            Endpoint::Models(Protocol::Gemini) => gemini::models(&GEMINI_MODELS),
            Endpoint::Alive => Answer::bytes(JSON, "{}"),
            Endpoint::Unknown => Answer::error(Operation::OpenAiOther, 404, "The mock does not serve this."),
        }
    }

    /// Whether the upstream key came in the protocol's form, and what should not have come.
    fn credentials(&self, asked: &Asked<'_>, protocol: Protocol) -> (bool, Vec<&'static str>) {
        let mut authentic = false;
        let mut strays = Vec::new();
        let forms = [
            ("authorization", protocol != Protocol::Gemini),
            ("x-api-key", protocol == Protocol::Anthropic),
            ("x-goog-api-key", protocol == Protocol::Gemini),
            ("api-key", false),
            ("proxy-authorization", false),
        ];
        for (name, is_its_form) in forms {
            for value in asked.headers.get_all(name) {
                let text = value.to_str().unwrap_or_default();
                let key =
                    if name.ends_with("authorization") { text.strip_prefix("Bearer ").unwrap_or(text) } else { text };
                let is_ours = Secret::new(key) == self.upstream_key;
                authentic |= is_ours && is_its_form;
                if !is_ours && !strays.contains(&name) {
                    strays.push(name);
                }
            }
        }
        if let Some(key) = asked.query.split('&').find_map(|parameter| parameter.strip_prefix("key=")) {
            authentic |= protocol == Protocol::Gemini && Secret::new(key) == self.upstream_key;
            strays.push("?key=");
        }
        if asked.headers.contains_key(COOKIE) {
            strays.push("cookie");
        }
        (authentic, strays)
    }
}

/// A request whose body has been read.
struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Asked<'_> {
    fn entry(&self, operation: Operation, ask: &Ask, answer: &Answer, strays: Vec<&'static str>) -> Entry {
        let mut header_names: Vec<String> = self.headers.keys().map(|name| name.as_str().to_owned()).collect();
        header_names.sort();
        let request_id = self.headers.get("x-weir-request-id").and_then(|id| id.to_str().ok());
        Entry {
            number: 0,
            operation,
            method: self.method.as_str().to_owned(),
            path: self.path.to_owned(),
            model: ask.model.clone(),
            stream: answer.stream,
            status: answer.status,
            usage: Usage::default(),
            events: 0,
            request_bytes: count(self.body.len()),
            request_sha256: Sha256::digest(self.body).into(),
            response_bytes: 0,
            response_sha256: Sha256::digest(b"").into(),
            response_sha256_without_usage: None,
            finished: false,
            header_names,
            strays,
            request_id: request_id.map(str::to_owned),
        }
    }
}

/// What a path serves.
#[derive(Clone, Copy)]
enum Endpoint<'a> {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Other,
    Messages,
    CountTokens,
    /// Model and verb.
    Gemini(&'a str, &'a str),
    Ollama {
        chat: bool,
    },
    Models(Protocol),
    Alive,
    Unknown,
}

impl<'a> Endpoint<'a> {
    fn of(method: &Method, path: &'a str, headers: &HeaderMap) -> (Operation, Self) {
        // Google's SDKs ask for either version.
        let below = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"));
        if let Some((model, verb)) = below.and_then(|rest| rest.split_once(':')) {
            let operation = match verb {
                "streamGenerateContent" => Operation::GeminiStream,
                "embedContent" | "batchEmbedContents" => Operation::GeminiEmbed,
                "countTokens" => Operation::GeminiCountTokens,
                _ => Operation::GeminiGenerate,
            };
            return (operation, Self::Gemini(model, verb));
        }
        let is_post = *method == Method::POST;
        match path {
            "/v1/chat/completions" | "/miniai/v2/chat/completions" if is_post => (Operation::OpenAiChat, Self::Chat),
            "/v1/completions" if is_post => (Operation::OpenAiCompletions, Self::Completions),
            "/v1/embeddings" if is_post => (Operation::OpenAiEmbeddings, Self::Embeddings),
            "/v1/responses" if is_post => (Operation::OpenAiResponses, Self::Responses),
            "/v1/messages" if is_post => (Operation::AnthropicMessages, Self::Messages),
            "/v1/messages/count_tokens" if is_post => (Operation::AnthropicCountTokens, Self::CountTokens),
            "/api/chat" if is_post => (Operation::OllamaChat, Self::Ollama { chat: true }),
            "/api/generate" if is_post => (Operation::OllamaChat, Self::Ollama { chat: false }),
            "/v1/models" if headers.contains_key("anthropic-version") => {
                (Operation::Models, Self::Models(Protocol::Anthropic))
            }
            "/v1/models" if !headers.contains_key("x-goog-api-key") => {
                (Operation::Models, Self::Models(Protocol::OpenAi))
            }
            "/v1/models" | "/v1beta/models" => (Operation::Models, Self::Models(Protocol::Gemini)),
            "/" => (Operation::Models, Self::Alive),
            _ if path.starts_with("/v1/") => (Operation::OpenAiOther, Self::Other),
            _ => (Operation::OpenAiOther, Self::Unknown),
        }
    }

    fn takes_json(self) -> bool {
        !matches!(self, Self::Other | Self::Models(_) | Self::Alive | Self::Unknown)
    }
}

fn anthropic_models() -> Json {
    let models: Vec<Json> = ANTHROPIC_MODELS
        .iter()
        .map(|name| {
            object! {
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2025-09-29T00:00:00Z",
                "lifecycle": "active",
            }
        })
        .collect();
    object! { "data": models, "has_more": false, "first_id": ANTHROPIC_MODELS[0], "last_id": ANTHROPIC_MODELS[1] }
}

fn plain(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(unrecorded(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
