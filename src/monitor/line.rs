//! What the monitor writes down: that a probe begins, what came of it, and what a run came to.
//!
//! Owns the form of the lines. Which of them are there and what follows from them is `book`'s.

use serde::{Deserialize, Serialize};
use weir_filters::monitor::{RunState, Spent};
use weir_filters::price::NanoUsd;

use crate::trial::{Told, millis};

/// Why a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Schedule,
    Manual,
}

/// Which run a line belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) channel: String,
    /// `None`: somebody asked for it.
    pub(super) slot: Option<u64>,
    /// Slots of another length have other numbers.
    pub(super) every_ms: u64,
    /// Milliseconds since 1970.
    pub(super) begun_at: u64,
    pub(super) reason: Reason,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    pub(super) tokens: u64,
    pub(super) nano_usd: u64,
}

impl From<Spent> for Amount {
    fn from(Spent { tokens, nano_usd }: Spent) -> Self {
        Self { tokens, nano_usd }
    }
}

impl From<Amount> for Spent {
    fn from(Amount { tokens, nano_usd }: Amount) -> Self {
        Self { tokens, nano_usd }
    }
}

/// A line.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the disk or from there")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    Begun(Begun),
    Result(Done),
    Run(Finished),
}

/// A probe is about to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) run: Head,
    pub(super) model: String,
    pub(super) at: u64,
    /// What it may use at most.
    pub(super) reserved: Amount,
}

/// What came of a model in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) run: Head,
    pub(super) at: u64,
    pub(super) spent: Amount,
    /// What is known of the model since.
    pub(super) standing: String,
    pub(super) result: Shown,
}

/// A run is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) run: Head,
    pub(super) ended_at: u64,
    pub(super) state: String,
    pub(super) results: Vec<Shown>,
}

impl Finished {
    /// The state by its name.
    pub(super) fn state(&self) -> RunState {
        RunState::named(&self.state).unwrap_or(RunState::Error)
    }
}

/// What a run comes to: models that were not asked say nothing.
pub(super) fn state_of(results: &[Shown]) -> RunState {
    let told = |ok| results.iter().filter(|result| result.skipped.is_none() && result.ok == ok).count();
    RunState::of(told(true), told(false))
}

/// What came of a model, as people see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shown {
    pub(super) model: String,
    pub(super) ok: bool,
    /// `probe` or `traffic`.
    pub(super) by: String,
    /// Why it was not asked.
    pub(super) skipped: Option<String>,
    pub(super) error: Option<Fault>,
    pub(super) status: Option<u16>,
    pub(super) connect_ms: Option<f64>,
    pub(super) first_token_ms: Option<f64>,
    pub(super) total_ms: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) tokens: Tokens,
    pub(super) cost_usd: String,
}

/// Why an answer is no good one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Shown {
    /// Of a model that was asked.
    pub(super) fn asked(model: &str, told: Told) -> Self {
        let writing = told.first_token.map(|first| told.total.saturating_sub(first).as_secs_f64());
        let speed = writing.filter(|seconds| *seconds > 0.0 && told.usage.output > 1).map(|seconds| {
            // The first token was there when the time began.
            ((told.usage.output - 1) as f64 / seconds * 10.0).round() / 10.0
        });
        Self {
            model: model.to_owned(),
            ok: told.bad.is_none(),
            by: "probe".to_owned(),
            skipped: None,
            error: told.bad.map(|bad| Fault {
                code: bad.code.to_owned(),
                message: bad.message.to_owned(),
                detail: told.detail,
            }),
            status: told.status,
            connect_ms: told.connect.map(millis),
            first_token_ms: told.first_token.map(millis),
            total_ms: Some(millis(told.total)),
            tokens_per_second: speed,
            tokens: Tokens { input: told.usage.input(), output: told.usage.output },
            cost_usd: told.cost.written(),
        }
    }

    /// Of a model that clients were served by.
    pub(super) fn by_traffic(model: &str) -> Self {
        Self { ok: true, by: "traffic".to_owned(), ..Self::none(model) }
    }

    /// Of a model that was not asked, and of which nothing is known for that.
    pub(super) fn skipped(model: &str, why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::none(model) }
    }

    fn none(model: &str) -> Self {
        Self { model: model.to_owned(), by: "probe".to_owned(), cost_usd: NanoUsd(0).written(), ..Self::default() }
    }
}
