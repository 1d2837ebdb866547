//! Changes of keys.
//!
//! Owns what is a key's alone: its secret, its rotation, and how many a user may have.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use weir_filters::key::KeyDigest;

use crate::config::{Key, User, Written, Wrong};

use super::draft::patched;
use super::object::{OWN_FIELDS, written_previous};
use super::{Draft, Object, Refused, Stored};

/// What a new key is known by.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    /// What records call it, for good.
    pub(crate) id: String,
    /// The digest of its secret.
    pub(crate) sha256: [u8; 32],
}

impl Draft<'_> {
    /// Makes a key.
    pub(crate) fn make_key(&mut self, fields: &Written, new: &NewKey) -> Result<Arc<Stored<Key>>, Refused> {
        owns_none_of(fields)?;
        let mut written = patched(Written::new(), fields);
        written.insert("id".to_owned(), new.id.clone().into());
        written.insert("sha256".to_owned(), KeyDigest(new.sha256).to_string().into());
        let made = self.add::<Key>(&written)?;
        self.user_has_room(&made.meant)?;
        Ok(made)
    }

    /// Changes a key.
    pub(crate) fn change_key(&mut self, id: &str, patch: &Written) -> Result<Arc<Stored<Key>>, Refused> {
        let at = self.find::<Key>(id)?;
        owns_none_of(patch)?;
        let before = self.shelves.keys[at].clone();
        let changed = self.put::<Key>(at, &granted_anew(patched(before.written(), patch), patch))?;
        if changed.meant.user != before.meant.user {
            self.user_has_room(&changed.meant)?;
        }
        Ok(changed)
    }

    /// Gives a key another secret. The old one counts until then, if at all; one that was old already no more.
    pub(crate) fn rotate_key(
        &mut self,
        id: &str,
        sha256: [u8; 32],
        old_until: Option<SystemTime>,
    ) -> Result<Arc<Stored<Key>>, Refused> {
        let at = self.find::<Key>(id)?;
        let before = self.shelves.keys[at].clone();
        let mut written = before.written();
        written.remove("previous");
        if let Some(until) = old_until {
            written.insert("previous".to_owned(), written_previous(before.meant.sha256, until));
        }
        written.insert("sha256".to_owned(), KeyDigest(sha256).to_string().into());
        self.put::<Key>(at, &written)
    }

    /// Takes a key away.
    pub(crate) fn remove_key(&mut self, id: &str) -> Result<(), Refused> {
        let at = self.find::<Key>(id)?;
        self.take::<Key>(at);
        Ok(())
    }

    pub(super) fn user_has_room(&self, key: &Key) -> Result<(), Refused> {
        let Some(name) = key.user.as_deref() else { return Ok(()) };
        let mut kept = self.shelves.users.iter().map(|stored| &stored.meant);
        let user: Option<&User> = self.file.users.iter().chain(&mut kept).find(|user| user.name() == name);
        // Whether there is one is found out with everything else.
        let Some(user) = user else { return Ok(()) };
        let kept = self.shelves.keys.iter().map(|stored| &stored.meant);
        let keys = self.file.keys.iter().chain(kept).filter(|key| key.user.as_deref() == Some(name)).count();
        if keys > user.max_keys {
            let message =
                format!("the user `{name}` may have {} keys and has as many; raise `max_keys`", user.max_keys);
            return Err(Refused::conflict("too_many_keys", message));
        }
        Ok(())
    }
}

/// What an administrator says of a key is what its user may have from now on.
fn granted_anew(mut written: Written, patch: &Written) -> Written {
    if let Some(Value::Object(granted)) = written.get_mut("granted") {
        for (field, kept_as) in [("enabled", "enabled"), ("expires", "expires_ms")] {
            if patch.contains_key(field) {
                granted.remove(kept_as);
            }
        }
    }
    written
}

fn owns_none_of(fields: &Written) -> Result<(), Refused> {
    let own = OWN_FIELDS.iter().filter(|field| fields.contains_key(**field));
    let wrong: Vec<Wrong> =
        own.map(|field| Wrong::new(*field, format!("`{field}` is set by Weir and cannot be given"))).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(wrong)) }
}
