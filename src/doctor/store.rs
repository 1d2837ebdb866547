//! The ledger of a gateway that does not run: whether the next start finds it whole. A copy of the store is opened,
//! never the store itself.

use std::fs;
use std::io;
use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::ledger;

/// A larger store is not copied: it would take the time and the room that a look must not take.
const MAX_COPY: u64 = 256 << 20;

/// Ledger and store.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let directory = &config.data_dir;
    if !directory.join("journal").is_dir() {
        return vec![Finding::ok("ledger", "there is none yet")];
    }
    vec![journal(directory), store(&directory.join("store"))]
}

fn journal(directory: &Path) -> Finding {
    let what = "ledger";
    match ledger::read_only(directory) {
        Ok(ledger) if ledger.corrupt_records() > 0 => {
            let found = format!("{} damaged parts of the journal, ever", ledger.corrupt_records());
            Finding::warning(what, found, "check the disk; what they held is not counted")
        }
        Ok(_) => Finding::ok(what, "it can be read, and nothing is damaged"),
        Err(e) => Finding::problem(what, e.to_string(), "run this as the gateway's user, and check the disk"),
    }
}

fn store(store: &Path) -> Finding {
    let what = "store";
    if !store.exists() {
        return Finding::ok(what, "there is none yet");
    }
    let copy = match copied(store) {
        Ok(Some(copy)) => copy,
        Ok(None) => return Finding::ok(what, format!("not tried: it is larger than {} MiB", MAX_COPY >> 20)),
        Err(e) => {
            return Finding::warning(
                what,
                format!("it cannot be copied for a look: {e}"),
                "check disk and permissions",
            );
        }
    };
    match ledger::try_store(copy.path()) {
        Ok(records) => Finding::ok(what, format!("it opens, with the totals of {records} records")),
        Err(why) => Finding::warning(what, why, "check the disk; the next start sets it aside and rebuilds it"),
    }
}

/// A copy that goes with the answer; `None` if it would be too large.
fn copied(store: &Path) -> io::Result<Option<tempfile::TempDir>> {
    let files = files_below(store)?;
    let mut bytes = 0_u64;
    for file in &files {
        bytes = bytes.saturating_add(fs::metadata(file)?.len());
    }
    if bytes > MAX_COPY {
        return Ok(None);
    }
    let copy = tempfile::Builder::new().prefix("weir-doctor-").tempdir()?;
    for file in &files {
        let target = copy.path().join(file.strip_prefix(store).unwrap_or(file));
        fs::create_dir_all(target.parent().unwrap_or(copy.path()))?;
        fs::copy(file, target)?;
    }
    Ok(Some(copy))
}

fn files_below(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    if directory.is_file() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_store_that_is_no_store_is_told_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("store");
        assert_eq!(store(&place).level, Level::Ok);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("conf"), [b'x'; 100]).unwrap();
        let finding = store(&place);
        assert_eq!(finding.level, Level::Warning, "{}", finding.found);
        assert_eq!(fs::read(place.join("conf")).unwrap(), [b'x'; 100]);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "a file").unwrap();
        assert_eq!(store(&place).level, Level::Warning);
    }
}
