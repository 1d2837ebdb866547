//! Integer money, and what a request costs.
//!
//! Owns prices, the table that finds a model's, and the arithmetic: all terms of a request are added up
//! exactly and rounded once. Refuses to know where prices are written, and which request is meant.

mod cost;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::decimal::{DecimalError, fixed, shown};

pub use cost::{PerMillion, Price, Rates, Tariff, Tier};
pub use table::PriceTable;

/// Dollars are counted in billionths: digits behind the point.
pub const USD_PLACES: u32 = 9;

/// Rates are counted in millionths: digits behind the point.
const RATE_PLACES: u32 = 6;

/// A billionth of a US dollar. All money is in this unit: sums are exact and no rounding hides in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// Whole millionths of a dollar, rounded to the nearest: the unit of the usage API.
    pub const fn micros(self) -> u64 {
        self.0.saturating_add(500) / 1000
    }

    /// Dollars as they are written in a price table: `0.04`.
    ///
    /// # Errors
    /// When it is no such number, or finer than a billionth.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        fixed(text, USD_PLACES).map(Self)
    }

    /// What [`NanoUsd::parse`] reads.
    pub fn written(self) -> String {
        shown(self.0, USD_PLACES)
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What a user's requests are multiplied by, in millionths. It is between the user and whoever sells: it
/// has no text form but the one that it is written in, so that no log, answer or record shows it by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PriceRate(u64);

impl PriceRate {
    /// A rate as it is written: `1.2`.
    ///
    /// # Errors
    /// When it is no decimal number, or finer than a millionth.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        fixed(text, RATE_PLACES).map(Self)
    }

    /// What [`PriceRate::parse`] reads: for whoever sells, and nobody else.
    pub fn written(self) -> String {
        shown(self.0, RATE_PLACES)
    }

    /// An amount at this rate, rounded half up; the most that can be counted, if it is more.
    fn of(self, amount: u64) -> u64 {
        let millionths = u128::from(amount) * u128::from(self.0);
        u64::try_from((millionths + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// The rate in millionths.
    const fn millionths(self) -> u64 {
        self.0
    }
}

/// One: what things cost.
impl Default for PriceRate {
    fn default() -> Self {
        Self(1_000_000)
    }
}

impl fmt::Debug for PriceRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PriceRate(…)")
    }
}
