//! Files of lines from their outside: a directory, and what is in it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tempfile::TempDir;

use super::*;
use crate::audit::batch::batch_of;
use crate::audit::queue::queue;

const SECOND: Duration = Duration::from_secs(1);

fn files(rotate: u64, max_total: u64) -> Files {
    Files {
        directory: "audit".into(),
        rotate,
        rotate_every: Duration::from_secs(3600),
        max_total,
        compress: false,
        when_full: FullDisk::DropOldest,
    }
}

fn sink(dir: &TempDir, config: &Files) -> (FileSink, Reopen) {
    let reopen = Reopen::default();
    (FileSink::new(config, What::Records, dir.path(), &reopen), reopen)
}

fn line(n: usize) -> String {
    format!("{{\"n\":{n:06},\"pad\":\"{}\"}}\n", "x".repeat(80))
}

/// The names in the folder, in their order.
fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join("audit")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything that is written, the oldest first, whether compressed or not.
fn all(dir: &TempDir) -> String {
    let mut text = String::new();
    for name in names(dir) {
        let path = dir.path().join("audit").join(&name);
        let mut file = File::open(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            file.read_to_string(&mut text).unwrap();
        }
    }
    text
}

fn wait_for(what: impl Fn() -> bool) {
    let due = Instant::now() + 10 * SECOND;
    while !what() {
        assert!(Instant::now() < due, "it does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn lines_are_written_to_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (giver, taker) = queue();
    let (sink, _) = sink(&dir, &files(1 << 20, 4 << 20));
    let stats = giver.stats().clone();
    giver.give(&Arc::new(batch_of([("{\"a\":1}", 1), ("{\"a\":2}", 2)])));
    drop(giver);
    sink.run(&taker);
    assert_eq!(names(&dir), ["records.jsonl"]);
    assert_eq!(all(&dir), "{\"a\":1}\n{\"a\":2}\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("audit/records.jsonl")), 0o600);
    assert_eq!(mode(&dir.path().join("audit")), 0o700);
    assert_eq!(stats.delivered.load(Ordering::Relaxed), 2);
    assert_eq!(stats.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_full_file_is_closed_and_no_line_is_lost_or_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &files(1000, 1 << 20));
    let written: String = (0..100).map(line).collect();
    // In pieces that end anywhere among the lines.
    for piece in written.as_bytes().chunks(line(0).len() * 7) {
        assert_eq!(sink.write(piece), 0);
    }
    assert!(names(&dir).len() > 10, "{:?}", names(&dir));
    for name in names(&dir) {
        let text = fs::read_to_string(dir.path().join("audit").join(&name)).unwrap();
        assert!(text.len() <= 1000 && text.ends_with('\n'), "{name}: {} bytes", text.len());
    }
    let mut lines: Vec<_> = all(&dir).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines.join("\n") + "\n", written);
}

#[test]
fn a_line_longer_than_a_file_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &files(100, 1 << 20));
    let long = format!("{}\n", "y".repeat(1000));
    assert_eq!(sink.write(format!("a\n{long}b\n").as_bytes()), 0);
    assert_eq!(all(&dir), format!("a\n{long}b\n"));
    assert_eq!(names(&dir).len(), 3);
}

#[test]
fn the_oldest_files_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &files(1000, 3000));
    for n in 0..200 {
        assert_eq!(sink.write(line(n).as_bytes()), 0);
        sink.look_after();
    }
    let text = all(&dir);
    assert!(text.len() <= 3000, "{} bytes are left", text.len());
    assert!(text.contains("\"n\":000199") && !text.contains("\"n\":000100"));
}

#[test]
fn a_file_is_closed_when_it_is_old_enough_but_not_while_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &Files { rotate_every: Duration::from_millis(20), ..files(1000, 3000) });
    sink.write(b"a\n");
    std::thread::sleep(Duration::from_millis(40));
    sink.look_after();
    sink.write(b"b\n");
    assert_eq!((names(&dir).len(), all(&dir)), (2, "a\nb\n".to_owned()));
    sink.active = Some(Active::open(&dir.path().join("audit"), "records.jsonl").unwrap());
}

#[test]
fn closed_files_are_compressed_and_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = Files { compress: true, ..files(1000, 1 << 20) };
    fs::create_dir(dir.path().join("audit")).unwrap();
    fs::write(dir.path().join("audit/records-0.jsonl.half"), b"of a process that was killed").unwrap();
    fs::write(dir.path().join("audit/records-mine.jsonl"), b"somebody else's\n").unwrap();
    let (giver, taker) = queue();
    let (sink, _) = sink(&dir, &config);
    let running = std::thread::spawn(move || sink.run(&taker));
    let lines: Vec<String> = (0..50).map(|n| line(n).trim_end().to_owned()).collect();
    giver.give(&Arc::new(batch_of(lines.iter().map(|line| (line.as_str(), 1)))));
    wait_for(|| {
        let names = names(&dir);
        let closed = names.iter().filter(|name| name.starts_with("records-2"));
        closed.clone().count() > 4 && closed.clone().all(|name| name.ends_with(".jsonl.gz"))
    });
    drop(giver);
    running.join().unwrap();
    assert_eq!(fs::read(dir.path().join("audit/records-mine.jsonl")).unwrap(), b"somebody else's\n", "it is not ours");
    fs::remove_file(dir.path().join("audit/records-mine.jsonl")).unwrap();
    let mut read: Vec<_> = all(&dir).lines().map(str::to_owned).collect();
    read.sort();
    assert_eq!(read, lines);
}

#[test]
fn who_moves_the_file_and_says_so_gets_the_rest_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, reopen) = sink(&dir, &files(1000, 3000));
    sink.write(b"a\n");
    let at = |name: &str| dir.path().join("audit").join(name);
    fs::rename(at("records.jsonl"), at("records.jsonl.1")).unwrap();
    sink.write(b"b\n");
    reopen.fetch_add(1, Ordering::Relaxed);
    sink.write(b"c\n");
    assert_eq!(fs::read_to_string(at("records.jsonl.1")).unwrap(), "a\nb\n");
    assert_eq!(fs::read_to_string(at("records.jsonl")).unwrap(), "c\n");
    // Who says nothing is noticed within a second.
    fs::remove_file(at("records.jsonl")).unwrap();
    sink.looked = Instant::now().checked_sub(2 * SECOND).unwrap();
    sink.write(b"d\n");
    assert_eq!(fs::read_to_string(at("records.jsonl")).unwrap(), "d\n");
}

#[test]
fn two_processes_share_a_file_and_lose_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = Files { compress: true, ..files(4000, 1 << 20) };
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (mut sink, _) = sink(&dir, &config);
            std::thread::spawn(move || {
                let compressor = Compressor::start(sink.closed.clone());
                for n in 0..300 {
                    assert_eq!(sink.write(line(writer * 1000 + n).as_bytes()), 0);
                    sink.looked = Instant::now().checked_sub(2 * SECOND).unwrap();
                    sink.look_after();
                    compressor.wake();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let mut lines: Vec<_> = all(&dir).lines().map(str::to_owned).collect();
    lines.sort();
    let expected: Vec<_> = (0..300).chain(1000..1300).map(|n| line(n).trim_end().to_owned()).collect();
    let missing = expected.iter().filter(|line| !lines.contains(line)).count();
    assert_eq!((lines.len(), missing), (expected.len(), 0));
}

#[test]
fn what_cannot_be_written_is_counted_and_writing_goes_on_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &files(1000, 3000));
    fs::write(dir.path().join("audit"), b"a file in the directory's place").unwrap();
    assert_eq!(sink.write(b"a\nb\n"), 2);
    fs::remove_file(dir.path().join("audit")).unwrap();
    assert_eq!(sink.write(b"c\n"), 0);
    assert_eq!(all(&dir), "c\n");
}

#[test]
fn a_file_that_cannot_be_closed_grows_on_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sink, _) = sink(&dir, &files(1000, 1 << 20));
    sink.write(line(0).as_bytes());
    // Its new name is taken by something that no file can take the place of.
    sink.closed = Closed::new(&dir.path().join("nowhere"), What::Records.name());
    let written: String = (1..100).map(line).collect();
    assert_eq!(sink.write(written.as_bytes()), 0);
    sink.look_after();
    assert_eq!((names(&dir), all(&dir)), (vec!["records.jsonl".to_owned()], line(0) + &written));
    sink.closed = Closed::new(&dir.path().join("audit"), What::Records.name());
    sink.stuck = Instant::now().checked_sub(2 * SAY_EVERY);
    assert_eq!(sink.write(line(100).as_bytes()), 0);
    assert_eq!(names(&dir).len(), 2);
}

#[test]
fn a_line_that_the_disk_cut_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let mut active = Active::open(&path, "records.jsonl").unwrap();
    assert_eq!(active.append(b"whole\n").0, 6);
    // As a write that stopped in the middle of the second line leaves it.
    fs::OpenOptions::new().append(true).open(path.join("records.jsonl")).unwrap().set_len(6).unwrap();
    let half = b"first\nsec";
    {
        use std::io::Write;
        fs::OpenOptions::new().append(true).open(path.join("records.jsonl")).unwrap().write_all(half).unwrap();
    }
    let (whole, error) = active.torn(6, half, Errno::NOSPC.into());
    assert_eq!((whole, error.unwrap().raw_os_error()), (6, Some(Errno::NOSPC.raw_os_error())));
    assert_eq!(active.append(b"next\n").0, 5);
    assert_eq!(all(&dir), "whole\nfirst\nnext\n");
}
