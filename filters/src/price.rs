//! Integer money.

use std::fmt;

/// A billionth of a US dollar. All money is in this unit: sums are exact and no rounding hides in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// Whole millionths of a dollar, rounded to the nearest: the unit of the usage API.
    pub const fn micros(self) -> u64 {
        (self.0 + 500) / 1000
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
