//! Users who are made and changed, with their passwords.
//!
//! Owns that a password is hashed before anything else is done with it, and outside of every lock.

use serde_json::Value;
use weir_filters::secret::Secret;

use crate::catalog::{Draft, Kind, Password, Refused};
use crate::changes::Actor;
use crate::config::{User, Written};
use crate::identity::{self, Stamp};

use super::{Asker, Control, Target};

impl Control {
    pub(super) fn make_user(&self, mut fields: Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let password = self.hashed(&name, &mut fields)?;
        self.one::<User>("made", asker, Target::New, |draft| draft.make_user(&fields, password))
    }

    pub(super) fn change_user(&self, name: &str, mut patch: Written, asker: Asker<'_>) -> Result<Value, Refused> {
        let password = self.hashed(name, &mut patch)?;
        self.change(asker, Target::One(Kind::User, name), |draft| draft.change_user(name, &patch, password))?;
        log::info!("the user `{name}` was changed over the admin API");
        self.show::<User>(name)
    }

    /// Gives a user another password who has shown the one of that stamp; gives the stamp of the new one. Nothing is
    /// changed if the user has another one meanwhile: whoever has set that one wanted the one before to count no more.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn change_password(&self, name: &str, new: &str, seen: Stamp, who: &Actor) -> Result<Stamp, Refused> {
        let hash = self.hash(name, new)?;
        let change = |draft: &mut Draft<'_>| {
            // Who can sign in is told to the identity under the same lock.
            if self.identity.stamp_of(name) != Some(seen) {
                return Err(Refused::Changed);
            }
            draft.change_user(name, &Written::new(), Password::Hashed(hash.clone()))?;
            self.identity.stamp_with(name, &hash).ok_or(Refused::Changed)
        };
        let stamp = self.change(Asker { who, expected: None }, Target::One(Kind::User, name), change)?;
        log::info!("the user `{name}` has another password, by themselves");
        Ok(stamp)
    }

    /// Takes the password out of what was given.
    fn hashed(&self, name: &str, fields: &mut Written) -> Result<Password, Refused> {
        match fields.remove("password") {
            None => Ok(Password::Kept),
            Some(Value::Null) => Ok(Password::None),
            Some(Value::String(password)) => self.hash(name, &password).map(Password::Hashed),
            Some(_) => Err(Refused::invalid("password", "`password` must be text")),
        }
    }

    fn hash(&self, name: &str, password: &str) -> Result<Secret, Refused> {
        if let Some(complaint) = identity::complaint(name, password) {
            return Err(Refused::invalid("password", format!("`password` {complaint}")));
        }
        self.identity.hash(Secret::new(password)).map_err(|_| Refused::NoRandomness)
    }
}
