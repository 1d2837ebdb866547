//! Which channels are drained, whoever made them.
//!
//! Owns the document of their names. It is none of the objects: to take a channel out of service for an hour is no
//! change of the channel, and one that the file declares can be taken out too. Refuses to know which channels there
//! are, and what being drained means.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::document::{self, NotKept};

/// The document, beside those of the objects.
const FILE: &str = "drained.json";

/// The names of drained channels, as they are on the disk.
#[derive(Debug)]
pub(super) struct Drained {
    path: PathBuf,
    names: BTreeSet<String>,
}

impl Drained {
    /// Reads the document; `Err` has its path.
    pub(super) fn open(folder: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let path = folder.join(FILE);
        let written = match document::read(&path) {
            Ok(written) => written,
            Err(e) => return Err((path, e)),
        };
        let names: Option<BTreeSet<String>> =
            written.iter().map(|object| object.get("name").and_then(Value::as_str).map(str::to_owned)).collect();
        match names {
            Some(names) => Ok(Self { path, names }),
            None => Err((path, io::Error::new(io::ErrorKind::InvalidData, "an object has no name"))),
        }
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether the channel of that name is drained.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Adds a name or takes it away; the disk has it when this returns.
    pub(super) fn set(&mut self, name: &str, is_drained: bool) -> Result<(), NotKept> {
        let mut names = self.names.clone();
        let is_new = if is_drained { names.insert(name.to_owned()) } else { names.remove(name) };
        if !is_new {
            return Ok(());
        }
        let objects: Vec<String> = names.iter().map(|name| json!({ "name": name }).to_string()).collect();
        let replaced = document::replace(&self.path, &document::of(objects.iter().map(String::as_str)), |_| Ok(()));
        if !matches!(replaced, Err(NotKept::Unchanged(_))) {
            self.names = names;
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        Drained::open(folder).expect("a document or none").names().map(str::to_owned).collect()
    }

    #[test]
    fn names_are_kept_until_they_are_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut drained = Drained::open(folder.path()).unwrap();
        for (name, is_drained) in [("b", true), ("a \"quoted\" one", true), ("b", true), ("c", false)] {
            drained.set(name, is_drained).unwrap();
        }
        assert_eq!(names(folder.path()), ["a \"quoted\" one", "b"]);
        drained.set("b", false).unwrap();
        assert_eq!(names(folder.path()), ["a \"quoted\" one"]);
    }

    #[test]
    fn what_is_not_changed_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut drained = Drained::open(folder.path()).unwrap();
        drained.set("a", false).unwrap();
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn a_document_that_cannot_be_read_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"version":1,"objects":[{}]}"#, r#"{"version":1,"objects":[{"name":1}]}"#] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let (path, _) = Drained::open(folder.path()).unwrap_err();
            assert_eq!(path, folder.path().join(FILE));
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
    }
}
