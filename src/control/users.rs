//! Users who are made and changed, with their passwords.
//!
//! Owns that a password is hashed before anything else is done with it, and outside of every lock.

use serde_json::Value;
use weir_filters::secret::Secret;

use crate::catalog::{Kind, Password, Refused};
use crate::config::{User, Written};
use crate::identity;

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

    /// Takes the password out of what was given.
    fn hashed(&self, name: &str, fields: &mut Written) -> Result<Password, Refused> {
        match fields.remove("password") {
            None => Ok(Password::Kept),
            Some(Value::Null) => Ok(Password::None),
            Some(Value::String(password)) => {
                if let Some(complaint) = identity::complaint(name, &password) {
                    return Err(Refused::invalid("password", format!("`password` {complaint}")));
                }
                let hashed = self.identity.hash(Secret::new(password));
                hashed.map(Password::Hashed).map_err(|_| Refused::NoRandomness)
            }
            Some(_) => Err(Refused::invalid("password", "`password` must be text")),
        }
    }
}
