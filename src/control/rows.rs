//! What the admin API says of an object: itself, where it comes from, and what is known of its use.

use std::collections::HashMap;

use serde_json::Value;
use weir_filters::calendar;
use weir_filters::limits::Subject;

use crate::catalog::Object;
use crate::catalog::show::{self, Shown};
use crate::config::{Channel, Key, User};
use crate::proxy::Shared;

use super::now_ms;

/// Where an object comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// The configuration file declares it.
    File,
    /// It was made over the admin API; the file may declare another one of that name.
    Api { shadowed: bool },
}

/// An object that is shown.
pub(super) trait Showable: Object {
    /// Whose limits it has, and what its account is called.
    fn account(&self) -> (Subject, String);

    /// Its fields.
    fn fields(&self) -> Shown;

    /// What is known of it beside them.
    fn add(&self, _known: &Known<'_>, _row: &mut Shown) {}
}

/// What is known of the use of objects.
pub(super) struct Known<'s> {
    shared: &'s Shared,
    /// By the key's id, in milliseconds since 1970.
    last_used: HashMap<String, u64>,
}

impl<'s> Known<'s> {
    /// All that is known now.
    pub(super) fn of(shared: &'s Shared) -> Self {
        let totals = shared.ledger.key_totals().into_iter();
        Self { shared, last_used: totals.map(|total| (total.key_id, total.last_used_ms)).collect() }
    }

    /// What is said of an object.
    pub(super) fn row<T: Showable>(&self, object: &T, origin: Origin) -> Value {
        let (word, shadowed) = match origin {
            Origin::File => ("file", false),
            Origin::Api { shadowed } => ("api", shadowed),
        };
        let mut row = object.fields();
        row.insert("origin".to_owned(), word.into());
        row.insert("shadowed".to_owned(), shadowed.into());
        let (subject, name) = object.account();
        let used = if shadowed { Value::Null } else { used(self.shared, subject, &name) };
        row.insert("used".to_owned(), used);
        object.add(self, &mut row);
        row.into()
    }
}

/// What is used of somebody's limits; `null` where there are none: nothing is counted against any.
pub(super) fn used(shared: &Shared, subject: Subject, name: &str) -> Value {
    let account = shared.accounts.find(subject, name);
    account.map(|account| show::in_use(&account.in_use(shared.accounts.at(now_ms())))).into()
}

impl Showable for Key {
    fn account(&self) -> (Subject, String) {
        (Subject::Key, self.id())
    }

    fn fields(&self) -> Shown {
        show::key(self)
    }

    fn add(&self, known: &Known<'_>, row: &mut Shown) {
        let last_used = known.last_used.get(&self.id()).map(|ms| calendar::rfc3339(*ms));
        row.insert("last_used".to_owned(), last_used.into());
    }
}

impl Showable for User {
    fn account(&self) -> (Subject, String) {
        (Subject::User, self.name.clone())
    }

    fn fields(&self) -> Shown {
        show::user(self)
    }
}

impl Showable for Channel {
    fn account(&self) -> (Subject, String) {
        (Subject::Channel, self.name.clone())
    }

    fn fields(&self) -> Shown {
        show::channel(self)
    }
}
