//! What the admin API says of an object: itself, where it comes from, its tag, and what is known of its use.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use weir_filters::calendar;
use weir_filters::health::Condition;
use weir_filters::limits::Subject;

use crate::catalog::show::{self, Shown};
use crate::catalog::{Kind, Listed, Object, Stored, shadows};
use crate::channels;
use crate::config::{Channel, Key, User};
use crate::proxy::{Shared, Snapshot};

use super::standing::{standing, time_of};
use super::tags::Tags;
use super::{State, now_ms};

/// An object that is shown.
pub(super) trait Showable: Object {
    /// Whose limits it has, and what its account is called.
    fn account(&self) -> (Subject, String);

    /// What it is found by.
    fn handle(&self) -> String {
        self.name().to_owned()
    }

    /// Its fields.
    fn fields(&self) -> Shown;

    /// What of it can be changed and is not shown: only tags are made of it.
    fn unseen(&self) -> String {
        String::new()
    }

    /// Whether `lowercase` is a part of what it is searched by.
    fn mentions(&self, lowercase: &str) -> bool {
        self.name().to_lowercase().contains(lowercase)
    }

    /// Marks in `after`, which it has become, what has changed and cannot be seen.
    fn mark_unseen(&self, _after: &Self, _shown: &mut Shown) {}

    /// What is known of it beside its fields. `shadowed`: it is not in force.
    fn add(&self, known: &Known<'_>, shadowed: bool, row: &mut Shown);
}

/// An object where it stands.
pub(super) enum Found<'s, T: Clone> {
    /// The configuration file declares it; as it is in force.
    Declared(Cow<'s, T>),
    /// It was made over the admin API; the file may declare another one of that name.
    Made { stored: &'s Arc<Stored<T>>, shadowed: bool },
}

impl<T: Showable> Found<'_, T> {
    pub(super) fn object(&self) -> &T {
        match self {
            Found::Declared(object) => object,
            Found::Made { stored, .. } => &stored.meant,
        }
    }

    pub(super) const fn is_shadowed(&self) -> bool {
        matches!(self, Found::Made { shadowed: true, .. })
    }

    /// All that a row needs, apart from the state.
    pub(super) fn drawn(&self, tags: &Tags) -> Drawn<T> {
        Drawn {
            object: self.object().clone(),
            is_declared: matches!(self, Found::Declared(_)),
            shadowed: self.is_shadowed(),
            tag: tags.of(self),
        }
    }
}

impl<T: Showable> Listed for Found<'_, T> {
    fn is_declared(&self) -> bool {
        matches!(self, Found::Declared(_))
    }

    fn handle(&self) -> String {
        self.object().handle()
    }

    fn mentions(&self, lowercase: &str) -> bool {
        self.object().mentions(lowercase)
    }
}

/// All of a kind, the declared ones first.
pub(super) fn all<T: Showable>(state: &State) -> impl Iterator<Item = Found<'_, T>> {
    let shadows = shadows::<T>(&state.file);
    let made = T::shelf(state.catalog.shelves()).iter();
    let made = made.map(move |stored| Found::Made { shadowed: shadows.hide(&stored.meant), stored });
    let shelves = state.catalog.shelves();
    T::of(&state.file).iter().map(|declared| Found::Declared(declared.in_force(shelves))).chain(made)
}

/// An object to be shown, taken out of the state: nobody waits for the state meanwhile.
pub(super) struct Drawn<T> {
    object: T,
    is_declared: bool,
    shadowed: bool,
    tag: String,
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
    /// All that is known now of these.
    pub(super) fn of<T: Showable>(shared: &'s Shared, drawn: &[Drawn<T>]) -> Self {
        let live = shared.live.load_full();
        let (mut last_used, mut channels) = (HashMap::new(), HashMap::new());
        match T::KIND {
            Kind::Key => {
                let ids: Vec<String> = drawn.iter().map(|drawn| drawn.object.handle()).collect();
                last_used = shared.ledger.last_used(&ids);
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

    /// What is said of an object.
    pub(super) fn row<T: Showable>(&self, drawn: &Drawn<T>) -> Value {
        let Drawn { object, is_declared, shadowed, tag } = drawn;
        let mut row = object.fields();
        row.insert("origin".to_owned(), if *is_declared { "file" } else { "api" }.into());
        row.insert("shadowed".to_owned(), (*shadowed).into());
        row.insert("etag".to_owned(), tag.as_str().into());
        let (subject, name) = object.account();
        let used = if *shadowed { Value::Null } else { Self::used(self.shared, subject, &name) };
        row.insert("used".to_owned(), used);
        object.add(self, *shadowed, &mut row);
        row.into()
    }

    /// What is used of somebody's limits; `null` where there are none: nothing is counted against any.
    pub(super) fn used(shared: &Shared, subject: Subject, name: &str) -> Value {
        let account = shared.accounts.find(subject, name);
        account.map(|account| show::in_use(&account.in_use(shared.accounts.at(now_ms())))).into()
    }

    /// The same of several.
    pub(super) fn rows<T: Showable>(shared: &'s Shared, drawn: &[Drawn<T>]) -> Vec<Value> {
        let known = Self::of(shared, drawn);
        drawn.iter().map(|drawn| known.row(drawn)).collect()
    }
}

/// Whether an id, which is `key_` and hex digits or such digits alone, can have this byte in it.
fn could_be_of_an_id(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || b"key_".contains(&byte)
}

impl Showable for Key {
    fn account(&self) -> (Subject, String) {
        (Subject::Key, self.id())
    }

    fn handle(&self) -> String {
        self.id()
    }

    fn fields(&self) -> Shown {
        show::key(self)
    }

    fn mentions(&self, lowercase: &str) -> bool {
        let user = self.user.as_deref().unwrap_or_default();
        [self.name.as_str(), user].iter().any(|text| text.to_lowercase().contains(lowercase))
            // To make the ids of ten thousand keys takes a while, and hardly anybody looks for one.
            || lowercase.bytes().all(could_be_of_an_id) && self.id().contains(lowercase)
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

    fn unseen(&self) -> String {
        self.password.as_ref().map(|hash| hash.expose().to_owned()).unwrap_or_default()
    }

    fn mark_unseen(&self, after: &Self, shown: &mut Shown) {
        if self.password != after.password {
            shown.insert("password_changed".to_owned(), true.into());
        }
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

    fn mark_unseen(&self, after: &Self, shown: &mut Shown) {
        let Some(Value::Array(keys)) = shown.get_mut("keys") else { return };
        for (key, shown) in after.keys.iter().zip(keys) {
            if self.keys.iter().any(|old| old.name == key.name && old.value != key.value) {
                shown["value_changed"] = true.into();
            }
        }
    }

    fn add(&self, known: &Known<'_>, shadowed: bool, row: &mut Shown) {
        let now = known.now.0;
        let running = known.channels.get(&*self.name).filter(|_| !shadowed);
        let (state, until) = standing(running.map(|running| &**running), now);
        let time = |until: Option<Instant>| until.map(|until| time_of(until, known.now));
        row.insert("state".to_owned(), state.into());
        row.insert("cooling_until".to_owned(), time(until).into());
        row.insert("in_flight".to_owned(), running.map_or(0, |running| known.live.in_flight(running)).into());
        let keys = self.keys.iter().enumerate().map(|(place, key)| {
            let condition = running.map_or(Condition::Healthy, |running| running.key_condition(place, now));
            let state = if running.is_some() { condition.name() } else { "disabled" };
            json!({ "name": key.name, "state": state, "cooling_until": time(condition.until()) })
        });
        row.insert("keys".to_owned(), keys.collect());
    }
}
