//! The file's objects and those of the catalogue, as one configuration.
//!
//! Owns which of two of the same name counts, and what of the catalogue must stand for something in the whole.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use crate::config::{Config, Wrong};

use super::{Kind, Object, Shelf, Shelves};

/// Something in the catalogue that does not go with the rest.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) wrong: Wrong,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, wrong } = self;
        write!(f, "the {} `{name}`, made over the admin API: {}", kind.name(), wrong.message)
    }
}

/// What a configuration declares, to see what it hides.
pub(crate) struct Shadows<'f> {
    names: HashSet<&'f str>,
    /// Of keys.
    digests: HashSet<[u8; 32]>,
}

/// What `file` hides of a kind.
pub(crate) fn shadows<T: Object>(file: &Config) -> Shadows<'_> {
    let digests = if T::KIND == Kind::Key { file.keys.iter().map(|key| key.sha256).collect() } else { HashSet::new() };
    Shadows { names: T::of(file).iter().map(Object::name).collect(), digests }
}

impl Shadows<'_> {
    /// Whether it has the name or the digest of something that is declared.
    pub(crate) fn hide<T: Object>(&self, object: &T) -> bool {
        self.names.contains(object.name()) || object.digests().iter().any(|digest| self.digests.contains(digest))
    }
}

/// The file's first, then what it does not hide.
pub(super) fn merge(file: &Config, shelves: &Shelves) -> Result<Config, Vec<Misfit>> {
    let mut config = file.clone();
    for user in &mut config.users {
        if let Cow::Owned(in_force) = user.in_force(shelves) {
            *user = in_force;
        }
    }
    add(&mut config, file, &shelves.users);
    let declared = config.channels.len();
    add(&mut config, file, &shelves.channels);
    for channel in &mut config.channels[declared..] {
        channel.reach = file.admin.reach();
    }
    if let Some(prices) = &shelves.prices {
        config.prices = Some(prices.table.clone());
    }
    let declared = config.keys.len();
    add(&mut config, file, &shelves.keys);

    let users: HashSet<&str> = config.users.iter().map(Object::name).collect();
    let channels: HashSet<&str> = config.channels.iter().map(Object::name).collect();
    let mut misfits = Vec::new();
    for key in &config.keys[declared..] {
        let mut misfit = |wrong| misfits.push(Misfit { kind: Kind::Key, name: key.name.clone(), wrong });
        if let Some(user) = key.user.as_deref().filter(|user| !users.contains(user)) {
            misfit(Wrong::unknown("user", "user", user, users.iter().copied()));
        }
        for (place, glob) in key.channels.iter().enumerate().filter(|(_, glob)| glob.is_literal()) {
            if !channels.contains(glob.as_str()) {
                let field = format!("channels[{place}]");
                misfit(Wrong::unknown(&field, "channel", glob.as_str(), channels.iter().copied()));
            }
        }
    }
    if misfits.is_empty() { Ok(config) } else { Err(misfits) }
}

fn add<T: Object>(config: &mut Config, file: &Config, shelf: &Shelf<T>) {
    let shadows = shadows::<T>(file);
    let seen = shelf.iter().filter(|stored| !shadows.hide(&stored.meant));
    T::of_mut(config).extend(seen.map(|stored| stored.meant.clone()));
}
