//! What the demo asks: every operation, plain and streamed, each credential form, each provider's habits.
//!
//! Knows requests, not how they are sent or shown.

use http::Method;
use serde_json::{Value, json};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;

use super::mock;
use super::setup::{MINIAI_ROUTE, OLLAMA_ROUTE};

/// One request of the demo.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it asks for, as Weir should meter it.
    pub operation: Operation,
    /// The method.
    pub method: Method,
    /// Path and query, without any credential.
    pub path: String,
    /// How the key is presented.
    pub credential: CredentialForm,
    /// Header fields beside credential, host and content type.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: CaseBody,
    /// The model that it names, or empty.
    pub model: &'static str,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// Who answers.
    pub served_by: ServedBy,
    /// Whether Weir may change the body on its way up (usage asked for, `model` taken out).
    pub edits_body: bool,
}

/// How a client presents its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialForm {
    /// `Authorization: Bearer`
    Bearer,
    /// `x-api-key`
    ApiKey,
    /// `x-goog-api-key`
    GoogApiKey,
    /// `?key=`
    Query,
}

/// A request's body.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseBody {
    /// None.
    Empty,
    /// JSON text.
    Json(String),
    /// `multipart/form-data`.
    Form(Vec<FormField>),
}

/// A field of a form.
#[derive(Clone, Debug, PartialEq)]
pub struct FormField {
    /// Its name.
    pub name: &'static str,
    /// The file name, if it is a file. At most one field of a form is a file.
    pub file_name: Option<&'static str>,
    /// The content.
    pub content: &'static str,
}

/// Who answers a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// The mock, through a channel.
    Upstream,
    /// Weir itself.
    Gateway,
}

/// Separates the fields of a form; occurs in none of them.
const BOUNDARY: &str = "weir-demo-7d1f0c";

impl Case {
    fn new(operation: Operation, path: impl Into<String>, model: &'static str, body: &Value) -> Self {
        Self {
            operation,
            method: Method::POST,
            path: path.into(),
            credential: match operation.protocol() {
                Protocol::OpenAi => CredentialForm::Bearer,
                Protocol::Anthropic => CredentialForm::ApiKey,
                Protocol::Gemini => CredentialForm::GoogApiKey,
            },
            headers: match operation.protocol() {
                Protocol::Anthropic => vec![("anthropic-version", "2023-06-01")],
                _ => Vec::new(),
            },
            body: CaseBody::Json(body.to_string()),
            model,
            stream: body.get("stream").is_some_and(|stream| stream == true),
            served_by: ServedBy::Upstream,
            edits_body: false,
        }
    }

    fn get(operation: Operation, path: impl Into<String>) -> Self {
        Self { method: Method::GET, body: CaseBody::Empty, ..Self::new(operation, path, "", &Value::Null) }
    }

    fn by_gateway(self) -> Self {
        Self { served_by: ServedBy::Gateway, ..self }
    }

    fn with(self, credential: CredentialForm) -> Self {
        Self { credential, ..self }
    }

    fn edited(self) -> Self {
        Self { edits_body: true, ..self }
    }

    fn streamed(self) -> Self {
        Self { stream: true, ..self }
    }

    /// Path and query as sent, with the key if it belongs there. Keys of the demo need no escaping.
    pub fn target(&self, key: &str) -> String {
        match self.credential {
            CredentialForm::Query if self.path.contains('?') => format!("{}&key={key}", self.path),
            CredentialForm::Query => format!("{}?key={key}", self.path),
            _ => self.path.clone(),
        }
    }

    /// All header fields that it is sent with, `host` apart.
    pub fn header_fields(&self, key: &str) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        match self.credential {
            CredentialForm::Bearer => fields.push(("Authorization", format!("Bearer {key}"))),
            CredentialForm::ApiKey => fields.push(("x-api-key", key.to_owned())),
            CredentialForm::GoogApiKey => fields.push(("x-goog-api-key", key.to_owned())),
            CredentialForm::Query => {}
        }
        fields.extend(self.headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        match self.body {
            CaseBody::Empty => {}
            CaseBody::Json(_) => fields.push(("content-type", "application/json".to_owned())),
            CaseBody::Form(_) => fields.push(("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))),
        }
        fields
    }

    /// The body as sent.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            CaseBody::Empty => Vec::new(),
            CaseBody::Json(text) => text.clone().into_bytes(),
            CaseBody::Form(fields) => {
                let mut form = String::new();
                for FormField { name, file_name, content } in fields {
                    let file = file_name.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
                    let head = format!("content-disposition: form-data; name=\"{name}\"{file}");
                    form.extend(["--", BOUNDARY, "\r\n", &head, "\r\n\r\n", content, "\r\n"]);
                }
                form.extend(["--", BOUNDARY, "--\r\n"]);
                form.into_bytes()
            }
        }
    }
}

/// Every case, in the order in which they are run.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    openai(&mut cases);
    openai_other(&mut cases);
    anthropic(&mut cases);
    gemini(&mut cases);
    cases.extend([
        Case::get(Operation::Models, "/v1/models").by_gateway(),
        Case {
            headers: vec![("anthropic-version", "2023-06-01")],
            ..Case::get(Operation::Models, "/v1/models").by_gateway().with(CredentialForm::ApiKey)
        },
        Case::get(Operation::Models, "/v1beta/models").by_gateway().with(CredentialForm::GoogApiKey),
    ]);
    cases
}

/// One case for each protocol and form of answer: what `weir demo` offers as curl lines.
pub fn samples() -> Vec<Case> {
    let mut seen = Vec::new();
    let mut samples = cases();
    samples.retain(|case| {
        let kind = (case.operation, case.stream);
        let is_new = case.operation != Operation::OpenAiOther && case.operation != Operation::Models;
        let is_new = is_new && !seen.contains(&kind);
        seen.push(kind);
        is_new
    });
    samples
}

fn openai(cases: &mut Vec<Case>) {
    let chat_at = |path: &str, model: &'static str, extra: Value| {
        let mut body = json!({
            "model": model,
            "messages": [
                { "role": "system", "content": "You are brief." },
                { "role": "user", "content": "What's a weir, and what does it measure?" },
            ],
        });
        merge(&mut body, extra);
        Case::new(Operation::OpenAiChat, path, model, &body)
    };
    let chat = |model, extra| chat_at("/v1/chat/completions", model, extra);
    let stream = || json!({ "stream": true });
    let usage = || json!({ "stream": true, "stream_options": { "include_usage": true } });
    cases.push(chat("gpt-4o-mini", json!({})));
    cases.push(chat("gpt-4o-mini", stream()).edited());
    cases.push(chat("gpt-4o-mini", usage()));
    let tool = json!({ "tools": [{ "type": "function", "function": {
        "name": "level",
        "parameters": { "type": "object", "properties": { "river": { "type": "string" } } },
    } }] });
    cases.push(chat("gpt-4o-mini", tool));
    for model in ["deepseek-chat", "kimi-k2", "grok-4", "openrouter/auto", "azure-gpt-4o", "vllm-qwen"] {
        cases.push(chat(model, json!({})));
        cases.push(chat(model, stream()).edited());
    }
    cases.push(chat("mistral-large", json!({})));
    cases.push(chat("mistral-large", stream()));
    cases.push(chat_at(MINIAI_ROUTE, "miniai-large", json!({})));
    cases.push(chat_at(MINIAI_ROUTE, "miniai-large", stream()).edited());

    let completions = |extra| {
        let mut body = json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Say how deep the river is." });
        merge(&mut body, extra);
        Case::new(Operation::OpenAiCompletions, "/v1/completions", "gpt-3.5-turbo-instruct", &body)
    };
    cases.push(completions(json!({})));
    cases.push(completions(stream()).edited());
    cases.push(completions(usage()));
    let body = json!({ "model": "text-embedding-3-small", "input": ["a river", "a dam across it"] });
    cases.push(Case::new(Operation::OpenAiEmbeddings, "/v1/embeddings", "text-embedding-3-small", &body));

    let responses = |extra| Case::new(Operation::OpenAiResponses, "/v1/responses", "gpt-5-mini", &response_body(extra));
    cases.push(responses(json!({})));
    cases.push(responses(stream()));

    let ollama = |stream: bool| {
        let messages = json!([{ "role": "user", "content": "Is it raining upstream?" }]);
        let body = json!({ "model": "llama3.2", "messages": messages, "stream": stream });
        Case::new(Operation::OllamaChat, OLLAMA_ROUTE, "llama3.2", &body)
    };
    cases.extend([ollama(false), ollama(true)]);
}

fn response_body(extra: Value) -> Value {
    let mut body = json!({ "model": "gpt-5-mini", "input": "Name three rivers.", "instructions": "Be brief." });
    merge(&mut body, extra);
    body
}

fn openai_other(cases: &mut Vec<Case>) {
    let other = |path: &str, model, body: &Value| Case::new(Operation::OpenAiOther, path, model, body);
    let form = |path: &str, model, fields: &[(&'static str, Option<&'static str>, &'static str)]| Case {
        body: CaseBody::Form(
            fields.iter().map(|&(name, file_name, content)| FormField { name, file_name, content }).collect(),
        ),
        ..Case::new(Operation::OpenAiOther, path, model, &Value::Null)
    };
    let stored = mock::response_id("gpt-5-mini", &response_body(json!({})));
    let lines = "{\"custom_id\": \"it's the first\"}\n";
    let speech = ("file", Some("river.wav"), "RIFF: the sound of a river");
    let model = ("model", None, "gpt-4o-transcribe");
    cases.extend([
        Case::get(Operation::OpenAiOther, format!("/v1/responses/{stored}")),
        Case::get(Operation::OpenAiOther, "/v1/files?limit=2"),
        form("/v1/files", "", &[("purpose", None, "batch"), ("file", Some("batch.jsonl"), lines)]),
        other(
            "/v1/batches",
            "",
            &json!({ "input_file_id": "file-mock", "endpoint": "/v1/chat/completions",
            "completion_window": "24h" }),
        ),
        other("/v1/images/generations", "gpt-image-1", &json!({ "model": "gpt-image-1", "prompt": "a weir" })),
        form("/v1/audio/transcriptions", "gpt-4o-transcribe", &[model, speech]),
        form("/v1/audio/transcriptions", "gpt-4o-transcribe", &[model, ("stream", None, "true"), speech]).streamed(),
        other(
            "/v1/moderations",
            "omni-moderation-latest",
            &json!({ "model": "omni-moderation-latest",
            "input": "The river rises." }),
        ),
    ]);
}

fn anthropic(cases: &mut Vec<Case>) {
    let messages = |path: &str, model: &'static str, stream: bool| {
        let mut body = json!({
            "model": model,
            "max_tokens": 256,
            "system": [{ "type": "text", "text": "You know every river of the world by its name and its length.",
                "cache_control": { "type": "ephemeral" } }],
            "messages": [{ "role": "user", "content": "Which river is the longest?" }],
        });
        if stream {
            merge(&mut body, json!({ "stream": true }));
        }
        Case::new(Operation::AnthropicMessages, path, model, &body)
    };
    let count =
        json!({ "model": "claude-sonnet-4-5", "messages": [{ "role": "user", "content": "How long is this?" }] });
    cases.extend([
        messages("/v1/messages", "claude-sonnet-4-5", false),
        messages("/v1/messages", "claude-sonnet-4-5", true),
        messages("/v1/messages", "claude-opus-4-1", true).with(CredentialForm::Bearer),
        messages("/api/v1/messages", "claude-sonnet-4-5", false),
        messages("/claude/v1/messages", "claude-sonnet-4-5", true),
        Case::new(Operation::AnthropicCountTokens, "/v1/messages/count_tokens", "claude-sonnet-4-5", &count),
    ]);
}

fn gemini(cases: &mut Vec<Case>) {
    const MODEL: &str = "gemini-2.5-flash";
    let contents = || json!({ "contents": [{ "role": "user", "parts": [{ "text": "Where does a river end?" }] }] });
    let at = |operation, verb: &str| Case::new(operation, format!("/v1beta/models/{MODEL}:{verb}"), MODEL, &contents());
    let chat = |operation, stream: bool| {
        let mut body = contents();
        merge(&mut body, json!({ "model": MODEL, "stream": stream }));
        Case::new(operation, "/gemini/v1/chat", MODEL, &body).edited()
    };
    let embed = |model: &'static str| {
        let body = json!({ "model": format!("models/{model}"), "content": { "parts": [{ "text": "a river" }] } });
        Case::new(Operation::GeminiEmbed, format!("/v1beta/models/{model}:embedContent"), model, &body)
    };
    // As Google's SDKs embed: many in one request, and each names the model again.
    let batch = |model: &'static str| {
        let one =
            |text: &str| json!({ "model": format!("models/{model}"), "content": { "parts": [{ "text": text }] } });
        let body = json!({ "requests": [one("a river"), one("a dam across it")] });
        Case::new(Operation::GeminiEmbed, format!("/v1beta/models/{model}:batchEmbedContents"), model, &body)
    };
    let stable = |case: Case| Case { path: case.path.replacen("/v1beta/", "/v1/", 1), ..case };
    cases.extend([
        at(Operation::GeminiGenerate, "generateContent"),
        stable(at(Operation::GeminiGenerate, "generateContent")),
        at(Operation::GeminiGenerate, "generateContent").with(CredentialForm::Query),
        at(Operation::GeminiStream, "streamGenerateContent?alt=sse").streamed(),
        at(Operation::GeminiStream, "streamGenerateContent").streamed(),
        embed("gemini-embedding-2"),
        batch("gemini-embedding-2"),
        at(Operation::GeminiCountTokens, "countTokens"),
        chat(Operation::GeminiGenerate, false),
        chat(Operation::GeminiStream, true),
    ]);
}

/// Adds the members of `extra`.
fn merge(body: &mut Value, extra: Value) {
    if let (Value::Object(body), Value::Object(extra)) = (body, extra) {
        body.extend(extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_asked_for() {
        let cases = cases();
        let missing: Vec<_> =
            Operation::ALL.into_iter().filter(|operation| cases.iter().all(|c| c.operation != *operation)).collect();
        assert_eq!(missing, []);
        for form in [CredentialForm::Bearer, CredentialForm::ApiKey, CredentialForm::GoogApiKey, CredentialForm::Query]
        {
            assert!(cases.iter().any(|case| case.credential == form), "{form:?} is not shown");
        }
    }

    #[test]
    fn whatever_can_stream_is_asked_for_both_ways() {
        let cases = cases();
        for operation in [
            Operation::OpenAiChat,
            Operation::OpenAiCompletions,
            Operation::OpenAiResponses,
            Operation::OllamaChat,
            Operation::AnthropicMessages,
        ] {
            for stream in [false, true] {
                let found = cases.iter().any(|case| case.operation == operation && case.stream == stream);
                assert!(found, "{operation}, stream {stream}");
            }
        }
    }

    #[test]
    fn a_key_in_the_query_joins_what_is_there() {
        let query = |path: &str| Case::get(Operation::Models, path).with(CredentialForm::Query).target("K");
        assert_eq!(query("/v1beta/models"), "/v1beta/models?key=K");
        assert_eq!(query("/v1beta/models?pageSize=1"), "/v1beta/models?pageSize=1&key=K");
    }

    #[test]
    fn samples_show_each_kind_once() {
        let kinds: Vec<_> = samples().iter().map(|case| (case.operation.name(), case.stream)).collect();
        assert_eq!(
            kinds,
            [
                ("openai.chat", false),
                ("openai.chat", true),
                ("openai.completions", false),
                ("openai.completions", true),
                ("openai.embeddings", false),
                ("openai.responses", false),
                ("openai.responses", true),
                ("ollama.chat", false),
                ("ollama.chat", true),
                ("anthropic.messages", false),
                ("anthropic.messages", true),
                ("anthropic.count_tokens", false),
                ("gemini.generate", false),
                ("gemini.stream", true),
                ("gemini.embed", false),
                ("gemini.count_tokens", false),
            ]
        );
    }
}
