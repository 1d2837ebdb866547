//! Changes that are not made yet: an object more, less or different.
//!
//! Owns the rules that all kinds share. No IO, no clock, no randomness: a draft that is thrown away never was.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{Config, Written, Wrong};

use super::merge::merge;
use super::{Object, Part, Refused, Shelves, Stored};

/// How many names a message lists.
const MAX_LISTED: usize = 5;

/// A catalogue as it may become.
pub(crate) struct Draft<'f> {
    pub(super) file: &'f Config,
    pub(super) shelves: Shelves,
    touched: Option<Part>,
}

/// A draft whose parts go together.
pub(crate) struct Finished {
    /// What is to be put in force.
    pub(crate) config: Config,
    /// What is to be kept, and what of it is new.
    pub(crate) shelves: Shelves,
    pub(crate) touched: Option<Part>,
}

impl<'f> Draft<'f> {
    pub(super) fn new(file: &'f Config, shelves: Shelves) -> Self {
        Self { file, shelves, touched: None }
    }

    /// The whole, if all of it goes together.
    pub(crate) fn finish(self) -> Result<Finished, Refused> {
        let wrong = |misfits: Vec<super::merge::Misfit>| misfits.into_iter().map(|misfit| misfit.wrong).collect();
        let config = merge(self.file, &self.shelves).map_err(|misfits| Refused::Invalid(wrong(misfits)))?;
        Ok(Finished { config, shelves: self.shelves, touched: self.touched })
    }

    /// The place on its shelf of what was made here.
    ///
    /// # Errors
    /// There is none, or it is declared.
    pub(super) fn find<T: Object>(&self, handle: &str) -> Result<usize, Refused> {
        let at = T::shelf(&self.shelves).iter().position(|stored| stored.meant.is_called(handle));
        if let Some(at) = at {
            return Ok(at);
        }
        match T::of(self.file).iter().find(|declared| declared.is_called(handle)) {
            Some(declared) => Err(is_declared::<T>(&[declared.name()])),
            None => Err(Refused::NotFound(T::KIND)),
        }
    }

    /// The same for a change: what is shadowed is not changed, because that would show nowhere.
    pub(super) fn find_in_force<T: Object>(&self, name: &str) -> Result<usize, Refused> {
        if T::of(self.file).iter().any(|declared| declared.name() == name) {
            return Err(is_declared::<T>(&[name]));
        }
        self.find::<T>(name)
    }

    /// Adds an object.
    pub(super) fn add<T: Object>(&mut self, written: &Written) -> Result<Arc<Stored<T>>, Refused> {
        let stored = Arc::new(Stored::<T>::new(written)?);
        self.is_free::<T>(stored.meant.name())?;
        self.touch(Part::Objects(T::KIND));
        T::shelf_mut(&mut self.shelves).push(stored.clone());
        Ok(stored)
    }

    /// Puts another object in the place of one.
    pub(super) fn put<T: Object>(&mut self, at: usize, written: &Written) -> Result<Arc<Stored<T>>, Refused> {
        let stored = Arc::new(Stored::<T>::new(written)?);
        if stored.meant.name() != T::shelf(&self.shelves)[at].meant.name() {
            self.is_free::<T>(stored.meant.name())?;
        }
        self.touch(Part::Objects(T::KIND));
        T::shelf_mut(&mut self.shelves)[at] = stored.clone();
        Ok(stored)
    }

    /// Takes an object away.
    pub(super) fn take<T: Object>(&mut self, at: usize) {
        self.touch(Part::Objects(T::KIND));
        T::shelf_mut(&mut self.shelves).remove(at);
    }

    pub(super) fn touch(&mut self, part: Part) {
        self.touched = Some(part);
    }

    fn is_free<T: Object>(&self, name: &str) -> Result<(), Refused> {
        let kept = T::shelf(&self.shelves).iter().map(|stored| &stored.meant);
        if T::of(self.file).iter().chain(kept).any(|other| other.name() == name) {
            let message = format!("there is a {} `{name}` already", T::KIND.name());
            return Err(Refused::conflict("name_taken", message));
        }
        Ok(())
    }
}

/// What was written, with a merge patch put on it. <https://www.rfc-editor.org/rfc/rfc7396#section-2>
pub(super) fn patched(mut written: Written, patch: &Written) -> Written {
    for (field, value) in patch {
        match value {
            Value::Null => {
                written.remove(field);
            }
            Value::Object(inner) => {
                let target = match written.remove(field) {
                    Some(Value::Object(target)) => target,
                    _ => Written::new(),
                };
                written.insert(field.clone(), Value::Object(patched(target, inner)));
            }
            other => {
                written.insert(field.clone(), other.clone());
            }
        }
    }
    written
}

/// The name is what records and other objects know it by.
pub(super) fn keeps_its_name(name: &str, patch: &Written) -> Result<(), Refused> {
    match patch.get("name") {
        Some(given) if given.as_str() != Some(name) => {
            Err(Refused::Invalid(vec![Wrong::new("name", "`name` cannot be changed; make another one instead")]))
        }
        _ => Ok(()),
    }
}

/// Some names stand for something else already.
pub(super) fn is_not_reserved(fields: &Written, why: impl Fn(&str) -> Option<String>) -> Result<(), Refused> {
    match fields.get("name").and_then(Value::as_str).and_then(why) {
        Some(why) => Err(Refused::invalid("name", format!("`name` {why}"))),
        None => Ok(()),
    }
}

/// The refusal to change what the file declares.
pub(super) fn is_declared<T: Object>(names: &[&str]) -> Refused {
    let (word, verb) = if names.len() == 1 { (T::KIND.name(), "is") } else { (T::KIND.plural(), "are") };
    let message = format!("the {word} {} {verb} declared in the configuration file; change it there", listed(names));
    Refused::conflict("declared", message)
}

/// The refusal to take away what others name.
pub(super) fn in_use<T: Object>(name: &str, keys: &[&str]) -> Refused {
    let word = if keys.len() == 1 { "key" } else { "keys" };
    let message = format!("the {} `{name}` is named by the {word} {}", T::KIND.name(), listed(keys));
    Refused::conflict("in_use", message)
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
