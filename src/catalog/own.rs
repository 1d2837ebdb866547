//! What users do with keys of their own.
//!
//! Owns that nobody gets more that way than an administrator has set: a user names, disables and ends keys, and makes
//! others like those they have. No IO, no clock, no randomness.
//!
//! A key is made like another one of the user's: it may do the same, and nothing more. A key that has limits of its own
//! is not made twice, because two of them would have twice the limits; what a user may use in all belongs to the user.
//! What a user has been granted is nowhere but in the user's keys: so an administrator makes the first one, and the user
//! does not remove the last one. Who has lost every key to an administrator gets none by asking for one.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::config::{Granted, Key, Written, Wrong};

use super::draft::patched;
use super::object::written_granted;
use super::{Draft, Kind, NewKey, Object, Refused, Stored, shadows};

/// Who asks for their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user, by name.
    User(String),
    /// A key by itself: whoever has it need not be its user.
    Key {
        /// What records call it.
        id: String,
        /// Its name at present.
        name: String,
        /// Its user's name, if it has one.
        user: Option<String>,
    },
}

/// What is asked or changed of one's own.
#[derive(Clone, Debug)]
pub enum Own {
    /// The limits, and what is used of them.
    Limits,
    /// The models that may be used, and what they cost whoever asks.
    Models,
    /// The keys.
    Keys,
    /// Another key of the user's: `{name, enabled?, expires?, like?}`.
    MakeKey(Written),
    /// A merge patch for the key of that id: `{name?, enabled?, expires?}`.
    ChangeKey(String, Written),
    /// No more of the key of that id.
    RemoveKey(String),
    /// Another secret for the key of that id.
    RotateKey(String, Written),
}

impl Own {
    /// Whether anything is changed.
    pub const fn is_change(&self) -> bool {
        !matches!(self, Own::Limits | Own::Models | Own::Keys)
    }
}

/// Fields of a key's row that its user sees.
pub(crate) const OWN_KEY_FIELDS: [&str; 13] = [
    "id",
    "name",
    "user",
    "enabled",
    "expires",
    "protocols",
    "models",
    "limits",
    "used",
    "last_used",
    "previous_until",
    "origin",
    "shadowed",
];

/// What a user gives of a key.
const FIELDS: [&str; 3] = ["name", "enabled", "expires"];

/// What an administrator gives of one.
const SET_BY_OTHERS: [&str; 5] = ["user", "protocols", "models", "channels", "limits"];

impl Draft<'_> {
    /// Makes a key of the user's.
    pub(crate) fn make_own_key(
        &mut self,
        user: &str,
        fields: &Written,
        new: &NewKey,
        now: SystemTime,
    ) -> Result<Arc<Stored<Key>>, Refused> {
        gives_only(fields, &[&FIELDS[..], &["like"]].concat())?;
        let mut fields = fields.clone();
        let like = match fields.remove("like") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id),
            Some(_) => return Err(Refused::invalid("like", "`like` must be the id of a key")),
        };
        let model = self.model_for(user, like.as_deref(), now)?;
        let globs = |globs: &[weir_filters::glob::Glob]| globs.iter().map(|glob| glob.as_str().into()).collect();
        let lists: [(&str, Vec<Value>); 3] = [
            ("protocols", model.protocols.iter().map(|protocol| protocol.name().into()).collect()),
            ("models", globs(&model.models)),
            ("channels", globs(&model.channels)),
        ];
        let named = lists.into_iter().filter(|(_, list)| !list.is_empty());
        fields.extend(named.map(|(field, list)| (field.to_owned(), list.into())));
        let ceiling = granted_of(&model).1;
        if let (Some(end), None | Some(Value::Null)) = (ceiling, fields.get("expires")) {
            fields.insert("expires".to_owned(), rfc3339(end).into());
        }
        fields.insert("user".to_owned(), user.into());
        let mut written = patched(Written::new(), &fields);
        written.insert("id".to_owned(), new.id.clone().into());
        written.insert("sha256".to_owned(), weir_filters::key::KeyDigest(new.sha256).to_string().into());
        let granted = Granted { enabled: Some(true), expires: Some(ceiling) };
        written.insert("granted".to_owned(), written_granted(&granted));
        let made = self.add::<Key>(&written)?;
        is_within(&made.meant, true, ceiling)?;
        self.user_has_room(&made.meant)?;
        Ok(made)
    }

    /// Changes a key of the user's.
    pub(crate) fn change_own_key(
        &mut self,
        user: &str,
        id: &str,
        patch: &Written,
    ) -> Result<Arc<Stored<Key>>, Refused> {
        let at = self.find_own(user, id)?;
        gives_only(patch, &FIELDS)?;
        let before = self.shelves.keys[at].clone();
        let (enabled, expires) = granted_of(&before.meant);
        let mut written = patched(before.written(), patch);
        written
            .insert("granted".to_owned(), written_granted(&Granted { enabled: Some(enabled), expires: Some(expires) }));
        let changed = self.put::<Key>(at, &written)?;
        is_within(&changed.meant, enabled, expires)?;
        Ok(changed)
    }

    /// Takes a key of the user's away.
    pub(crate) fn remove_own_key(&mut self, user: &str, id: &str) -> Result<(), Refused> {
        let at = self.find_own(user, id)?;
        if !self.keys_of(user).iter().any(|other| other.id() != id) {
            let message = "this is your last key, and says what you may do; disable it, or make another one first";
            return Err(Refused::conflict("not_granted", message.to_owned()));
        }
        self.take::<Key>(at);
        Ok(())
    }

    /// The place of a key that may be changed and is the user's: of others it is not even said that they are there.
    pub(crate) fn find_own(&self, user: &str, id: &str) -> Result<usize, Refused> {
        let declared = self.file.keys.iter().chain(self.shelves.keys.iter().map(|stored| &stored.meant));
        if !declared.filter(|key| key.is_called(id)).any(|key| key.user.as_deref() == Some(user)) {
            return Err(Refused::NotFound(Kind::Key));
        }
        self.find::<Key>(id)
    }

    /// Which of the user's keys another one may be made like.
    fn model_for(&self, user: &str, like: Option<&str>, now: SystemTime) -> Result<Key, Refused> {
        let keys = self.keys_of(user);
        let mut candidates = keys.iter().filter(|key| like.is_none_or(|id| key.is_called(id)));
        if like.is_some() && candidates.clone().next().is_none() {
            return Err(Refused::invalid("like", "`like` names none of your keys"));
        }
        if keys.is_empty() {
            let message = "an administrator makes the first key: it says what the ones that you make may do";
            return Err(Refused::conflict("not_granted", message.to_owned()));
        }
        let may_be_had_twice = |key: &&&Key| {
            let (enabled, expires) = granted_of(key);
            key.limits.is_none() && enabled && expires.is_none_or(|end| end > now)
        };
        if let Some(key) = candidates.find(may_be_had_twice) {
            return Ok((*key).clone());
        }
        let message = "an administrator has to make this key: what you have is disabled, over, or has limits of its \
                       own, which a second key would double";
        Err(Refused::conflict("not_granted", message.to_owned()))
    }

    /// Those in force, the declared ones first.
    fn keys_of(&self, user: &str) -> Vec<&Key> {
        let shadows = shadows::<Key>(self.file);
        let made = self.shelves.keys.iter().map(|stored| &stored.meant).filter(|key| !shadows.hide(*key));
        self.file.keys.iter().chain(made).filter(|key| key.user.as_deref() == Some(user)).collect()
    }
}

/// Whether the key's user may enable it, and the latest end that they may give it.
fn granted_of(key: &Key) -> (bool, Option<SystemTime>) {
    let granted = key.identity.as_ref().map(|identity| identity.granted).unwrap_or_default();
    (granted.enabled.unwrap_or(key.enabled), granted.expires.unwrap_or(key.expires))
}

fn is_within(key: &Key, enabled: bool, expires: Option<SystemTime>) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::conflict("not_granted", message));
    if key.enabled && !enabled {
        return refused("an administrator has disabled this key".to_owned());
    }
    match expires {
        Some(latest) if key.expires.is_none_or(|end| end > latest) => {
            refused(format!("an administrator lets this key end at {} at the latest", rfc3339(latest)))
        }
        _ => Ok(()),
    }
}

fn gives_only(fields: &Written, known: &[&'static str]) -> Result<(), Refused> {
    let wrong = |field: &String| {
        if known.contains(&field.as_str()) {
            None
        } else if SET_BY_OTHERS.contains(&field.as_str()) {
            Some(Wrong::new(field, format!("`{field}` is set by administrators")))
        } else {
            Some(Wrong::unknown(field, "field", field, known.iter().copied()))
        }
    };
    let wrong: Vec<Wrong> = fields.keys().filter_map(wrong).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(wrong)) }
}

fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    weir_filters::calendar::rfc3339(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
