//! Facts from what the lexer passes.
//!
//! Owns: which members matter, by name and depth, and what their values must be.
//! Refuses to know: JSON's grammar, and what is done with the facts.

use super::lexer::{Kind, Visitor};
use super::{BodyError, BodyFacts, IncludeUsage, MAX_MODEL_BYTES, MAX_STREAMS, Member, ModelFault, StreamOptions};
use std::borrow::Cow;
use std::ops::Range;

/// The longest escape for one byte of text is `\u0061`.
const ESCAPED: usize = 6;

/// Raw bytes of a key that can still be one of ours: the longest is `max_completion_tokens`.
const MAX_RAW_KEY: usize = ESCAPED * "max_completion_tokens".len();

/// Raw bytes of a model's name that can still be short enough.
const MAX_RAW_MODEL: usize = ESCAPED * MAX_MODEL_BYTES;

/// Digits of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// Gathers [`BodyFacts`].
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Collector {
    facts: BodyFacts,
    /// Whether a member was called `model`, in any case.
    names_model: bool,
    /// The top-level member being read, or the last one read.
    outer: Place,
    /// The member inside the top-level one, where that matters.
    inner: Place,
    /// The comma before the next top-level member.
    comma: Option<usize>,
    /// Whether the object in `stream_options` has members, and its `include_usage`.
    options: (bool, Option<IncludeUsage>),
    capture: Capture,
}

/// A member: what it is and where its parts begin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Place {
    slot: Slot,
    kind: Option<Kind>,
    key: usize,
    value: usize,
}

/// The members that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Slot {
    #[default]
    Other,
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    Choices,
    GenerationConfig,
    IncludeUsage,
}

impl Slot {
    fn top_level(key: &[u8]) -> Self {
        match key {
            b"model" => Slot::Model,
            b"stream" => Slot::Stream,
            b"stream_options" => Slot::StreamOptions,
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => Slot::MaxTokens,
            b"n" | b"best_of" => Slot::Choices,
            b"generationConfig" => Slot::GenerationConfig,
            _ => Slot::Other,
        }
    }

    fn within(self, key: &[u8]) -> Self {
        match (self, key) {
            (Slot::StreamOptions, b"include_usage") => Slot::IncludeUsage,
            (Slot::GenerationConfig, b"maxOutputTokens") => Slot::MaxTokens,
            (Slot::GenerationConfig, b"candidateCount") => Slot::Choices,
            _ => Slot::Other,
        }
    }
}

impl Collector {
    pub(super) fn facts(&self) -> &BodyFacts {
        &self.facts
    }

    /// The member at this depth, where such members matter.
    fn place(&mut self, depth: usize) -> Option<&mut Place> {
        match depth {
            1 => Some(&mut self.outer),
            2 if matches!(self.outer.slot, Slot::StreamOptions | Slot::GenerationConfig) => Some(&mut self.inner),
            _ => None,
        }
    }

    fn member<T>(&self, value: T, span: Range<usize>) -> Member<T> {
        let whole = self.outer.key..span.end;
        Member { value, span, whole, comma_before: self.comma, comma_after: None }
    }

    fn end_model(&mut self, last: &[u8], span: Range<usize>) -> Result<(), BodyError> {
        let name = self.capture.model(last).map_err(BodyError::BadModel)?;
        self.facts.model = Some(self.member(name, span));
        Ok(())
    }

    fn end_stream(&mut self, span: Range<usize>) -> Result<(), BodyError> {
        let stream = self.member(self.outer.kind == Some(Kind::True), span);
        if let Some(earlier) = self.facts.stream.replace(stream) {
            self.facts.overridden_streams.push(earlier);
        }
        if self.facts.overridden_streams.len() < MAX_STREAMS { Ok(()) } else { Err(BodyError::TooManyStreams) }
    }

    fn end_stream_options(&mut self, span: Range<usize>) {
        let (has_members, include_usage) = std::mem::take(&mut self.options);
        self.facts.stream_options = Some(if self.outer.kind == Some(Kind::Object) {
            StreamOptions::Object { span, empty: !has_members, include_usage }
        } else {
            StreamOptions::NotObject { span }
        });
    }
}

impl Visitor for Collector {
    fn key_starts(&mut self, at: usize, depth: usize) {
        if depth == 1 {
            self.facts.empty = false;
        }
        if let Some(place) = self.place(depth) {
            *place = Place { key: at, ..Place::default() };
            self.capture.start(MAX_RAW_KEY);
        }
    }

    fn key_ends(&mut self, last: &[u8], depth: usize) -> Result<(), BodyError> {
        if !self.capture.on {
            return Ok(());
        }
        let key = self.capture.decode(last).unwrap_or_default();
        if depth == 1 {
            self.outer.slot = Slot::top_level(&key);
            // Servers that match names without regard to case would take `Model` for a second one, and
            // whichever they prefer might not be the one that was permitted.
            if key.eq_ignore_ascii_case(b"model") && std::mem::replace(&mut self.names_model, true) {
                return Err(BodyError::DuplicateModel);
            }
        } else {
            self.inner.slot = self.outer.slot.within(&key);
            self.options.0 = true;
        }
        Ok(())
    }

    fn value_starts(&mut self, kind: Kind, at: usize, depth: usize) -> Result<(), BodyError> {
        if depth == 0 {
            self.facts.object = at..at;
            self.facts.empty = true;
            return Ok(());
        }
        let Some(place) = self.place(depth) else { return Ok(()) };
        place.kind = Some(kind);
        place.value = at;
        match (place.slot, kind) {
            (Slot::Model, Kind::Text) => self.capture.start(MAX_RAW_MODEL),
            (Slot::Model, _) => return Err(BodyError::BadModel(ModelFault::NotString)),
            (Slot::MaxTokens | Slot::Choices, Kind::Number) => self.capture.start(MAX_DIGITS),
            (Slot::Stream, Kind::True | Kind::False | Kind::Null) => {}
            (Slot::Stream, _) => return Err(BodyError::BadStream),
            _ => {}
        }
        if depth == 1 {
            self.inner = Place::default();
            self.options = (false, None);
        }
        Ok(())
    }

    fn value_ends(&mut self, last: &[u8], end: usize, depth: usize) -> Result<(), BodyError> {
        if depth == 0 {
            self.facts.object.end = end;
            return Ok(());
        }
        let Some(&mut Place { slot, kind, value, .. }) = self.place(depth) else { return Ok(()) };
        let span = value..end;
        match slot {
            Slot::Model => return self.end_model(last, span),
            Slot::Stream => return self.end_stream(span),
            Slot::StreamOptions => self.end_stream_options(span),
            Slot::IncludeUsage => self.options.1 = Some(IncludeUsage { asked: kind == Some(Kind::True), span }),
            Slot::MaxTokens if kind == Some(Kind::Number) => {
                self.facts.max_tokens = self.facts.max_tokens.max(self.capture.number());
            }
            Slot::Choices if kind == Some(Kind::Number) => {
                self.facts.choices = self.facts.choices.max(self.capture.number());
            }
            Slot::MaxTokens | Slot::Choices | Slot::GenerationConfig | Slot::Other => {}
        }
        Ok(())
    }

    fn comma(&mut self, at: usize, depth: usize) {
        if depth != 1 {
            return;
        }
        self.comma = Some(at);
        match self.outer.slot {
            Slot::Model => set_comma_after(self.facts.model.as_mut(), at),
            Slot::Stream => set_comma_after(self.facts.stream.as_mut(), at),
            _ => {}
        }
    }

    fn text(&mut self, raw: &[u8]) {
        self.capture.push(raw);
    }
}

fn set_comma_after<T>(member: Option<&mut Member<T>>, at: usize) {
    if let Some(member) = member {
        member.comma_after = Some(at);
    }
}

/// The raw bytes of one key, name or number, up to a limit.
#[derive(Debug, Clone, PartialEq, Default)]
struct Capture {
    on: bool,
    limit: usize,
    overflow: bool,
    raw: Vec<u8>,
}

impl Capture {
    fn start(&mut self, limit: usize) {
        self.raw.clear();
        (self.on, self.limit, self.overflow) = (true, limit, false);
    }

    fn push(&mut self, raw: &[u8]) {
        if !self.on || self.overflow {
            return;
        }
        if raw.len() > self.limit - self.raw.len() {
            self.overflow = true;
        } else {
            self.raw.extend_from_slice(raw);
        }
    }

    /// The string that was captured and ends in `last`; `None` if it is too long. Bytes that are no
    /// Unicode text make an escaped string `None` and otherwise stay what they are.
    fn decode<'a>(&'a mut self, last: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let raw = if self.raw.is_empty() && !self.overflow && last.len() <= self.limit {
            last
        } else {
            self.push(last);
            &self.raw
        };
        self.on = false;
        if self.overflow {
            return None;
        }
        if !raw.contains(&b'\\') {
            return Some(Cow::Borrowed(raw));
        }
        let mut quoted = Vec::with_capacity(raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(raw);
        quoted.push(b'"');
        serde_json::from_slice(&quoted).ok().map(|text: String| Cow::Owned(text.into_bytes()))
    }

    fn model(&mut self, last: &[u8]) -> Result<Box<str>, ModelFault> {
        let Some(name) = self.decode(last) else {
            return Err(if self.overflow { ModelFault::TooLong } else { ModelFault::NotText });
        };
        match std::str::from_utf8(&name) {
            Err(_) => Err(ModelFault::NotText),
            Ok("") => Err(ModelFault::Empty),
            Ok(name) if name.len() > MAX_MODEL_BYTES => Err(ModelFault::TooLong),
            Ok(name) => Ok(name.into()),
        }
    }

    /// The number that was captured, rounded up to a whole one: what is too large to be one is the largest,
    /// what is negative is none.
    fn number(&mut self) -> Option<u64> {
        self.on = false;
        if self.overflow {
            return Some(u64::MAX);
        }
        let text = std::str::from_utf8(&self.raw).ok()?;
        text.parse().ok().or_else(|| {
            let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it saturates, and is not negative"
            )]
            Some(number.ceil() as u64)
        })
    }
}
