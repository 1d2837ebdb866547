//! What a key, a user or a channel may use: requests and tokens a minute, requests at a time, and money a
//! day, a month and in all.
//!
//! Reserve, then settle. [`reserve`] looks at every limit of every account and then takes from all of them,
//! or from none: a refusal consumes nothing. What it takes is an estimate; [`Permit::settle`] puts the true
//! figures in its place. A permit that is dropped gives everything back, as if its request had never been.
//!
//! An account has a lock, which only requests of the same account meet. It is held for some tens of
//! nanoseconds, and accounts without limits are never locked. Locks are taken in the order of the accounts
//! that are given, which must be the same everywhere: key, then user.
//!
//! Knows no clock and no disk: it is told the time, and what was spent before.

mod account;
pub mod estimate;
mod minute;
mod money;
mod permit;
#[cfg(test)]
mod tests;
pub mod told;

use crate::price::NanoUsd;

pub use account::Account;
pub use permit::{MAX_ACCOUNTS, Permit, reserve};

/// How much may be used. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute, input and output together.
    pub tpm: Option<u64>,
    /// Requests at a time.
    pub concurrency: Option<u64>,
    /// Money.
    pub budget: Budget,
}

/// How much money may be spent. Days and months are those of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// A day.
    pub day: Option<NanoUsd>,
    /// A calendar month.
    pub month: Option<NanoUsd>,
    /// Ever.
    pub total: Option<NanoUsd>,
}

/// The time over which a budget is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A day of UTC.
    Day,
    /// A calendar month of UTC.
    Month,
    /// All time.
    Total,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Requests a minute.
    Rpm,
    /// Tokens a minute.
    Tpm,
    /// Requests at a time.
    Concurrency,
    /// Money.
    Budget(Period),
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A client key.
    Key,
    /// A user, by all keys together.
    User,
    /// A channel, by all clients together.
    Channel,
}

/// The time, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; rates are counted by it.
    pub steady_ms: u64,
    /// Milliseconds since 1970-01-01 UTC; days and months are counted by it.
    pub unix_ms: u64,
}

/// What a request uses: thought before it is made, known after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Input and output tokens.
    pub tokens: u64,
    /// Money.
    pub cost: NanoUsd,
}

/// Money that was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On the day.
    pub day: NanoUsd,
    /// In the month.
    pub month: NanoUsd,
    /// Ever.
    pub total: NanoUsd,
}

/// What was taken in a minute of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What was used before anybody counted: by the process before, or while there were no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Money.
    pub spent: Spent,
    /// Requests and tokens in this minute of the clock, and in the one before it.
    pub minutes: [Taken; 2],
}

/// A limit that a request would exceed. Tokens and requests are counted in ones, money in [`NanoUsd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose.
    pub subject: Subject,
    /// Which.
    pub limit: Limit,
    /// The limit.
    pub allowed: u64,
    /// What is used of it, reservations included.
    pub used: u64,
    /// What the request is thought to need.
    pub wanted: u64,
    /// In how many milliseconds there is room for it, as far as that can be told.
    pub reset_ms: Option<u64>,
    /// Whether it makes no sense to try again before that: a budget is spent, or the request alone is more
    /// than the limit.
    pub is_final: bool,
}

/// How a limit by the minute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// In how many milliseconds, at the latest, all of it is free again if nothing more is taken.
    pub reset_ms: u64,
}

/// What is used of an account at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Requests of the last minute; 0 where neither requests nor tokens are limited.
    pub requests: u64,
    /// Tokens of the last minute; 0 where neither requests nor tokens are limited.
    pub tokens: u64,
    /// Requests under way.
    pub running: u64,
    /// Money spent.
    pub spent: Spent,
    /// Money that requests under way have reserved.
    pub reserved: NanoUsd,
}

/// How much of a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetUse {
    /// Over which time it is counted.
    pub period: Period,
    /// What is spent.
    pub spent: NanoUsd,
    /// What may be.
    pub allowed: NanoUsd,
}

impl Budget {
    fn of(&self, period: Period) -> Option<NanoUsd> {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
            Period::Total => self.total,
        }
    }
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether money is limited.
    pub fn has_budget(&self) -> bool {
        self.budget != Budget::default()
    }
}

impl Period {
    /// Every period.
    pub const ALL: [Period; 3] = [Period::Day, Period::Month, Period::Total];

    /// The name used in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
            Period::Total => "total",
        }
    }
}

impl Limit {
    /// The name used in the configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Limit::Rpm => "rpm",
            Limit::Tpm => "tpm",
            Limit::Concurrency => "concurrency",
            Limit::Budget(_) => "budget",
        }
    }
}

impl Subject {
    /// One word for a message.
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Key => "key",
            Subject::User => "user",
            Subject::Channel => "channel",
        }
    }
}
