//! `probe:` of a channel, as written and as meant. What a probe says is decided in `weir_filters::{probe, monitor}`.

use std::time::Duration;

use weir_filters::monitor::Cap;
use weir_filters::probe::{FEW_TOKENS, PROMPT};

use super::mistake::Complaint;
use super::prices::dollars;
use super::scalar::{Parsed, Word};
use super::section::{At, Fields, Reader, Section};
use super::{scalar, time};

/// Below this a probe is load.
const MIN_EVERY: Duration = Duration::from_secs(1);
/// A probe is small: what answers more is no probe.
const MAX_TOKENS: u32 = 4096;
/// In bytes; the same.
const MAX_PROMPT: usize = 4096;
/// An upstream that needs longer for a few tokens is of no use to anybody.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const PROBE: Fields = Fields {
    known: &["every", "models", "prompt", "max_tokens", "timeout", "tokens_per_day", "usd_per_day", "pause_on_traffic"],
    later: &[],
};

/// How a channel is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How often.
    pub every: Duration,
    /// The models, as clients call them; none: those that the channel names, or else those that its upstream lists.
    pub models: Vec<String>,
    /// What they are asked.
    pub prompt: String,
    /// The most that they may answer.
    pub max_tokens: u64,
    /// How long an answer may take in all.
    pub timeout: Duration,
    /// What a day of UTC may cost.
    pub cap: Cap,
    /// Whether a model that clients are served by need not be asked.
    pub pause_on_traffic: bool,
}

#[derive(Debug)]
pub(super) struct RawProbe {
    every: Option<At<Duration>>,
    models: Option<At<Vec<At<String>>>>,
    prompt: Option<At<String>>,
    max_tokens: Option<At<u32>>,
    timeout: Option<At<Duration>>,
    tokens_per_day: Option<At<u32>>,
    usd_per_day: Option<At<weir_filters::price::NanoUsd>>,
    pause_on_traffic: Option<At<bool>>,
}

impl RawProbe {
    /// Reads it from a channel.
    pub(super) fn read(r: &mut Reader<'_>, channel: &Section) -> Option<Self> {
        let at = r.optional(channel, "probe")?;
        let s = r.section(at, &PROBE);
        Some(Self {
            every: r.required_word(&s, "every", |word| {
                let every = time::positive_duration(word)?;
                if every < MIN_EVERY { Err(word.must_be("a second or longer")) } else { Ok(every) }
            }),
            models: r.optional_words(&s, "models", scalar::model),
            prompt: r.optional_word(&s, "prompt", prompt),
            max_tokens: r.optional_word(&s, "max_tokens", |word| scalar::number(word, 1..=MAX_TOKENS)),
            timeout: r.optional_word(&s, "timeout", time::positive_duration),
            tokens_per_day: r.optional_word(&s, "tokens_per_day", |word| scalar::number(word, 1..=u32::MAX)),
            usd_per_day: r.optional_word(&s, "usd_per_day", dollars),
            pause_on_traffic: r.optional_word(&s, "pause_on_traffic", scalar::boolean),
        })
    }

    /// What is meant. `serves`: the channel is asked for a model of this name.
    pub(super) fn check(self, r: &mut Reader<'_>, serves: impl Fn(&str) -> bool) -> Option<Probe> {
        for model in self.models.iter().flat_map(|models| &models.value) {
            if !serves(&model.value) {
                r.complain(model.at, Complaint::new(format!("is no model of this channel: `{}`", model.value)));
            }
        }
        Some(Probe {
            every: self.every?.value,
            models: self.models.map(|m| m.value.into_iter().map(|m| m.value).collect()).unwrap_or_default(),
            prompt: self.prompt.map_or_else(|| PROMPT.to_owned(), |prompt| prompt.value),
            max_tokens: self.max_tokens.map_or(FEW_TOKENS, |max| max.value.into()),
            timeout: self.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.value),
            cap: Cap {
                tokens: self.tokens_per_day.map(|tokens| tokens.value.into()),
                nano_usd: self.usd_per_day.map(|usd| usd.value.0),
            },
            pause_on_traffic: self.pause_on_traffic.is_none_or(|pause| pause.value),
        })
    }
}

fn prompt(word: Word<'_>) -> Parsed<String> {
    match word.text.len() {
        1..=MAX_PROMPT => Ok(word.text.to_owned()),
        _ => Err(word.must_be("a question of at most 4096 bytes")),
    }
}
