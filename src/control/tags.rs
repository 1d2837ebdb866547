//! Entity tags: by which somebody who wants to change something says what of it they have seen.
//!
//! Owns what a tag stands for: all that can be changed, secrets included, and nothing that changes by itself, such as
//! what is used of a limit. It is made under a key that is drawn at the start, so it gives nothing away; one from before
//! a restart is taken for a change.

use std::hash::{BuildHasher, RandomState};

use serde_json::Value;

use super::rows::{Found, Showable};

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
