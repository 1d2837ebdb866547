//! Many records: how much of the index a page reads, and what a record costs.

use std::hint::black_box;
use std::sync::Arc;

use super::super::*;
use super::scene::{NOW, Record, Running, batch, until};
use super::*;
use crate::audit::batch::Batch;

const KEYS: u64 = 10_000;

/// Records of 10,000 keys of 3,000 users, twenty models and four channels; some fail.
fn spread(first: u64, count: u64) -> Arc<Batch> {
    batch(&spread_records(first, count))
}

fn spread_records(first: u64, count: u64) -> Vec<Record> {
    let records = (first..first + count).map(|n| {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let key = mixed % KEYS;
        let mut record = record(u128::from(n) << 64 | u128::from(mixed));
        record.names = [
            format!("key-{key}"),
            format!("user-{}", key % 3000),
            format!("model-{}", mixed % 20),
            format!("channel-{}", mixed / 20 % 4),
        ];
        record.time_ms = NOW + n;
        record.status = match mixed % 1000 {
            0..3 => 503,
            3..20 => 429,
            20..23 => 0,
            _ => 200,
        };
        // A record without bodies has about a kilobyte.
        record.ballast = 700 + usize::try_from(mixed % 101).unwrap();
        record
    });
    records.collect()
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a question has")]
fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// Each filter, alone and together with others.
fn questions(records: u64) -> Vec<(&'static str, Query)> {
    let default = Query::default;
    vec![
        ("no filter", default()),
        ("limit 1000", Query { limit: 1000, ..default() }),
        ("key", Query { key: name("key-77"), ..default() }),
        ("key, limit 1000", Query { key: name("key-77"), limit: 1000, ..default() }),
        ("a key that is not there", Query { key: name("nobody"), ..default() }),
        ("user", Query { user: name("user-5"), ..default() }),
        ("model", Query { model: name("model-3"), ..default() }),
        ("channel", Query { channel: name("channel-2"), ..default() }),
        ("status 200", Query { status: "200".parse().ok(), ..default() }),
        ("status 5xx", Query { status: "5xx".parse().ok(), ..default() }),
        ("status none", Query { status: "none".parse().ok(), ..default() }),
        ("a status that is not there", Query { status: "418".parse().ok(), ..default() }),
        ("model and channel", Query { model: name("model-3"), channel: name("channel-1"), ..default() }),
        ("key and 429", Query { key: name("key-77"), status: "429".parse().ok(), ..default() }),
        ("the oldest tenth", Query { to: Some(NOW + records / 10), ..default() }),
        (
            "a minute in the middle",
            Query { from: Some(NOW + records / 2), to: Some(NOW + records / 2 + 60), ..default() },
        ),
        ("user, oldest half", Query { user: name("user-5"), to: Some(NOW + records / 2), ..default() }),
    ]
}

fn filled(records: u64, at_once: u64) -> (Scene, Running) {
    let mut scene = Scene::with_segments_of(MAX_SEGMENT_RECORDS);
    scene.config.max_total = 64 << 30;
    let running = scene.started();
    for first in (0..records).step_by(usize::try_from(at_once).unwrap()) {
        let stats = running.giver.as_ref().unwrap().stats().clone();
        running.giver.as_ref().unwrap().give(&spread(first, at_once.min(records - first)));
        // The queue has a bound.
        until(|| stats.waiting.load(std::sync::atomic::Ordering::SeqCst) < 8192);
    }
    until(|| running.figures()[2] == 0);
    running.settle();
    assert_eq!(running.figures(), [records, 0, 0]);
    (scene, running)
}

#[test]
fn a_page_reads_a_few_rows_of_each_segment_however_many_records_there_are() {
    const RECORDS: u64 = 100_000;
    let (_scene, running) = filled(RECORDS, 1000);
    let segments = usize::try_from(RECORDS).unwrap().div_ceil(MAX_SEGMENT_RECORDS);
    for (what, query) in questions(RECORDS) {
        let (page, rows) = running.history.page_and_rows(&query).unwrap();
        // A list of all records of a segment has some thirty rows; a page's records may each be of another chunk.
        let lists = 130 * segments;
        let most = if page.rows.is_empty() { 2 * 64 * segments } else { lists + page.rows.len() + 64 };
        assert!(rows <= most, "{what}: {rows} rows for {} records", page.rows.len());
        println!("{what}: {rows} rows of the index for {} records", page.rows.len());
    }
    let rows = |query| running.history.page_and_rows(&query).unwrap().1;
    assert_eq!(rows(Query::default()), 0, "the newest are in memory");
    assert!(rows(Query { key: name("nobody"), ..Query::default() }) <= segments);
}

/// `cargo test --release --lib history -- --ignored --nocapture a_million`
#[test]
#[ignore = "takes a while and says figures"]
fn a_million_records() {
    const RECORDS: u64 = 1_000_000;
    let begun = Instant::now();
    let (scene, running) = filled(RECORDS, 256);
    println!("written and indexed in {:?}", begun.elapsed());
    let size = |path: std::path::PathBuf| -> u64 {
        let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        files.filter(std::fs::Metadata::is_file).map(|meta| meta.len()).sum()
    };
    let (lines, index) = (size(scene.directory()), size(scene.directory().join("index")));
    println!("{} bytes of lines and {} of index a record", lines / RECORDS, index / RECORDS);
    println!("status {:?}", running.history.status());
    let ask_all = |running: &Running, when: &str| {
        for (what, query) in questions(RECORDS) {
            let begun = Instant::now();
            let (page, rows) = running.history.page_and_rows(&query).unwrap();
            let first = begun.elapsed();
            let begun = Instant::now();
            for _ in 0..10 {
                black_box(running.history.page(&query).unwrap());
            }
            println!(
                "{when}: {what}: {} records, {rows} rows, {first:?}, then {:?}",
                page.rows.len(),
                begun.elapsed() / 10
            );
        }
        for n in [0_u64, 1, RECORDS / 2, RECORDS - 1, RECORDS + 1] {
            let id = u128::from(n) << 64 | u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20);
            let begun = Instant::now();
            let found = running.history.find(id).unwrap();
            println!("{when}: id: {:?}, {:?}", begun.elapsed(), found.is_some());
            assert_eq!(found.is_some(), n < RECORDS);
        }
    };
    ask_all(&running, "warm");
    running.stop();
    let begun = Instant::now();
    let running = scene.started();
    println!("opened in {:?}", begun.elapsed());
    ask_all(&running, "opened anew");
    running.kill();
    std::fs::remove_dir_all(scene.directory().join("index")).unwrap();
    let begun = Instant::now();
    let running = scene.start();
    until_long(|| {
        running.history.status().index_up && running.history.page(&questions(RECORDS)[14].1).unwrap().rows.len() == 50
    });
    println!("made anew in {:?}", begun.elapsed());
}

/// `cargo test --lib history -- --ignored --nocapture what_is_removed`
#[test]
#[ignore = "takes a while and says figures"]
fn what_is_removed_leaves_little_on_the_disk() {
    let mut scene = Scene::with_segments_of(4096);
    scene.config.max_total = 64 << 20;
    let running = scene.started();
    let index = |scene: &Scene| -> u64 {
        let files = std::fs::read_dir(scene.directory().join("index")).unwrap();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    for round in 0..10 {
        for first in (0..50_000).step_by(500) {
            running.give(&spread_records(round * 50_000 + first, 500));
        }
        running.settle();
        println!("{} KiB of lines, {} KiB of index", scene.bytes() >> 10, index(&scene) >> 10);
    }
    let memory = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", memory.lines().filter(|line| line.starts_with("Vm")).collect::<Vec<_>>().join("\n"));
    until(|| scene.bytes() <= 64 << 20);
    assert!(index(&scene) < 16 << 20, "some fifty thousand records are kept");
}

fn until_long(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `cargo test --release --lib history -- --ignored --nocapture what_a_record_costs`
#[test]
#[ignore = "says figures"]
fn what_a_record_costs() {
    const RECORDS: u64 = 300_000;
    for at_once in [1, 16, 256] {
        let batches: Vec<Arc<Batch>> = (0..RECORDS).step_by(at_once).map(|n| spread(n, at_once as u64)).collect();
        let mut scene = Scene::with_segments_of(MAX_SEGMENT_RECORDS);
        scene.limits.write_after = WRITE_AFTER;
        let running = scene.started();
        let before = thread_time();
        let stats = running.giver.as_ref().unwrap().stats().clone();
        let begun = Instant::now();
        for (n, batch) in batches.iter().enumerate() {
            running.giver.as_ref().unwrap().give(batch);
            if n % 64 == 0 {
                until(|| stats.waiting.load(std::sync::atomic::Ordering::SeqCst) < 8192);
            }
        }
        until(|| running.figures()[2] == 0);
        running.settle();
        let took = thread_time().saturating_sub(before);
        println!(
            "batches of {at_once}: {:?} CPU a record on the history's threads, {:?} elapsed",
            took / u32::try_from(RECORDS).unwrap(),
            begun.elapsed()
        );
    }
}

/// CPU that all threads but this one took.
fn thread_time() -> Duration {
    let time = |who| {
        // SAFETY: the structure is written whole by the call that is told where it is.
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        [usage.ru_utime, usage.ru_stime]
            .map(|t| Duration::new(t.tv_sec.cast_unsigned(), u32::try_from(t.tv_usec).unwrap() * 1000))
            .iter()
            .sum::<Duration>()
    };
    time(libc::RUSAGE_SELF).saturating_sub(time(libc::RUSAGE_THREAD))
}
