//! Where OpenAI, and what calls itself compatible with it, says its usage.
//!
//! Sources: the OpenAI API reference (chat, completions, embeddings, responses, streaming events)
//! and those of DeepSeek, Moonshot, xAI, Mistral, Groq, OpenRouter, vLLM and llama.cpp for what
//! they do otherwise.

use std::sync::OnceLock;

use super::dialect::{Dialect, Document, Folded, Rank, Want, mark, needles, value};
use crate::usage::{Counts, Field, Name, Usage};
use crate::walk::Wanted;

const NAMES: &[Name] = &[
    ("", "prompt_tokens", Field::Prompt),
    ("", "completion_tokens", Field::Completion),
    ("", "total_tokens", Field::Total),
    ("prompt_tokens_details", "cached_tokens", Field::Cached),
    // OpenRouter: the part of the prompt that was written to a cache.
    ("prompt_tokens_details", "cache_write_tokens", Field::CacheWrite),
    ("completion_tokens_details", "reasoning_tokens", Field::Reasoning),
    ("", "input_tokens", Field::Input),
    ("", "output_tokens", Field::Output),
    ("input_tokens_details", "cached_tokens", Field::InputCached),
    ("input_tokens_details", "cache_write_tokens", Field::CacheWrite),
    ("output_tokens_details", "reasoning_tokens", Field::OutputReasoning),
    // Moonshot.
    ("", "cached_tokens", Field::Cached),
    // DeepSeek.
    ("", "prompt_cache_hit_tokens", Field::CacheHit),
    ("", "prompt_cache_miss_tokens", Field::CacheMiss),
    // llama.cpp: `timings`; here the prompt is without its cached part.
    ("", "prompt_n", Field::TimedPrompt),
    ("", "cache_n", Field::TimedCached),
    ("", "predicted_n", Field::TimedOutput),
];

/// Also those of legacy completions (`text`), and of reasoning as DeepSeek (`reasoning_content`)
/// and OpenRouter (`reasoning`) spell it.
const TEXTS: &[&str] = &["content", "reasoning_content", "reasoning", "arguments", "text", "refusal"];

/// Chat, legacy completions and embeddings.
pub(crate) fn chat() -> Dialect {
    const WANTED: &[Wanted<Want>] = &[
        value(&["usage"], Want::Usage),
        // Moonshot and Groq.
        value(&["choices", "0", "usage"], Want::Usage),
        value(&["x_groq", "usage"], Want::Usage),
        value(&["timings"], Want::Usage),
        value(&["model"], Want::Model),
        value(&["error"], Want::Error),
        value(&["choices", "0", "finish_reason"], Want::Finished),
        mark(&["choices", "0"], Want::Choice),
    ];
    Dialect {
        wanted: WANTED,
        names: NAMES,
        needles: needles(&["\"usage\"", "\"timings\"", "\"error\""]),
        texts: needles(&[
            "\"content\"",
            "\"reasoning_content\"",
            "\"reasoning\"",
            "\"arguments\"",
            "\"text\"",
            "\"refusal\"",
        ]),
        document_texts: TEXTS,
        walks: OnceLock::new(),
        begins: needles(&["\"tool_calls\"", "\"function_call\"", "\"audio\"", "\"images\""]),
        kinds: &[],
        last_event: None,
        rank: |document: &Document| {
            // The usage chunk has no choices; Mistral and Moonshot report with the reason of the
            // end. Anything else is a continuous report, as vLLM's.
            if document.finished || !document.choice { Rank::Last } else { Rank::Running }
        },
        fold: |counts| fold(counts, Api::Chat),
    }
}

/// Responses: the report is in the event that ends the stream, whatever its end.
pub(crate) fn responses() -> Dialect {
    const WANTED: &[Wanted<Want>] = &[
        value(&["response", "usage"], Want::Usage),
        value(&["usage"], Want::Usage),
        value(&["response", "model"], Want::Model),
        value(&["model"], Want::Model),
        value(&["response", "error"], Want::Error),
        value(&["error"], Want::Error),
        value(&["type"], Want::Kind),
    ];
    Dialect {
        wanted: WANTED,
        names: NAMES,
        needles: needles(&["\"usage\"", "\"error\""]),
        // `.done` events repeat what the deltas said.
        texts: needles(&["\"delta\""]),
        document_texts: TEXTS,
        walks: OnceLock::new(),
        begins: needles(&["\"function_call\"", "\"response.image_generation_call.partial_image\""]),
        kinds: &["response.completed", "response.incomplete", "response.failed", "error"],
        last_event: None,
        rank: |document: &Document| match document.kind {
            Some("response.completed" | "response.incomplete" | "response.failed") => Rank::Last,
            _ => Rank::Running,
        },
        fold: |counts| fold(counts, Api::Responses),
    }
}

/// Everything else: only what is reported counts.
pub(crate) fn other() -> Dialect {
    // Objects of files, batches and jobs have an `error` of their own that is no failure of the
    // request.
    const WANTED: &[Wanted<Want>] = &[
        value(&["usage"], Want::Usage),
        value(&["response", "usage"], Want::Usage),
        value(&["response", "model"], Want::Model),
        value(&["model"], Want::Model),
        value(&["type"], Want::Kind),
    ];
    Dialect { wanted: WANTED, rank: |_| Rank::Last, ..responses() }
}

/// Whose names count when a gateway fills both sets.
#[derive(Clone, Copy)]
enum Api {
    Chat,
    Responses,
}

/// The prompt includes what was cached; the completion includes reasoning, save at xAI.
fn fold(counts: &Counts, api: Api) -> Folded {
    let timed_prompt = counts.get(Field::TimedPrompt).map(|fresh| fresh + counts.or_zero(Field::TimedCached));
    let cache_split = counts.get(Field::CacheMiss).map(|miss| miss + counts.or_zero(Field::CacheHit));
    let (prompt, completion) = match api {
        Api::Chat => (
            counts.get(Field::Prompt).or(counts.get(Field::Input)),
            counts.get(Field::Completion).or(counts.get(Field::Output)),
        ),
        Api::Responses => (
            counts.get(Field::Input).or(counts.get(Field::Prompt)),
            counts.get(Field::Output).or(counts.get(Field::Completion)),
        ),
    };
    let total = counts.get(Field::Total);
    let completion = completion.or(counts.get(Field::TimedOutput));
    let prompt =
        prompt.or(cache_split).or(timed_prompt).or(total.map(|total| total.saturating_sub(completion.unwrap_or(0))));
    let completion = completion.or(total.zip(prompt).map(|(t, p)| t.saturating_sub(p)));

    let reasoning = counts.or_zero(Field::Reasoning).max(counts.or_zero(Field::OutputReasoning));
    let (prompt_tokens, completion_tokens) = (prompt.unwrap_or(0), completion.unwrap_or(0));
    let outside = total == Some(prompt_tokens + completion_tokens + reasoning);
    let cache_read = [Field::Cached, Field::InputCached, Field::CacheHit, Field::TimedCached]
        .into_iter()
        .map(|field| counts.or_zero(field))
        .max()
        .unwrap_or(0);
    let cache_write = counts.or_zero(Field::CacheWrite);
    Folded {
        usage: Usage {
            input_uncached: prompt_tokens.saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write_5m: cache_write,
            output: if outside { completion_tokens + reasoning } else { completion_tokens },
            reasoning,
            ..Usage::default()
        },
        has_input: prompt.is_some(),
        has_output: completion.is_some(),
    }
}
