//! Owns the sums of records that are read together: one addition to the totals for each series and
//! minute, instead of five for each record. Refuses to know where records come from.

use super::codec::RecordRef;
use super::counters::Counters;
use super::view::{Change, Grain, View};

/// Sums held at once, about 1 MiB: what a tick of the busiest gateway touches; more go in parts.
const MAX_SLOTS: usize = 8192;
/// No slot.
const NONE: u32 = u32::MAX;

/// Records that are gathered and not yet in the cells. Between [`View::gather`] and [`View::settle`]
/// the totals are incomplete, so nobody may see them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    slots: Vec<Slot>,
    /// The latest slot of each series, by its number.
    slot_of: Vec<u32>,
    /// The slots in the order of the cells, kept for its space.
    order: Vec<(u64, u32, u32)>,
}

#[derive(Debug)]
struct Slot {
    /// Minutes since 1970, of any size: a bucket is bounded.
    minute: u64,
    series: u32,
    counters: Counters,
}

impl View {
    /// Takes a record into `batch`. `known` is what [`View::find`] answered for it.
    pub(crate) fn gather(&mut self, batch: &mut Batch, record: &RecordRef<'_>, known: Option<u32>) {
        let Some(series) = known.or_else(|| self.series_of(record.dims)) else {
            return;
        };
        let key = self.keys.at_mut(self.series[series as usize].key);
        if record.time_ms >= key.last_used_ms {
            key.last_used_ms = record.time_ms;
            if key.name != record.key_name {
                record.key_name.clone_into(&mut key.name);
            }
        }
        self.meta.folded += 1;
        let minute = record.time_ms / Grain::Minute.ms();
        if !batch.add(series, minute, record) {
            self.settle(batch);
            batch.add(series, minute, record);
        }
    }

    /// Adds what was gathered to the totals.
    pub(crate) fn settle(&mut self, batch: &mut Batch) {
        if batch.slots.is_empty() {
            return;
        }
        // In the order of the cells: neighbours share nodes of the tree.
        let mut order = std::mem::take(&mut batch.order);
        order.extend((0..).zip(&batch.slots).map(|(n, slot)| (slot.minute, slot.series, n)));
        order.sort_unstable();
        for (minute, series, slot) in order.drain(..) {
            let counters = &batch.slots[slot as usize].counters;
            for grain in Grain::ALL {
                let bucket = grain.bucket(minute * Grain::Minute.ms());
                if bucket >= self.kept_from(grain) {
                    self.cells[grain as usize].entry((bucket, series)).or_default().add(counters);
                    self.note(Change::Cell(grain, bucket, series));
                }
            }
            self.keys.at_mut(self.series[series as usize].key).counters.add(counters);
            self.note(Change::Key(series));
            batch.slot_of[series as usize] = NONE;
        }
        self.note(Change::Meta);
        batch.order = order;
        batch.slots.clear();
    }

    /// Counts one record.
    #[cfg(test)]
    pub(crate) fn apply(&mut self, record: &RecordRef<'_>) {
        let mut batch = Batch::default();
        self.gather(&mut batch, record, self.find(record.dims));
        self.settle(&mut batch);
    }
}

impl Batch {
    /// `false`: there is no room, and nothing was added.
    fn add(&mut self, series: u32, minute: u64, record: &RecordRef<'_>) -> bool {
        let at = series as usize;
        if at >= self.slot_of.len() {
            self.slot_of.resize(at + 1, NONE);
        }
        let counters = Counters::of(record);
        let open = self.slots.get_mut(self.slot_of[at] as usize).filter(|slot| slot.minute == minute);
        if let Some(slot) = open {
            slot.counters.add(&counters);
            return true;
        }
        if self.slots.len() == MAX_SLOTS {
            return false;
        }
        self.slot_of[at] = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Slot { minute, series, counters });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::codec::encode;
    use super::super::fixtures::{any_settlement, settlement};
    use super::super::record::Settlement;
    use super::*;

    fn payload(s: &Settlement) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(s, &mut payload);
        payload
    }

    fn gather(view: &mut View, batch: &mut Batch, s: &Settlement) {
        let payload = payload(s);
        let record = RecordRef::decode(&payload).unwrap();
        view.gather(batch, &record, view.find(record.dims));
    }

    fn rows(view: &View) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut rows: Vec<_> = view.all_rows().collect();
        rows.sort();
        rows
    }

    /// Any figures under few keys, models and moments, so that many records meet in one cell.
    fn crowded() -> impl Strategy<Value = Settlement> {
        let minute = 60_000_u64;
        let time =
            prop_oneof![0..5 * minute, 0..100 * 86_400_000_u64, Just(u64::MAX), (u64::MAX - 3 * minute)..u64::MAX];
        (any_settlement(), 0..3_u8, 0..3_u8, 0..3_u8, time).prop_map(|(s, key, name, model, time_ms)| Settlement {
            key_id: format!("k{key}").into(),
            key_name: format!("n{name}").into(),
            model: format!("m{model}").into(),
            user: Arc::from(""),
            channel: Arc::from("c"),
            route: Arc::from("r"),
            time_ms,
            ..s
        })
    }

    proptest! {
        #[test]
        fn records_gathered_together_count_like_one_after_the_other(
            all in prop::collection::vec(crowded(), 0..60),
            settle_after in prop::collection::vec(any::<bool>(), 60),
            kept_from in 0..3_u32,
        ) {
            let (mut together, mut single) = (View::default(), View::default());
            for view in [&mut together, &mut single] {
                view.set_kept_from([kept_from, 0, 0]);
            }
            let mut batch = Batch::default();
            for (s, settle) in all.iter().zip(settle_after) {
                gather(&mut together, &mut batch, s);
                if settle {
                    together.settle(&mut batch);
                }
                single.apply(&RecordRef::decode(&payload(s)).unwrap());
            }
            together.settle(&mut batch);
            prop_assert_eq!(rows(&together), rows(&single));
            prop_assert_eq!(&together.keys, &single.keys);
            prop_assert_eq!(together.take_changes(), single.take_changes());
            // And both like a sum that knows neither.
            let mut days: BTreeMap<(u32, Arc<str>, Arc<str>, &str), u64> = BTreeMap::new();
            for s in &all {
                let day = Grain::Day.bucket(s.time_ms);
                let sum = days.entry((day, s.key_id.clone(), s.model.clone(), s.operation.name())).or_default();
                *sum = sum.saturating_add(s.usage.output);
            }
            let counted = together.cells[2].iter().map(|((day, series), counters)| {
                let series = &together.series[*series as usize];
                let operation = all.iter().map(|s| s.operation.name()).find(|name| *name == &*series.operation);
                ((*day, series.key_id.clone(), series.model.clone(), operation.unwrap()), counters.output)
            });
            prop_assert_eq!(counted.collect::<BTreeMap<_, _>>(), days);
        }
    }

    #[test]
    fn more_series_than_a_batch_holds_are_counted_in_parts() {
        let (mut view, mut batch) = (View::default(), Batch::default());
        for round in 0..2 {
            for n in 0..MAX_SLOTS + 10 {
                let s = Settlement { key_id: format!("k{n}").into(), ..settlement(0, round) };
                gather(&mut view, &mut batch, &s);
            }
        }
        view.settle(&mut batch);
        assert_eq!(view.cells[0].len(), MAX_SLOTS + 10);
        assert!(view.cells.iter().flat_map(|cells| cells.values()).all(|c| c.requests == 2));
        assert!(view.keys.iter().all(|(_, key)| key.counters.requests == 2));
    }
}
