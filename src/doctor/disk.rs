//! The disk below the data directory: room, names, permissions, and how long a write takes to be safe.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use weir_filters::attention::{self, Level};

use super::Finding;
use crate::config::{Config, Durability};

/// Writes that are timed, each of a page: the median of so many is steady and takes under a second on a slow disk.
const WRITES: usize = 20;
const PAGE: [u8; 4096] = [0x77; 4096];
/// The journal is synced every 50 ms: a disk that takes longer than that is always behind.
const SLOW: Duration = Duration::from_millis(50);

/// Room, permissions and speed.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let directory = &config.data_dir;
    let meta = match fs::metadata(directory) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let found = format!("{} is not there yet; the first start makes it", directory.display());
            return std::iter::once(Finding::ok("data_dir", found)).chain(room(existing(directory))).collect();
        }
        Err(e) => {
            let found = format!("{}: {e}", directory.display());
            return vec![Finding::problem("data_dir", found, "run this as the gateway's user, or correct `data_dir`")];
        }
    };
    let mut findings = vec![permissions(directory, &meta)];
    findings.extend(room(directory));
    findings.push(match latency(directory) {
        Ok(times) => judge_latency(times, config.ledger.durability),
        Err(e) => {
            let found = format!("nothing can be written to {}: {e}", directory.display());
            Finding::problem("disk latency", found, "make room, or let the gateway's user write there")
        }
    });
    findings
}

/// The nearest directory above that is there.
fn existing(directory: &Path) -> &Path {
    directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}

fn permissions(directory: &Path, meta: &Metadata) -> Finding {
    let (what, mode) = ("data_dir", meta.mode() & 0o777);
    let found = format!("{} has mode {mode:04o}", directory.display());
    let advice = format!("chmod 700 {}", directory.display());
    if !meta.is_dir() {
        return Finding::problem(what, format!("{} is no directory", directory.display()), "correct `data_dir`");
    }
    if mode & 0o022 != 0 {
        return Finding::problem(what, format!("{found}: others may replace the ledger"), advice);
    }
    if mode & 0o007 != 0 {
        return Finding::warning(what, format!("{found}: others may read who used what"), advice);
    }
    Finding::ok(what, found)
}

fn room(directory: &Path) -> Vec<Finding> {
    let place = match statvfs(directory) {
        Ok(place) => place,
        Err(e) => return vec![Finding::warning("disk", format!("{}: {e}", directory.display()), "see what it is")],
    };
    let bytes = place.f_bavail.saturating_mul(place.f_frsize);
    // File systems without a table of inodes have none in all.
    let inodes = (place.f_files > 0).then_some(place.f_favail);
    vec![judge_room(bytes, inodes)]
}

fn judge_room(bytes: u64, inodes: Option<u64>) -> Finding {
    let found = match inodes {
        Some(inodes) => format!("{} MiB and {inodes} inodes free", bytes >> 20),
        None => format!("{} MiB free", bytes >> 20),
    };
    let advice = "make room: when the disk is full, records wait in memory, and `ledger.when_full` rules";
    match attention::room(bytes, inodes) {
        Some(Level::Critical) => Finding::problem("disk", found, advice),
        Some(Level::Warning) => Finding::warning("disk", found, advice),
        None => Finding::ok("disk", found),
    }
}

/// How long appending a page and syncing it takes: each time.
fn latency(directory: &Path) -> io::Result<Vec<Duration>> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(directory)?;
    let mut write = || {
        let begun = Instant::now();
        file.write_all(&PAGE)?;
        file.as_file().sync_data()?;
        Ok(begun.elapsed())
    };
    (0..WRITES).map(|_| write()).collect()
}

fn judge_latency(mut times: Vec<Duration>, durability: Durability) -> Finding {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let found = format!("a page is on the disk after {} (median), {} (longest)", shown(median), shown(worst));
    if median < SLOW {
        return Finding::ok("disk latency", found);
    }
    let advice = match durability {
        Durability::Strict => "each answer waits that long for its end: use a faster disk, or `durability: relaxed`",
        Durability::Relaxed => "a power cut takes that much more than 50 ms of records: use a faster disk",
    };
    Finding::warning("disk latency", found, advice)
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Level;
    use super::*;

    #[test]
    fn room_and_inodes_are_judged_by_what_the_journal_needs() {
        let level = |mib: u64, inodes| judge_room(mib << 20, inodes).level;
        assert_eq!(level(512, None), Level::Ok);
        assert_eq!((level(511, None), level(63, None)), (Level::Warning, Level::Problem));
        assert_eq!((level(9999, Some(999)), level(9999, Some(0))), (Level::Warning, Level::Problem));
        assert_eq!(judge_room(1 << 30, Some(5000)).found, "1024 MiB and 5000 inodes free");
    }

    #[test]
    fn a_directory_that_others_may_write_is_a_problem() {
        let home = tempfile::tempdir().unwrap();
        for (mode, level) in [
            (0o700, Level::Ok),
            (0o750, Level::Ok),
            (0o755, Level::Warning),
            (0o770, Level::Problem),
            (0o777, Level::Problem),
        ] {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
            let meta = fs::metadata(home.path()).unwrap();
            assert_eq!(permissions(home.path(), &meta).level, level, "{mode:o}");
        }
    }

    #[test]
    fn writes_are_timed_and_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(latency(home.path()).unwrap().len(), WRITES);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        let times = [60, 1, 70].map(Duration::from_millis).to_vec();
        let slow = judge_latency(times, Durability::Strict);
        let found = "a page is on the disk after 60.0 ms (median), 70.0 ms (longest)";
        assert_eq!((slow.level, slow.found.as_str()), (Level::Warning, found));
    }
}
