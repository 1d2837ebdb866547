//! What somebody who looks after a gateway should know first: what is not well, and how bad that is.
//!
//! Owns the judgement: which fact calls for a person, and when it is over. It refuses to know how facts are come by, and
//! takes the time that has passed as an argument.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::health::Condition;
use crate::limits::{BudgetUse, Subject};

/// From which part of a budget on somebody should know: there is still time to raise it.
pub const NEAR_PERCENT: u64 = 80;

/// How many of one kind are told apart. A thousand keys without money are one piece of news.
pub const MAX_OF_A_KIND: usize = 20;

/// A segment for each thread, twice, and a snapshot: below this the next hour may end in a full disk.
const LITTLE_ROOM: u64 = 512 << 20;
/// Below this the journal may not get its next segments.
const NO_ROOM: u64 = 64 << 20;
/// Files that may still be made. A gateway makes tens.
const FEW_INODES: u64 = 1000;

/// So long records that were lost are news: whoever looks once an hour hears of them.
const LOST_LASTS: Duration = Duration::from_secs(3600);
/// So long a receiver that refused records counts as failing.
const REFUSED_LASTS: Duration = Duration::from_secs(300);
/// So long records may wait and none leave: a push is tried for some seconds, and again after a wait.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Requests fail, or figures are lost.
    Critical,
    /// They will, or something stands in.
    Warning,
}

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// A word for programs.
    pub kind: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is about, if it is not the whole gateway.
    pub subject: Option<String>,
    /// The figures behind it.
    pub values: Map<String, Value>,
}

/// A channel that is not well in every part.
#[derive(Clone, Debug)]
pub struct UnwellChannel<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it fares.
    pub condition: Condition,
    /// For how long it is not asked.
    pub cooling_for: Option<Duration>,
    /// Its keys that cool down, by name.
    pub keys: Vec<&'a str>,
    /// What it serves and no other channel that is well does.
    pub stranded: Vec<&'a str>,
}

/// How a sink of records has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCourse {
    /// Records that were lost since the start.
    pub dropped: u64,
    /// How long ago the last of them was.
    pub dropped_ago: Option<Duration>,
    /// Records that the receiver refused since the start.
    pub failed: u64,
    /// How long ago it refused the last.
    pub failed_ago: Option<Duration>,
    /// Records that wait.
    pub waiting: u64,
    /// For how long some have waited and none has left.
    pub stuck_for: Option<Duration>,
}

impl Level {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Attention {
    fn new(kind: &'static str, level: Level, subject: Option<&str>, values: Value) -> Self {
        let values = match values {
            Value::Object(values) => values,
            _ => Map::new(),
        };
        Self { kind, level, subject: subject.map(str::to_owned), values }
    }
}

/// What a channel's state calls for. It is down if it is not asked and nobody stands in for something that it serves.
pub fn channel(unwell: &UnwellChannel<'_>) -> Option<Attention> {
    let UnwellChannel { name, condition, cooling_for, keys, stranded } = unwell;
    let is_asked = !matches!(condition, Condition::Cooling { .. });
    if *condition == Condition::Healthy && keys.is_empty() {
        return None;
    }
    let (kind, level) = if is_asked || stranded.is_empty() {
        ("channel_cooling", Level::Warning)
    } else {
        ("channel_down", Level::Critical)
    };
    let stranded: &[&str] = if is_asked { &[] } else { stranded };
    let values = json!({
        "state": condition.name(),
        "cooling_s": cooling_for.map(|time| time.as_secs()),
        "keys": keys,
        "models": stranded,
    });
    Some(Attention::new(kind, level, Some(name), values))
}

/// What is spent of a budget, if that is much. A budget of nothing was meant so.
pub fn budget(subject: Subject, name: &str, id: Option<&str>, of: BudgetUse) -> Option<Attention> {
    let (spent, allowed) = (u128::from(of.spent.0), u128::from(of.allowed.0));
    if allowed == 0 || spent * 100 < allowed * u128::from(NEAR_PERCENT) {
        return None;
    }
    let (kind, level) =
        if spent >= allowed { ("budget_spent", Level::Critical) } else { ("budget_near", Level::Warning) };
    let values = json!({
        "of": subject.name(),
        "id": id,
        "period": of.period.name(),
        "spent_usd": of.spent.written(),
        "budget_usd": of.allowed.written(),
        "percent": u64::try_from(spent * 100 / allowed).unwrap_or(u64::MAX),
    });
    Some(Attention::new(kind, level, Some(name), values))
}

/// What a sink's course calls for.
pub fn sink(name: &str, course: &SinkCourse) -> Vec<Attention> {
    let within = |ago: Option<Duration>, lasts| ago.is_some_and(|ago| ago < lasts);
    let mut all = Vec::new();
    if within(course.dropped_ago, LOST_LASTS) {
        let ago = course.dropped_ago.map(|ago| ago.as_secs());
        let values = json!({ "dropped": course.dropped, "ago_s": ago });
        all.push(Attention::new("records_dropped", Level::Critical, Some(name), values));
    }
    let is_stuck = course.stuck_for.is_some_and(|time| time >= STUCK_AFTER);
    if is_stuck || within(course.failed_ago, REFUSED_LASTS) {
        let values = json!({
            "failed": course.failed,
            "waiting": course.waiting,
            "stuck_s": course.stuck_for.filter(|_| is_stuck).map(|time| time.as_secs()),
        });
        all.push(Attention::new("sink_failing", Level::Warning, Some(name), values));
    }
    all
}

/// What room on a disk calls for: bytes, and files that may still be made where the file system counts them.
pub fn room(bytes: u64, inodes: Option<u64>) -> Option<Level> {
    if bytes < NO_ROOM || inodes == Some(0) {
        Some(Level::Critical)
    } else if bytes < LITTLE_ROOM || inodes.is_some_and(|inodes| inodes < FEW_INODES) {
        Some(Level::Warning)
    } else {
        None
    }
}

/// The same as news.
pub fn disk(bytes: u64, inodes: Option<u64>) -> Option<Attention> {
    let level = room(bytes, inodes)?;
    Some(Attention::new("disk_low", level, None, json!({ "free_bytes": bytes, "free_inodes": inodes })))
}

/// The store of the counters takes no writes. Nothing is lost: the journal has it all.
pub fn store(behind: u64) -> Attention {
    Attention::new("store_down", Level::Warning, None, json!({ "fold_lag_records": behind }))
}

/// The last reload was refused.
pub fn refused(mistakes: usize, first: Option<&str>) -> Attention {
    Attention::new("config_refused", Level::Warning, None, json!({ "mistakes": mistakes, "first": first }))
}

/// A part is not ready.
pub fn not_ready(part: &str, message: &str) -> Attention {
    Attention::new("not_ready", Level::Critical, Some(part), json!({ "message": message }))
}

/// The worst first, and of each kind no more than [`MAX_OF_A_KIND`], those that came first; how many more there were.
pub fn sorted(mut all: Vec<Attention>) -> (Vec<Attention>, usize) {
    all.sort_by_key(|one| one.level);
    let before = all.len();
    let mut counts: Vec<(&str, usize)> = Vec::new();
    all.retain(|one| {
        let at = counts.iter().position(|(kind, _)| *kind == one.kind).unwrap_or_else(|| {
            counts.push((one.kind, 0));
            counts.len() - 1
        });
        counts[at].1 += 1;
        counts[at].1 <= MAX_OF_A_KIND
    });
    let omitted = before - all.len();
    (all, omitted)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::limits::Period;
    use crate::price::NanoUsd;

    use super::*;

    fn said(attention: Option<Attention>) -> Option<(&'static str, Level)> {
        attention.map(|one| (one.kind, one.level))
    }

    #[test]
    fn a_channel_is_down_only_if_nobody_stands_in_for_it() {
        let cooling = Condition::Cooling { until: Instant::now() };
        let of = |condition, keys: &[&'static str], stranded: &[&'static str]| {
            let (keys, stranded) = (keys.to_vec(), stranded.to_vec());
            let cooling_for = Some(Duration::from_millis(2900));
            channel(&UnwellChannel { name: "c", condition, cooling_for, keys, stranded })
        };
        assert_eq!(said(of(Condition::Healthy, &[], &[])), None);
        assert_eq!(said(of(Condition::Healthy, &["main"], &[])), Some(("channel_cooling", Level::Warning)));
        assert_eq!(said(of(cooling, &[], &[])), Some(("channel_cooling", Level::Warning)));
        let down = of(cooling, &["main"], &["gpt-*"]).expect("it is down");
        assert_eq!((down.kind, down.level, down.subject.as_deref()), ("channel_down", Level::Critical, Some("c")));
        let values = json!({ "state": "cooling", "cooling_s": 2, "keys": ["main"], "models": ["gpt-*"] });
        assert_eq!(Value::from(down.values), values);
        let trial = of(Condition::Trial, &[], &["gpt-*"]);
        assert_eq!(said(trial), Some(("channel_cooling", Level::Warning)), "the next request is sent to it");
    }

    #[test]
    fn a_budget_is_near_from_four_fifths_on_and_spent_when_nothing_is_left() {
        let of = |spent, allowed| {
            let used = BudgetUse { period: Period::Month, spent: NanoUsd(spent), allowed: NanoUsd(allowed) };
            budget(Subject::Key, "laptop", Some("k1"), used)
        };
        assert_eq!(said(of(799, 1000)), None);
        assert_eq!(said(of(800, 1000)), Some(("budget_near", Level::Warning)));
        assert_eq!(said(of(999, 1000)), Some(("budget_near", Level::Warning)));
        assert_eq!(said(of(1000, 1000)), Some(("budget_spent", Level::Critical)));
        assert_eq!(said(of(u64::MAX, u64::MAX)), Some(("budget_spent", Level::Critical)));
        assert_eq!(said(of(5, 0)), None);
        let near = of(4_500_000_000, 5_000_000_000).expect("it is near");
        let values = json!({
            "of": "key", "id": "k1", "period": "month", "spent_usd": "4.5", "budget_usd": "5", "percent": 90,
        });
        assert_eq!((near.subject.as_deref(), Value::from(near.values)), (Some("laptop"), values));
    }

    #[test]
    fn a_sink_is_told_of_while_it_fails_and_what_was_lost_for_an_hour() {
        let seconds = |s| Some(Duration::from_secs(s));
        let kinds = |course: SinkCourse| sink("loki", &course).iter().map(|one| one.kind).collect::<Vec<_>>();
        let quiet = SinkCourse { dropped: 3, failed: 9, waiting: 7, ..SinkCourse::default() };
        assert_eq!(kinds(quiet), [""; 0]);
        assert_eq!(kinds(SinkCourse { dropped_ago: seconds(3599), ..quiet }), ["records_dropped"]);
        assert_eq!(kinds(SinkCourse { dropped_ago: seconds(3600), ..quiet }), [""; 0]);
        assert_eq!(kinds(SinkCourse { failed_ago: seconds(299), ..quiet }), ["sink_failing"]);
        assert_eq!(kinds(SinkCourse { failed_ago: seconds(300), stuck_for: seconds(29), ..quiet }), [""; 0]);
        let worst = SinkCourse { stuck_for: seconds(30), dropped_ago: seconds(0), ..quiet };
        assert_eq!(kinds(worst), ["records_dropped", "sink_failing"]);
    }

    #[test]
    fn a_disk_is_low_by_bytes_or_by_files() {
        for (bytes, inodes, expected) in [
            (u64::MAX, None, None),
            (LITTLE_ROOM, Some(FEW_INODES), None),
            (LITTLE_ROOM - 1, None, Some(Level::Warning)),
            (u64::MAX, Some(999), Some(Level::Warning)),
            (NO_ROOM - 1, None, Some(Level::Critical)),
            (u64::MAX, Some(0), Some(Level::Critical)),
        ] {
            assert_eq!(room(bytes, inodes), expected, "{bytes} {inodes:?}");
            assert_eq!(disk(bytes, inodes).map(|one| one.level), expected);
        }
    }

    #[test]
    fn the_worst_comes_first_and_a_crowd_is_cut() {
        let near = |n: usize| {
            let used = BudgetUse { period: Period::Day, spent: NanoUsd(9), allowed: NanoUsd(10) };
            budget(Subject::Key, &format!("k{n}"), None, used).expect("it is near")
        };
        let mut all: Vec<_> = (0..25).map(near).collect();
        all.push(not_ready("listen", "is not open"));
        all.push(refused(2, None));
        let (told, omitted) = sorted(all);
        assert_eq!((told.len(), omitted), (22, 5));
        assert_eq!(
            (told[0].kind, told[1].subject.as_deref(), told[21].kind),
            ("not_ready", Some("k0"), "config_refused")
        );
        assert_eq!(sorted(Vec::new()), (Vec::new(), 0));
        assert_eq!(store(7).values["fold_lag_records"], 7);
    }
}
