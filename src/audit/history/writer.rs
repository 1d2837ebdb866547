//! The segment that is being written: records are found as soon as they come, and are in the file soon after.
//!
//! Owns the way of a batch into a file, and when a segment is whole. Refuses to know the index.
//!
//! What the disk refuses is dropped and counted, and no longer found; the next records try again.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::batch::Batch;
use crate::audit::queue::SinkStats;

use super::segment::{self, Disk};
use super::shelf::{Block, Own, Shared};

/// Bytes that are written at once: then a call costs each record little.
const WRITE_BYTES: usize = 256 << 10;

/// When a segment is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) records: usize,
    /// From its first record on.
    pub(super) age: Duration,
    /// How long a record waits for others until they are written. A kill loses as much.
    pub(super) write_after: Duration,
}

/// What writes.
pub(super) struct Writer {
    directory: PathBuf,
    shared: Arc<Shared>,
    stats: Arc<SinkStats>,
    limits: Limits,
    disk: Arc<dyn Disk>,
    /// The least number that the next segment may have.
    next: u64,
    segment: Option<Segment>,
    /// The pieces of one write.
    buffer: Vec<u8>,
    is_failing: bool,
}

struct Segment {
    file: File,
    begun: Instant,
    /// The end of what is in the file.
    written: u64,
    waiting_bytes: usize,
    waiting_since: Option<Instant>,
}

impl Writer {
    /// Numbers its segments from `next` on.
    pub(super) fn new(
        directory: PathBuf,
        shared: Arc<Shared>,
        stats: Arc<SinkStats>,
        limits: Limits,
        disk: Arc<dyn Disk>,
        next: u64,
    ) -> Self {
        Self { directory, shared, stats, limits, disk, next, segment: None, buffer: Vec::new(), is_failing: false }
    }

    /// Takes records: from now on they are found.
    pub(super) fn take(&mut self, batch: Arc<Batch>, now: Instant, now_ms: u64) {
        if batch.is_empty() {
            return;
        }
        let segment = match &mut self.segment {
            Some(segment) => segment,
            None => match self.disk.create(&self.directory, self.next.max(now_ms)) {
                Ok((number, file)) => {
                    self.next = number + 1;
                    self.shared.lock().own = Some(Own::new(number));
                    let (written, waiting_bytes, waiting_since) = (0, 0, None);
                    self.segment.insert(Segment { file, begun: now, written, waiting_bytes, waiting_since })
                }
                Err(e) => {
                    fails(&mut self.is_failing, &e);
                    self.stats.drop_records(batch.len() as u64);
                    return;
                }
            },
        };
        segment.waiting_bytes += batch.lines.len();
        segment.waiting_since.get_or_insert(now);
        if let Some(own) = &mut self.shared.lock().own {
            own.add(batch);
        }
    }

    /// When something must be done, if nothing comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.segment.as_ref()?.waiting_since.map(|since| since + self.limits.write_after)
    }

    /// Writes what waits, if it is time or `now` is none; and gives up the segment when it is whole.
    pub(super) fn tend(&mut self, now: Option<Instant>) {
        let Some(segment) = &self.segment else { return };
        let is_due = now.is_none_or(|now| self.due().is_some_and(|due| due <= now));
        if is_due || segment.waiting_bytes >= WRITE_BYTES {
            self.write();
        }
        let Some(segment) = &self.segment else { return };
        let records = self.shared.lock().own.as_ref().map_or(0, |own| own.table.rows.len());
        let is_old = now.is_none_or(|now| now.duration_since(segment.begun) >= self.limits.age);
        if segment.waiting_bytes == 0
            && (segment.written >= self.limits.bytes || records >= self.limits.records || is_old)
        {
            self.end();
        }
    }

    fn write(&mut self) {
        let Some(segment) = &mut self.segment else { return };
        segment.waiting_bytes = 0;
        segment.waiting_since = None;
        let pending = self.shared.lock().own.as_ref().map(Own::waiting).unwrap_or_default();
        let bytes = match pending.as_slice() {
            [] => return,
            [batch] => &batch.lines,
            several => {
                self.buffer.clear();
                several.iter().for_each(|batch| self.buffer.extend_from_slice(&batch.lines));
                &self.buffer
            }
        };
        let records = pending.iter().map(|batch| batch.len()).sum();
        let result = self.disk.write(&segment.file, bytes, segment.written);
        if let Some(own) = &mut self.shared.lock().own {
            own.done(result.is_err().then_some(records));
        }
        match result {
            Ok(()) => {
                segment.written += bytes.len() as u64;
                self.is_failing = false;
                self.stats.deliver(records as u64);
            }
            Err(e) => {
                // What part of it came there is no record's.
                if let Err(e) = segment.file.set_len(segment.written) {
                    log::warn!("history: what was half written could not be removed: {e}");
                }
                fails(&mut self.is_failing, &e);
                self.stats.drop_records(records as u64);
            }
        }
        if self.buffer.capacity() > 4 * WRITE_BYTES {
            self.buffer = Vec::new();
        }
    }

    fn end(&mut self) {
        self.segment = None;
        let mut shelf = self.shared.lock();
        let Some(own) = shelf.own.take() else { return };
        if own.table.rows.is_empty() {
            // The disk took none of its records.
            segment::remove(&self.directory, own.number);
        } else {
            shelf.blocks.insert(own.number, Block::Whole(Arc::new(own.table)));
        }
    }
}

/// Said once, until a write succeeds.
fn fails(is_failing: &mut bool, e: &io::Error) {
    if !std::mem::replace(is_failing, true) {
        log::error!("history: records are dropped until the disk takes them again: {e}");
    }
}
