//! How "OpenAI-compatible" providers differ in what they report, chosen by the model's name.
//!
//! Knows figures and the shape of a usage object, not streams.

use weir_filters::usage::{Source, Usage};

use super::ask::{Ask, Reply};
use super::json::{Json, Object, object};

/// Reasoning tokens of models that reason.
const REASONING: u64 = 5;

/// A provider's habit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    /// As OpenAI documents it.
    None,
    /// `prompt_cache_hit_tokens` and `prompt_cache_miss_tokens`.
    DeepSeek,
    /// A stream's usage is in `choices[0].usage`, asked for or not.
    Kimi,
    /// Reasoning is not a part of `completion_tokens`.
    Grok,
    /// Refuses `stream_options`; reports usage in the last chunk anyway.
    Mistral,
    /// Comment lines, and a cost beside the usage.
    OpenRouter,
    /// Filter results in a first chunk without choices and in a late one without a delta.
    Azure,
    /// Cumulative usage in every chunk.
    Vllm,
    /// Cached tokens in `timings.cache_n`.
    LlamaCpp,
}

impl Quirk {
    pub(super) fn of(model: &str) -> Self {
        let known = [
            ("deepseek", Self::DeepSeek),
            ("kimi", Self::Kimi),
            ("moonshot", Self::Kimi),
            ("grok", Self::Grok),
            ("mistral", Self::Mistral),
            ("openrouter/", Self::OpenRouter),
            ("azure-", Self::Azure),
            ("vllm-", Self::Vllm),
            ("llamacpp-", Self::LlamaCpp),
        ];
        known.into_iter().find(|(prefix, _)| model.starts_with(prefix)).map_or(Self::None, |(_, quirk)| quirk)
    }

    /// What the answer costs.
    pub(super) fn usage(self, ask: &Ask, reply: &Reply) -> Usage {
        let prompt = ask.prompt_tokens();
        let cache_read = match self {
            Self::None | Self::OpenRouter => prompt / 4,
            Self::DeepSeek => prompt / 2,
            Self::LlamaCpp => prompt / 3,
            Self::Kimi | Self::Grok | Self::Mistral | Self::Azure | Self::Vllm => 0,
        };
        let reasons = ["o1", "o3", "o4", "gpt-5", "grok", "deepseek-reasoner"];
        let reasoning = if reasons.iter().any(|name| ask.model.starts_with(name)) { REASONING } else { 0 };
        Usage {
            input_uncached: prompt - cache_read,
            cache_read,
            output: reply.tokens() + reasoning,
            reasoning,
            source: Source::Upstream,
            ..Usage::default()
        }
    }

    /// `usage` as the provider writes it.
    pub(super) fn report(self, usage: &Usage) -> Json {
        let completion = if self == Self::Grok { usage.output - usage.reasoning } else { usage.output };
        let mut report = Object::new();
        report.put("prompt_tokens", &usage.input());
        report.put("completion_tokens", &completion);
        report.put("total_tokens", &usage.total());
        if self == Self::DeepSeek {
            report.put("prompt_cache_hit_tokens", &usage.cache_read);
            report.put("prompt_cache_miss_tokens", &usage.input_uncached);
        } else if !matches!(self, Self::Mistral | Self::Vllm | Self::LlamaCpp | Self::Kimi) {
            let details = object! { "cached_tokens": usage.cache_read, "audio_tokens": 0 };
            report.put("prompt_tokens_details", &details);
        }
        if usage.reasoning > 0 || self == Self::None {
            let details = object! {
                "reasoning_tokens": usage.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            };
            report.put("completion_tokens_details", &details);
        }
        if self == Self::OpenRouter {
            report.put("cost", &0.000_123);
            report.put("is_byok", &false);
        }
        report.done()
    }
}
