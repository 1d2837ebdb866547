use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::Ordering;

use weir_filters::loki::{Class, Entry};

use super::*;

fn frame(id: u64, size: usize) -> Frame {
    let mut frame = Frame::default();
    for n in 0..2 {
        let line = format!("{id}.{n} {}", "x".repeat(size / 2));
        frame.push(Entry { time_ns: id * 10 + n, class: Class::of(200), route: "/v1", line: &line });
    }
    frame
}

fn spool(dir: &Path, max_bytes: u64) -> (Spool, Arc<SinkStats>) {
    let stats = Arc::new(SinkStats::default());
    (Spool::new(dir.join("loki"), max_bytes, Box::new(RealDisk), stats.clone()), stats)
}

fn given(spool: &mut Spool, stats: &SinkStats, ids: std::ops::Range<u64>, size: usize) {
    for id in ids {
        stats.find(2);
        spool.append(&frame(id, size)).unwrap();
    }
}

/// The ids of all frames that can be taken; each is delivered.
fn taken(spool: &mut Spool) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Some((frame, place)) = spool.take() {
        ids.push(frame.entries().next().unwrap().time_ns / 10);
        spool.delivered(place);
    }
    ids
}

fn names(dir: &Path) -> Vec<String> {
    files(&dir.join("loki")).iter().map(|(_, path)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Dropped and waiting.
fn figures(stats: &SinkStats) -> [u64; 2] {
    [&stats.dropped, &stats.waiting].map(|figure| figure.load(Ordering::Relaxed))
}

#[test]
fn frames_come_out_in_their_order_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, stats) = spool(dir.path(), 64 << 20);
    assert!(spool.is_empty() && spool.take().is_none());
    given(&mut spool, &stats, 0..10, 100);
    assert!(!spool.is_empty());
    assert_eq!(names(dir.path()), ["0000000000000001.spool"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("loki")), 0o700);
    assert_eq!(mode(&dir.path().join("loki/0000000000000001.spool")), 0o600, "prompts are nobody else's");
    assert_eq!(taken(&mut spool), (0..10).collect::<Vec<_>>());
    assert!(spool.is_empty() && names(dir.path()).is_empty() && spool.bytes == 0);
    given(&mut spool, &stats, 10..11, 100);
    assert_eq!(names(dir.path()), ["0000000000000002.spool"], "no number is given twice");
    assert_eq!(taken(&mut spool), [10]);
}

#[test]
fn the_bound_costs_the_oldest_file_and_what_is_in_hand_of_it_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    // Files of 64 KiB, of which three have room.
    let (mut spool, stats) = spool(dir.path(), 190 << 10);
    given(&mut spool, &stats, 0..9, 20_000);
    assert_eq!(names(dir.path()).len(), 3, "three frames each");
    let (in_hand, place) = spool.take().unwrap();
    assert_eq!((in_hand.len(), spool.has(place)), (2, true));
    given(&mut spool, &stats, 9..10, 20_000);
    assert!(!spool.has(place));
    assert_eq!(figures(&stats), [4, 16], "two frames of two records; the third is in hand");
    spool.delivered(place);
    assert_eq!(taken(&mut spool), (3..10).collect::<Vec<_>>());
    let size = |dir: &Path| files(&dir.join("loki")).iter().map(|(_, p)| p.metadata().unwrap().len()).sum::<u64>();
    for id in 10..60 {
        given(&mut spool, &stats, id..id + 1, 20_000);
        assert!(size(dir.path()) <= 190 << 10);
        assert_eq!(size(dir.path()), spool.bytes);
    }
}

#[test]
fn a_frame_that_never_has_room_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, stats) = spool(dir.path(), 100 << 10);
    given(&mut spool, &stats, 0..1, 20_000);
    assert_eq!(spool.append(&frame(1, 200_000)).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(figures(&stats), [2, 0], "and has cost what was there");
    let (mut large, _) = self::spool(dir.path(), 1 << 30);
    assert_eq!(large.append(&frame(2, 9 << 20)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_process_that_is_gone_leaves_what_it_has_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, stats) = spool(dir.path(), 64 << 20);
    given(&mut first, &stats, 0..5, 100);
    for _ in 0..2 {
        let (_, place) = first.take().unwrap();
        first.delivered(place);
    }
    first.take().unwrap();
    let (mut second, stats) = spool(dir.path(), 64 << 20);
    assert_eq!(second.adopt(), 0, "it is not gone yet");
    drop(first);
    assert_eq!((second.adopt(), second.adopt()), (41, 0));
    assert_eq!(figures(&stats), [0, 6], "three frames: the one in hand was not delivered");
    given(&mut second, &stats, 5..6, 100);
    assert_eq!(taken(&mut second), [2, 3, 4, 5]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_was_not_written_whole_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loki/0000000000000001.spool");
    let write = |bytes: &[u8], at: u64| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    let (mut first, stats) = spool(dir.path(), 64 << 20);
    given(&mut first, &stats, 0..3, 100);
    drop(first);
    let whole = path.metadata().unwrap().len();
    let one = (whole - segment::BEGIN) / 3;
    // Each case: what happens to the file, and the frames that are left.
    let original = std::fs::read(&path).unwrap();
    let cases: [(&str, &dyn Fn(), &[u64]); 8] = [
        (
            "cut in the last frame",
            &|| File::options().write(true).open(&path).unwrap().set_len(whole - 1).unwrap(),
            &[0, 1],
        ),
        (
            "cut in its length",
            &|| File::options().write(true).open(&path).unwrap().set_len(whole - one + 3).unwrap(),
            &[0, 1],
        ),
        ("more than frames", &|| write(b"\x10\0\0\0half", whole), &[0, 1, 2]),
        ("made longer and not written", &|| write(&[0; 4096], whole), &[0, 1, 2]),
        ("altered in the second frame", &|| write(b"?", segment::BEGIN + 2 * one - 1), &[0]),
        ("a length of gigabytes", &|| write(&[0xff; 4], segment::BEGIN + one), &[0]),
        ("delivered to nowhere", &|| write(&u64::MAX.to_le_bytes(), 8), &[0, 1, 2]),
        ("delivered to the second frame", &|| write(&(segment::BEGIN + one).to_le_bytes(), 8), &[1, 2]),
    ];
    for (what, damage, expected) in cases {
        std::fs::write(&path, &original).unwrap();
        damage();
        let (mut next, stats) = spool(dir.path(), 64 << 20);
        next.adopt();
        assert_eq!(figures(&stats), [0, 2 * expected.len() as u64], "{what}");
        assert_eq!(path.metadata().unwrap().len(), next.bytes, "{what}");
        assert_eq!(taken(&mut next), expected, "{what}");
        assert!(names(dir.path()).is_empty(), "{what}");
    }
}

#[test]
fn what_is_no_part_of_a_spool_is_removed_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("loki")).unwrap();
    let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join("loki").join(name), bytes).unwrap();
    file("0000000000000007.spool", b"");
    file("0000000000000008.spool", b"something else");
    file("0000000000000009.spool", b"something else of more bytes");
    file("notes.txt", b"");
    file("1.spool", b"");
    let (mut spool, stats) = spool(dir.path(), 64 << 20);
    assert_eq!((spool.adopt(), figures(&stats)), (0, [0, 0]));
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path().join("loki")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["1.spool", "notes.txt"]);
}

#[test]
fn a_file_that_cannot_be_read_any_more_is_lost_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, stats) = spool(dir.path(), 64 << 20);
    given(&mut spool, &stats, 0..3, 100);
    let path = dir.path().join("loki/0000000000000001.spool");
    assert_eq!(spool.take().unwrap().0.len(), 2);
    File::options().write(true).open(&path).unwrap().set_len(segment::BEGIN).unwrap();
    assert!(spool.take().is_none());
    assert_eq!(figures(&stats), [4, 2]);
    given(&mut spool, &stats, 3..4, 100);
    assert_eq!(taken(&mut spool), [3]);
}
