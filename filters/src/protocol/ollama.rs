//! Where Ollama's native API says its usage: in the line, or the answer, that is `done`.
//!
//! Source: Ollama's `docs/api.md`. A prompt that the server had evaluated before may have no count.

use std::sync::OnceLock;

use super::dialect::{Dialect, Document, Folded, Rank, Want, mark, needles, value};
use crate::usage::{Counts, Field, Usage};
use crate::walk::Wanted;

const WANTED: &[Wanted<Want>] = &[
    value(&["prompt_eval_count"], Want::Figure(Field::Prompt, "prompt_eval_count")),
    value(&["eval_count"], Want::Figure(Field::Completion, "eval_count")),
    value(&["model"], Want::Model),
    value(&["error"], Want::Error),
    value(&["done"], Want::Finished),
    mark(&["message", "tool_calls", "0"], Want::Begun),
];

pub(crate) fn dialect() -> Dialect {
    Dialect {
        wanted: WANTED,
        names: &[],
        needles: needles(&["\"eval_count\"", "\"prompt_eval_count\"", "\"error\""]),
        texts: needles(&["\"content\"", "\"thinking\"", "\"response\""]),
        document_texts: &["content", "thinking", "response"],
        walks: OnceLock::new(),
        begins: needles(&["\"tool_calls\""]),
        kinds: &[],
        last_event: None,
        rank: |document: &Document| {
            if document.finished { Rank::Last } else { Rank::Running }
        },
        fold,
    }
}

fn fold(counts: &Counts) -> Folded {
    let (prompt, completion) = (counts.get(Field::Prompt), counts.get(Field::Completion));
    Folded {
        usage: Usage { input_uncached: prompt.unwrap_or(0), output: completion.unwrap_or(0), ..Usage::default() },
        has_input: prompt.is_some(),
        has_output: completion.is_some(),
    }
}
