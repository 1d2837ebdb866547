//! Facts out of a JSON request body that arrives in pieces, and edits that keep every other byte.
//!
//! Owns: which top-level members of a request matter to a gateway, where they stand, and how a body
//! is changed without being written anew. It keeps offsets and the model's name, never the body, so
//! its memory is bounded whatever the body's size, and its answer is the same for every split.
//!
//! Refuses to know: what a model's name means, which protocol the body belongs to, whether the values
//! make sense to an upstream, and how much of a body may be buffered.

mod collect;
mod edit;
mod lexer;
mod skim;
#[cfg(test)]
mod tests;

pub use edit::{Edit, apply, ask_for_usage, asks_for_usage, edited_len, set_model, without_model_and_stream};

use collect::Collector;
use lexer::Lexer;
use std::ops::Range;

/// The longest model name, in bytes once decoded. Names seen in the wild stay below 100; the cap keeps
/// what a client can put into records and metrics small.
pub const MAX_MODEL_BYTES: usize = 256;

/// How deep objects and arrays may nest, the body's own braces included. Tool schemas nest some dozens
/// deep; the cap is what bounds the scanner's stack, a bit for each level.
pub const MAX_DEPTH: usize = 512;

/// How often the member `stream` may be repeated. Each occurrence is remembered, because each may have
/// to be removed; no honest client repeats it at all.
pub const MAX_STREAMS: usize = 16;

/// Reads a body piece by piece.
///
/// The first mistake ends the reading: later pieces are ignored and [`finish`](Self::finish) reports it.
/// Syntax is that of RFC 8259 with one byte order mark allowed in front. Two things are left to the
/// upstream: that strings other than the model's name are valid UTF-8 with paired surrogates, and that
/// numbers fit any machine type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BodyScanner {
    lexer: Lexer,
    collector: Collector,
    error: Option<BodyError>,
}

impl BodyScanner {
    /// A scanner at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next piece, which may be empty and may end anywhere.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.error.is_none() {
            self.error = self.lexer.feed(chunk, &mut self.collector).err();
        }
    }

    /// The mistake found so far: a caller may refuse without reading the rest.
    pub fn error(&self) -> Option<&BodyError> {
        self.error.as_ref()
    }

    /// The model named so far. It stands only once [`finish`](Self::finish) agrees: the rest of the body
    /// may still name a second one.
    pub fn model(&self) -> Option<&str> {
        self.collector.facts().model.as_ref().map(|model| &*model.value)
    }

    /// What the body says, once all of it was fed. Asking twice gives the same answer.
    ///
    /// # Errors
    /// The first mistake in the body, [`BodyError::Truncated`] where it ends too soon.
    pub fn finish(&mut self) -> Result<BodyFacts, BodyError> {
        if self.error.is_none() && !self.lexer.is_done() {
            self.error = Some(BodyError::Truncated);
        }
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(BodyFacts { len: self.lexer.offset(), ..self.collector.facts().clone() }),
        }
    }
}

/// What a body says, with places as offsets from the first byte of the whole body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BodyFacts {
    /// The top-level `model`. There is at most one.
    pub model: Option<Member<Box<str>>>,
    /// The top-level `stream` that counts: the last one. `null` is `false`.
    pub stream: Option<Member<bool>>,
    /// Occurrences of `stream` before the one that counts, at most [`MAX_STREAMS`] with it.
    pub overridden_streams: Vec<Member<bool>>,
    /// The top-level `stream_options` that counts: the last one.
    pub stream_options: Option<StreamOptions>,
    /// The largest number among `max_tokens`, `max_completion_tokens`, `max_output_tokens` and
    /// `generationConfig.maxOutputTokens`; for estimates, not for checks.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for: the largest number among `n`, `best_of` and
    /// `generationConfig.candidateCount`.
    pub choices: Option<u64>,
    /// The object, from its opening brace to just after its closing one.
    pub object: Range<usize>,
    /// Whether the object has no members.
    pub empty: bool,
    /// Bytes of the whole body.
    pub len: usize,
}

/// One top-level member: its value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<T> {
    /// The value, decoded.
    pub value: T,
    /// The value's bytes, a string's quotes included.
    pub span: Range<usize>,
    /// From the key's opening quote to the end of the value.
    pub whole: Range<usize>,
    /// The comma between the member before and this one; `None` for the first member.
    pub comma_before: Option<usize>,
    /// The comma between this member and the next; `None` for the last member.
    pub comma_after: Option<usize>,
}

/// The value of `stream_options`.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamOptions {
    /// `null`, or something that is no object.
    NotObject {
        /// The value's bytes.
        span: Range<usize>,
    },
    /// An object.
    Object {
        /// The value's bytes, braces included.
        span: Range<usize>,
        /// Whether it has no members.
        empty: bool,
        /// Its `include_usage` that counts: the last one.
        include_usage: Option<IncludeUsage>,
    },
}

/// The value of `stream_options.include_usage`.
#[derive(Debug, Clone, PartialEq)]
pub struct IncludeUsage {
    /// Whether the value is `true`; anything else asks for nothing.
    pub asked: bool,
    /// The value's bytes.
    pub span: Range<usize>,
}

/// Why a body is not taken. The texts name what and where and never repeat the body.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The bytes are not JSON.
    #[error("the body is not JSON: unexpected byte at offset {offset}")]
    NotJson {
        /// The first byte that cannot stand where it stands.
        offset: usize,
    },
    /// JSON, but no object.
    #[error("the body is not a JSON object")]
    NotObject,
    /// The body ends inside the object, or before it.
    #[error("the body ends before its JSON object does")]
    Truncated,
    /// Nesting beyond [`MAX_DEPTH`].
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Two top-level members are `model`: parsers differ on which one counts.
    #[error("the body has more than one member `model`")]
    DuplicateModel,
    /// The member `model` cannot be a model's name.
    #[error("the member `model` {0}")]
    BadModel(ModelFault),
    /// The member `stream` is neither a boolean nor `null`.
    #[error("the member `stream` is not a boolean")]
    BadStream,
    /// The member `stream` is repeated more than [`MAX_STREAMS`] times.
    #[error("the body has more than {MAX_STREAMS} members `stream`")]
    TooManyStreams,
}

/// What is wrong with a model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// The value is a number, an object, `null` or the like.
    #[error("is not a string")]
    NotString,
    /// The string is empty.
    #[error("is empty")]
    Empty,
    /// The string is longer than [`MAX_MODEL_BYTES`].
    #[error("is longer than {MAX_MODEL_BYTES} bytes")]
    TooLong,
    /// The string holds invalid UTF-8 or an unpaired surrogate.
    #[error("is not valid Unicode text")]
    NotText,
}
