//! What may be set over the API of a user whom the file declares: a password, and a role.
//!
//! Owns that these two are kept beside the file. A user who leaves the file loses them at the next change of any; until
//! then one who comes back has them again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use weir_filters::secret::Secret;

use crate::config::{self, Config, Role, User, Written, Wrong};

use super::draft::is_declared;
use super::object::{PASSWORD_HASH, read_password_hash};
use super::users::Password;
use super::{Draft, Object, Part, Refused};

/// By the names of users.
pub(crate) type Logins = BTreeMap<String, Arc<Login>>;

/// What is set of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// In the place of the file's.
    role: Option<Role>,
    password: Option<Secret>,
}

impl Login {
    /// The declared user with it.
    pub(super) fn applied_to(&self, user: &User) -> User {
        User { role: self.role.unwrap_or(user.role), password: self.password.clone(), ..user.clone() }
    }

    /// As it is kept.
    pub(super) fn text(&self, name: &str) -> String {
        let mut written = Written::from_iter([("name".to_owned(), name.into())]);
        if let Some(role) = self.role {
            written.insert("role".to_owned(), role.name().into());
        }
        if let Some(password) = &self.password {
            written.insert(PASSWORD_HASH.to_owned(), password.expose().into());
        }
        Value::from(written).to_string()
    }

    /// What [`Login::text`] wrote, with its user's name.
    pub(super) fn read(written: &Written) -> Result<(String, Self), Vec<Wrong>> {
        let mut fields = written.clone();
        let password = fields.remove(PASSWORD_HASH).map(|hash| read_password_hash(&hash)).transpose()?;
        let role = fields.get("role").is_some_and(|role| !role.is_null());
        // The two fields that are left are those of any user.
        let user = config::read_user(&fields)?;
        Ok((user.name, Self { role: role.then_some(user.role), password }))
    }
}

impl Draft<'_> {
    /// Changes what may be changed of a declared user; nothing else.
    pub(super) fn change_login(&mut self, name: &str, patch: &Written, password: Password) -> Result<(), Refused> {
        let asks_for_more = patch.keys().any(|field| field != "role" && field != "name");
        if asks_for_more || (password == Password::Kept && !patch.contains_key("role")) {
            return Err(is_declared::<User>(&[name]));
        }
        let mut login = self.shelves.logins.get(name).map(|login| (**login).clone()).unwrap_or_default();
        if let Some(role) = patch.get("role") {
            let fields = [("name".to_owned(), name.into()), ("role".to_owned(), role.clone())];
            let read = config::read_user(&fields.into_iter().collect())?;
            login.role = (!role.is_null()).then_some(read.role);
        }
        match password {
            Password::Kept => {}
            Password::None => login.password = None,
            Password::Hashed(hash) => login.password = Some(hash),
        }
        let mut logins = std::mem::take(&mut self.shelves.logins);
        logins.insert(name.to_owned(), Arc::new(login));
        logins.retain(|name, login| **login != Login::default() && is_of_the_file(self.file, name));
        self.shelves.logins = logins;
        self.touch(Part::Logins);
        Ok(())
    }
}

fn is_of_the_file(file: &Config, name: &str) -> bool {
    file.users.iter().any(|user| user.name() == name)
}
