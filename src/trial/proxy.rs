//! The gateway is asked as a client asks it: at its own address, with a client's key.
//!
//! Owns what such a client sends. The request is one like any other: it is admitted, limited, priced and recorded. The key
//! is kept for as long as it takes and nowhere else.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderName, Method};
use serde_json::{Value, json};
use weir_filters::credential::upstream_header;
use weir_filters::probe::{Broke, PROMPT, Question, judge};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use crate::catalog::Refused;
use crate::http1::put_line;
use crate::loopback::reachable;

use super::ask::{Answer, Waits, ask, head};
use super::channel::error;
use super::{MAX_TIME, Trials, millis};

/// Enough to see that a model answers, and one that thinks first too.
const MAX_TOKENS: u64 = 256;
/// Bytes of a prompt that is typed in.
const MAX_PROMPT: usize = 8 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-weir-request-id");
const CHANNEL: HeaderName = HeaderName::from_static("x-weir-channel");

/// What a person wants the gateway to be asked.
#[derive(Debug)]
pub struct ProxyAsked {
    /// A client's key.
    pub key: Secret,
    /// The operation, by its name.
    pub operation: String,
    /// The model.
    pub model: String,
    /// Whether the answer is to come piece by piece; `None`: if the operation can.
    pub stream: Option<bool>,
    /// What the model is asked.
    pub prompt: Option<String>,
}

impl Trials {
    /// Asks the gateway itself; what came of it.
    ///
    /// # Errors
    /// It is no request that could be made, or as many trials are under way as may be.
    pub(crate) fn test(&self, asked: ProxyAsked) -> Result<impl Future<Output = Value> + Send + use<>, Refused> {
        let question = question(&asked)?;
        let (name, value) = upstream_header(question.operation.protocol(), &asked.key)
            .map_err(|_| Refused::invalid("key", "`key` cannot be sent in a header"))?;
        let plain = self.listen.iter().find(|listen| listen.tls.is_none());
        let listen = plain.or(self.listen.first());
        let (address, tls) = listen
            .map(|listen| (listen.address, listen.tls.is_some()))
            .filter(|(address, _)| address.port() != 0)
            .ok_or_else(|| Refused::Conflict {
                code: "no_address",
                message: "this gateway does not know where it listens".to_owned(),
            })?;
        let slot = self.slot()?;
        let shared = self.shared.clone();
        Ok(async move {
            let _slot = slot;
            let begun = Instant::now();
            let own: SocketAddr = reachable(address);
            let waits = Waits { first_byte: MAX_TIME, idle: MAX_TIME, until: begun + MAX_TIME };
            let mut question = question;
            let mut answer = loop {
                let Ok(exchange) = shared.leg.own(own, tls, Duration::from_secs(5)).await else {
                    break Answer::none(Broke::Connect);
                };
                let target = question.target("");
                let mut head = head(&Method::POST, &target, own.to_string().as_bytes(), question.body().len());
                if question.operation.protocol() == Protocol::Anthropic {
                    put_line(&mut head, b"anthropic-version", b"2023-06-01");
                }
                put_line(&mut head, b"user-agent", concat!("weir-test/", env!("CARGO_PKG_VERSION")).as_bytes());
                put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
                let answer = ask(exchange, head, &question, waits).await;
                match question.reworded(answer.seen.status.unwrap_or_default(), &answer.body) {
                    Some(again) => question = again,
                    None => break answer,
                }
            };
            let lines = answer.lines.take();
            let header = |name: HeaderName| {
                let value = lines.as_ref()?.get(&name)?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            let secret = asked.key.expose();
            json!({
                "status": answer.seen.status,
                "request_id": header(REQUEST_ID),
                "channel": header(CHANNEL),
                "first_token_ms": answer.first_token.map(millis),
                "total_ms": millis(begun.elapsed()),
                "text": answer.text(&question, &[secret]),
                "error": judge(&answer.seen).err().map(|bad| error(bad, &answer, secret)),
            })
        })
    }
}

fn question(asked: &ProxyAsked) -> Result<Question, Refused> {
    let known: Vec<&str> =
        Operation::ALL.into_iter().filter(|one| Question::is_known(*one)).map(Operation::name).collect();
    let operation = asked.operation.parse().ok().filter(|operation| Question::is_known(*operation));
    let operation: Operation = operation
        .ok_or_else(|| Refused::invalid("operation", format!("`operation` must be one of {}", known.join(", "))))?;
    let prompt = asked.prompt.as_deref().unwrap_or(PROMPT);
    if prompt.is_empty() || prompt.len() > MAX_PROMPT {
        return Err(Refused::invalid("prompt", "`prompt` must have 1 to 8192 bytes"));
    }
    if asked.model.is_empty() || asked.model.len() > 256 {
        return Err(Refused::invalid("model", "`model` must have 1 to 256 bytes"));
    }
    let can_stream = !matches!(operation, Operation::OpenAiEmbeddings | Operation::GeminiEmbed);
    let stream = match (operation, asked.stream) {
        (_, Some(true)) if !can_stream => {
            return Err(Refused::invalid("stream", "embeddings are not streamed"));
        }
        (Operation::GeminiGenerate, None) => false,
        (_, stream) => stream.unwrap_or(can_stream),
    };
    // Gemini tells the two apart by their paths.
    let operation = match operation {
        Operation::GeminiGenerate | Operation::GeminiStream if stream => Operation::GeminiStream,
        Operation::GeminiStream => Operation::GeminiGenerate,
        operation => operation,
    };
    Ok(Question {
        operation,
        model: asked.model.clone(),
        prompt: prompt.to_owned(),
        stream,
        max_tokens: MAX_TOKENS,
        asks_for_usage: false,
        is_reworded: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: &str, stream: Option<bool>) -> ProxyAsked {
        let (key, operation, model) = (Secret::new("sk-canary"), operation.to_owned(), "m".to_owned());
        ProxyAsked { key, operation, model, stream, prompt: None }
    }

    #[test]
    fn an_operation_is_streamed_unless_it_cannot_or_nobody_wants_it() {
        for (operation, stream, expected) in [
            ("openai.chat", None, (Operation::OpenAiChat, true)),
            ("openai.chat", Some(false), (Operation::OpenAiChat, false)),
            ("openai.embeddings", None, (Operation::OpenAiEmbeddings, false)),
            ("anthropic.messages", None, (Operation::AnthropicMessages, true)),
            ("gemini.generate", None, (Operation::GeminiGenerate, false)),
            ("gemini.generate", Some(true), (Operation::GeminiStream, true)),
            ("gemini.stream", None, (Operation::GeminiStream, true)),
            ("gemini.stream", Some(false), (Operation::GeminiGenerate, false)),
        ] {
            let question = question(&asked(operation, stream)).expect("a request");
            assert_eq!((question.operation, question.stream), expected, "{operation} {stream:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_its_field() {
        let field = |asked: ProxyAsked| match question(&asked) {
            Err(Refused::Invalid(wrong)) => wrong[0].field.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(field(asked("openai.other", None)), "operation");
        assert_eq!(field(asked("", None)), "operation");
        assert_eq!(field(asked("openai.embeddings", Some(true))), "stream");
        assert_eq!(field(ProxyAsked { prompt: Some(String::new()), ..asked("openai.chat", None) }), "prompt");
        assert_eq!(field(ProxyAsked { model: "m".repeat(257), ..asked("openai.chat", None) }), "model");
        assert!(!format!("{:?}", asked("openai.chat", None)).contains("canary"));
    }
}
