//! What the admin API says of an object: itself, where it comes from, and what is known of its use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use weir_filters::calendar;
use weir_filters::health::Condition;
use weir_filters::limits::Subject;

use crate::catalog::show::{self, Shown};
use crate::catalog::{Kind, Object};
use crate::channels;
use crate::config::{Channel, Key, User};
use crate::proxy::{Shared, Snapshot};

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

    /// What is known of it beside them. `shadowed`: it is not in force.
    fn add(&self, known: &Known<'_>, shadowed: bool, row: &mut Shown);
}

/// What is known of the use of objects.
pub(super) struct Known<'s> {
    shared: &'s Shared,
    live: Arc<Snapshot>,
    /// By a key's id or a user's name, in milliseconds since 1970.
    last_used: HashMap<String, u64>,
    /// Those in force, by name.
    channels: HashMap<Arc<str>, Arc<channels::Channel>>,
    now: (Instant, u64),
}

impl<'s> Known<'s> {
    /// All that is known now of objects of a kind.
    pub(super) fn of(shared: &'s Shared, kind: Kind) -> Self {
        let live = shared.live.load_full();
        let (mut last_used, mut channels) = (HashMap::new(), HashMap::new());
        match kind {
            Kind::Key => {
                last_used.extend(shared.ledger.key_totals().into_iter().map(|key| (key.key_id, key.last_used_ms)));
            }
            Kind::User => last_used = shared.ledger.user_last_used(),
            Kind::Channel => channels.extend(live.channels().iter().map(|one| (one.name().clone(), one.clone()))),
        }
        Self { shared, live, last_used, channels, now: (Instant::now(), now_ms()) }
    }

    fn add_last_used(&self, handle: &str, row: &mut Shown) {
        let last_used = self.last_used.get(handle).map(|ms| calendar::rfc3339(*ms));
        row.insert("last_used".to_owned(), last_used.into());
    }

    /// A moment as the time of day.
    fn time_of(&self, moment: Instant) -> String {
        let (now, now_ms) = self.now;
        let ahead = u64::try_from(moment.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        calendar::rfc3339(now_ms.saturating_add(ahead))
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
        let account = self.shared.accounts.find(subject, &name).filter(|_| !shadowed);
        let used = account.map(|account| show::in_use(&account.in_use(self.shared.accounts.at(now_ms()))));
        // `null` where there are no limits: nothing is counted against any.
        row.insert("used".to_owned(), used.into());
        object.add(self, shadowed, &mut row);
        row.into()
    }
}

impl Showable for Key {
    fn account(&self) -> (Subject, String) {
        (Subject::Key, self.id())
    }

    fn fields(&self) -> Shown {
        show::key(self)
    }

    fn add(&self, known: &Known<'_>, _shadowed: bool, row: &mut Shown) {
        known.add_last_used(&self.id(), row);
    }
}

impl Showable for User {
    fn account(&self) -> (Subject, String) {
        (Subject::User, self.name.clone())
    }

    fn fields(&self) -> Shown {
        show::user(self)
    }

    fn add(&self, known: &Known<'_>, _shadowed: bool, row: &mut Shown) {
        known.add_last_used(&self.name, row);
    }
}

impl Showable for Channel {
    fn account(&self) -> (Subject, String) {
        (Subject::Channel, self.name.clone())
    }

    fn fields(&self) -> Shown {
        show::channel(self)
    }

    fn add(&self, known: &Known<'_>, shadowed: bool, row: &mut Shown) {
        let now = known.now.0;
        let running = known.channels.get(&*self.name).filter(|_| !shadowed);
        let condition = running.map_or(Condition::Healthy, |running| running.condition(now));
        let state = match running {
            None => "disabled",
            Some(running) if running.is_drained() => "draining",
            Some(_) => condition.name(),
        };
        let until = |condition: Condition| condition.until().map(|until| known.time_of(until));
        row.insert("state".to_owned(), state.into());
        row.insert("cooling_until".to_owned(), until(condition).into());
        row.insert("in_flight".to_owned(), running.map_or(0, |running| known.live.in_flight(running)).into());
        let keys = self.keys.iter().enumerate().map(|(place, key)| {
            let condition = running.map_or(Condition::Healthy, |running| running.key_condition(place, now));
            let state = if running.is_some() { condition.name() } else { "disabled" };
            json!({ "name": key.name, "state": state, "cooling_until": until(condition) })
        });
        row.insert("keys".to_owned(), keys.collect());
    }
}
