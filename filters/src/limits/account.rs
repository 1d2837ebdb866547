//! Owns what one key, user or channel uses, behind its lock. Refuses to know of any other account.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::price::NanoUsd;

use super::minute::Minute;
use super::money::Money;
use super::permit::Held;
use super::{BudgetUse, Exceeded, InUse, Limit, Limits, Now, Past, Spent, Standing, Subject, Taken, Use};

/// What one key, user or channel uses. Lives as long as the process, across reloads.
///
/// In this order, so that a request finds the counts of the `Arc`, this mark and the lock in one cache line.
#[repr(C)]
pub struct Account {
    /// Whether any limit was ever set. While none was, nobody takes the lock.
    is_limited: AtomicBool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) limits: Limits,
    /// Made when requests or tokens are first limited, and kept.
    pub(super) minute: Option<Minute>,
    pub(super) running: u64,
    pub(super) money: Money,
}

impl Account {
    /// An account that has spent `spent` by `now`.
    pub fn new(limits: Limits, spent: Spent, now: Now) -> Self {
        let state = State { limits, minute: None, running: 0, money: Money::new(spent, now.unix_ms) };
        Self { is_limited: AtomicBool::new(!limits.is_none()), state: Mutex::new(state) }
    }

    /// Changes the limits. What is used stays used.
    pub fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
        if !limits.is_none() {
            self.is_limited.store(true, Ordering::Release);
        }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.lock().limits
    }

    /// Whether it has limits, or had some since the process started.
    pub fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Acquire)
    }

    /// Adds what was used before anybody counted. The requests and tokens of a minute count as if they had
    /// been taken at its end, or now: a limit may hold for longer after a restart, not for shorter.
    pub fn start_from(&self, past: &Past, now: Now) {
        let mut state = self.lock();
        state.advance(now);
        state.money.add(past.spent);
        let second = now.steady_ms / 1000;
        let before = second.saturating_sub(now.unix_ms / 1000 % 60);
        let [this, last] = past.minutes;
        if let Some(minute) = &mut state.minute {
            minute.add(second, this);
            minute.add(before, last);
        }
    }

    /// Books a cost for which nothing was reserved.
    pub fn book(&self, cost: NanoUsd, now: Now) {
        if self.is_limited() {
            let mut state = self.lock();
            state.advance(now);
            let numbers = state.money.reserve(NanoUsd(0));
            state.money.settle(numbers, NanoUsd(0), cost);
        }
    }

    /// Whether a reservation would be made. Another request may take the room before it is.
    pub fn has_room(&self, wanted: Use, now: Now) -> bool {
        let mut state = self.lock();
        state.advance(now);
        state.check(Subject::Channel, wanted, now).is_ok()
    }

    /// Whether money is limited.
    pub fn has_budget(&self) -> bool {
        self.lock().limits.has_budget()
    }

    /// What is used of it.
    pub fn in_use(&self, now: Now) -> InUse {
        let mut state = self.lock();
        state.advance(now);
        let Taken { requests, tokens } = state.minute.as_ref().map(Minute::sum).unwrap_or_default();
        InUse { requests, tokens, running: state.running, spent: state.money.spent(), reserved: state.money.reserved() }
    }

    /// The budget of which most is spent by now, reservations aside; `None`: money is not limited.
    pub fn tightest_budget(&self, now: Now) -> Option<BudgetUse> {
        let mut state = self.lock();
        state.advance(now);
        state.money.tightest(&state.limits.budget)
    }

    /// Nothing panics while it is held; if something did, the figures are still whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn advance(&mut self, now: Now) {
        let second = now.steady_ms / 1000;
        match &mut self.minute {
            Some(minute) => minute.advance(second),
            None if self.limits.rpm.is_some() || self.limits.tpm.is_some() => self.minute = Some(Minute::new(second)),
            None => {}
        }
        self.money.advance(now.unix_ms);
    }

    pub(super) fn check(&self, subject: Subject, wanted: Use, now: Now) -> Result<(), Exceeded> {
        if let Some(lack) = self.money.lacks(&self.limits.budget, wanted) {
            let end = self.money.end(lack.period).map(|end| end.saturating_sub(now.unix_ms));
            let hopeless = wanted.cost > lack.allowed;
            return Err(Exceeded {
                subject,
                limit: Limit::Budget(lack.period),
                allowed: lack.allowed.0,
                used: lack.used.0,
                wanted: wanted.cost.0,
                // Those under way settle soon, most of them for less than they reserved.
                reset_ms: if hopeless {
                    None
                } else if lack.will_fit {
                    Some(1000)
                } else {
                    end
                },
                is_final: !lack.will_fit,
            });
        }
        let rates: [(Limit, Option<u64>, fn(&Taken) -> u64, u64); 2] = [
            (Limit::Rpm, self.limits.rpm, |taken| taken.requests, 1),
            (Limit::Tpm, self.limits.tpm, |taken| taken.tokens, wanted.tokens),
        ];
        for (limit, allowed, count, wanted) in rates {
            let (Some(allowed), Some(minute)) = (allowed, &self.minute) else { continue };
            let used = count(&minute.sum());
            if used.saturating_add(wanted) > allowed {
                let frees = allowed.checked_sub(wanted).map(|most| minute.falls_to(most, count) * 1000);
                let reset_ms = frees.map(|at| at.saturating_sub(now.steady_ms));
                return Err(Exceeded { subject, limit, allowed, used, wanted, reset_ms, is_final: frees.is_none() });
            }
        }
        if let Some(allowed) = self.limits.concurrency.filter(|allowed| self.running >= *allowed) {
            return Err(Exceeded {
                subject,
                limit: Limit::Concurrency,
                allowed,
                used: self.running,
                wanted: 1,
                reset_ms: None,
                is_final: false,
            });
        }
        Ok(())
    }

    pub(super) fn take(&mut self, account: &Arc<Account>, wanted: Use) -> Held {
        let taken_at = self.minute.as_mut().map(|minute| {
            minute.take(Taken { requests: 1, tokens: wanted.tokens });
            minute.newest()
        });
        self.running += 1;
        Held { account: account.clone(), taken_at, numbers: self.money.reserve(wanted.cost) }
    }

    /// How the limits of requests and of tokens stand.
    pub(super) fn standings(&self, now: Now) -> [Option<Standing>; 2] {
        let Some(minute) = &self.minute else { return [None; 2] };
        let Taken { requests, tokens } = minute.sum();
        let reset_ms = (minute.free_from() * 1000).saturating_sub(now.steady_ms);
        [(self.limits.rpm, requests), (self.limits.tpm, tokens)]
            .map(|(limit, used)| limit.map(|limit| Standing { limit, remaining: limit.saturating_sub(used), reset_ms }))
    }
}
