//! A small request that finds out how an upstream, or a gateway, answers: what is asked, and what the answer is worth.
//!
//! Owns the words of the request in each protocol, and the judgement of what came of it. It refuses to know how it is
//! sent and what time it is. A status of 200 says little: an answer counts as good if it is whole, carries no error and
//! says something.

mod said;

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::route::Operation;
use crate::target;

pub use said::{error_of, text_of};

/// What is asked if nobody says otherwise.
pub const PROMPT: &str = "Reply with the word pong.";

/// Tokens of an answer to the smallest question. Some upstreams refuse to answer with fewer.
pub const FEW_TOKENS: u64 = 16;

/// A request that is made to see its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked for.
    pub operation: Operation,
    /// The model, as the other side calls it.
    pub model: String,
    /// What it is asked.
    pub prompt: String,
    /// Whether the answer is to come piece by piece.
    pub stream: bool,
    /// The most that may be answered.
    pub max_tokens: u64,
    /// Whether a stream is asked to report its usage.
    pub asks_for_usage: bool,
    /// Whether the most is told as newer models of OpenAI want it.
    pub is_reworded: bool,
}

/// What was seen of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The status; `None`: there was no answer.
    pub status: Option<u16>,
    /// Whether the answer came to its end.
    pub is_whole: bool,
    /// Whether it carries a protocol's error beside a status that promises none.
    pub has_error: bool,
    /// Whether the model has said anything.
    pub has_output: bool,
    /// What broke it off.
    pub broke: Option<Broke>,
}

/// What ends an exchange before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broke {
    /// The name leads nowhere, or where it may not.
    Address,
    /// No connection.
    Connect,
    /// Too long a silence, or too long in all.
    Timeout,
    /// The other side closed or reset the connection, or its answer is not HTTP.
    Connection,
    /// The answer is larger than any to such a question.
    TooLarge,
}

/// Why an answer is not good, in a word for programs and a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The word.
    pub code: &'static str,
    /// The sentence.
    pub message: &'static str,
}

impl Question {
    /// The smallest streamed request for a model of a channel; one for embeddings is not streamed.
    pub fn smallest(protocol: Protocol, model: &str, asks_for_usage: bool) -> Self {
        let embeds = model.to_ascii_lowercase().contains("embed");
        let operation = match protocol {
            Protocol::OpenAi if embeds => Operation::OpenAiEmbeddings,
            Protocol::OpenAi => Operation::OpenAiChat,
            Protocol::Anthropic => Operation::AnthropicMessages,
            Protocol::Gemini if embeds => Operation::GeminiEmbed,
            Protocol::Gemini => Operation::GeminiStream,
        };
        let stream = !matches!(operation, Operation::OpenAiEmbeddings | Operation::GeminiEmbed);
        Self {
            operation,
            model: model.to_owned(),
            prompt: PROMPT.to_owned(),
            stream,
            max_tokens: FEW_TOKENS,
            asks_for_usage: asks_for_usage && operation == Operation::OpenAiChat,
            is_reworded: false,
        }
    }

    /// Whether such a request can be made at all.
    pub fn is_known(operation: Operation) -> bool {
        matches!(
            operation,
            Operation::OpenAiChat
                | Operation::OpenAiCompletions
                | Operation::OpenAiEmbeddings
                | Operation::OpenAiResponses
                | Operation::AnthropicMessages
                | Operation::GeminiGenerate
                | Operation::GeminiStream
                | Operation::GeminiEmbed
        )
    }

    /// Path and query, behind a prefix.
    pub fn target(&self, prefix: &str) -> String {
        let gemini = |verb| target::gemini("/v1beta/models", &self.model, verb);
        let path = match self.operation {
            Operation::OpenAiCompletions => "/v1/completions".to_owned(),
            Operation::OpenAiEmbeddings => "/v1/embeddings".to_owned(),
            Operation::OpenAiResponses => "/v1/responses".to_owned(),
            Operation::AnthropicMessages => "/v1/messages".to_owned(),
            Operation::GeminiGenerate => gemini("generateContent"),
            Operation::GeminiStream => gemini("streamGenerateContent"),
            Operation::GeminiEmbed => gemini("embedContent"),
            _ => "/v1/chat/completions".to_owned(),
        };
        let also = (self.operation == Operation::GeminiStream).then_some("alt=sse");
        target::with_query(&target::join(prefix, &path), None, also)
    }

    /// The body.
    pub fn body(&self) -> String {
        let Self { model, prompt, max_tokens, .. } = self;
        let messages = || json!([{ "role": "user", "content": prompt }]);
        let contents = || json!([{ "role": "user", "parts": [{ "text": prompt }] }]);
        let mut body = match self.operation {
            Operation::OpenAiCompletions => json!({ "model": model, "prompt": prompt, "max_tokens": max_tokens }),
            Operation::OpenAiEmbeddings => return json!({ "model": model, "input": prompt }).to_string(),
            Operation::OpenAiResponses => json!({ "model": model, "input": prompt, "max_output_tokens": max_tokens }),
            Operation::AnthropicMessages => {
                json!({ "model": model, "messages": messages(), "max_tokens": max_tokens })
            }
            Operation::GeminiGenerate | Operation::GeminiStream => {
                return json!({ "contents": contents(), "generationConfig": { "maxOutputTokens": max_tokens } })
                    .to_string();
            }
            Operation::GeminiEmbed => return json!({ "content": { "parts": [{ "text": prompt }] } }).to_string(),
            _ => {
                let most = if self.is_reworded { "max_completion_tokens" } else { "max_tokens" };
                let mut body = json!({ "model": model, "messages": messages() });
                body[most] = json!(max_tokens);
                body
            }
        };
        if self.stream {
            body["stream"] = Value::Bool(true);
            if self.asks_for_usage {
                body["stream_options"] = json!({ "include_usage": true });
            }
        }
        body.to_string()
    }

    /// The same in other words, if that is all that the answer to it asks for: newer models of OpenAI take the most
    /// tokens under another name only, and older servers know none but the first.
    pub fn reworded(&self, status: u16, answer: &[u8]) -> Option<Self> {
        let asks = status == 400 && memchr::memmem::find(answer, b"max_completion_tokens").is_some();
        (asks && !self.is_reworded && self.operation == Operation::OpenAiChat)
            .then(|| Self { is_reworded: true, ..self.clone() })
    }
}

/// What an answer is worth; `Err`: nothing, and why.
pub fn judge(seen: &Seen) -> Result<(), Bad> {
    let bad = |code, message| Err(Bad { code, message });
    match (seen.broke, seen.status) {
        (Some(Broke::Address), _) => return bad("address", "the host's name leads nowhere, or where it may not"),
        (Some(Broke::Connect), _) => return bad("connect", "no connection could be made"),
        (Some(Broke::Timeout), None) => return bad("timeout", "there was no answer in time"),
        (Some(Broke::Timeout), Some(_)) => return bad("timeout", "the answer did not come to its end in time"),
        (Some(Broke::TooLarge), _) => return bad("too_large", "the answer is larger than any to such a request"),
        (Some(Broke::Connection) | None, None) => {
            return bad("broken", "the connection broke off before an answer");
        }
        (Some(Broke::Connection), Some(_)) => return bad("broken", "the answer broke off"),
        (None, Some(200..=299)) => {}
        (None, Some(401 | 403)) => return bad("key_refused", "the key was not taken"),
        (None, Some(404)) => return bad("not_found", "there is no such model, or nothing at this path"),
        (None, Some(429)) => return bad("rate_limited", "the key has no room for another request"),
        (None, Some(500..)) => return bad("server_error", "the other side failed"),
        (None, Some(_)) => return bad("refused", "the request was refused"),
    }
    if seen.has_error {
        return bad("error_inside", "the answer promised success and carries an error");
    }
    if !seen.is_whole {
        return bad("broken", "the answer broke off");
    }
    if !seen.has_output {
        return bad("empty", "the answer says nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(question: &Question) -> Value {
        serde_json::from_str(&question.body()).expect("JSON")
    }

    #[test]
    fn the_smallest_question_is_in_the_channels_own_protocol() {
        for (protocol, model, target, stream) in [
            (Protocol::OpenAi, "gpt-4o", "/p/v1/chat/completions", true),
            (Protocol::OpenAi, "text-embedding-3", "/p/v1/embeddings", false),
            (Protocol::Anthropic, "claude", "/p/v1/messages", true),
            (Protocol::Gemini, "g-2", "/p/v1beta/models/g-2:streamGenerateContent?alt=sse", true),
            (Protocol::Gemini, "g-embed", "/p/v1beta/models/g-embed:embedContent", false),
        ] {
            let question = Question::smallest(protocol, model, true);
            assert_eq!((question.target("/p"), question.stream), (target.to_owned(), stream), "{model}");
            assert!(question.operation.protocol() == protocol && Question::is_known(question.operation), "{model}");
            assert!(read(&question).is_object());
        }
        let chat = read(&Question::smallest(Protocol::OpenAi, "gpt-4o", true));
        let expected = json!({
            "model": "gpt-4o", "messages": [{ "role": "user", "content": PROMPT }], "max_tokens": 16, "stream": true,
            "stream_options": { "include_usage": true },
        });
        assert_eq!(chat, expected);
        let claude = read(&Question::smallest(Protocol::Anthropic, "claude", true));
        assert_eq!(
            (&claude["max_tokens"], &claude["stream"], &claude["stream_options"]),
            (&json!(16), &json!(true), &Value::Null)
        );
        assert!(!Question::is_known(Operation::OpenAiOther) && !Question::is_known(Operation::Models));
    }

    #[test]
    fn it_is_asked_in_other_words_once_and_only_for_that_reason() {
        let question = Question::smallest(Protocol::OpenAi, "o3", false);
        let wants = b"{\"error\":{\"message\":\"Use 'max_completion_tokens' instead.\"}}";
        let again = question.reworded(400, wants).expect("other words");
        assert_eq!((&read(&again)["max_completion_tokens"], &read(&again)["max_tokens"]), (&json!(16), &Value::Null));
        assert_eq!(again.reworded(400, wants), None);
        assert_eq!((question.reworded(500, wants), question.reworded(400, b"{}")), (None, None));
        assert_eq!(Question::smallest(Protocol::Anthropic, "c", false).reworded(400, wants), None);
    }

    #[test]
    fn an_answer_is_good_if_it_is_whole_says_something_and_carries_no_error() {
        let good = Seen { status: Some(200), is_whole: true, has_error: false, has_output: true, broke: None };
        assert_eq!(judge(&good), Ok(()));
        let code = |seen: Seen| judge(&seen).expect_err("it is bad").code;
        for (seen, expected) in [
            (Seen { has_output: false, ..good }, "empty"),
            (Seen { has_error: true, is_whole: false, ..good }, "error_inside"),
            (Seen { is_whole: false, ..good }, "broken"),
            (Seen { status: Some(302), ..good }, "refused"),
            (Seen { status: Some(400), ..good }, "refused"),
            (Seen { status: Some(401), ..good }, "key_refused"),
            (Seen { status: Some(403), ..good }, "key_refused"),
            (Seen { status: Some(404), ..good }, "not_found"),
            (Seen { status: Some(429), ..good }, "rate_limited"),
            (Seen { status: Some(529), ..good }, "server_error"),
            (Seen { broke: Some(Broke::Timeout), ..good }, "timeout"),
            (Seen { broke: Some(Broke::TooLarge), ..good }, "too_large"),
            (Seen { broke: Some(Broke::Connection), ..good }, "broken"),
            (Seen { broke: Some(Broke::Connect), ..Seen::default() }, "connect"),
            (Seen { broke: Some(Broke::Address), ..Seen::default() }, "address"),
            (Seen::default(), "broken"),
        ] {
            assert_eq!(code(seen), expected, "{seen:?}");
        }
    }
}
