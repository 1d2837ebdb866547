//! The record of changes: who changed what, and how it was before and after.
//!
//! Owns the file of it and its pages. A change is on the disk here before it is made, so that none is made without a
//! record; what then is not made after all is taken back. It refuses to know what objects are: whoever makes a change
//! says what of it may be seen, and no secret may.
//!
//! It is not in sled, for the reason for which the catalogue is not: nobody could make it anew.

mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use weir_filters::calendar;

use crate::config::reserved;

use files::Files;
pub use files::Position;

/// Changes of a page.
pub const MAX_LIMIT: usize = 1000;

/// Bytes of what a change shows before, and of what it shows after. A key has six hundred; only another table of all
/// prices there are has more.
const MAX_SHOWN: usize = 1 << 20;

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever has the admin token.
    Token,
    /// Whoever may open the socket in the data directory.
    Socket,
    /// Whoever may send the process signals.
    Signal,
    /// A user who has signed in.
    User(String),
}

impl Actor {
    /// Names that no user may have: they stand for those who are none.
    const RESERVED: [&str; 3] = reserved::ACTORS;

    /// What a record calls them.
    pub fn name(&self) -> &str {
        match self {
            Actor::Token => Self::RESERVED[0],
            Actor::Socket => Self::RESERVED[1],
            Actor::Signal => Self::RESERVED[2],
            Actor::User(name) => name,
        }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What was done, such as `update`.
    pub action: &'static str,
    /// What it was done to, such as `key`.
    pub kind: &'static str,
    /// Which.
    pub name: Option<String>,
    /// What may be seen of it before; `None`: it was not there.
    pub before: Option<Map<String, Value>>,
    /// The same afterwards.
    pub after: Option<Map<String, Value>>,
}

/// A question about changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only changes of this kind of thing.
    pub kind: Option<String>,
    /// Only changes of what is called so.
    pub name: Option<String>,
    /// How many at most.
    pub limit: usize,
    /// Only those before this one.
    pub cursor: Option<Position>,
}

impl Default for Query {
    fn default() -> Self {
        Self { kind: None, name: None, limit: 100, cursor: None }
    }
}

/// Changes, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Each a JSON object.
    pub rows: Vec<String>,
    /// Where older ones begin; `None`: there are none. What is asked for may be far back: then a page is short, or
    /// empty, and there is a next one all the same.
    pub next: Option<Position>,
}

/// A line of the file, and a row of a page but for its id.
#[derive(Deserialize, Serialize)]
struct Line<'a> {
    time: &'a str,
    #[serde(borrow)]
    who: std::borrow::Cow<'a, str>,
    action: &'a str,
    kind: &'a str,
    #[serde(borrow)]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
}

/// The record.
pub struct Changes {
    files: Mutex<Files>,
}

/// What was written, to be taken back while nothing stands behind it.
#[derive(Debug)]
#[must_use = "what is not made must be taken back"]
pub struct Written(files::Mark);

impl Changes {
    /// The record in a data directory. Nothing is written before there is a change.
    pub fn open(data_dir: &Path) -> Self {
        Self { files: Mutex::new(Files::new(data_dir)) }
    }

    /// Writes changes that `who` makes at `now_ms`, all or none: when this returns, they survive everything.
    ///
    /// # Errors
    /// What the disk said.
    pub fn append(&self, who: &Actor, now_ms: u64, changes: &[Change]) -> io::Result<Written> {
        let time = calendar::rfc3339(now_ms);
        let mut text = String::new();
        for change in changes {
            text.push_str(&change.line(who, &time)?);
            text.push('\n');
        }
        Ok(Written(self.lock().append(text.as_bytes())?))
    }

    /// Writes down what has happened already.
    ///
    /// # Errors
    /// What the disk said.
    pub fn note(&self, who: &Actor, now_ms: u64, change: Change) -> io::Result<()> {
        self.append(who, now_ms, &[change]).map(|Written(_)| ())
    }

    /// Takes back what was not made after all.
    ///
    /// # Errors
    /// What the disk said: then it still says that it was made.
    pub fn take_back(&self, written: Written) -> io::Result<()> {
        self.lock().take_back(&written.0)
    }

    /// The changes that are asked for. Reads a few files at most.
    ///
    /// # Errors
    /// What the disk said.
    pub fn page(&self, query: &Query) -> io::Result<Page> {
        // Whoever reads does not keep a change from being written.
        let files = self.lock().clone();
        let mut page = Page::default();
        page.next = files.scan(query.cursor, |at, line| {
            if let Some(row) = query.row(at, line) {
                page.rows.push(row);
            }
            page.rows.len() < query.limit
        })?;
        Ok(page)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    fn line(&self, who: &Actor, time: &str) -> io::Result<String> {
        let Self { action, kind, name, before, after } = self;
        let shown = |fields: &Option<Map<String, Value>>| -> io::Result<Option<Box<RawValue>>> {
            let text = fields.as_ref().map(serde_json::to_string).transpose()?;
            let text = text.map(|text| if text.len() > MAX_SHOWN { r#"{"too_large":true}"#.to_owned() } else { text });
            Ok(text.map(RawValue::from_string).transpose()?)
        };
        let (before, after) = (shown(before)?, shown(after)?);
        let line = Line {
            time,
            who: who.name().into(),
            action,
            kind,
            name: name.as_deref().map(Into::into),
            before: before.as_deref(),
            after: after.as_deref(),
        };
        Ok(serde_json::to_string(&line)?)
    }
}

impl Query {
    /// The line as a row, if it is asked for. One that is broken, as a kill in the middle of it leaves it, is none.
    fn row(&self, at: Position, line: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(line).ok()?;
        let read: Line<'_> = serde_json::from_str(text).ok()?;
        let wanted = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|name| Some(name) == is);
        let fits = wanted(&self.kind, Some(read.kind)) && wanted(&self.name, read.name.as_deref());
        fits.then(|| format!("{{\"id\":\"{at}\",{}", text.trim_start_matches('{')))
    }
}
