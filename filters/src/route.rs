//! What a request asks for: canonical path → operation.

use std::fmt;
use std::str::FromStr;

use crate::protocol::Protocol;

pub use table::{ConfiguredRoute, CorsPolicy, Match, RouteError, RouteTable, UpstreamPath, is_canonical};

mod table;

/// What a client asks an upstream to do. Decides where the model is named, which meter reads the
/// answer, and the shape of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `POST /v1/chat/completions`
    OpenAiChat,
    /// `POST /v1/completions`
    OpenAiCompletions,
    /// `POST /v1/embeddings`
    OpenAiEmbeddings,
    /// `POST /v1/responses`
    OpenAiResponses,
    /// Files, batches, images, audio, moderations, stored responses: passed through, metered if
    /// usage is reported.
    OpenAiOther,
    /// Ollama's native `/api/chat` and `/api/generate`, reached by a configured route.
    OllamaChat,
    /// `POST /v1/messages`
    AnthropicMessages,
    /// `POST /v1/messages/count_tokens`, never billed.
    AnthropicCountTokens,
    /// `POST /v1beta/models/{model}:generateContent`
    GeminiGenerate,
    /// `POST /v1beta/models/{model}:streamGenerateContent`
    GeminiStream,
    /// `POST /v1beta/models/{model}:embedContent`, `:batchEmbedContents`
    GeminiEmbed,
    /// `POST /v1beta/models/{model}:countTokens`, never billed.
    GeminiCountTokens,
    /// `GET /v1/models`, `/v1/models/{id}`, `/v1beta/models`: answered by Weir itself.
    Models,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 13] = [
        Operation::OpenAiChat,
        Operation::OpenAiCompletions,
        Operation::OpenAiEmbeddings,
        Operation::OpenAiResponses,
        Operation::OpenAiOther,
        Operation::OllamaChat,
        Operation::AnthropicMessages,
        Operation::AnthropicCountTokens,
        Operation::GeminiGenerate,
        Operation::GeminiStream,
        Operation::GeminiEmbed,
        Operation::GeminiCountTokens,
        Operation::Models,
    ];

    /// The name used in configuration, records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::OpenAiChat => "openai.chat",
            Operation::OpenAiCompletions => "openai.completions",
            Operation::OpenAiEmbeddings => "openai.embeddings",
            Operation::OpenAiResponses => "openai.responses",
            Operation::OpenAiOther => "openai.other",
            Operation::OllamaChat => "ollama.chat",
            Operation::AnthropicMessages => "anthropic.messages",
            Operation::AnthropicCountTokens => "anthropic.count_tokens",
            Operation::GeminiGenerate => "gemini.generate",
            Operation::GeminiStream => "gemini.stream",
            Operation::GeminiEmbed => "gemini.embed",
            Operation::GeminiCountTokens => "gemini.count_tokens",
            Operation::Models => "models",
        }
    }

    /// The dialect of the operation's client.
    pub const fn protocol(self) -> Protocol {
        match self {
            Operation::OpenAiChat
            | Operation::OpenAiCompletions
            | Operation::OpenAiEmbeddings
            | Operation::OpenAiResponses
            | Operation::OpenAiOther
            | Operation::OllamaChat
            | Operation::Models => Protocol::OpenAi,
            Operation::AnthropicMessages | Operation::AnthropicCountTokens => Protocol::Anthropic,
            Operation::GeminiGenerate
            | Operation::GeminiStream
            | Operation::GeminiEmbed
            | Operation::GeminiCountTokens => Protocol::Gemini,
        }
    }

    /// Whether its tokens are billed: a count of tokens costs nothing.
    pub const fn is_billed(self) -> bool {
        !matches!(self, Operation::AnthropicCountTokens | Operation::GeminiCountTokens | Operation::Models)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|o| o.name() == name).ok_or(())
    }
}
