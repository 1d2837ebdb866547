//! Entity tags: by which somebody who wants to change something says what of it they have seen.
//!
//! Owns what a tag stands for: all that can be changed, secrets included, and nothing that changes by itself, such as
//! what is used of a limit. It is made under a key that is drawn at the start, so it gives nothing away; one from before
//! a restart is taken for a change.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};

use super::rows::{self, Found, Showable};
use super::{Control, State, Target};
use crate::catalog::{Kind, Shelves, shadows, shown_prices};
use crate::config::{Channel, Config, Key, User};

/// What makes tags.
#[derive(Default)]
pub(super) struct Tags(RandomState);

impl Tags {
    /// The tag of an object.
    pub(super) fn of<T: Showable>(&self, found: &Found<'_, T>) -> String {
        match found {
            Found::Declared(object) => {
                let fields = Value::from(object.fields()).to_string();
                self.tag(&("file", T::KIND.name(), fields, object.unseen()))
            }
            Found::Made { stored, shadowed } => self.tag(&("api", T::KIND.name(), stored.text(), shadowed)),
        }
    }

    /// The tag of anything else.
    pub(super) fn of_value(&self, value: &Value) -> String {
        self.tag(&value.to_string())
    }

    fn tag(&self, what: &impl std::hash::Hash) -> String {
        format!("\"{:016x}\"", self.0.hash_one(what))
    }
}

impl Control {
    /// The tag of what is to be changed; `None`: it is not there, or is not one thing.
    pub(super) fn tag_of(&self, state: &State, target: Target<'_>) -> Option<String> {
        match target {
            Target::New | Target::Users => None,
            Target::One(Kind::Key, id) | Target::Secret(id) => self.tag_of_object::<Key>(state, id),
            Target::One(Kind::User, name) => self.tag_of_object::<User>(state, name),
            Target::One(Kind::Channel, name) => self.tag_of_object::<Channel>(state, name),
            Target::Order => Some(self.order_tag(state)),
            Target::Prices => Some(self.tags.of_value(&prices(&state.file, state.catalog.shelves()))),
        }
    }

    /// Of what was made here, if there is such: what the file declares is not changed anyway.
    fn tag_of_object<T: Showable>(&self, state: &State, handle: &str) -> Option<String> {
        let called = rows::all::<T>(state).filter(|found| found.object().is_called(handle));
        called.last().map(|found| self.tags.of(&found))
    }

    fn order_tag(&self, state: &State) -> String {
        self.tags.of_value(&json!(order(&state.file, state.catalog.shelves())))
    }

    /// The price table in force, where it comes from, and its tag.
    pub(super) fn tagged_prices(&self) -> Value {
        let state = self.lock();
        let mut prices = prices(&state.file, state.catalog.shelves());
        prices["etag"] = self.tags.of_value(&prices).into();
        prices
    }

    /// The names of the channels that are put in order here, in their order, and its tag.
    pub(super) fn tagged_order(&self) -> Value {
        let state = self.lock();
        let names: Vec<String> =
            order(&state.file, state.catalog.shelves()).into_iter().map(|(name, _)| name).collect();
        json!({ "names": names, "etag": self.order_tag(&state) })
    }
}

/// The price table in force, and where it comes from.
pub(super) fn prices(file: &Config, shelves: &Shelves) -> Value {
    let made = shelves.prices.as_ref().map(|prices| &prices.table);
    let table = made.or(file.prices.as_ref());
    let origin = table.map(|_| if made.is_some() { "api" } else { "file" });
    json!({
        "origin": origin,
        "version": table.map(|table| format!("{:016x}", table.version())),
        "models": table.map_or_else(Vec::new, |table| shown_prices(table)),
    })
}

/// The channels that were made over the API and are in force, in their order, with their priorities.
pub(super) fn order(file: &Config, shelves: &Shelves) -> Vec<(String, u32)> {
    let shadows = shadows::<Channel>(file);
    let kept = shelves.channels.iter().map(|stored| &stored.meant).filter(|channel| !shadows.hide(*channel));
    let mut order: Vec<(String, u32)> = kept.map(|channel| (channel.name.clone(), channel.failover.priority)).collect();
    order.sort_by_key(|(_, priority)| *priority);
    order
}
