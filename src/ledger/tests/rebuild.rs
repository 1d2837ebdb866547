//! Owns the rebuild: the totals from the journal alone.

use std::sync::Arc;
use std::time::Instant;

use super::super::fixtures::settlement;
use super::super::journal::files::RealDisk;
use super::super::journal::{Journal, SEGMENT_BYTES};
use super::super::{Settlement, now_ms};
use super::scene::{Scene, by_model, how_many};

const SERIES: u64 = 1000;
const KEYS: u64 = 50;
/// Seconds over which the records are spread: more than a day, so that every counter has work.
const SPREAD: u64 = 100_000;

#[test]
fn totals_rebuilt_from_the_journal_alone_are_equal() {
    let count = how_many("WEIR_TRUST_RECORDS", 20_000);
    let scene = Scene { segment_bytes: SEGMENT_BYTES, ..Scene::new() };
    let directory = scene.directory().join("journal");
    let journal = Journal::open(&directory, 1, SEGMENT_BYTES, Arc::new(RealDisk), |_| 1).unwrap();
    let mut records: Vec<Settlement> = (0..SERIES)
        .map(|series| Settlement {
            key_id: format!("k{}", series % KEYS).into(),
            model: format!("model-{series}").into(),
            ..settlement(0, 0)
        })
        .collect();
    let start = now_ms() - SPREAD * 1000;
    let begun = Instant::now();
    let places = u64::try_from(records.len()).unwrap();
    for id in 0..count {
        let record = &mut records[usize::try_from(id * 7 % places).unwrap()];
        record.id = id.into();
        record.time_ms = start + id * SPREAD / count * 1000;
        journal.append(record);
    }
    let wrote = begun.elapsed();
    journal.finish();
    drop(journal);

    let begun = Instant::now();
    let ledger = scene.open();
    let rows = ledger.usage(&by_model());
    let took = begun.elapsed();
    let sum = |figure: fn(&super::Counters) -> u64| rows.iter().map(|row| figure(&row.counters)).sum::<u64>();
    assert_eq!(
        (sum(|c| c.requests), sum(|c| c.input_uncached), sum(|c| c.output), sum(|c| c.cost_nano_usd)),
        (count, 3 * count, 5 * count, 7 * count)
    );
    assert_eq!(ledger.key_totals().iter().map(|key| key.counters.requests).sum::<u64>(), count);
    assert_eq!((rows.len() as u64, ledger.key_totals().len() as u64), (SERIES.min(count), KEYS.min(count)));
    let status = ledger.status();
    assert_eq!((status.corrupt_records, status.duplicates, status.history_lost), (0, 0, false));
    let per_second = count as f64 / took.as_secs_f64();
    println!(
        "trust: {count} records rebuilt in {:.1} s, {per_second:.0} a second (written in {:.1} s), totals equal",
        took.as_secs_f64(),
        wrote.as_secs_f64()
    );
    if std::env::var("WEIR_TRUST_RECORDS").is_ok() {
        assert!(per_second >= 10_000_000.0 / 60.0, "ten million take more than a minute");
    }
}
