//! What the meter has to know of a protocol, as data. It knows no protocol itself.

use std::sync::{LazyLock, OnceLock};

use super::{anthropic, gemini, ollama, openai};
use crate::route::Operation;
use crate::text::Needle;
use crate::usage::{Counts, Field, Name, Usage};
use crate::walk::{Paths, Walker, Wanted};

/// How one protocol's answers say what they used.
pub(crate) struct Dialect {
    /// The values that matter.
    pub(crate) wanted: &'static [Wanted<Want>],
    /// The figures of a usage object.
    pub(crate) names: &'static [Name],
    /// Keys without which an event of a stream cannot matter.
    pub(crate) needles: Vec<Needle>,
    /// Keys whose strings are generated text, in a stream's events; no event repeats another's.
    pub(crate) texts: Vec<Needle>,
    /// The same in documents that are read whole or one by one.
    pub(crate) document_texts: &'static [&'static str],
    /// What both come to for a walk: made once, because making it costs as much as walking a short answer.
    pub(crate) walks: OnceLock<Walks>,
    /// Keys or values that show generation without text: a call of a tool, an image.
    pub(crate) begins: Vec<Needle>,
    /// Values of a document's `type` that matter.
    pub(crate) kinds: &'static [&'static str],
    /// The name of the event after which nothing is reported any more, if there is one.
    pub(crate) last_event: Option<&'static str>,
    /// Whether a document's report is the last one.
    pub(crate) rank: fn(&Document) -> Rank,
    /// The canonical usage.
    pub(crate) fold: fn(&Counts) -> Folded,
}

/// What a walk looks for.
pub(crate) struct Walks {
    events: Paths<Want>,
    documents: Paths<Want>,
}

/// What a wanted value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// An object of figures.
    Usage,
    /// A figure on its own, and its name.
    Figure(Field, &'static str),
    /// The model that answers.
    Model,
    /// An error: the generation failed.
    Error,
    /// The document's `type`.
    Kind,
    /// Why, or that, the generation ended.
    Finished,
    /// A choice: the chunk is not OpenAI's usage chunk.
    Choice,
    /// Something was generated that is not text.
    Begun,
}

/// What one document (an event's data, an answer, a line) said besides figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Document {
    /// Its `type`, if it is one that matters.
    pub(crate) kind: Option<&'static str>,
    /// Whether it reported figures.
    pub(crate) reported: bool,
    /// Whether it said that the generation ended.
    pub(crate) finished: bool,
    /// Whether it has a choice.
    pub(crate) choice: bool,
}

/// How final a report is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rank {
    /// The figures before generation: never final.
    #[default]
    First,
    /// Cumulative: final if the stream ends well after it.
    Running,
    /// The last of its stream.
    Last,
}

/// Canonical usage, and which sides of it were reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded {
    pub(crate) usage: Usage,
    pub(crate) has_input: bool,
    pub(crate) has_output: bool,
}

impl Dialect {
    /// Whether a string is one of the keys or values that are searched for.
    pub(crate) fn is_word(&self, string: &[u8]) -> bool {
        // They are all names: most pieces of text begin with a space, or are shorter.
        if string.len() < 4 || !string[0].is_ascii_lowercase() {
            return false;
        }
        let needles = self.needles.iter().chain(&self.texts).chain(&self.begins);
        needles.into_iter().any(|needle| needle.word() == string)
    }

    /// A walker for events, which are searched for text.
    pub(crate) fn event_walker(&self) -> Walker<Want> {
        Walker::along(self.walks().events)
    }

    /// A walker for documents, with their text.
    pub(crate) fn document_walker(&self) -> Walker<Want> {
        Walker::along(self.walks().documents)
    }

    fn walks(&self) -> &Walks {
        self.walks.get_or_init(|| Walks {
            events: Paths::new(self.wanted, &[]),
            documents: Paths::new(self.wanted, self.document_texts),
        })
    }

    /// How answers to an operation are read.
    pub(crate) fn of(operation: Operation) -> &'static Dialect {
        static CHAT: LazyLock<Dialect> = LazyLock::new(openai::chat);
        static RESPONSES: LazyLock<Dialect> = LazyLock::new(openai::responses);
        static OTHER: LazyLock<Dialect> = LazyLock::new(openai::other);
        static OLLAMA: LazyLock<Dialect> = LazyLock::new(ollama::dialect);
        static ANTHROPIC: LazyLock<Dialect> = LazyLock::new(anthropic::dialect);
        static GEMINI: LazyLock<Dialect> = LazyLock::new(gemini::dialect);
        match operation {
            Operation::OpenAiChat | Operation::OpenAiCompletions | Operation::OpenAiEmbeddings | Operation::Models => {
                &CHAT
            }
            Operation::OpenAiResponses => &RESPONSES,
            Operation::OpenAiOther => &OTHER,
            Operation::OllamaChat => &OLLAMA,
            Operation::AnthropicMessages | Operation::AnthropicCountTokens => &ANTHROPIC,
            Operation::GeminiGenerate
            | Operation::GeminiStream
            | Operation::GeminiEmbed
            | Operation::GeminiCountTokens => &GEMINI,
        }
    }
}

/// A value wanted whole.
pub(crate) const fn value(path: &'static [&'static str], what: Want) -> Wanted<Want> {
    Wanted { path, what, mark: false }
}

/// A value of which only the presence is wanted.
pub(crate) const fn mark(path: &'static [&'static str], what: Want) -> Wanted<Want> {
    Wanted { path, what, mark: true }
}

/// Needles for quoted keys or values.
pub(crate) fn needles(quoted: &[&'static str]) -> Vec<Needle> {
    quoted.iter().map(|quoted| Needle::new(quoted)).collect()
}
