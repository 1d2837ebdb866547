//! What the documents of one answer said, added up: figures, model, failure, generated text.
//!
//! It knows how reports merge and what a cut stream is worth, not where documents come from.

#[cfg(test)]
mod tests;

use std::ops::Range;

use memchr::memmem;

use crate::protocol::dialect::{Dialect, Document, Folded, Rank, Want};
use crate::sse::Event;
use crate::stencil::{Stencil, What};
use crate::text::{Text, says_nothing};
use crate::usage::{Counts, Field, Merged, Source, Usage, figures as figures_of};
use crate::walk::{Found, Walker};

/// A model's name becomes part of records: longer ones are not kept.
const MAX_MODEL_BYTES: usize = 256;

/// The model stands in the first event at every provider that names it at all; after this many it
/// is not looked for any more.
const EVENTS_WITH_MODEL: u64 = 8;

pub(crate) struct Tally {
    dialect: &'static Dialect,
    counts: Counts,
    rank: Rank,
    document: Document,
    /// Text of events; that of whole documents is counted by the walk.
    text: Text,
    /// The place of the text key that was found last: most streams have only one.
    likely: usize,
    /// Whether an event said that nothing more will be reported.
    closed: bool,
    pub(crate) begun: bool,
    pub(crate) events: u64,
    pub(crate) invalid: u64,
    pub(crate) failed: bool,
    raw: Vec<u8>,
    pub(crate) model: Option<Box<str>>,
    /// The event that was last read with all care, if others may be read by it.
    stencil: Stencil,
    /// What follows from an event that fits it.
    like: Like,
    /// Reports in the event at hand that were read, and whether something in it cannot be repeated.
    reports: u32,
    odd: bool,
}

/// What an event comes to beside its text, if it fits the stencil.
#[derive(Clone, Debug, Default)]
struct Like {
    /// Where the report stands in the stencil's event.
    report: Option<Range<usize>>,
    /// Whether something is generated in it even if it has no text.
    begins: bool,
}

/// How the answer ended, for the settlement of what was not reported.
pub(crate) struct End {
    /// Whether the answer came to its own end.
    pub(crate) complete: bool,
    /// Whether a report is the last of its kind wherever the answer ended.
    pub(crate) single: bool,
    /// Whether generated text arrives in deltas.
    pub(crate) streamed: bool,
    /// Whether output was billed without a report; only then is anything estimated.
    pub(crate) billable: Billable,
    /// All text that was seen.
    pub(crate) text: Text,
    /// Bytes of the request, for the input.
    pub(crate) prompt_bytes: u64,
}

/// What an answer without a report costs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Billable {
    /// Nothing: no success, or no byte of it.
    Nothing,
    /// Only its prompt: embeddings generate nothing.
    Input,
    /// Prompt and generation.
    Generation,
    /// Generation, if text was streamed; the operation is not always one of tokens.
    StreamedText,
}

impl Tally {
    pub(crate) fn new(dialect: &'static Dialect) -> Tally {
        Tally {
            dialect,
            counts: Counts::default(),
            rank: Rank::default(),
            document: Document::default(),
            text: Text::default(),
            likely: 0,
            closed: false,
            begun: false,
            events: 0,
            invalid: 0,
            failed: false,
            raw: Vec::new(),
            model: None,
            stencil: Stencil::default(),
            like: Like::default(),
            reports: 0,
            odd: false,
        }
    }

    /// An event of the stream. It is parsed only if a byte search says that it can matter.
    pub(crate) fn event(&mut self, event: Event<'_>, walker: &mut Walker<Want>) {
        if event.data.trim_ascii_end() == b"[DONE]" {
            self.closed = true;
            return;
        }
        self.events += 1;
        self.read(event, walker);
    }

    /// An event that the end of the stream left open. It is not counted, and read only if it is
    /// complete JSON.
    pub(crate) fn leftover(&mut self, event: Event<'_>, walker: &mut Walker<Want>) {
        if event.data.trim_ascii_end() == b"[DONE]" {
            self.closed = true;
            return;
        }
        let mut complete = false;
        walker.feed(event.data, |found| complete |= found == Found::End);
        walker.end(|_| {});
        if complete {
            self.read(event, walker);
        } else {
            self.collect(event.data);
        }
    }

    fn read(&mut self, event: Event<'_>, walker: &mut Walker<Want>) {
        if self.dialect.last_event.is_some_and(|name| name.as_bytes() == event.name) {
            self.closed = true;
        }
        let searching = self.model.is_none() && self.events <= EVENTS_WITH_MODEL;
        if !searching && event.whole && self.fits(event.data) {
            return;
        }
        self.collect(event.data);
        let matters = searching || self.dialect.needles.iter().any(|needle| needle.hits(event.data));
        (self.reports, self.odd) = (0, !event.whole);
        if event.whole && matters {
            walker.feed(event.data, |found| self.found(found));
            walker.end(|found| self.found(found));
        }
        self.make_stencil(event.data);
    }

    /// Reads an event by the one before, if it is like it. It has the same members, so all that it
    /// can add is text and figures: the model, the rank of its report, a failure were taken already.
    fn fits(&mut self, data: &[u8]) -> bool {
        let Some(fit) = self.stencil.fit(data, |string| self.dialect.is_word(string)) else { return false };
        let places = self.dialect.texts.len();
        let mut text = None;
        for (what, inside, number) in fit.holes() {
            match what {
                What::Text(place) => {
                    // Of the keys that have text, the first from the likely one on counts.
                    let distance = (place + places - self.likely) % places;
                    let mut piece = Text::default();
                    piece.add(inside);
                    text = match text {
                        _ if piece.is_empty() => text,
                        Some((nearest, before)) if nearest == distance => Some((nearest, piece.and(before))),
                        Some((nearest, _)) if nearest < distance => text,
                        _ => Some((distance, piece)),
                    };
                }
                What::Number(Some(field)) => self.counts.set(field, number),
                What::Number(None) | What::Filler => {}
            }
        }
        if let Some(report) = &self.like.report {
            self.raw.clear();
            self.raw.extend_from_slice(&data[fit.place(report.start)..fit.place(report.end)]);
        }
        if let Some((distance, text)) = text {
            self.text = self.text.and(text);
            self.likely = (self.likely + distance) % places;
            self.begun = true;
        } else {
            self.begun |= self.like.begins;
        }
        self.stencil.fitted();
        true
    }

    /// Makes the event that was just read the one that others may be like.
    fn make_stencil(&mut self, data: &[u8]) {
        self.stencil.clear();
        if self.odd || self.reports > 1 || !self.stencil.is_worth(self.events) {
            return;
        }
        let mut figures = Vec::new();
        self.like.report = None;
        if self.reports == 1 {
            let report = only_place(data, &self.raw);
            let (Some(report), Some(within)) = (report, figures_of(&self.raw, self.dialect.names)) else { return };
            figures = within.into_iter().map(|(at, field)| (report.start + at, field)).collect();
            self.like.report = Some(report);
        }
        self.like.begins = self.dialect.begins.iter().any(|needle| needle.hits(data));
        self.stencil.build(data, &self.dialect.texts, &figures);
    }

    fn collect(&mut self, data: &[u8]) {
        let keys = &self.dialect.texts;
        for place in 0..keys.len() {
            let place = (self.likely + place) % keys.len();
            if keys[place].collect(data, &mut self.text) {
                self.likely = place;
                self.begun = true;
                return;
            }
        }
        self.begun = self.begun || self.dialect.begins.iter().any(|needle| needle.hits(data));
    }

    /// Something that the walk came across.
    pub(crate) fn found(&mut self, found: Found<'_, Want>) {
        match found {
            Found::Value(Want::Usage, raw, whole) => {
                if raw != b"null" {
                    let merged =
                        if whole { self.counts.merge(raw, self.dialect.names) } else { Merged { read: 0, invalid: 1 } };
                    self.reports += 1;
                    self.odd |= merged.read == 0 || merged.invalid > 0;
                    self.reported(raw, merged);
                }
            }
            Found::Value(Want::Figure(field, name), raw, _) => {
                if raw != b"null" {
                    let merged = self.counts.merge_field(raw, field);
                    self.invalid += merged.invalid;
                    self.figure(name, raw);
                    self.document.reported = true;
                    self.odd = true;
                }
            }
            Found::Value(Want::Model, raw, whole) => {
                if whole
                    && !self.is_model(raw)
                    && let Some(model) = string(raw)
                    && (1..=MAX_MODEL_BYTES).contains(&model.len())
                {
                    self.model = Some(model);
                }
            }
            Found::Value(Want::Error, raw, _) => self.failed |= !says_nothing(raw),
            Found::Value(Want::Kind, raw, _) => {
                let kind = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\""));
                self.document.kind = self.dialect.kinds.iter().copied().find(|k| Some(k.as_bytes()) == kind);
                self.failed |= matches!(self.document.kind, Some("error" | "response.failed"));
            }
            Found::Value(Want::Finished, raw, _) => self.document.finished |= !says_nothing(raw),
            Found::Value(Want::Choice, ..) => self.document.choice = true,
            Found::Value(Want::Begun, ..) => self.begun = true,
            Found::End => {
                if self.document.reported {
                    self.rank = (self.dialect.rank)(&self.document);
                }
                self.document = Document::default();
            }
        }
    }

    /// Whether `raw` spells the model that is known: providers repeat it in every event.
    fn is_model(&self, raw: &[u8]) -> bool {
        let plain = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\""));
        plain.is_some_and(|plain| !plain.contains(&b'\\') && self.model.as_deref().map(str::as_bytes) == Some(plain))
    }

    fn reported(&mut self, raw: &[u8], merged: Merged) {
        self.invalid += merged.invalid;
        self.document.reported |= merged.read > 0;
        if merged.read + merged.invalid > 0 {
            self.raw.clear();
            self.raw.extend_from_slice(raw);
        }
    }

    /// Figures of one document that stand alone are kept as an object of their own.
    fn figure(&mut self, name: &str, raw: &[u8]) {
        if self.document.reported && self.raw.pop_if(|last| *last == b'}').is_some() {
            self.raw.push(b',');
        } else {
            self.raw.clear();
            self.raw.push(b'{');
        }
        self.raw.extend_from_slice(b"\"");
        self.raw.extend_from_slice(name.as_bytes());
        self.raw.extend_from_slice(b"\":");
        self.raw.extend_from_slice(raw);
        self.raw.push(b'}');
    }

    /// The text of events so far.
    pub(crate) fn text(&self) -> Text {
        self.text
    }

    /// Whether output was reported. Then it stays so, and no text can change what a single answer
    /// settles to.
    pub(crate) fn reports_output(&self) -> bool {
        // At every protocol the completion is output; what else may be, it knows.
        self.counts.get(Field::Completion).is_some() || (self.dialect.fold)(&self.counts).has_output
    }

    /// The last report as it stood in the bytes, if there was one.
    pub(crate) fn take_raw(&mut self) -> Option<Box<str>> {
        let raw = std::mem::take(&mut self.raw);
        let text = |raw| String::from_utf8(raw).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        (!raw.is_empty()).then(|| text(raw).into_boxed_str())
    }

    /// The canonical usage of the answer.
    pub(crate) fn settle(&self, end: &End) -> Usage {
        let Folded { mut usage, has_input, has_output } = (self.dialect.fold)(&self.counts);
        let input = end.prompt_bytes.div_ceil(4).max(1);
        let output = end.text.tokens();
        if self.counts.is_empty() {
            return self.estimate(end, input, output);
        }
        let last = end.single
            || match self.rank {
                Rank::First => false,
                Rank::Running => end.complete || self.closed,
                Rank::Last => true,
            };
        if !last {
            usage.output = usage.output.max(output);
        }
        // A report without one of its sides, or with a value there that is none.
        let generates = matches!(end.billable, Billable::Generation | Billable::StreamedText);
        let no_output = generates && !has_output && (output > 0 || self.invalid > 0);
        if no_output {
            usage.output = output.max(1);
        }
        let no_input = !has_input && (self.invalid > 0 || !last);
        if no_input {
            usage.input_uncached = input;
        }
        usage.source = match (last, no_output || no_input) {
            (false, _) => Source::Partial,
            (true, true) => Source::Estimated,
            (true, false) => Source::Upstream,
        };
        usage
    }

    fn estimate(&self, end: &End, input: u64, output: u64) -> Usage {
        // An error instead of an answer is not billed anywhere.
        if self.failed && !self.begun && end.text.is_empty() {
            return Usage::default();
        }
        let output = match end.billable {
            Billable::Input => 0,
            Billable::Generation => output.max(1),
            Billable::StreamedText if end.streamed && output > 0 => output,
            Billable::StreamedText | Billable::Nothing => return Usage::default(),
        };
        Usage { input_uncached: input, output, source: Source::Estimated, ..Usage::default() }
    }
}

/// What a JSON string says, if it is one; mostly it stands there as it is.
fn string(raw: &[u8]) -> Option<Box<str>> {
    let is_plain = |byte: &u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    match raw {
        [b'"', plain @ .., b'"'] if plain.iter().all(is_plain) => std::str::from_utf8(plain).ok().map(Box::from),
        _ => serde_json::from_slice(raw).ok(),
    }
}

/// Where `part` stands in `data`, if it stands there once.
fn only_place(data: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let from = memmem::find(data, part)?;
    (memmem::rfind(data, part) == Some(from)).then_some(from..from + part.len())
}
