//! A document on the disk: read whole, replaced whole.
//!
//! Owns that a crash at any moment leaves the old document or the new one, that only the owner reads it, and
//! that what cannot be read is never written over. Knows nothing of what is in it beyond a list of objects.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Written;

/// Bytes of a document: 200,000 keys. It is in memory twice while it is written, and written at every change.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The form of documents. One of another form is left alone.
const VERSION: u64 = 1;

/// How far a replacement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Created,
    HalfWritten,
    Written,
    Synced,
    Renamed,
    Kept,
}

/// Why a document was not replaced for good.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// The old one is there.
    Unchanged(io::Error),
    /// The new one is there, and a power cut may bring back the old one.
    InDoubt(io::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    objects: Vec<Written>,
}

/// The objects of a document; none if there is no document.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Written>> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(invalid(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    // What serde_json says of a syntax error has a position and no contents; other errors may repeat a value.
    let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
        let what = if e.is_data() { "is not the document that Weir wrote" } else { "is not whole JSON" };
        invalid(format!("{what}: line {}, column {}", e.line(), e.column()))
    })?;
    if document.version != VERSION {
        return Err(invalid(format!("has the form {}, and this version of Weir knows {VERSION}", document.version)));
    }
    Ok(document.objects)
}

/// A document of objects that are JSON already, one a line.
pub(crate) fn of<'o>(objects: impl Iterator<Item = &'o str>) -> String {
    let mut text = format!("{{\"version\":{VERSION},\"objects\":[");
    for (index, object) in objects.enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(object);
    }
    text.push_str("\n]}\n");
    text
}

/// Replaces the document: when this returns, no crash brings back the old one. `at` is told each step, and an
/// error from it is taken for one of the step after it.
pub(crate) fn replace(path: &Path, text: &str, mut at: impl FnMut(Step) -> io::Result<()>) -> Result<(), NotKept> {
    let draft = path.with_extension("draft");
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Of a crash, and perhaps with another owner's permissions.
        match fs::remove_file(&draft) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        at(Step::Created)?;
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        file.write_all(first)?;
        at(Step::HalfWritten)?;
        file.write_all(second)?;
        at(Step::Written)?;
        file.sync_all()?;
        at(Step::Synced)?;
        fs::rename(&draft, path)
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&draft);
        NotKept::Unchanged(e)
    })?;
    let synced = (|| {
        at(Step::Renamed)?;
        File::open(folder)?.sync_all()?;
        // The folder itself is new at the first change.
        folder.parent().map_or(Ok(()), |above| File::open(or_here(above))?.sync_all())?;
        at(Step::Kept)
    })();
    synced.map_err(NotKept::InDoubt)
}

/// The parent of a relative path of one name is empty.
fn or_here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let objects = read(path).unwrap_or_else(|e| panic!("{e}"));
        objects.iter().map(|object| object["name"].as_str().expect("a name").to_owned()).collect()
    }

    fn text(names: &[&str]) -> String {
        let objects: Vec<String> = names.iter().map(|name| json!({ "name": name }).to_string()).collect();
        of(objects.iter().map(String::as_str))
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    const STEPS: [Step; 6] = [Step::Created, Step::HalfWritten, Step::Written, Step::Synced, Step::Renamed, Step::Kept];

    #[test]
    fn a_document_is_read_as_it_was_written_and_only_its_owner_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("catalog").join("keys.json");
        assert_eq!(names(&path), Vec::<String>::new(), "there is none yet");
        for expected in [&["a", "b"][..], &["b"], &[]] {
            replace(&path, &text(expected), |_| Ok(())).unwrap();
            assert_eq!(names(&path), expected);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_document_or_the_new_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("catalog");
        replace(&folder.join("keys.json"), &text(&["old"]), |_| Ok(())).unwrap();
        let mut seen = Vec::new();
        replace(&folder.join("keys.json"), &text(&["old", "new"]), |step| {
            copy(&folder, &home.path().join(format!("{step:?}")));
            seen.push(step);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, STEPS);
        for step in STEPS {
            let path = home.path().join(format!("{step:?}")).join("keys.json");
            let expected = if step < Step::Renamed { &["old"][..] } else { &["old", "new"] };
            assert_eq!(names(&path), expected, "{step:?}");
            replace(&path, &text(&["next"]), |_| Ok(())).unwrap_or_else(|e| panic!("{step:?}: {e:?}"));
            assert_eq!(names(&path), ["next"], "what the crash left does not disturb: {step:?}");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_one_of_the_two_and_says_which() {
        for failing in STEPS {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("catalog").join("keys.json");
            replace(&path, &text(&["old"]), |_| Ok(())).unwrap();
            let failed = replace(&path, &text(&["new"]), |step| {
                if step == failing { Err(io::Error::other("a fault")) } else { Ok(()) }
            });
            let expected = match failed {
                Err(NotKept::Unchanged(_)) => "old",
                Err(NotKept::InDoubt(_)) => "new",
                Ok(()) => panic!("{failing:?} failed and nobody noticed"),
            };
            assert_eq!((names(&path), failing < Step::Renamed), (vec![expected.to_owned()], expected == "old"));
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "{failing:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_without_a_value_of_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("channels.json");
        for (bytes, expected) in [
            (&b""[..], "is not whole JSON: line 1, column 0"),
            (br#"{"version":1,"objects":[{"value":"sk-canary"#, "is not whole JSON: line 1, column 43"),
            (br#"{"version":1,"objects":["sk-canary"]}"#, "is not the document that Weir wrote: line 1, column 35"),
            (br#"{"version":1}"#, "is not the document that Weir wrote: line 1, column 13"),
            (br#"{"version":2,"objects":[]}"#, "has the form 2, and this version of Weir knows 1"),
            (b"{\"version\":1,\"objects\":[\xff]}", "is not whole JSON: line 1, column 25"),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).unwrap_err().to_string(), expected, "{}", bytes.escape_ascii());
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}
