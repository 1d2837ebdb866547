//! What must hold of the two sides together: nothing has changed until the new process serves.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::config::Config;
use crate::sockets::{Inherited, Sockets};

use super::*;

#[derive(Default)]
struct Seen {
    frozen: AtomicUsize,
    thawed: AtomicUsize,
    left: AtomicUsize,
}

impl Owner for Arc<Seen> {
    fn freeze(&self) {
        self.frozen.fetch_add(1, Ordering::SeqCst);
    }

    fn thaw(&self) {
        self.thawed.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self, pid: u32) {
        assert_eq!(pid, std::process::id());
        self.left.fetch_add(1, Ordering::SeqCst);
    }
}

/// A process that can be upgraded; this one, in a directory of its own.
struct Old {
    home: TempDir,
    config: Config,
    seen: Arc<Seen>,
    giver: Giver,
    _sockets: Arc<Sockets>,
}

fn old() -> Old {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "data_dir: {}\nlisten: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0' }}\nchannels: []\n",
        home.path().display()
    );
    let config = crate::config::parse(&text, Path::new("weir.yaml"), &|_| None).unwrap();
    let sockets = Arc::new(Sockets::open(&config, Inherited::default()).unwrap());
    let successor =
        Successor { own: "/nowhere".into(), config: home.path().join("weir.yaml"), scratch: home.path().to_owned() };
    let seen = Arc::<Seen>::default();
    let giver = Giver::new(sockets.clone(), successor, Box::new(seen.clone()));
    giver.listen(sockets.upgrade().unwrap()).unwrap();
    Old { home, config, seen, giver, _sockets: sockets }
}

impl Old {
    fn take(&self) -> Result<(Taken, Inherited), AskError> {
        Taken::from(self.home.path())
    }

    /// How often it was frozen, thawed and left, once it was thawed or left `times`.
    fn seen(&self, times: usize) -> (usize, usize, usize) {
        let counts = || [&self.seen.frozen, &self.seen.thawed, &self.seen.left].map(|n| n.load(Ordering::SeqCst));
        let until = Instant::now() + Duration::from_secs(10);
        while counts()[1] + counts()[2] < times && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        counts().into()
    }

    fn program(&self, text: &str) -> PathBuf {
        let path = self.home.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = run ] || exit 0\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test is just starting may still hold it open for writing.
        while std::process::Command::new(&path).status().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        path
    }

    fn upgrade(&self, program: PathBuf, within: Duration) -> (String, usize) {
        let mut steps = 0;
        let refused = ask_for_upgrade(self.home.path(), program, within, |_| steps += 1).unwrap_err();
        (refused.to_string(), steps)
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn whoever_serves_takes_the_place_of_the_one_before() {
    let old = old();
    let (taken, inherited) = old.take().unwrap();
    assert_eq!(old.seen(0), (1, 0, 0), "nothing may change while the new one reads");
    let sockets = Sockets::open(&old.config, inherited).unwrap();
    taken.serving().unwrap();
    assert_eq!(old.seen(1), (1, 0, 1));
    // The next one asks the new process: the old one hears nothing any more.
    let asks = UnixStream::connect(old.home.path().join(SOCKET)).unwrap();
    asks.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!((&asks).read(&mut [0; 1]).is_err(), "it waits for the new one");
    drop(sockets);
}

#[test]
fn whoever_goes_before_it_serves_changes_nothing() {
    let old = old();
    drop(old.take().unwrap());
    assert_eq!(old.seen(1), (1, 1, 0));
    old.take().unwrap().0.failed("no room".into());
    assert_eq!(old.seen(2), (2, 2, 0));
    old.take().unwrap().0.serving().unwrap();
    assert_eq!(old.seen(3), (3, 2, 1));
}

#[test]
fn the_sockets_are_given_to_one_at_a_time() {
    let old = old();
    let (taken, _inherited) = old.take().unwrap();
    let refused = |old: &Old| old.take().unwrap_err().to_string();
    assert_eq!(refused(&old), "an upgrade is under way");
    let (why, steps) = old.upgrade(old.program("exit 0"), LONG);
    assert_eq!((why.as_str(), steps), ("an upgrade is under way", 0));
    drop(taken);
    assert_eq!(old.seen(1), (1, 1, 0));
    assert!(old.take().is_ok());
}

#[test]
fn a_program_that_does_not_serve_is_told_by_its_end() {
    let old = old();
    let (why, steps) = old.upgrade(PathBuf::from("/nowhere/weir"), LONG);
    assert!(why.starts_with("/nowhere/weir cannot be started: ") && steps == 1, "{why}");
    let (why, steps) = old.upgrade(old.program("exit 3"), LONG);
    assert!(why.starts_with("the new process ended before it served: exit status: 3"), "{why}");
    assert_eq!(steps, 2);
    let begun = Instant::now();
    let (why, steps) = old.upgrade(old.program("exec sleep 60"), Duration::from_millis(200));
    assert_eq!((why.as_str(), steps), ("the new process did not serve in time", 2));
    assert!(begun.elapsed() < LONG);
    assert_eq!(old.seen(0), (0, 0, 0));
    assert!(old.take().is_ok(), "it can be tried again");
}

#[test]
fn a_stranger_is_not_given_what_a_child_is_to_have() {
    let old = old();
    let home = old.home.path().to_owned();
    let program = old.program("exec sleep 60");
    let asks = std::thread::spawn(move || ask_for_upgrade(&home, program, Duration::from_millis(900), |_| ()));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(old.take().unwrap_err().to_string(), "an upgrade is under way");
    assert!(asks.join().unwrap().is_err());
}

#[test]
fn a_process_that_ends_gives_nothing_and_leaves_no_child() {
    let old = old();
    let (home, file) = (old.home.path().to_owned(), old.home.path().join("pid"));
    let program = old.program(&format!("echo $$ > {}; exec sleep 60", file.display()));
    let asks = std::thread::spawn(move || ask_for_upgrade(&home, program, LONG, |_| ()));
    let until = Instant::now() + LONG;
    let pid = loop {
        match std::fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse::<u32>().ok()) {
            Some(pid) => break pid,
            None if Instant::now() > until => panic!("the child was not started"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    old.giver.finish();
    assert_eq!(asks.join().unwrap().unwrap_err().to_string(), "the gateway was stopped");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn another_version_and_nonsense_are_refused() {
    let old = old();
    let ask = |text: &str| {
        let mut stream = UnixStream::connect(old.home.path().join(SOCKET)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let answer = ask("{\"ask\":\"take\",\"version\":2}\n");
    assert_eq!(answer, "{\"say\":\"failed\",\"why\":\"this gateway speaks version 1 of upgrades, and not 2\"}\n");
    for nonsense in ["\n", "{}\n", "GET / HTTP/1.1\r\n\r\n", "{\"ask\":\"leave\"}\n"] {
        assert_eq!(ask(nonsense), "", "{nonsense:?}");
    }
    assert_eq!(old.seen(0), (0, 0, 0));
}

#[test]
fn without_a_gateway_there_is_nothing_to_take() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(Taken::from(home.path()), Err(AskError::NotRunning(_))));
    drop(std::os::unix::net::UnixListener::bind(home.path().join(SOCKET)).unwrap());
    assert!(matches!(Taken::from(home.path()), Err(AskError::NotRunning(_))), "a dead one's file");
}
