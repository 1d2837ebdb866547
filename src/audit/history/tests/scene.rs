//! A history, and who gives it records, that reads as sentences.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weir_filters::calendar::rfc3339;

use super::super::*;
use crate::audit::batch::{Batch, Entry, term};
use crate::audit::queue::{Giver, queue};

/// 2026-11-30T00:00:00Z
pub(super) const NOW: u64 = 1_795_996_800_000;

/// What a test says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: u128,
    pub(super) time_ms: u64,
    pub(super) status: u16,
    /// Key, user, model and channel.
    pub(super) names: [String; 4],
    /// Bytes that are nobody's business here.
    pub(super) ballast: usize,
}

/// A record with this id, of alice.
pub(super) fn record(id: u128) -> Record {
    let names = ["alice-laptop", "alice", "gpt-4o", "openai"].map(str::to_owned);
    Record { id, time_ms: NOW, status: 200, names, ballast: 0 }
}

impl Record {
    pub(super) fn line(&self) -> String {
        let text = |name: &str| if name.is_empty() { "null".to_owned() } else { format!("\"{name}\"") };
        let [key, user, model, channel] = [0, 1, 2, 3].map(|n| text(&self.names[n]));
        let status = if self.status == 0 { "null".to_owned() } else { self.status.to_string() };
        format!(
            r#"{{"schema_version":1,"id":"{:032x}","time":"{}","key_name":{key},"user":{user},"channel":{channel},"model_requested":{model},"status":{status},"attempts":[],"request_body":"{}"}}"#,
            self.id,
            rfc3339(self.time_ms),
            "b".repeat(self.ballast)
        )
    }

    fn entry(&self, end: usize) -> Entry {
        let [key, user, model, channel] = [0, 1, 2, 3].map(|n| term(&self.names[n]));
        Entry { end, id: self.id, time_ms: self.time_ms, status: self.status, key, user, model, channel }
    }
}

pub(super) fn batch(records: &[Record]) -> Arc<Batch> {
    let mut batch = Batch::default();
    for record in records {
        batch.lines.extend_from_slice(record.line().as_bytes());
        batch.lines.push(b'\n');
        batch.entries.push(record.entry(batch.lines.len()));
    }
    Arc::new(batch)
}

/// A disk that refuses what it is told to.
#[derive(Default)]
pub(super) struct Moody {
    pub(super) refuses: AtomicBool,
}

impl Disk for Moody {
    fn write(&self, file: &fs::File, bytes: &[u8], at: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if self.refuses.load(Ordering::SeqCst) {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, at)
    }
}

/// A directory and the histories that use it, one after the other or several at once.
pub(super) struct Scene {
    home: tempfile::TempDir,
    pub(super) config: config::History,
    pub(super) limits: Limits,
    pub(super) now: Arc<AtomicU64>,
    pub(super) disk: Arc<Moody>,
}

/// A history that runs.
pub(super) struct Running {
    pub(super) history: Arc<History>,
    pub(super) giver: Option<Giver>,
}

impl Scene {
    /// Segments of so many records.
    pub(super) fn with_segments_of(records: usize) -> Self {
        let limits =
            Limits { bytes: 32 << 20, records, age: Duration::from_secs(3600), write_after: Duration::from_millis(1) };
        Self {
            home: tempfile::tempdir().unwrap(),
            config: config::History::default(),
            limits,
            now: Arc::new(AtomicU64::new(NOW)),
            disk: Arc::default(),
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.home.path().join("history")
    }

    /// A process begins.
    pub(super) fn start(&self) -> Running {
        let (giver, taker) = queue();
        let now = self.now.clone();
        let tuning = Tuning {
            limits: self.limits,
            look_every: Duration::from_millis(5),
            tick: Duration::from_millis(5),
            disk: self.disk.clone(),
            now_ms: Arc::new(move || now.load(Ordering::SeqCst)),
        };
        let history = History::open_tuned(&self.directory(), &self.config, taker, tuning).unwrap();
        Running { history, giver: Some(giver) }
    }

    /// The same, and everything on the disk is found.
    pub(super) fn started(&self) -> Running {
        let running = self.start();
        running.settle();
        running
    }

    /// The files of records, oldest first.
    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let all = segment::list(&self.directory()).unwrap();
        all.into_iter().map(|(number, _)| segment::path(&self.directory(), number)).collect()
    }

    /// Bytes of the files of records.
    pub(super) fn bytes(&self) -> u64 {
        segment::list(&self.directory()).unwrap().iter().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn advance(&self, time: Duration) {
        self.now.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Running {
    /// Gives records, all in one batch, and waits until they are in the file or refused.
    pub(super) fn give(&self, records: &[Record]) {
        self.giver.as_ref().unwrap().give(&batch(records));
        until(|| self.figures()[2] == 0);
    }

    /// Delivered, dropped, waiting.
    pub(super) fn figures(&self) -> [u64; 3] {
        let stats = self.giver.as_ref().unwrap().stats();
        [&stats.delivered, &stats.dropped, &stats.waiting].map(|figure| figure.load(Ordering::SeqCst))
    }

    /// Waits until everything that is whole is in the index.
    pub(super) fn settle(&self) {
        until(|| {
            let status = self.history.status();
            status.index_up && status.unread_segments == 0 && status.unindexed_segments == 0
        });
    }

    /// The ids of all pages, newest first.
    pub(super) fn ids(&self, query: &Query) -> Vec<u128> {
        let (mut ids, mut query) = (Vec::new(), query.clone());
        loop {
            let page = self.history.page(&query).unwrap();
            assert!(page.rows.len() <= query.limit);
            ids.extend(page.rows.iter().map(|row| id_of(row)));
            match page.next {
                Some(next) => query.cursor = Some(next.to_string().parse().unwrap()),
                None => return ids,
            }
        }
    }

    pub(super) fn all_ids(&self) -> Vec<u128> {
        self.ids(&Query::default())
    }

    /// The process ends as it should.
    pub(super) fn stop(mut self) {
        drop(self.giver.take());
        self.history.close();
    }

    /// The process is killed.
    pub(super) fn kill(self) {
        self.history.kill();
    }
}

pub(super) fn id_of(row: &str) -> u128 {
    let value: serde_json::Value = serde_json::from_str(row).unwrap();
    u128::from_str_radix(value["id"].as_str().unwrap(), 16).unwrap()
}

pub(super) fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}
