//! `limits:` of a key, a user or a channel.
//!
//! Owns its fields and what they mean. Knows nothing of what is used of them.

use weir_filters::decimal;
use weir_filters::limits::estimate::Estimates;
use weir_filters::limits::{Budget, Limits};
use weir_filters::price::NanoUsd;

use super::mistake::Complaint;
use super::scalar::{self, Parsed, Word};
use super::section::{At, Fields, Reader, Section};

pub(super) const LIMITS: Fields = Fields { known: &["rpm", "tpm", "concurrency", "budget_usd"], later: &[] };
pub(super) const ESTIMATES: Fields = Fields { known: &["bytes_per_token", "output_tokens"], later: &[] };
pub(super) const BUDGET: Fields = Fields { known: &["day", "month", "total"], later: &[] };

/// Dollars are counted in billionths.
const PLACES: u32 = 9;

/// As written.
#[derive(Debug, Default)]
pub(super) struct RawLimits {
    rpm: Option<At<u64>>,
    tpm: Option<At<u64>>,
    concurrency: Option<At<u64>>,
    day: Option<At<NanoUsd>>,
    month: Option<At<NanoUsd>>,
    total: Option<At<NanoUsd>>,
}

impl RawLimits {
    /// The field `limits` of a section.
    pub(super) fn read(r: &mut Reader<'_>, parent: &Section) -> Self {
        let Some(at) = r.optional(parent, "limits") else { return Self::default() };
        let s = r.section(at, &LIMITS);
        let budget = match r.optional(&s, "budget_usd") {
            Some(at) => r.section(at, &BUDGET),
            None => Section::absent(s.at),
        };
        Self {
            rpm: r.optional_word(&s, "rpm", positive),
            tpm: r.optional_word(&s, "tpm", positive),
            concurrency: r.optional_word(&s, "concurrency", positive),
            day: r.optional_word(&budget, "day", usd),
            month: r.optional_word(&budget, "month", usd),
            total: r.optional_word(&budget, "total", usd),
        }
    }

    /// As meant.
    pub(super) fn limits(&self) -> Limits {
        let count = |written: &Option<At<u64>>| written.as_ref().map(|written| written.value);
        let money = |written: &Option<At<NanoUsd>>| written.as_ref().map(|written| written.value);
        Limits {
            rpm: count(&self.rpm),
            tpm: count(&self.tpm),
            concurrency: count(&self.concurrency),
            budget: Budget { day: money(&self.day), month: money(&self.month), total: money(&self.total) },
        }
    }
}

/// The field `estimates` of the file.
pub(super) fn estimates(r: &mut Reader<'_>, root: &Section) -> Estimates {
    let default = Estimates::default();
    let Some(at) = r.optional(root, "estimates") else { return default };
    let s = r.section(at, &ESTIMATES);
    let or = |written: Option<At<u64>>, default| written.map_or(default, |written| written.value);
    Estimates {
        bytes_per_token: or(r.optional_word(&s, "bytes_per_token", at_least_one), default.bytes_per_token),
        output_tokens: or(r.optional_word(&s, "output_tokens", at_least_one), default.output_tokens),
    }
}

fn at_least_one(word: Word<'_>) -> Parsed<u64> {
    match scalar::count(word)? {
        0 => Err(word.must_be("at least 1")),
        count => Ok(count as u64),
    }
}

/// How many at most. None at all is what `enabled: false` says.
fn positive(word: Word<'_>) -> Parsed<u64> {
    at_least_one(word).map_err(|complaint| complaint.suggest("leave it out for no limit"))
}

/// Dollars.
fn usd(word: Word<'_>) -> Parsed<NanoUsd> {
    match decimal::fixed(word.text, PLACES) {
        Ok(0) => Err(word.must_be("more than nothing").suggest("leave it out for no limit")),
        Ok(nano) => Ok(NanoUsd(nano)),
        Err(decimal::DecimalError::Shape) => Err(word.must_be("an amount of dollars such as \"2.50\"")),
        Err(e) => Err(Complaint::new(e.to_string())),
    }
}
