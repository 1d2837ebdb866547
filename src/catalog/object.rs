//! An object as it is kept: as it was written, and as it is meant.
//!
//! Owns what the kinds have in common, and the fields that a key and a user have beside those of the file. Knows
//! nothing of documents and of other objects.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_filters::key::KeyDigest;
use weir_filters::secret::Secret;

use crate::config::{self, Channel, Config, Granted, Identity, Key, Previous, User, Written, Wrong};

use super::{Kind, Shelf, Shelves};

/// A kind of object.
pub(crate) trait Object: Clone + Send + Sync + 'static {
    /// Which.
    const KIND: Kind;

    /// Reads one that was kept or is to be.
    fn read(written: &Written) -> Result<Self, Vec<Wrong>>;

    /// Its name.
    fn name(&self) -> &str;

    /// What it is found by.
    fn is_called(&self, handle: &str) -> bool {
        self.name() == handle
    }

    /// The digests of its secrets, if it has such.
    fn digests(&self) -> Vec<[u8; 32]> {
        Vec::new()
    }

    /// A declared one as it is in force, with what may be set of it over the API.
    fn in_force<'o>(&'o self, _shelves: &Shelves) -> Cow<'o, Self> {
        Cow::Borrowed(self)
    }

    /// Those of a configuration.
    fn of(config: &Config) -> &Vec<Self>;

    /// The same, to be added to.
    fn of_mut(config: &mut Config) -> &mut Vec<Self>;

    /// Those that are kept.
    fn shelf(shelves: &Shelves) -> &Shelf<Self>;

    /// The same, to be changed.
    fn shelf_mut(shelves: &mut Shelves) -> &mut Shelf<Self>;
}

/// An object and what it was read from.
pub(crate) struct Stored<T> {
    /// Short JSON. It may hold secrets: it goes to the disk and nowhere else.
    text: String,
    pub(crate) meant: T,
}

impl<T: Object> Stored<T> {
    pub(super) fn new(written: &Written) -> Result<Self, Vec<Wrong>> {
        let meant = T::read(written)?;
        let text = serde_json::to_string(written).map_err(|e| vec![Wrong::new("", e.to_string())])?;
        Ok(Self { text, meant })
    }

    /// As it was written.
    pub(super) fn written(&self) -> Written {
        serde_json::from_str(&self.text).expect("it was made from such an object")
    }
}

impl<T> Stored<T> {
    /// As it is kept. It may hold secrets.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Fields of a key that are Weir's own: whoever uses the API does not give them.
pub(super) const OWN_FIELDS: [&str; 4] = ["id", "sha256", "previous", "granted"];

/// The field of a user in which the hash of their password is kept. It is Weir's own too: `password` is what is given.
pub(super) const PASSWORD_HASH: &str = "password_hash";

impl Object for Key {
    const KIND: Kind = Kind::Key;

    fn read(written: &Written) -> Result<Self, Vec<Wrong>> {
        let mut fields = written.clone();
        let id = fields.remove("id");
        let id = id.as_ref().and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| vec![Wrong::new("id", "`id` is missing")])?;
        let previous = fields.remove("previous").map(|previous| read_previous(&previous)).transpose();
        let previous = previous.map_err(|message| vec![Wrong::new("previous", message)])?;
        let granted = fields.remove("granted").map_or(Ok(Granted::default()), |granted| read_granted(&granted));
        let granted = granted.map_err(|message| vec![Wrong::new("granted", message)])?;
        let mut key = config::read_key(&fields)?;
        key.identity = Some(Identity { id: id.to_owned(), previous, granted });
        Ok(key)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_called(&self, handle: &str) -> bool {
        match &self.identity {
            Some(identity) => identity.id == handle,
            None => self.id() == handle,
        }
    }

    fn digests(&self) -> Vec<[u8; 32]> {
        let previous = self.identity.as_ref().and_then(|identity| identity.previous.as_ref());
        previous.map(|previous| previous.sha256).into_iter().chain([self.sha256]).collect()
    }

    fn of(config: &Config) -> &Vec<Self> {
        &config.keys
    }

    fn of_mut(config: &mut Config) -> &mut Vec<Self> {
        &mut config.keys
    }

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.keys
    }

    fn shelf_mut(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.keys
    }
}

/// A digest that still counts until some time, as it is kept.
pub(super) fn written_previous(sha256: [u8; 32], until: SystemTime) -> Value {
    let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
    let until_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    json!({ "sha256": KeyDigest(sha256).to_string(), "until_ms": until_ms })
}

fn read_previous(written: &Value) -> Result<Previous, &'static str> {
    let sha256 = written["sha256"].as_str().and_then(config::read_sha256).ok_or("`previous` has no SHA-256")?;
    let until = written["until_ms"].as_u64().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    Ok(Previous { sha256, until: until.ok_or("`previous` has no end")? })
}

/// What was granted, as it is kept.
pub(super) fn written_granted(granted: &Granted) -> Value {
    let mut written = Written::new();
    if let Some(enabled) = granted.enabled {
        written.insert("enabled".to_owned(), enabled.into());
    }
    if let Some(expires) = granted.expires {
        let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        written.insert("expires_ms".to_owned(), expires.and_then(|at| u64::try_from(since(at)).ok()).into());
    }
    written.into()
}

fn read_granted(written: &Value) -> Result<Granted, &'static str> {
    let enabled = match &written["enabled"] {
        Value::Null => None,
        enabled => Some(enabled.as_bool().ok_or("`granted` has an `enabled` that is none")?),
    };
    let expires = match written.get("expires_ms") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(ms) => {
            let at = ms.as_u64().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
            Some(Some(at.ok_or("`granted` has an end that is none")?))
        }
    };
    Ok(Granted { enabled, expires })
}

/// A password's hash as it is kept.
pub(super) fn read_password_hash(written: &Value) -> Result<Secret, Vec<Wrong>> {
    let hash = written.as_str().filter(|hash| hash.starts_with("$argon2id$"));
    hash.map(Secret::new).ok_or_else(|| vec![Wrong::new(PASSWORD_HASH, "`password_hash` is none of argon2id")])
}

impl Object for User {
    const KIND: Kind = Kind::User;

    fn read(written: &Written) -> Result<Self, Vec<Wrong>> {
        let mut fields = written.clone();
        let password = fields.remove(PASSWORD_HASH).map(|hash| read_password_hash(&hash)).transpose()?;
        Ok(Self { password, ..config::read_user(&fields)? })
    }

    fn in_force<'o>(&'o self, shelves: &Shelves) -> Cow<'o, Self> {
        match shelves.logins.get(&self.name) {
            Some(login) => Cow::Owned(login.applied_to(self)),
            None => Cow::Borrowed(self),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn of(config: &Config) -> &Vec<Self> {
        &config.users
    }

    fn of_mut(config: &mut Config) -> &mut Vec<Self> {
        &mut config.users
    }

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.users
    }

    fn shelf_mut(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.users
    }
}

impl Object for Channel {
    const KIND: Kind = Kind::Channel;

    fn read(written: &Written) -> Result<Self, Vec<Wrong>> {
        config::read_channel(written)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn of(config: &Config) -> &Vec<Self> {
        &config.channels
    }

    fn of_mut(config: &mut Config) -> &mut Vec<Self> {
        &mut config.channels
    }

    fn shelf(shelves: &Shelves) -> &Shelf<Self> {
        &shelves.channels
    }

    fn shelf_mut(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.channels
    }
}
