//! The machine: descriptors and the clock.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::Finding;
use super::running::Figures;

/// A request under way takes two descriptors, and what a gateway needs itself is about fifty.
const FEW: u64 = 4096;
/// The share of descriptors that may be in use, in percent.
const FULL: u64 = 80;
/// No clock that is right shows less: the day this was written, 2026-11-21.
const BORN: Duration = Duration::from_secs(1_795_219_200);
/// Files from further in the future than this were written by a clock that has been set back since.
const SET_BACK: Duration = Duration::from_secs(60);
/// The clock may drift, or be slewed, so much while it is looked at, and no more.
const JUMP: Duration = Duration::from_millis(250);
/// What `adjtimex` answers for a clock that nothing keeps right (adjtimex(2), TIME_ERROR).
const UNSYNCHRONISED: libc::c_int = 5;

/// The wall clock beside one that cannot be set.
pub(super) struct Watch {
    wall: SystemTime,
    steady: Instant,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// By how much the wall clock was set since.
    fn jump(&self) -> Duration {
        let steady = self.steady.elapsed();
        match self.wall.elapsed() {
            Ok(wall) => wall.abs_diff(steady),
            Err(e) => e.duration() + steady,
        }
    }
}

/// Those of the gateway that runs, else those that one started from here would have.
pub(super) fn descriptors(figures: Option<&Figures>) -> Finding {
    let figure = |name: &str| figures.and_then(|figures| figures.get(name));
    let open = figure("process_open_fds");
    // No limit at all is shown as the largest number.
    let limit = figure("process_max_fds").or_else(|| getrlimit(Resource::Nofile).current);
    judge_descriptors(open, limit)
}

fn judge_descriptors(open: Option<u64>, limit: Option<u64>) -> Finding {
    let what = "descriptors";
    let Some(limit) = limit else { return Finding::ok(what, "not limited") };
    let found = match open {
        Some(open) => format!("{open} of {limit} in use by the gateway"),
        None => format!("{limit} for a gateway that is started from here"),
    };
    let advice = "raise the limit (LimitNOFILE= in a unit, `ulimit -n` in a shell): a request takes two";
    if open.is_some_and(|open| open.saturating_mul(100) >= limit.saturating_mul(FULL)) {
        return Finding::problem(what, found, advice);
    }
    if limit < FEW { Finding::warning(what, found, advice) } else { Finding::ok(what, found) }
}

/// Whether the clock can be right. `watch` was started when the looking began.
pub(super) fn clock(data_dir: &Path, watch: &Watch) -> Finding {
    let now = SystemTime::now();
    judge_clock(now, newest(&data_dir.join("journal")), watch.jump(), is_synchronised())
}

fn judge_clock(now: SystemTime, newest: Option<SystemTime>, jump: Duration, synchronised: Option<bool>) -> Finding {
    let what = "clock";
    let ahead = newest.and_then(|newest| newest.duration_since(now).ok()).unwrap_or_default();
    if now < SystemTime::UNIX_EPOCH + BORN {
        return Finding::problem(what, "it is set to before this release was made", "set it; certificates fail too");
    }
    if ahead > SET_BACK {
        let found = format!("it was set back: the ledger has records from {} s later than now", ahead.as_secs());
        let advice = "set it right; budgets of a day stay closed until the later day is over";
        return Finding::problem(what, found, advice);
    }
    if jump > JUMP {
        let found = format!("it jumped by {} ms while it was looked at", jump.as_millis());
        return Finding::warning(what, found, "see what sets it: only one service should");
    }
    match synchronised {
        Some(true) => Finding::ok(what, "kept right by the system's time service"),
        Some(false) => Finding::warning(
            what,
            "nothing keeps it right, says the kernel",
            "run a time service such as systemd-timesyncd or chrony",
        ),
        None => Finding::ok(what, "plausible; whether something keeps it right cannot be told here"),
    }
}

/// When the newest segment of the journal was written, by the clock of then.
fn newest(journal: &Path) -> Option<SystemTime> {
    let shards = std::fs::read_dir(journal).ok()?.flatten();
    let segments = shards.filter_map(|shard| std::fs::read_dir(shard.path()).ok()).flatten().flatten();
    segments.filter_map(|segment| segment.metadata().ok()?.modified().ok()).max()
}

/// What the kernel says of its own clock. `None`: it does not say.
fn is_synchronised() -> Option<bool> {
    // SAFETY: zeros are a valid `timex`; with no modes set the call only reads, into memory that is ours.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    (state >= 0).then_some(state != UNSYNCHRONISED)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn few_descriptors_are_a_warning_and_spent_ones_a_problem() {
        let level = |open, limit| judge_descriptors(open, limit).level;
        assert_eq!(level(None, None), Level::Ok);
        assert_eq!(level(Some(60), Some(262_144)), Level::Ok);
        assert_eq!(level(None, Some(1024)), Level::Warning);
        assert_eq!((level(Some(819), Some(1024)), level(Some(820), Some(1024))), (Level::Warning, Level::Problem));
    }

    #[test]
    fn a_clock_that_was_set_back_or_jumps_is_told() {
        let now = SystemTime::UNIX_EPOCH + BORN + Duration::from_secs(86_400);
        let judge = |newest: i64, jump, synchronised| {
            let seconds = Duration::from_secs(newest.unsigned_abs());
            let newest = if newest < 0 { now - seconds } else { now + seconds };
            judge_clock(now, Some(newest), Duration::from_millis(jump), synchronised).level
        };
        assert_eq!(judge(-5, 0, Some(true)), Level::Ok);
        assert_eq!(judge(30, 100, None), Level::Ok);
        assert_eq!(judge(61, 0, Some(true)), Level::Problem);
        assert_eq!(judge(0, 251, Some(true)), Level::Warning);
        assert_eq!(judge(0, 0, Some(false)), Level::Warning);
        let early = judge_clock(SystemTime::UNIX_EPOCH, None, Duration::ZERO, Some(true));
        assert_eq!(early.level, Level::Problem);
    }

    #[test]
    fn a_steady_clock_does_not_jump() {
        let watch = Watch::start();
        assert!(watch.jump() < JUMP);
        let set = Watch { wall: watch.wall + Duration::from_secs(3600), ..watch };
        assert!(set.jump() >= Duration::from_secs(3599));
    }
}
