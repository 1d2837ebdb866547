//! Edits: what changes in a body, as ranges and their replacements.
//!
//! Owns: that each edit leaves valid JSON and every other byte, and their application to a body in pieces.
//! Refuses to know: how the facts were found, and when a body should be changed.

use super::{BodyFacts, IncludeUsage, Member, StreamOptions};
use bytes::Bytes;
use std::ops::Range;

const INCLUDE_USAGE: &str = r#""include_usage":true"#;
const OPTIONS: &str = r#"{"include_usage":true}"#;
const STREAM_OPTIONS: &str = r#""stream_options":{"include_usage":true}"#;

/// One change: these bytes of the body give way to those.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Offsets in the whole body; an empty range inserts.
    pub range: Range<usize>,
    /// What stands there afterwards.
    pub with: Bytes,
}

/// Puts another model's name in place of the body's; `None` if the body names no model.
pub fn set_model(facts: &BodyFacts, model: &str) -> Option<Edit> {
    let member = facts.model.as_ref()?;
    let with = serde_json::Value::from(model).to_string();
    Some(Edit { range: member.span.clone(), with: with.into() })
}

/// Whether the client itself asked an OpenAI stream to report usage.
pub fn asks_for_usage(facts: &BodyFacts) -> bool {
    matches!(
        facts.stream_options,
        Some(StreamOptions::Object { include_usage: Some(IncludeUsage { asked: true, .. }), .. })
    )
}

/// Makes `stream_options.include_usage` true; `None` if it is. Where `stream_options` or `include_usage`
/// is repeated, the last one is changed, as it is the one that counts.
pub fn ask_for_usage(facts: &BodyFacts) -> Option<Edit> {
    Some(match &facts.stream_options {
        None => insert_first(facts.object.start, STREAM_OPTIONS, facts.empty),
        Some(StreamOptions::NotObject { span }) => {
            Edit { range: span.clone(), with: Bytes::from_static(OPTIONS.as_bytes()) }
        }
        Some(StreamOptions::Object { span, empty, include_usage: None }) => {
            insert_first(span.start, INCLUDE_USAGE, *empty)
        }
        Some(StreamOptions::Object { include_usage: Some(IncludeUsage { asked: true, .. }), .. }) => return None,
        Some(StreamOptions::Object { include_usage: Some(IncludeUsage { span, .. }), .. }) => {
            Edit { range: span.clone(), with: Bytes::from_static(b"true") }
        }
    })
}

/// Removes `model` and every `stream`, each with one comma, so that a valid object remains; white space
/// around them stays. Not to be applied together with the other edits.
pub fn without_model_and_stream(facts: &BodyFacts) -> Vec<Edit> {
    let streams = facts.overridden_streams.iter().chain(&facts.stream).map(Ends::of);
    let mut members: Vec<Ends> = facts.model.iter().map(Ends::of).chain(streams).collect();
    members.sort_by_key(|member| member.whole.start);

    let mut edits = Vec::with_capacity(2 * members.len() + 1);
    // The comma before the run of removed members that the current one belongs to: it goes only if the
    // run reaches the object's end, because every other member takes the comma after it.
    let mut run: Option<Ends> = None;
    for member in members {
        let comma_before_run = match &run {
            Some(last) if last.comma_after.is_some() && last.comma_after == member.comma_before => last.comma_before,
            _ => member.comma_before,
        };
        edits.push(remove(member.whole.clone()));
        edits.extend(
            member.comma_after.or(comma_before_run).map(|comma| remove(Range { start: comma, end: comma + 1 })),
        );
        run = Some(Ends { comma_before: comma_before_run, ..member });
    }
    edits.sort_by_key(|edit| edit.range.start);
    edits
}

/// The body with the edits made: slices of the pieces given, with the replacements between them and
/// without empty pieces. Edits may come in any order. They must not overlap: one that reaches into another
/// that starts before it is left out.
pub fn apply(body: &[Bytes], edits: &[Edit]) -> Vec<Bytes> {
    let mut edits = in_order(edits).into_iter().peekable();
    let mut out = Vec::with_capacity(body.len() + 2 * edits.len());
    let mut kept_from = 0; // Bytes before this offset of the body are written or gone.
    let mut start = 0;
    for piece in body {
        let end = start + piece.len();
        while let Some(edit) = edits.next_if(|edit| edit.range.start < end) {
            out.push(slice(piece, start, kept_from..edit.range.start));
            out.push(edit.with.clone());
            kept_from = edit.range.end;
        }
        out.push(slice(piece, start, kept_from..end));
        start = end;
    }
    out.extend(edits.map(|edit| edit.with.clone()));
    out.retain(|piece| !piece.is_empty());
    out
}

/// The length of a body of `len` bytes once [`apply`] made the edits.
pub fn edited_len(len: usize, edits: &[Edit]) -> usize {
    let (gone, new) = in_order(edits).iter().fold((0, 0), |(gone, new), edit| {
        (gone + edit.range.end.min(len) - edit.range.start.min(len), new + edit.with.len())
    });
    len - gone + new
}

/// A removed member's place.
struct Ends {
    whole: Range<usize>,
    comma_before: Option<usize>,
    comma_after: Option<usize>,
}

impl Ends {
    fn of<T>(member: &Member<T>) -> Self {
        let Member { whole, comma_before, comma_after, .. } = member;
        Self { whole: whole.clone(), comma_before: *comma_before, comma_after: *comma_after }
    }
}

fn remove(range: Range<usize>) -> Edit {
    Edit { range, with: Bytes::new() }
}

/// A member as the first one of the object whose brace opens at `brace`.
fn insert_first(brace: usize, member: &'static str, empty: bool) -> Edit {
    let with = if empty { Bytes::from_static(member.as_bytes()) } else { format!("{member},").into() };
    let at = brace + 1;
    Edit { range: at..at, with }
}

fn in_order(edits: &[Edit]) -> Vec<&Edit> {
    let mut sorted: Vec<&Edit> = edits.iter().filter(|edit| edit.range.start <= edit.range.end).collect();
    sorted.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut end = 0;
    sorted.retain(|edit| {
        let apart = edit.range.start >= end;
        if apart {
            end = edit.range.end;
        }
        apart
    });
    sorted
}

/// These offsets of the body out of a piece that starts at `start`; the range ends inside the piece.
fn slice(piece: &Bytes, start: usize, range: Range<usize>) -> Bytes {
    let from = range.start.max(start);
    if from < range.end { piece.slice(from - start..range.end - start) } else { Bytes::new() }
}
