//! Changes of users.

use std::sync::Arc;

use serde_json::Value;
use weir_filters::secret::Secret;

use crate::config::{User, Written, Wrong, reserved};

use super::draft::{in_use, is_declared, is_not_reserved, keeps_its_name, patched};
use super::object::PASSWORD_HASH;
use super::{Draft, Object, Refused, Stored};

/// What is to become of a user's password. It is no field of the draft's: what is drafted is shown in mistakes, and what
/// is kept is a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Password {
    /// It stays as it is.
    #[default]
    Kept,
    /// There is none any more.
    None,
    /// This is the hash of the new one.
    Hashed(Secret),
}

impl Draft<'_> {
    /// Makes a user.
    pub(crate) fn make_user(&mut self, fields: &Written, password: Password) -> Result<Arc<Stored<User>>, Refused> {
        is_not_reserved(fields, reserved::user)?;
        has_no_hash(fields)?;
        self.add::<User>(&with_password(patched(Written::new(), fields), password))
    }

    /// Changes a user. Of one whom the file declares only password and role.
    pub(crate) fn change_user(&mut self, name: &str, patch: &Written, password: Password) -> Result<(), Refused> {
        has_no_hash(patch)?;
        if self.file.users.iter().any(|declared| declared.name() == name) {
            keeps_its_name(name, patch)?;
            return self.change_login(name, patch, password);
        }
        let at = self.find_in_force::<User>(name)?;
        keeps_its_name(name, patch)?;
        let written = patched(self.shelves.users[at].written(), patch);
        self.put::<User>(at, &with_password(written, password)).map(drop)
    }

    fn set(&mut self, name: &str, patch: &Written) -> Result<Arc<Stored<User>>, Refused> {
        let at = self.find_in_force::<User>(name)?;
        let written = patched(self.shelves.users[at].written(), patch);
        self.put::<User>(at, &written)
    }

    /// Changes one field of several users, or of none of them: of those that are named, or else of all that were
    /// made here.
    pub(crate) fn change_users(
        &mut self,
        named: Option<&[String]>,
        field: &str,
        value: &Value,
    ) -> Result<Vec<Arc<Stored<User>>>, Refused> {
        let patch = Written::from_iter([(field.to_owned(), value.clone())]);
        let names: Vec<String> = match named {
            None => {
                let declared = super::shadows::<User>(self.file);
                let kept = self.shelves.users.iter().map(|stored| &stored.meant);
                kept.filter(|user| !declared.hide(*user)).map(|user| user.name.clone()).collect()
            }
            Some(named) => {
                self.are_users(named)?;
                named.to_vec()
            }
        };
        names.iter().map(|name| self.set(name, &patch)).collect()
    }

    fn are_users(&self, named: &[String]) -> Result<(), Refused> {
        let declared: Vec<&str> =
            named.iter().filter(|name| self.file.users.iter().any(|user| user.name == **name)).map(|n| &**n).collect();
        if !declared.is_empty() {
            return Err(is_declared::<User>(&declared));
        }
        let known = || self.shelves.users.iter().map(|stored| stored.meant.name());
        let unknown = named.iter().enumerate().filter(|(_, name)| !known().any(|known| known == *name));
        let wrong: Vec<Wrong> =
            unknown.map(|(place, name)| Wrong::unknown(&format!("users[{place}]"), "user", name, known())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(wrong)) }
    }

    /// Takes a user away who has no keys.
    pub(crate) fn remove_user(&mut self, name: &str) -> Result<(), Refused> {
        let at = self.find::<User>(name)?;
        // Who is shadowed leaves nobody without a user.
        if !self.file.users.iter().any(|user| user.name == name) {
            let kept = self.shelves.keys.iter().map(|stored| &stored.meant);
            let keys: Vec<&str> = kept.filter(|key| key.user.as_deref() == Some(name)).map(Object::name).collect();
            if !keys.is_empty() {
                return Err(in_use::<User>(name, &keys));
            }
        }
        self.take::<User>(at);
        Ok(())
    }
}

fn with_password(mut written: Written, password: Password) -> Written {
    match password {
        Password::Kept => {}
        Password::None => {
            written.remove(PASSWORD_HASH);
        }
        Password::Hashed(hash) => {
            written.insert(PASSWORD_HASH.to_owned(), hash.expose().into());
        }
    }
    written
}

fn has_no_hash(fields: &Written) -> Result<(), Refused> {
    if fields.contains_key(PASSWORD_HASH) {
        let message = "`password_hash` is set by Weir and cannot be given; give `password`";
        return Err(Refused::invalid(PASSWORD_HASH, message));
    }
    Ok(())
}
