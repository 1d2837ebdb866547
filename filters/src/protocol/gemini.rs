//! Where Google's Gemini API says its usage.
//!
//! Source: the `UsageMetadata` type of the API reference. Every chunk of a stream may have it, and
//! it is cumulative.

use std::sync::OnceLock;

use super::dialect::{Dialect, Document, Folded, Rank, Want, mark, needles, value};
use crate::usage::{Counts, Field, Name, Usage};
use crate::walk::Wanted;

const NAMES: &[Name] = &[
    ("", "promptTokenCount", Field::Prompt),
    ("", "candidatesTokenCount", Field::Completion),
    ("", "cachedContentTokenCount", Field::Cached),
    ("", "thoughtsTokenCount", Field::Reasoning),
    ("", "toolUsePromptTokenCount", Field::ToolPrompt),
    ("", "totalTokenCount", Field::Total),
];

const WANTED: &[Wanted<Want>] = &[
    value(&["usageMetadata"], Want::Usage),
    value(&["modelVersion"], Want::Model),
    value(&["error"], Want::Error),
    value(&["candidates", "0", "finishReason"], Want::Finished),
    mark(&["candidates", "0", "content", "parts", "0", "functionCall"], Want::Begun),
    mark(&["candidates", "0", "content", "parts", "0", "inlineData"], Want::Begun),
    mark(&["candidates", "0", "content", "parts", "0", "executableCode"], Want::Begun),
];

pub(crate) fn dialect() -> Dialect {
    Dialect {
        wanted: WANTED,
        names: NAMES,
        needles: needles(&["\"usageMetadata\"", "\"error\""]),
        texts: needles(&["\"text\""]),
        document_texts: &["text"],
        walks: OnceLock::new(),
        begins: needles(&["\"functionCall\"", "\"inlineData\"", "\"executableCode\""]),
        kinds: &[],
        last_event: None,
        rank: |document: &Document| {
            if document.finished { Rank::Last } else { Rank::Running }
        },
        fold,
    }
}

/// The prompt includes what was cached; what tools added to it, and thoughts, stand outside.
fn fold(counts: &Counts) -> Folded {
    let prompt = counts.get(Field::Prompt);
    let (thoughts, tools) = (counts.or_zero(Field::Reasoning), counts.or_zero(Field::ToolPrompt));
    let cache_read = counts.or_zero(Field::Cached);
    // An answer without candidates leaves the field out.
    let candidates = counts.get(Field::Completion).or(counts
        .get(Field::Total)
        .zip(prompt)
        .map(|(total, prompt)| total.saturating_sub(prompt + tools + thoughts)));
    Folded {
        usage: Usage {
            input_uncached: prompt.unwrap_or(0).saturating_sub(cache_read) + tools,
            cache_read,
            output: candidates.unwrap_or(0) + thoughts,
            reasoning: thoughts,
            ..Usage::default()
        },
        has_input: prompt.is_some(),
        has_output: candidates.is_some(),
    }
}
