//! What was made over the admin API: keys, users, channels and a price table, beside those that the configuration file
//! declares, and in the same words.
//!
//! Owns their documents in the data directory, the rules between them and the file's, and how both become one
//! configuration. It refuses to know who asks, how that is put in force, and what a field means: each object is
//! read by [`crate::config`].
//!
//! The documents are JSON: one for each kind, replaced whole at each change, before the change is answered. They
//! are not in sled: there sled is a view of the journal that may be set aside and made anew, and its flush is no
//! promise that anything is on the disk. What nobody can make anew must not be there.
//!
//! The file comes first. It is valid by itself, so nothing in it can name what is here; where it declares what
//! has the same name as something here, that is *shadowed*: kept, listed, and not in force.

mod channels;
pub(crate) mod document;
mod draft;
mod drained;
mod keys;
mod logins;
mod merge;
mod object;
mod own;
mod page;
mod prices;
pub(crate) mod show;
#[cfg(test)]
mod tests;
mod users;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use draft::Draft;
pub(crate) use keys::NewKey;
pub(crate) use merge::shadows;
pub(crate) use object::{Object, Stored};
pub(crate) use own::OWN_KEY_FIELDS;
pub use own::{Own, Owner};
pub use page::{Cursor, MAX_LIMIT, Wanted};
pub(crate) use page::{Listed, Picked, pick};
pub(crate) use prices::{Prices, shown as shown_prices, shown_price};
pub(crate) use users::Password;

use crate::config::{Channel, Config, Key, User, Written, Wrong};

use document::NotKept;
use drained::Drained;
use logins::{Login, Logins};

/// The folder of the documents, in the data directory.
const FOLDER: &str = "catalog";

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client key, found by its id.
    Key,
    /// A user, found by name.
    User,
    /// A channel, found by name.
    Channel,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Key, Kind::User, Kind::Channel];

    /// One word for a message.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::User => "user",
            Kind::Channel => "channel",
        }
    }

    /// The word for several.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Key => "keys",
            Kind::User => "users",
            Kind::Channel => "channels",
        }
    }
}

/// What is asked of the catalogue.
#[derive(Clone, Debug)]
pub enum Command {
    /// Those of a kind that are wanted, declared ones included.
    List(Kind, Wanted),
    /// The one of that name or id.
    Show(Kind, String),
    /// A new one.
    Make(Kind, Written),
    /// A merge patch (RFC 7396) for the one of that name or id.
    Change(Kind, String, Written),
    /// No more of the one of that name or id.
    Remove(Kind, String),
    /// Another secret for the key of that id.
    Rotate(String, Written),
    /// Other price rates: `{users?, price_rate}`.
    Rates(Written),
    /// In which order the channels are that were made here.
    ShowOrder,
    /// Another order for them, by name.
    Order(Vec<String>),
    /// The price table in force.
    Prices,
    /// Another one in its place: `{models: [{model, …}]}`.
    SetPrices(Written),
    /// The file's again.
    UnsetPrices,
    /// What somebody may know of their own, or change of it.
    Own(Owner, Own),
}

impl Command {
    /// Whether anything is changed.
    pub const fn is_change(&self) -> bool {
        match self {
            Command::List(..) | Command::Show(..) | Command::ShowOrder | Command::Prices => false,
            Command::Own(_, own) => own.is_change(),
            _ => true,
        }
    }
}

/// Why nothing was changed, or why it is not certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// What was given is wrong. Never empty.
    Invalid(Vec<Wrong>),
    /// There is none of that name or id.
    NotFound(Kind),
    /// No price table was made over the API.
    NoPrices,
    /// It is no longer what it was expected to be.
    Changed,
    /// It does not go with what is there.
    Conflict {
        /// A word for programs.
        code: &'static str,
        /// What is the matter, and the way out.
        message: String,
    },
    /// The disk did not take it.
    NotKept(String),
    /// The system gave no random bytes.
    NoRandomness,
}

impl Refused {
    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Wrong::new(field, message)])
    }

    fn conflict(code: &'static str, message: String) -> Self {
        Self::Conflict { code, message }
    }
}

impl From<Vec<Wrong>> for Refused {
    fn from(wrong: Vec<Wrong>) -> Self {
        Self::Invalid(wrong)
    }
}

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A document cannot be read. It is left as it is.
    #[error("{path}: {source}", path = path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An object in a document is none, or does not go with the configuration.
    #[error("{}: {}", path.display(), misfits.join("; "))]
    Misfit {
        /// The folder of the documents.
        path: PathBuf,
        /// Each with its kind and name.
        misfits: Vec<String>,
    },
}

/// All objects of a kind, in the order in which they were made.
pub(crate) type Shelf<T> = Vec<Arc<Stored<T>>>;

/// All objects.
#[derive(Clone, Default)]
pub(crate) struct Shelves {
    pub(crate) keys: Shelf<Key>,
    pub(crate) users: Shelf<User>,
    pub(crate) channels: Shelf<Channel>,
    /// Of users whom the file declares.
    pub(crate) logins: Logins,
    /// In the place of the file's, if there is one.
    pub(crate) prices: Option<Arc<Prices>>,
}

/// What has a document of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Objects(Kind),
    Logins,
    Prices,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Part::Objects(kind) => kind.plural(),
            Part::Logins => "logins",
            Part::Prices => "prices",
        }
    }
}

/// What was made over the admin API.
pub(crate) struct Catalog {
    folder: PathBuf,
    shelves: Shelves,
    drained: Drained,
}

impl Catalog {
    /// Reads the documents in a data directory. What is not there is empty.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, CatalogError> {
        let folder = data_dir.join(FOLDER);
        let shelves = Shelves {
            keys: shelf(&folder)?,
            users: shelf(&folder)?,
            channels: shelf(&folder)?,
            logins: logins(&folder)?,
            prices: prices(&folder)?,
        };
        let drained = Drained::open(&folder).map_err(|(path, source)| CatalogError::Document { path, source })?;
        Ok(Self { folder, shelves, drained })
    }

    /// The objects.
    pub(crate) fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// The configuration of `file` with everything in here.
    ///
    /// # Errors
    /// What in here does not go with the file, each with its kind and name.
    pub(crate) fn merge(&self, file: &Config) -> Result<Config, CatalogError> {
        merge::merge(file, &self.shelves).map_err(|misfits| CatalogError::Misfit {
            path: self.folder.clone(),
            misfits: misfits.iter().map(ToString::to_string).collect(),
        })
    }

    /// The names of what `file` shadows, each with its kind.
    pub(crate) fn shadowed(&self, file: &Config) -> Vec<(Kind, String)> {
        fn names<T: Object>(shelves: &Shelves, file: &Config, all: &mut Vec<(Kind, String)>) {
            let shadows = shadows::<T>(file);
            let shadowed = T::shelf(shelves).iter().filter(|stored| shadows.hide(&stored.meant));
            all.extend(shadowed.map(|stored| (T::KIND, stored.meant.name().to_owned())));
        }
        let mut all = Vec::new();
        names::<Key>(&self.shelves, file, &mut all);
        names::<User>(&self.shelves, file, &mut all);
        names::<Channel>(&self.shelves, file, &mut all);
        all
    }

    /// A draft of changes, to be thrown away or kept.
    pub(crate) fn draft<'f>(&self, file: &'f Config) -> Draft<'f> {
        Draft::new(file, self.shelves.clone())
    }

    /// Writes what a draft changed: when this returns, it survives everything.
    ///
    /// # Errors
    /// [`Refused::NotKept`]; `true` beside it if the new document is in place all the same, so that the draft must
    /// be put in force.
    pub(crate) fn keep(&mut self, shelves: Shelves, part: Part) -> Result<(), (Refused, bool)> {
        let text = match part {
            Part::Objects(Kind::Key) => document(&shelves.keys),
            Part::Objects(Kind::User) => document(&shelves.users),
            Part::Objects(Kind::Channel) => document(&shelves.channels),
            Part::Logins => {
                let texts: Vec<String> = shelves.logins.iter().map(|(name, login)| login.text(name)).collect();
                document::of(texts.iter().map(String::as_str))
            }
            // An empty one stands for the file's: no table is empty.
            Part::Prices => document::of(shelves.prices.iter().flat_map(|prices| prices.texts())),
        };
        if text.len() > document::MAX_BYTES {
            let message = format!("the document of all {} would be larger than 64 MiB", part.name());
            return Err((Refused::conflict("full", message), false));
        }
        let kept = kept(document::replace(&path(&self.folder, part), &text, |_| Ok(())), part.name());
        if !matches!(kept, Err((_, false))) {
            self.shelves = shelves;
        }
        kept
    }

    /// The names of drained channels.
    pub(crate) fn drained(&self) -> impl Iterator<Item = &str> {
        self.drained.names()
    }

    /// Whether the channel of that name is drained.
    pub(crate) fn is_drained(&self, name: &str) -> bool {
        self.drained.has(name)
    }

    /// Notes that a channel is drained, or is no more; as for [`Catalog::keep`].
    pub(crate) fn drain(&mut self, name: &str, is_drained: bool) -> Result<(), (Refused, bool)> {
        kept(self.drained.set(name, is_drained), "drained channels")
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What is said of a document that was to be replaced; `true` beside it: it was.
fn kept(replaced: Result<(), NotKept>, what: &str) -> Result<(), (Refused, bool)> {
    replaced.map_err(|not_kept| match not_kept {
        NotKept::Unchanged(e) => {
            log::error!("a change of the {what} was not kept: {e}");
            (Refused::NotKept(format!("the change could not be written, and is not made: {e}")), false)
        }
        NotKept::InDoubt(e) => {
            log::error!("a change of the {what} is made and may not survive a power cut: {e}");
            let message = format!("the change is made, and it is not certain that it survives a power cut: {e}");
            (Refused::NotKept(message), true)
        }
    })
}

fn path(folder: &Path, part: Part) -> PathBuf {
    folder.join(part.name()).with_extension("json")
}

fn document<T>(shelf: &Shelf<T>) -> String {
    document::of(shelf.iter().map(|stored| stored.text()))
}

fn read(folder: &Path, part: Part) -> Result<(PathBuf, Vec<Written>), CatalogError> {
    let path = path(folder, part);
    match document::read(&path) {
        Ok(written) => Ok((path, written)),
        Err(source) => Err(CatalogError::Document { path, source }),
    }
}

fn logins(folder: &Path) -> Result<Logins, CatalogError> {
    let (path, objects) = read(folder, Part::Logins)?;
    let read = |(place, written): (usize, &Written)| {
        let misfits = |wrong: Vec<Wrong>| -> Vec<String> {
            wrong.iter().map(|wrong| format!("object {place}: {wrong}")).collect()
        };
        let (name, login) = Login::read(written).map_err(misfits)?;
        Ok((name, Arc::new(login)))
    };
    objects
        .iter()
        .enumerate()
        .map(read)
        .collect::<Result<_, Vec<_>>>()
        .map_err(|misfits| CatalogError::Misfit { path, misfits })
}

fn prices(folder: &Path) -> Result<Option<Arc<Prices>>, CatalogError> {
    let (path, entries) = read(folder, Part::Prices)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let misfits = |wrong: Vec<Wrong>| wrong.iter().map(ToString::to_string).collect();
    let prices = Prices::new(&entries).map_err(|wrong| CatalogError::Misfit { path, misfits: misfits(wrong) })?;
    Ok(Some(Arc::new(prices)))
}

/// The objects of a document, each read as the API reads it.
fn shelf<T: Object>(folder: &Path) -> Result<Shelf<T>, CatalogError> {
    let (path, written) = read(folder, Part::Objects(T::KIND))?;
    let mut shelf = Vec::with_capacity(written.len());
    let mut misfits = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (place, written) in written.iter().enumerate() {
        match Stored::<T>::new(written) {
            Ok(stored) => {
                if !names.insert(stored.meant.name().to_owned()) {
                    misfits.push(format!("object {place}: the name `{}` is there twice", stored.meant.name()));
                }
                shelf.push(Arc::new(stored));
            }
            Err(wrong) => misfits.extend(wrong.iter().map(|wrong| format!("object {place}: {wrong}"))),
        }
    }
    if misfits.is_empty() { Ok(shelf) } else { Err(CatalogError::Misfit { path, misfits }) }
}
