//! Owns the form in which totals are written, one key and one value each: the same in the store and
//! in the snapshot file. Refuses to know either.

use std::sync::Arc;

use super::counters::Counters;
use super::journal::files::SegmentId;
use super::keys::KeyState;
use super::reserved::UnderWay;
use super::view::{Change, Grain, Meta, View};
use super::wire::{Reader, put_int, put_text};
use crate::store::Row;

/// The key of the row that makes a set of rows complete. It sorts first.
pub(crate) const META: &[u8] = b"!";

/// Since format 2 counters end with the requests without a price; rows of both may stand together. Format 3 has rows of
/// imported ids, and how many there are at the end of its meta row; it is written once there are any, so that a ledger
/// into which nothing was imported can still be read by the release before.
const FORMAT: u64 = 3;
const WITHOUT_IMPORTS: u64 = 2;
const FIRST_FORMAT: u64 = 1;

/// Why rows are not totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRows(pub(crate) String);

impl View {
    /// The rows of what changed.
    pub(crate) fn changed_rows(&mut self) -> Vec<Row> {
        let mut changes = self.take_changes();
        if !changes.is_empty() {
            // It says how many rows there are.
            changes.insert(Change::Meta);
        }
        let mut value = Vec::new();
        changes.into_iter().map(|change| self.row(change, &mut value)).collect()
    }

    /// Every row, in no order.
    pub(crate) fn all_rows(&self) -> impl Iterator<Item = Row> + '_ {
        let cells = Grain::ALL
            .into_iter()
            .flat_map(|grain| self.cells[grain as usize].keys().map(move |(b, s)| Change::Cell(grain, *b, *s)));
        // The first series of each key stands for the key.
        let mut seen = ahash::AHashSet::new();
        let keys = self.numbers().filter(move |s| seen.insert(self.series[*s as usize].key)).map(Change::Key);
        let mut value = Vec::new();
        std::iter::once(Change::Meta)
            .chain(self.numbers().map(Change::Series))
            .chain(keys)
            .chain(cells)
            .chain(self.offsets.keys().copied().map(Change::Offset))
            .chain(self.floors.keys().copied().map(Change::Floor))
            .chain((!self.under_way.is_empty()).then_some(Change::UnderWay))
            .chain(self.imported.chunks().map(Change::Imported))
            .map(move |change| self.row(change, &mut value))
    }

    /// Puts the value together in `value`, so that the row's own is allocated once and in its size:
    /// hundreds of thousands of rows can be written at once.
    fn row(&self, change: Change, value: &mut Vec<u8>) -> Row {
        value.clear();
        let mut key = Vec::with_capacity(16);
        let kept = match change {
            Change::Meta => {
                key.extend_from_slice(META);
                let format = if self.imported.is_empty() { WITHOUT_IMPORTS } else { FORMAT };
                for n in [format, self.meta.folded, self.meta.corrupt, self.meta.duplicates] {
                    put_int(value, n);
                }
                for grain in Grain::ALL {
                    put_int(value, self.kept_from(grain).into());
                    put_int(value, self.cells[grain as usize].len() as u64);
                }
                if format == FORMAT {
                    put_int(value, self.imported.len() as u64);
                }
                true
            }
            Change::Cell(grain, bucket, series) => {
                key.push(grain_tag(grain));
                key.extend_from_slice(&bucket.to_be_bytes());
                key.extend_from_slice(&series.to_be_bytes());
                self.cells[grain as usize].get(&(bucket, series)).inspect(|c| c.encode(value)).is_some()
            }
            Change::Series(series) => {
                key.push(b's');
                key.extend_from_slice(&series.to_be_bytes());
                self.series[series as usize].encode(value);
                true
            }
            Change::Key(series) => {
                let id = &self.series[series as usize].key_id;
                key.push(b'k');
                key.extend_from_slice(id.as_bytes());
                self.keys.at(self.series[series as usize].key).encode(value);
                true
            }
            Change::Offset(id) => {
                key.push(b'o');
                key.extend_from_slice(&id.shard.to_be_bytes());
                key.extend_from_slice(&id.seq.to_be_bytes());
                self.offsets.get(&id).inspect(|offset| put_int(value, **offset)).is_some()
            }
            Change::Floor(shard) => {
                key.push(b'f');
                key.extend_from_slice(&shard.to_be_bytes());
                self.floors.get(&shard).inspect(|floor| put_int(value, **floor)).is_some()
            }
            Change::UnderWay => {
                key.push(b'r');
                self.under_way.encode(value);
                !self.under_way.is_empty()
            }
            Change::Imported(chunk) => {
                key.push(b'i');
                key.extend_from_slice(&chunk.to_be_bytes());
                self.imported.encode(chunk, value);
                true
            }
        };
        (key, kept.then(|| value.as_slice().to_vec()))
    }

    /// Totals out of rows in any order. `Ok(None)`: the rows were never completed, so they say
    /// nothing. An error: they contradict themselves, or are not rows.
    pub(crate) fn from_rows(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Option<Self>, BadRows> {
        let mut view = View::default();
        let mut lens = None;
        let mut series: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut keys = Vec::new();
        let mut imported: Vec<(u32, Vec<u8>)> = Vec::new();
        for (key, value) in rows {
            let bad = || BadRows(format!("row {key:02x?} cannot be read"));
            let mut r = Reader::new(&value);
            let mut k = Reader::new(&key);
            match k.byte().ok_or_else(bad)? {
                tag if [tag] == *META => {
                    lens = Some(view.read_meta(&mut r)?);
                }
                b's' => {
                    let number = k.array().map(u32::from_be_bytes).ok_or_else(bad)?;
                    series.push((number, r.take(value.len()).unwrap_or_default().to_vec()));
                }
                b'k' => {
                    let id: Arc<str> = std::str::from_utf8(k.rest()).map_err(|_| bad())?.into();
                    k.take(id.len());
                    keys.push((id, KeyState::decode(&mut r).ok_or_else(bad)?));
                }
                b'o' => {
                    let id = segment_id(&mut k).ok_or_else(bad)?;
                    view.offsets.insert(id, r.int().ok_or_else(bad)?);
                }
                b'f' => {
                    let shard = k.array().map(u16::from_be_bytes).ok_or_else(bad)?;
                    view.floors.insert(shard, r.int().ok_or_else(bad)?);
                }
                b'r' => view.under_way = UnderWay::decode(&mut r).ok_or_else(bad)?,
                b'i' => {
                    let chunk = k.array().map(u32::from_be_bytes).ok_or_else(bad)?;
                    imported.push((chunk, r.take(value.len()).unwrap_or_default().to_vec()));
                }
                tag => {
                    let grain = Grain::ALL.into_iter().find(|g| grain_tag(*g) == tag).ok_or_else(bad)?;
                    let bucket = k.array().map(u32::from_be_bytes).ok_or_else(bad)?;
                    let number = k.array().map(u32::from_be_bytes).ok_or_else(bad)?;
                    let counters = Counters::decode(&mut r).ok_or_else(bad)?;
                    view.cells[grain as usize].insert((bucket, number), counters);
                }
            }
            if !r.is_empty() || !k.is_empty() {
                return Err(bad());
            }
        }
        let Some((lens, imports)) = lens else { return Ok(None) };
        if view.cells.each_ref().map(|cells| cells.len() as u64) != lens {
            return Err(BadRows("cells are missing, or too many".to_owned()));
        }
        imported.sort_unstable();
        for (chunk, ids) in imported {
            let read = view.imported.decode(chunk, &mut Reader::new(&ids));
            read.ok_or_else(|| BadRows(format!("imported ids {chunk} cannot be read or are out of order")))?;
        }
        if view.imported.len() as u64 != imports {
            return Err(BadRows("imported ids are missing, or too many".to_owned()));
        }
        series.sort_unstable();
        for (expected, (number, dims)) in series.iter().enumerate() {
            if view.insert_series(dims) != Some(*number) || *number as usize != expected {
                return Err(BadRows(format!("series {number} cannot be read or is out of order")));
            }
        }
        for (id, state) in keys {
            let known = view.keys.get_mut(&id).ok_or_else(|| BadRows("a key has no series".to_owned()))?;
            *known = KeyState { series: known.series, ..state };
        }
        view.check_sums()?;
        Ok(Some(view))
    }

    /// The answer is how many cells there are of each grain, and how many imported ids.
    fn read_meta(&mut self, r: &mut Reader<'_>) -> Result<([u64; 3], u64), BadRows> {
        let mut int = || r.int().ok_or_else(|| BadRows("the meta row cannot be read".to_owned()));
        let format = int()?;
        if !(FIRST_FORMAT..=FORMAT).contains(&format) {
            return Err(BadRows(format!("format {format} is not known to this release")));
        }
        self.meta = Meta { folded: int()?, corrupt: int()?, duplicates: int()? };
        let (mut pruned, mut lens) = ([0; 3], [0; 3]);
        for (from, len) in pruned.iter_mut().zip(&mut lens) {
            *from = u32::try_from(int()?).map_err(|_| BadRows("a bucket is out of range".to_owned()))?;
            *len = int()?;
        }
        let imports = if format < FORMAT { 0 } else { int()? };
        self.set_kept_from(pruned);
        Ok((lens, imports))
    }

    /// Days and keys are kept for ever, so either must add up to the records counted; and every cell
    /// must belong to a series.
    fn check_sums(&self) -> Result<(), BadRows> {
        let days: u128 = self.cells[Grain::Day as usize].values().map(|c| u128::from(c.requests)).sum();
        let keys: u128 = self.keys.iter().map(|(_, k)| u128::from(k.counters.requests)).sum();
        let folded = u128::from(self.meta.folded);
        if days != folded || keys != folded {
            return Err(BadRows(format!("{folded} records were counted, but days hold {days} and keys {keys}")));
        }
        let series = self.series.len();
        let stray = self.cells.iter().flat_map(|cells| cells.keys()).any(|(_, s)| *s as usize >= series);
        if stray { Err(BadRows("a cell has no series".to_owned())) } else { Ok(()) }
    }
}

impl super::view::Series {
    fn encode(&self, out: &mut Vec<u8>) {
        super::codec::Dims {
            key_id: &self.key_id,
            user: &self.user,
            model: &self.model,
            channel: &self.channel,
            route: &self.route,
            operation: &self.operation,
        }
        .encode(out);
    }
}

impl KeyState {
    fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.name);
        put_int(out, self.last_used_ms);
        self.counters.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        Some(Self { name: r.text()?.to_owned(), last_used_ms: r.int()?, counters: Counters::decode(r)?, series: 0 })
    }
}

fn segment_id(k: &mut Reader<'_>) -> Option<SegmentId> {
    Some(SegmentId { shard: u16::from_be_bytes(k.array()?), seq: u64::from_be_bytes(k.array()?) })
}

const fn grain_tag(grain: Grain) -> u8 {
    match grain {
        Grain::Minute => b'M',
        Grain::Hour => b'H',
        Grain::Day => b'D',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::codec::{RecordRef, encode};
    use super::super::fixtures::any_settlement;
    use super::super::record::Settlement;
    use super::*;

    fn folded(all: &[Settlement]) -> View {
        let mut view = View::default();
        for s in all {
            let mut payload = Vec::new();
            encode(s, &mut payload);
            view.apply(&RecordRef::decode(&payload).unwrap());
        }
        view.set_offset(SegmentId { shard: 1, seq: 7 }, 4096);
        view.set_floor(1, 6);
        let mut payload = Vec::new();
        super::super::reserved::begin(9, &mut payload);
        encode(&super::super::fixtures::settlement(5, 6), &mut payload);
        let (id, reserved) = super::super::reserved::Reserved::decode(&payload).unwrap();
        view.under_way.begin(id, reserved);
        view
    }

    fn rows(view: &View) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows: Vec<_> = view.all_rows().map(|(k, v)| (k, v.unwrap())).collect();
        rows.sort();
        rows
    }

    proptest! {
        #[test]
        fn totals_survive_a_round_trip(all in prop::collection::vec(any_settlement(), 0..20)) {
            let view = folded(&all);
            let back = View::from_rows(rows(&view)).unwrap().unwrap();
            prop_assert_eq!(rows(&back), rows(&view));
            prop_assert_eq!(back.keys, view.keys);
        }

        #[test]
        fn changed_rows_of_a_new_view_are_all_its_rows(all in prop::collection::vec(any_settlement(), 1..20)) {
            let mut view = folded(&all);
            let mut changed: Vec<_> = view.changed_rows().into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
            changed.sort();
            changed.dedup();
            prop_assert_eq!(changed, rows(&view));
            prop_assert!(!view.is_changed());
        }

        #[test]
        fn any_rows_are_read_without_a_panic(all: Vec<(Vec<u8>, Vec<u8>)>, tag in prop::sample::select(&b"!skofriMHD"[..])) {
            let tagged = all.into_iter().map(|(mut k, v)| { k.insert(0, tag); (k, v) });
            let _ = View::from_rows(tagged);
        }
    }

    #[test]
    fn rows_that_contradict_themselves_are_refused() {
        let view = folded(&[super::super::fixtures::settlement(1, 5)]);
        let all = rows(&view);
        for missing in [b's', b'k', b'M', b'H', b'D'] {
            let part = all.iter().filter(|(k, _)| k[0] != missing).cloned();
            assert!(View::from_rows(part).is_err(), "without {}", char::from(missing));
        }
        let unfinished = all.iter().filter(|(k, _)| k != META).cloned();
        assert!(View::from_rows(unfinished).unwrap().is_none());
    }

    #[test]
    fn imported_ids_are_rows_once_there_are_any_and_none_may_be_missing() {
        let mut view = folded(&[super::super::fixtures::settlement(1, 5)]);
        let meta = |view: &View| rows(view).into_iter().find(|(key, _)| key == META).unwrap().1;
        assert_eq!(meta(&view)[0], 2, "the release before can read it");
        for id in 0..300 {
            assert!(view.import(id) && !view.import(id));
        }
        let all = rows(&view);
        assert_eq!((meta(&view)[0], all.iter().filter(|(key, _)| key[0] == b'i').count()), (3, 2));
        let back = View::from_rows(all.clone()).unwrap().unwrap();
        assert_eq!(rows(&back), all);
        assert!((0..300).all(|id| back.is_imported(id)) && !back.is_imported(300));
        for missing in [b"i\0\0\0\0", b"i\0\0\0\x01"] {
            let part = all.iter().filter(|(key, _)| key != missing).cloned();
            assert!(View::from_rows(part).is_err(), "{missing:?}");
        }
        view.take_changes();
        view.import(300);
        let mut changed: Vec<_> = view.changed_rows().into_iter().map(|(key, _)| key).collect();
        changed.sort();
        assert_eq!(changed, [META, b"i\0\0\0\x01"]);
    }

    #[test]
    fn rows_of_the_first_format_are_read_and_written_anew() {
        let view = folded(&[super::super::fixtures::settlement(1, 5)]);
        let now = rows(&view);
        let first: Vec<(Vec<u8>, Vec<u8>)> = now
            .iter()
            .map(|(key, value)| match key[0] {
                // Its first number is the format, and the last of the counters is one of the second format's.
                tag if [tag] == *META => (key.clone(), [&[1], &value[1..]].concat()),
                b'k' | b'M' | b'H' | b'D' => (key.clone(), value[..value.len() - 1].to_vec()),
                _ => (key.clone(), value.clone()),
            })
            .collect();
        assert_ne!(first, now);
        let back = View::from_rows(first).unwrap().unwrap();
        assert_eq!(rows(&back), now);
    }
}
