//! Owns the totals: what the journal adds up to, in memory, and which of them changed since they were
//! last written. Refuses to know where they are written and where records come from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};

use super::codec::Dims;
use super::counters::Counters;
use super::imported::Imported;
use super::journal::files::SegmentId;
use super::keys::Keys;
use super::record::Settlement;
use super::reserved::UnderWay;

/// Model names are the client's to choose, so one key may have this many combinations of user, model,
/// channel and route; what it asks beyond is counted under the model [`OTHER_MODEL`].
pub(crate) const MAX_SERIES_PER_KEY: u32 = 4096;
/// Stands for every model beyond the cap.
pub(crate) const OTHER_MODEL: &str = "(other)";
/// Cells of minutes in memory, about 170 bytes each; beyond it the oldest go before their time.
const MAX_MINUTE_CELLS: usize = 500_000;
/// The same of hours.
const MAX_HOUR_CELLS: usize = 1_000_000;

/// The width of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    pub(crate) const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    pub(crate) const fn ms(self) -> u64 {
        match self {
            Grain::Minute => 60_000,
            Grain::Hour => 3_600_000,
            Grain::Day => 86_400_000,
        }
    }

    /// The bucket that holds `time_ms`. Minutes reach the year 10136; what is later is held there.
    pub(crate) fn bucket(self, time_ms: u64) -> u32 {
        u32::try_from(time_ms / self.ms()).unwrap_or(u32::MAX)
    }
}

/// The cells of one grain, by bucket and series.
pub(crate) type Cells = BTreeMap<(u32, u32), Counters>;

/// What a series is counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// The key's number.
    pub(crate) key: u32,
    pub(crate) key_id: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) channel: Arc<str>,
    pub(crate) route: Arc<str>,
    /// The operation's name.
    pub(crate) operation: Arc<str>,
}

/// What was read, beside the totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Records counted, ever. Of two states of one ledger the one with more is the later.
    pub(crate) folded: u64,
    /// Damaged parts of the journal.
    pub(crate) corrupt: u64,
    /// Records seen twice.
    pub(crate) duplicates: u64,
}

/// Something that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Meta,
    Cell(Grain, u32, u32),
    Series(u32),
    /// By any series of the key.
    Key(u32),
    Offset(SegmentId),
    Floor(u16),
    UnderWay,
    /// A chunk of ids.
    Imported(u32),
}

/// All totals, and how much of the journal is in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) meta: Meta,
    pub(crate) series: Vec<Series>,
    /// By dimensions. Model names are the client's to choose: the hashes are keyed.
    index: AHashMap<Box<[u8]>, u32>,
    /// The strings of all series, each once.
    names: AHashSet<Arc<str>>,
    pub(crate) cells: [Cells; 3],
    pub(crate) keys: Keys,
    /// Bytes of each segment that are folded.
    pub(crate) offsets: BTreeMap<SegmentId, u64>,
    /// Segments up to this one are folded whole, and may be gone.
    pub(crate) floors: BTreeMap<u16, u64>,
    /// What was reserved and is not settled.
    pub(super) under_way: UnderWay,
    /// What was imported.
    pub(super) imported: Imported,
    /// Buckets before these are pruned: late records do not bring them back.
    pruned: [u32; 3],
    changes: AHashSet<Change>,
    scratch: Vec<u8>,
}

impl View {
    /// The series of a block of dimensions, if it has one of its own.
    pub(crate) fn find(&self, dims: &[u8]) -> Option<u32> {
        self.index.get(dims).copied()
    }

    /// Notes that something changed.
    pub(super) fn note(&mut self, change: Change) {
        self.changes.insert(change);
    }

    /// Notes damage, so that the count survives a restart.
    pub(crate) fn note_corrupt(&mut self) {
        self.meta.corrupt += 1;
        self.changes.insert(Change::Meta);
    }

    /// What `instances` have left under way, and how much of it cannot be read: that is damage, and forgotten.
    pub(crate) fn take_left(&mut self, instances: &[u64]) -> (Vec<Settlement>, u64) {
        let (left, unreadable) = self.under_way.left_by(instances);
        (0..unreadable).for_each(|_| self.note_corrupt());
        (left, unreadable)
    }

    /// Whether a record with this id was imported.
    pub(crate) fn is_imported(&self, id: u128) -> bool {
        self.imported.contains(id)
    }

    /// Notes that a record is imported; whether it is for the first time.
    pub(crate) fn import(&mut self, id: u128) -> bool {
        let chunk = self.imported.insert(id);
        self.changes.extend(chunk.map(Change::Imported));
        chunk.is_some()
    }

    /// Notes a record that was counted before.
    pub(crate) fn note_duplicate(&mut self) {
        self.meta.duplicates += 1;
        self.changes.insert(Change::Meta);
    }

    /// Notes that a segment is folded up to `offset`.
    pub(crate) fn set_offset(&mut self, id: SegmentId, offset: u64) {
        if self.offsets.insert(id, offset) != Some(offset) {
            self.changes.insert(Change::Offset(id));
        }
    }

    /// Notes that the segments of `shard` up to `seq` are folded whole; their offsets are forgotten.
    pub(crate) fn set_floor(&mut self, shard: u16, seq: u64) {
        self.floors.insert(shard, seq);
        self.changes.insert(Change::Floor(shard));
        let first = SegmentId { shard, seq: 0 };
        let gone: Vec<SegmentId> = self.offsets.range(first..=SegmentId { shard, seq }).map(|(id, _)| *id).collect();
        for id in gone {
            self.offsets.remove(&id);
            self.changes.insert(Change::Offset(id));
        }
    }

    /// Whether the segment is folded whole and may be gone.
    pub(crate) fn is_below_floor(&self, id: SegmentId) -> bool {
        self.floors.get(&id.shard).is_some_and(|floor| id.seq <= *floor)
    }

    /// The highest number that the totals know of in a shard.
    pub(crate) fn highest_seq(&self, shard: u16) -> u64 {
        let floor = self.floors.get(&shard).copied().unwrap_or(0);
        let range = SegmentId { shard, seq: 0 }..=SegmentId { shard, seq: u64::MAX };
        self.offsets.range(range).next_back().map_or(floor, |(id, _)| floor.max(id.seq))
    }

    /// Forgets minutes and hours that are older than they are kept.
    pub(crate) fn prune(&mut self, now_ms: u64, keep_minutes: Duration, keep_hours: Duration) {
        let rules = [(Grain::Minute, keep_minutes, MAX_MINUTE_CELLS), (Grain::Hour, keep_hours, MAX_HOUR_CELLS)];
        for (grain, keep, cap) in rules {
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            if self.pruned[grain as usize] > grain.bucket(now_ms) {
                // The clock was wrong then: what is counted from now on is kept again.
                self.pruned[grain as usize] = 0;
            }
            self.prune_before(grain, grain.bucket(now_ms.saturating_sub(keep_ms)));
            while self.cells[grain as usize].len() > cap {
                // Never the newest: a bucket that is still filling is always there to be read.
                let cells = &self.cells[grain as usize];
                let (Some((oldest, _)), Some((newest, _))) =
                    (cells.keys().next().copied(), cells.keys().next_back().copied())
                else {
                    break;
                };
                if oldest == newest {
                    break;
                }
                self.prune_before(grain, oldest + 1);
            }
        }
    }

    fn prune_before(&mut self, grain: Grain, bucket: u32) {
        let pruned = &mut self.pruned[grain as usize];
        *pruned = (*pruned).max(bucket);
        if self.cells[grain as usize].keys().next().is_none_or(|(oldest, _)| *oldest >= bucket) {
            return;
        }
        let kept = self.cells[grain as usize].split_off(&(bucket, 0));
        let gone = std::mem::replace(&mut self.cells[grain as usize], kept);
        self.changes.extend(gone.keys().map(|(bucket, series)| Change::Cell(grain, *bucket, *series)));
    }

    /// The first bucket of `grain` that is kept whole.
    pub(crate) fn kept_from(&self, grain: Grain) -> u32 {
        self.pruned[grain as usize]
    }

    pub(crate) fn set_kept_from(&mut self, buckets: [u32; 3]) {
        self.pruned = buckets;
    }

    /// What changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> AHashSet<Change> {
        let mut changes = std::mem::take(&mut self.changes);
        if std::mem::take(&mut self.under_way.is_changed) {
            changes.insert(Change::UnderWay);
        }
        changes
    }

    /// Whether anything changed.
    pub(crate) fn is_changed(&self) -> bool {
        !self.changes.is_empty() || self.under_way.is_changed
    }

    /// The numbers of all series.
    pub(crate) fn numbers(&self) -> Range<u32> {
        // `insert_series` adds none beyond.
        0..u32::try_from(self.series.len()).unwrap_or(u32::MAX)
    }

    /// Adds a series as it was numbered before. `None` if its bytes are not one.
    pub(crate) fn insert_series(&mut self, dims: &[u8]) -> Option<u32> {
        let number = u32::try_from(self.series.len()).ok()?;
        let names = Dims::decode(dims)?;
        let (key, key_id) = self.keys.number(names.key_id)?;
        self.keys.at_mut(key).series += 1;
        let series = Series {
            key,
            key_id,
            user: self.shared(names.user),
            model: self.shared(names.model),
            channel: self.shared(names.channel),
            route: self.shared(names.route),
            operation: self.shared(names.operation),
        };
        self.series.push(series);
        self.index.insert(dims.into(), number);
        Some(number)
    }

    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.names.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = name.into();
        self.names.insert(Arc::clone(&shared));
        shared
    }

    /// The series that a record is counted under; a new one if need be.
    pub(super) fn series_of(&mut self, dims: &[u8]) -> Option<u32> {
        if let Some(series) = self.find(dims) {
            return Some(series);
        }
        let names = Dims::decode(dims)?;
        if self.keys.get(names.key_id).is_none_or(|key| key.series < MAX_SERIES_PER_KEY) {
            return self.add_series(dims);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        Dims { model: OTHER_MODEL, ..names }.encode(&mut scratch);
        let series = match self.index.get(&*scratch) {
            Some(series) => Some(*series),
            None => self.add_series(&scratch),
        };
        self.scratch = scratch;
        series
    }

    fn add_series(&mut self, dims: &[u8]) -> Option<u32> {
        let series = self.insert_series(dims)?;
        self.changes.insert(Change::Series(series));
        Some(series)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{RecordRef, encode};
    use super::super::fixtures::settlement;
    use super::super::record::Settlement;
    use super::*;

    fn apply(view: &mut View, s: &Settlement) {
        let mut payload = Vec::new();
        encode(s, &mut payload);
        view.apply(&RecordRef::decode(&payload).unwrap());
    }

    #[test]
    fn a_record_is_counted_in_each_grain_and_under_its_key() {
        let mut view = View::default();
        let at = 86_400_000 + 3_600_000 + 60_000;
        apply(&mut view, &settlement(1, at));
        apply(&mut view, &settlement(2, at + 60_000));
        let cells =
            |grain: Grain| -> Vec<_> { view.cells[grain as usize].iter().map(|(at, c)| (*at, c.requests)).collect() };
        assert_eq!(cells(Grain::Minute), [((1501, 0), 1), ((1502, 0), 1)]);
        assert_eq!(cells(Grain::Hour), [((25, 0), 2)]);
        assert_eq!(cells(Grain::Day), [((1, 0), 2)]);
        let key = view.keys.get("k1").unwrap();
        assert_eq!(
            (key.name.as_str(), key.last_used_ms, key.counters.cost_nano_usd),
            ("alice-laptop", at + 60_000, 14)
        );
    }

    #[test]
    fn a_key_that_makes_up_models_fills_one_series_beyond_its_cap() {
        let mut view = View::default();
        for n in 0..u128::from(MAX_SERIES_PER_KEY) + 100 {
            let mut s = settlement(n, 0);
            s.model = format!("made-up-{n}").into();
            apply(&mut view, &s);
        }
        assert_eq!(view.numbers(), 0..MAX_SERIES_PER_KEY + 1);
        let other = view.series.iter().position(|s| &*s.model == OTHER_MODEL).unwrap();
        assert_eq!(view.cells[2][&(0, u32::try_from(other).unwrap())].requests, 100);
        let mut stranger = settlement(0, 0);
        stranger.key_id = "k2".into();
        apply(&mut view, &stranger);
        assert_eq!(&*view.series.last().unwrap().model, "gpt-4o");
    }

    #[test]
    fn pruned_minutes_and_hours_do_not_come_back_and_days_stay() {
        let mut view = View::default();
        let day = 86_400_000;
        apply(&mut view, &settlement(1, 0));
        apply(&mut view, &settlement(2, 10 * day));
        view.take_changes();
        view.prune(10 * day, Duration::from_secs(3600), Duration::from_secs(86_400));
        assert_eq!(view.cells.each_ref().map(BTreeMap::len), [1, 1, 2]);
        assert!(view.take_changes().contains(&Change::Cell(Grain::Minute, 0, 0)));
        apply(&mut view, &settlement(3, 0));
        assert_eq!(view.cells.each_ref().map(BTreeMap::len), [1, 1, 2]);
        assert_eq!(view.cells[2][&(0, 0)].requests, 2);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_end_the_minutes() {
        let (mut view, hour) = (View::default(), Duration::from_secs(3600));
        view.prune(1000 * 86_400_000, hour, hour);
        view.prune(86_400_000, hour, hour);
        apply(&mut view, &settlement(1, 86_400_000));
        assert_eq!(view.cells.each_ref().map(BTreeMap::len), [1, 1, 1]);
    }

    #[test]
    fn a_floor_forgets_the_offsets_below_it() {
        let mut view = View::default();
        for seq in 1..=4 {
            view.set_offset(SegmentId { shard: 1, seq }, 64);
        }
        view.set_offset(SegmentId { shard: 2, seq: 1 }, 64);
        view.set_floor(1, 3);
        assert_eq!(view.offsets.keys().map(|id| (id.shard, id.seq)).collect::<Vec<_>>(), [(1, 4), (2, 1)]);
        assert!(view.is_below_floor(SegmentId { shard: 1, seq: 3 }));
        assert!(!view.is_below_floor(SegmentId { shard: 2, seq: 1 }));
        assert_eq!([view.highest_seq(1), view.highest_seq(2), view.highest_seq(3)], [4, 1, 0]);
    }
}
