//! Where Anthropic's Messages API says its usage.
//!
//! Source: the Messages API reference and its page on streaming. `message_start` has the input and
//! a placeholder of the output; `message_delta` has cumulative figures and may correct the input.

use std::sync::OnceLock;

use super::dialect::{Dialect, Document, Folded, Rank, Want, needles, value};
use crate::usage::{Counts, Field, Name, Usage};
use crate::walk::Wanted;

const NAMES: &[Name] = &[
    ("", "input_tokens", Field::Prompt),
    ("", "output_tokens", Field::Completion),
    ("", "cache_read_input_tokens", Field::Cached),
    ("", "cache_creation_input_tokens", Field::CacheWrite),
    ("cache_creation", "ephemeral_5m_input_tokens", Field::CacheWrite5m),
    ("cache_creation", "ephemeral_1h_input_tokens", Field::CacheWrite1h),
    ("output_tokens_details", "thinking_tokens", Field::OutputReasoning),
];

const WANTED: &[Wanted<Want>] = &[
    value(&["usage"], Want::Usage),
    value(&["message", "usage"], Want::Usage),
    value(&["message", "model"], Want::Model),
    value(&["model"], Want::Model),
    value(&["type"], Want::Kind),
    value(&["error"], Want::Error),
    value(&["delta", "stop_reason"], Want::Finished),
];

pub(crate) fn dialect() -> Dialect {
    Dialect {
        wanted: WANTED,
        names: NAMES,
        needles: needles(&["\"usage\"", "\"error\""]),
        texts: needles(&["\"text\"", "\"thinking\"", "\"partial_json\""]),
        document_texts: &["text", "thinking"],
        walks: OnceLock::new(),
        begins: needles(&["\"tool_use\"", "\"server_tool_use\""]),
        kinds: &["message_start", "message_delta", "message", "error"],
        last_event: Some("message_stop"),
        rank: |document: &Document| match document.kind {
            Some("message_delta") if document.finished => Rank::Last,
            Some("message_delta") => Rank::Running,
            Some("message") => Rank::Last,
            _ => Rank::First,
        },
        fold,
    }
}

/// The input excludes both caches. What was written to a cache without a word on its life counts
/// as written for five minutes.
fn fold(counts: &Counts) -> Folded {
    let (five, hour) = (counts.or_zero(Field::CacheWrite5m), counts.or_zero(Field::CacheWrite1h));
    let written = counts.get(Field::CacheWrite).unwrap_or(five + hour);
    let cache_write_1h = hour.min(written);
    Folded {
        usage: Usage {
            input_uncached: counts.or_zero(Field::Prompt),
            cache_read: counts.or_zero(Field::Cached),
            cache_write_5m: written - cache_write_1h,
            cache_write_1h,
            output: counts.or_zero(Field::Completion),
            reasoning: counts.or_zero(Field::OutputReasoning),
            ..Usage::default()
        },
        has_input: counts.get(Field::Prompt).is_some(),
        has_output: counts.get(Field::Completion).is_some(),
    }
}
