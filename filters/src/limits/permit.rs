//! Owns what one request holds of its accounts: taken from all of them or from none, and given back
//! whatever ends the request.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use super::account::{Account, State};
use super::money::Numbers;
use super::{Exceeded, Now, Standing, Subject, Taken, Use};

/// How many accounts one reservation can be made from: a key's and its user's.
pub const MAX_ACCOUNTS: usize = 2;

/// What a request took, and gives back when it is dropped.
#[must_use = "what is dropped is given back"]
pub struct Permit {
    held: [Option<Held>; MAX_ACCOUNTS],
    wanted: Use,
    has_budget: bool,
    requests: Option<Standing>,
    tokens: Option<Standing>,
}

pub(super) struct Held {
    pub(super) account: Arc<Account>,
    /// The second in which the request and its tokens were taken, where they are counted.
    pub(super) taken_at: Option<u64>,
    pub(super) numbers: Numbers,
}

/// Takes what a request is thought to use from every account, or from none.
///
/// # Errors
/// The limit that has no room for it: budgets first, because waiting does not help there.
///
/// # Panics
/// With more than [`MAX_ACCOUNTS`] accounts.
pub fn reserve(accounts: &[(Subject, Arc<Account>)], wanted: Use, now: Now) -> Result<Permit, Exceeded> {
    assert!(accounts.len() <= MAX_ACCOUNTS, "a reservation is made from at most {MAX_ACCOUNTS} accounts");
    let mut permit =
        Permit { held: [const { None }; MAX_ACCOUNTS], wanted, has_budget: false, requests: None, tokens: None };
    let mut states: [Option<(&Arc<Account>, MutexGuard<'_, State>)>; MAX_ACCOUNTS] = [const { None }; MAX_ACCOUNTS];
    let limited = accounts.iter().filter(|(_, account)| account.is_limited());
    for (place, (subject, account)) in states.iter_mut().zip(limited) {
        let (_, state) = place.insert((account, account.lock()));
        state.advance(now);
        state.check(*subject, wanted, now)?;
    }
    for (held, place) in permit.held.iter_mut().zip(&mut states) {
        let Some((account, state)) = place else { continue };
        *held = Some(state.take(account, wanted));
        permit.has_budget |= state.limits.has_budget();
        let [requests, tokens] = state.standings(now);
        permit.requests = tighter(permit.requests, requests);
        permit.tokens = tighter(permit.tokens, tokens);
    }
    Ok(permit)
}

fn tighter(a: Option<Standing>, b: Option<Standing>) -> Option<Standing> {
    [a, b].into_iter().flatten().min_by_key(|standing| standing.remaining)
}

impl Permit {
    /// Puts what was used in the place of what was reserved, and gives the places of requests under way
    /// back. The request counts in the minute, day and month in which it was let in.
    pub fn settle(mut self, used: Use) {
        for held in self.held.iter_mut().filter_map(Option::take) {
            held.end(self.wanted, Some(used));
        }
    }

    /// What was reserved.
    pub fn reserved(&self) -> Use {
        self.wanted
    }

    /// Whether money is taken of a budget.
    pub fn has_budget(&self) -> bool {
        self.has_budget
    }

    /// Whether any account with limits is behind it.
    pub fn is_limited(&self) -> bool {
        self.held.iter().any(Option::is_some)
    }

    /// How the tightest limit of requests a minute stands after this one.
    pub fn requests(&self) -> Option<Standing> {
        self.requests
    }

    /// How the tightest limit of tokens a minute stands after this one.
    pub fn tokens(&self) -> Option<Standing> {
        self.tokens
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for held in self.held.iter_mut().filter_map(Option::take) {
            held.end(self.wanted, None);
        }
    }
}

impl Held {
    /// `None`: as if the request had never been.
    fn end(self, wanted: Use, used: Option<Use>) {
        let mut state = self.account.lock();
        state.running -= 1;
        if let (Some(minute), Some(at)) = (&mut state.minute, self.taken_at) {
            let requests = u64::from(used.is_some());
            let tokens = used.unwrap_or_default().tokens;
            minute.replace(at, Taken { requests: 1, tokens: wanted.tokens }, Taken { requests, tokens });
        }
        let used = used.unwrap_or_default();
        state.money.settle(self.numbers, wanted.cost, used.cost);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("reserved", &self.wanted).finish_non_exhaustive()
    }
}
