//! An object as it is kept: as it was written, and as it is meant.
//!
//! Owns what the kinds have in common, and the fields that a key has beside those of the file. Knows nothing of
//! documents and of other objects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_filters::key::KeyDigest;

use crate::config::{self, Channel, Config, Identity, Key, Previous, User, Written, Wrong};

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
pub(super) const OWN_FIELDS: [&str; 3] = ["id", "sha256", "previous"];

impl Object for Key {
    const KIND: Kind = Kind::Key;

    fn read(written: &Written) -> Result<Self, Vec<Wrong>> {
        let mut fields = written.clone();
        let id = fields.remove("id");
        let id = id.as_ref().and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| vec![Wrong::new("id", "`id` is missing")])?;
        let previous = fields.remove("previous").map(|previous| read_previous(&previous)).transpose();
        let previous = previous.map_err(|message| vec![Wrong::new("previous", message)])?;
        let mut key = config::read_key(&fields)?;
        key.identity = Some(Identity { id: id.to_owned(), previous });
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

impl Object for User {
    const KIND: Kind = Kind::User;

    fn read(written: &Written) -> Result<Self, Vec<Wrong>> {
        config::read_user(written)
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
