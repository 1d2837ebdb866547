//! What the record of changes says of a change of the catalogue: the difference between what was and what is to be.
//!
//! Owns that whatever differs is recorded, by whichever command it came to be so. Knows nothing of who made it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalog::show::Shown;
use crate::catalog::{Kind, Object, Part, Shelf, Shelves, Stored};
use crate::changes::Change;
use crate::config::{Channel, Config, Key, User};

use super::Target;
use super::rows::Showable;
use super::tags::{order, prices};

/// Users whose rates are set at once and who are recorded one by one. Of more of them so many names are given, and so
/// many of the rates that they had.
const MAX_EACH: usize = 100;

/// What a change of `part` from `before` to `after` is recorded as: nothing, if it changes nothing.
pub(super) fn changes(target: Target<'_>, part: Part, file: &Config, before: &Shelves, after: &Shelves) -> Vec<Change> {
    match (target, part) {
        (Target::Order, _) => reordered(file, before, after).into_iter().collect(),
        (_, Part::Prices) => priced(file, before, after).into_iter().collect(),
        (_, Part::Logins) => let_in(file, before, after),
        (target, Part::Objects(Kind::Key)) => differing::<Key>(target, before, after),
        (Target::Users, Part::Objects(Kind::User)) => rated(before, after),
        (target, Part::Objects(Kind::User)) => differing::<User>(target, before, after),
        (target, Part::Objects(Kind::Channel)) => differing::<Channel>(target, before, after),
    }
}

/// The objects that are new, other ones or gone.
fn differing<T: Showable>(target: Target<'_>, before: &Shelves, after: &Shelves) -> Vec<Change> {
    let (before, after) = middles(T::shelf(before), T::shelf(after));
    let both = before.iter().zip(after).filter(|(old, new)| old.text() != new.text());
    let updates = both.map(|(old, new)| {
        let mut shown = new.meant.fields();
        old.meant.mark_unseen(&new.meant, &mut shown);
        change::<T>(target.verb(), &new.meant, Some(old.meant.fields()), Some(shown))
    });
    let gone = before.iter().skip(after.len());
    let gone = gone.map(|old| change::<T>("delete", &old.meant, Some(old.meant.fields()), None));
    let new = after.iter().skip(before.len());
    let new = new.map(|new| change::<T>("create", &new.meant, None, Some(new.meant.fields())));
    updates.chain(gone).chain(new).collect()
}

/// Users whose rate was set: each by itself, or all as one change if they are many. Each is a thousand bytes, and those of
/// a hundred thousand users would take the place of all changes before them.
fn rated(before: &Shelves, after: &Shelves) -> Vec<Change> {
    let (old, new) = middles(&before.users, &after.users);
    let both: Vec<_> = old.iter().zip(new).filter(|(old, new)| old.text() != new.text()).collect();
    if both.len() <= MAX_EACH {
        return differing::<User>(Target::Users, before, after);
    }
    let rate = |user: &User| user.fields().remove("price_rate").unwrap_or_default();
    let mut rates: BTreeMap<String, usize> = BTreeMap::new();
    for (old, _) in &both {
        let rate = rate(&old.meant);
        *rates.entry(rate.as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let names: Vec<&str> = both.iter().take(MAX_EACH).map(|(_, new)| new.meant.name()).collect();
    let rates: Vec<Value> =
        rates.iter().take(MAX_EACH).map(|(rate, users)| json!({ "price_rate": rate, "users": users })).collect();
    let set = both.first().map(|(_, new)| rate(&new.meant));
    vec![Change {
        action: "update",
        kind: Kind::User.name(),
        name: None,
        before: Some(Shown::from_iter([("price_rates".to_owned(), rates.into())])),
        after: Some(Shown::from_iter([
            ("price_rate".to_owned(), set.into()),
            ("users".to_owned(), both.len().into()),
            ("first_names".to_owned(), names.into()),
        ])),
    }]
}

fn change<T: Object>(action: &'static str, object: &T, before: Option<Shown>, after: Option<Shown>) -> Change {
    Change { action, kind: T::KIND.name(), name: Some(object.name().to_owned()), before, after }
}

/// What is between the objects at both ends that are the very same.
fn middles<'s, T>(before: &'s Shelf<T>, after: &'s Shelf<T>) -> (&'s [Arc<Stored<T>>], &'s [Arc<Stored<T>>]) {
    let same = |(old, new): &(&Arc<Stored<T>>, &Arc<Stored<T>>)| Arc::ptr_eq(old, new);
    let head = before.iter().zip(after).take_while(same).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
    (&before[..before.len() - tail], &after[..after.len() - tail])
}

/// Declared users who have another password or role.
fn let_in(file: &Config, before: &Shelves, after: &Shelves) -> Vec<Change> {
    let both = file.users.iter().map(|user| (user.in_force(before), user.in_force(after)));
    let other = both.filter(|(old, new)| old.role != new.role || old.password != new.password);
    let changes = other.map(|(old, new)| {
        let mut shown = new.fields();
        old.mark_unseen(&new, &mut shown);
        change::<User>("update", &*new, Some(old.fields()), Some(shown))
    });
    changes.collect()
}

fn reordered(file: &Config, before: &Shelves, after: &Shelves) -> Option<Change> {
    let (before, after) = (order(file, before), order(file, after));
    let shown = |order: &[(String, u32)]| {
        let names: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
        Shown::from_iter([("order".to_owned(), names.into())])
    };
    let change = || Change {
        action: "reorder",
        kind: Kind::Channel.name(),
        name: None,
        before: Some(shown(&before)),
        after: Some(shown(&after)),
    };
    (before != after).then(change)
}

/// Of tables of thousands the prices that differ are shown.
fn priced(file: &Config, before: &Shelves, after: &Shelves) -> Option<Change> {
    let (mut old, mut new) = (prices(file, before), prices(file, after));
    if old == new {
        return None;
    }
    let models = |table: &Value| table["models"].as_array().cloned().unwrap_or_default();
    let (olds, news) = (models(&old), models(&new));
    let texts = |models: &[Value]| models.iter().map(Value::to_string).collect::<std::collections::HashSet<_>>();
    let (in_old, in_new) = (texts(&olds), texts(&news));
    let without = |models: Vec<Value>, other: &std::collections::HashSet<String>| -> Vec<Value> {
        models.into_iter().filter(|model| !other.contains(&model.to_string())).collect()
    };
    (old["models"], new["models"]) = (json!(without(olds, &in_new)), json!(without(news, &in_old)));
    let action = if after.prices.is_some() { "update" } else { "delete" };
    let fields = |table: Value| table.as_object().cloned();
    Some(Change { action, kind: "prices", name: None, before: fields(old), after: fields(new) })
}
