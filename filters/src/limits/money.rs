//! Owns the money of a day, a month and all time. Refuses to know rates.

use crate::calendar;
use crate::price::NanoUsd;

use super::{Budget, BudgetUse, Period, Spent, Use};

/// What is spent and what is promised in one period.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Which day or month it is; 0 for all time.
    number: u64,
    spent: u64,
    reserved: u64,
}

/// The money of an account.
#[derive(Debug)]
pub(super) struct Money([Sum; 3]);

/// Which day and which month a reservation belongs to.
pub(super) type Numbers = [u64; 3];

impl Money {
    /// With what is known to be spent at a time.
    pub(super) fn new(spent: Spent, unix_ms: u64) -> Self {
        let sums = [spent.day, spent.month, spent.total];
        let mut periods = Period::ALL.into_iter().zip(sums).map(|(period, NanoUsd(spent))| Sum {
            number: number(period, unix_ms),
            spent,
            reserved: 0,
        });
        Self(std::array::from_fn(|_| periods.next().unwrap_or_default()))
    }

    /// Opens the day and the month that have begun. A clock that jumps back opens none: the one that was
    /// open stays.
    pub(super) fn advance(&mut self, unix_ms: u64) {
        // A month begins with a day, and its number takes divisions.
        if number(Period::Day, unix_ms) <= self.0[Period::Day as usize].number {
            return;
        }
        for (sum, period) in self.0.iter_mut().zip(Period::ALL) {
            let number = number(period, unix_ms);
            if number > sum.number {
                *sum = Sum { number, spent: 0, reserved: 0 };
            }
        }
    }

    /// The first budget that has no room for `wanted`.
    pub(super) fn lacks(&self, budget: &Budget, wanted: Use) -> Option<Lack> {
        let cost = wanted.cost;
        Period::ALL.into_iter().zip(&self.0).find_map(|(period, sum)| {
            let allowed = budget.of(period)?.0;
            let used = sum.spent.saturating_add(sum.reserved);
            // Once a budget is spent no tokens are free, not even those of a model without a price. What
            // uses nothing, such as counting tokens, is.
            let is_nothing = wanted == Use::default();
            let fits = used.checked_add(cost.0).is_some_and(|then| then <= allowed) && used < allowed || is_nothing;
            (!fits).then(|| Lack {
                period,
                allowed: NanoUsd(allowed),
                used: NanoUsd(used),
                will_fit: sum.spent.saturating_add(cost.0) <= allowed && sum.spent < allowed,
            })
        })
    }

    /// Adds what was spent in the periods that are open.
    pub(super) fn add(&mut self, spent: Spent) {
        for (sum, more) in self.0.iter_mut().zip([spent.day, spent.month, spent.total]) {
            sum.spent = sum.spent.saturating_add(more.0);
        }
    }

    pub(super) fn reserve(&mut self, cost: NanoUsd) -> Numbers {
        for sum in &mut self.0 {
            sum.reserved = sum.reserved.saturating_add(cost.0);
        }
        self.0.map(|sum| sum.number)
    }

    /// Gives a reservation back, and books what was spent in its place. What belongs to a day that is over
    /// is no part of the one that is open.
    pub(super) fn settle(&mut self, numbers: Numbers, reserved: NanoUsd, spent: NanoUsd) {
        for (sum, number) in self.0.iter_mut().zip(numbers) {
            if sum.number == number {
                sum.reserved = sum.reserved.saturating_sub(reserved.0);
                sum.spent = sum.spent.saturating_add(spent.0);
            }
        }
    }

    pub(super) fn spent(&self) -> Spent {
        let [day, month, total] = self.0.map(|sum| NanoUsd(sum.spent));
        Spent { day, month, total }
    }

    /// The budget of which the largest share is spent.
    pub(super) fn tightest(&self, budget: &Budget) -> Option<BudgetUse> {
        let uses = Period::ALL.into_iter().zip(&self.0).filter_map(|(period, sum)| {
            Some(BudgetUse { period, spent: NanoUsd(sum.spent), allowed: budget.of(period)? })
        });
        // Shares are compared as products, so that nothing is divided by a budget of nothing.
        let share = |one: &BudgetUse, other: &BudgetUse| u128::from(one.spent.0) * u128::from(other.allowed.0);
        uses.reduce(|most, next| if share(&next, &most) > share(&most, &next) { next } else { most })
    }

    pub(super) fn reserved(&self) -> NanoUsd {
        NanoUsd(self.0[Period::Total as usize].reserved)
    }

    /// When the period that is open ends, in milliseconds since 1970.
    pub(super) fn end(&self, period: Period) -> Option<u64> {
        match period {
            Period::Day => Some((self.0[0].number + 1) * calendar::DAY_MS),
            Period::Month => Some(calendar::month_of(self.0[1].number + 1)),
            Period::Total => None,
        }
    }
}

/// A budget without room.
pub(super) struct Lack {
    pub(super) period: Period,
    pub(super) allowed: NanoUsd,
    pub(super) used: NanoUsd,
    /// There will be room when requests under way have settled for less than they reserved, or for
    /// nothing.
    pub(super) will_fit: bool,
}

fn number(period: Period, unix_ms: u64) -> u64 {
    match period {
        Period::Day => unix_ms / calendar::DAY_MS,
        Period::Month => calendar::month_number(unix_ms),
        Period::Total => 0,
    }
}
