//! The accounts of keys, users and channels: what they have used, from the first request to the last,
//! whatever is reloaded meanwhile.
//!
//! Owns which accounts there are, and what they start from. It refuses to know what a limit is (that is
//! [`weir_filters::limits`]) and where figures are kept (the ledger).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_filters::limits::{Account, Limits, Now, Past, Spent, Subject};
use weir_filters::price::NanoUsd;

use crate::clock;
use crate::ledger::{Ledger, Spends};

/// Every account that has, or once had, a limit. Others are not counted: whoever has no limits takes no lock.
pub struct Accounts {
    started: Instant,
    known: Mutex<HashMap<(Subject, Box<str>), Arc<Account>>>,
    /// Raised before accounts are added: a request that ends in a later epoch than it began in may belong to
    /// an account that it did not know.
    epoch: AtomicU64,
}

/// Where the steady clock starts: there is room for the two minutes before.
const BEFORE: Duration = Duration::from_secs(180);

/// Somebody who has limits.
pub(crate) struct Limited {
    pub(crate) subject: Subject,
    /// A key's id, a user's or a channel's name: what the ledger calls it.
    pub(crate) name: String,
    pub(crate) limits: Limits,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// None.
    pub fn new() -> Self {
        Self { started: Instant::now(), known: Mutex::default(), epoch: AtomicU64::new(0) }
    }

    /// Puts limits in force: those that are `limited` have these limits from now on, all others have none.
    /// Who is new starts from what the ledger says was spent. Not for the threads that serve: it asks the
    /// ledger.
    pub(crate) fn apply(&self, limited: &[Limited], ledger: &Ledger, unix_ms: u64) {
        let now = self.at(unix_ms);
        let is_new = {
            let known = self.lock();
            limited.iter().any(|who| !known.contains_key(&(who.subject, who.name.as_str().into())))
        };
        let mut added = Vec::new();
        if is_new {
            // From here on whoever ends books what nobody reserved; what ended before is in the ledger. A
            // request that ends right now can be in both: a limit may hold early, never late.
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let mut known = self.lock();
            for who in limited {
                known.entry((who.subject, who.name.as_str().into())).or_insert_with(|| {
                    let account = Arc::new(Account::new(who.limits, Spent::default(), now));
                    added.push((who.subject, who.name.as_str(), account.clone()));
                    account
                });
            }
            drop(known);
            let spends = ledger.spends(unix_ms);
            for (subject, name, account) in &added {
                account.start_from(&past(&spends, *subject, name), now);
            }
        }
        let known = self.lock();
        let mut limits: HashMap<(Subject, &str), Limits> =
            limited.iter().map(|who| ((who.subject, who.name.as_str()), who.limits)).collect();
        for ((subject, name), account) in known.iter() {
            account.set_limits(limits.remove(&(*subject, &**name)).unwrap_or_default());
        }
    }

    /// The account of that name, if it has limits.
    pub(crate) fn find(&self, subject: Subject, name: &str) -> Option<Arc<Account>> {
        self.lock().get(&(subject, Box::from(name))).cloned()
    }

    /// The number of the latest additions.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Books what a request cost that did not know its accounts, because they had no limits when it began.
    pub(crate) fn book<'a>(&self, names: impl IntoIterator<Item = (Subject, &'a str)>, cost: NanoUsd, unix_ms: u64) {
        for (subject, name) in names {
            if let Some(account) = self.find(subject, name) {
                account.book(cost, self.at(unix_ms));
            }
        }
    }

    /// The time of a request that arrived at `unix_ms` and is looked at now.
    pub(crate) fn at(&self, unix_ms: u64) -> Now {
        let steady = clock::now().saturating_duration_since(self.started) + BEFORE;
        Now { steady_ms: u64::try_from(steady.as_millis()).unwrap_or(u64::MAX), unix_ms }
    }

    /// Nothing that could panic is done under it.
    fn lock(&self) -> MutexGuard<'_, HashMap<(Subject, Box<str>), Arc<Account>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn past(spends: &Spends, subject: Subject, name: &str) -> Past {
    let of = match subject {
        Subject::Key => &spends.keys,
        Subject::User => &spends.users,
        Subject::Channel => &spends.channels,
    };
    of.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use weir_filters::limits::{Budget, Use, reserve};

    use crate::config::Durability;
    use crate::ledger::{LedgerOptions, WhenLocked};

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn ledger(directory: &std::path::Path) -> Ledger {
        let options = LedgerOptions {
            directory: directory.to_owned(),
            shards: 1,
            durability: Durability::Relaxed,
            keep_minutes: std::time::Duration::from_secs(3600),
            keep_hours: std::time::Duration::from_secs(3600),
            when_locked: WhenLocked::Refuse,
        };
        Ledger::open(options).expect("a new ledger")
    }

    fn budget(name: &str, total: u64) -> Limited {
        let budget = Budget { total: Some(NanoUsd(total)), ..Budget::default() };
        Limited { subject: Subject::Key, name: name.into(), limits: Limits { budget, ..Limits::default() } }
    }

    #[test]
    fn a_new_account_starts_from_what_the_ledger_says_and_an_old_one_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = ledger(directory.path());
        for (id, day) in [(1, 10), (2, 40), (3, 41), (4, 41)] {
            ledger.append(&crate::ledger::settlement(id, day * DAY_MS));
        }
        let accounts = Accounts::new();
        let now = 41 * DAY_MS + 5;
        accounts.apply(&[budget("k1", 100)], &ledger, now);
        let account = accounts.find(Subject::Key, "k1").expect("it has a limit");
        let spent = |account: &Account| {
            let spent = account.in_use(accounts.at(now)).spent;
            (spent.day.0, spent.month.0, spent.total.0)
        };
        assert_eq!(spent(&account), (14, 21, 28), "each of them cost 7");
        let taken = [(Subject::Key, account.clone())];
        reserve(&taken, Use { tokens: 0, cost: NanoUsd(9) }, accounts.at(now))
            .expect("there is room")
            .settle(Use { tokens: 0, cost: NanoUsd(9) });
        accounts.apply(&[budget("k1", 37)], &ledger, now);
        assert_eq!(spent(&account), (23, 30, 37), "a reload does not ask the ledger again");
        assert!(reserve(&taken, Use { tokens: 1, ..Use::default() }, accounts.at(now)).is_err());
        accounts.apply(&[], &ledger, now);
        assert!(
            reserve(&taken, Use { tokens: 1, ..Use::default() }, accounts.at(now)).is_ok(),
            "a limit that is gone holds nobody"
        );
    }

    #[test]
    fn what_ends_after_limits_were_set_is_booked() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = ledger(directory.path());
        let accounts = Accounts::new();
        let began = accounts.epoch();
        accounts.apply(&[budget("k1", 100)], &ledger, DAY_MS);
        assert_ne!(accounts.epoch(), began);
        accounts.book([(Subject::Key, "k1"), (Subject::User, "nobody")], NanoUsd(5), DAY_MS);
        let account = accounts.find(Subject::Key, "k1").expect("it has a limit");
        assert_eq!(account.in_use(accounts.at(DAY_MS)).spent.total, NanoUsd(5));
    }
}
