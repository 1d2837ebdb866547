//! Owns the syncing of the journal: a thread that runs `fdatasync` every few milliseconds while there
//! is anything to sync, writes the backlog, and wakes whoever waits. Refuses to know the fold.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::files::shard_directory;
use super::{Journal, Position};

/// Between two syncs, unless somebody waits for one: what a power loss can take.
const SYNC_EVERY: Duration = Duration::from_millis(50);
/// Between two attempts at a disk that refused.
const RETRY_EVERY: Duration = Duration::from_millis(100);

impl Journal {
    /// Waits until the record at `position` is on the disk. `false`: it is not, because it was
    /// dropped, because it waits in the backlog (for as long as the disk refuses, so waiting could
    /// hold an answer for ever), or because the sync failed.
    pub(crate) async fn synced(&self, position: Position) -> bool {
        let cell = &self.shards[usize::from(position.shard)];
        if position.ticket == 0 || self.lock(position.shard).written < position.ticket {
            return false;
        }
        loop {
            let progress = self.progress.notified();
            if cell.synced.load(Ordering::Acquire) >= position.ticket {
                return cell.failed.load(Ordering::Acquire) < position.ticket;
            }
            if self.stopped.load(Ordering::Acquire) {
                self.sync_all();
                continue;
            }
            self.wanted.store(true, Ordering::Release);
            self.wake();
            progress.await;
        }
    }

    /// The syncing thread's life.
    pub(crate) fn run_sync(&self) {
        let _ = self.syncer.set(std::thread::current());
        let mut next_retry = Instant::now();
        while !self.stopped.load(Ordering::Acquire) {
            let waiting = self.is_down();
            if waiting && Instant::now() >= next_retry {
                self.retry_backlog();
                next_retry = Instant::now() + RETRY_EVERY;
            }
            if self.dirty.swap(false, Ordering::AcqRel) {
                self.wanted.store(false, Ordering::Release);
                self.sync_all();
                // Strict durability does not wait out the interval: records that arrive during a
                // sync share the next one.
                if !self.wanted.load(Ordering::Acquire) {
                    std::thread::park_timeout(SYNC_EVERY);
                }
            } else {
                self.idle.store(true, Ordering::SeqCst);
                if !self.dirty.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                    if waiting {
                        std::thread::park_timeout(RETRY_EVERY);
                    } else {
                        std::thread::park();
                    }
                }
                self.idle.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Ends the thread's life; everything written is synced, and space that was not used given back.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// After [`Journal::stop`], when the thread is gone.
    pub(crate) fn finish(&self) {
        self.retry_backlog();
        for index in self.indices() {
            let mut shard = self.lock(index);
            if let Some(active) = &shard.active
                && let Err(e) = active.file.set_len(active.end)
            {
                log::warn!("ledger: a segment's unused space was not given back: {e}");
            }
            shard.rotate();
        }
        self.sync_all();
        let waiting = self.waiting();
        if waiting > 0 {
            log::error!("ledger: {waiting} records could not be written before the end and are lost");
        }
    }

    pub(super) fn mark_dirty(&self) {
        // Read first: the flag's line stays shared between the cores while it is set. The thread is
        // woken only from idleness, or each record would cut its interval short.
        if !self.dirty.load(Ordering::Acquire) {
            self.dirty.store(true, Ordering::SeqCst);
            if self.idle.load(Ordering::SeqCst) {
                self.wake();
            }
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.syncer.get() {
            thread.unpark();
        }
    }

    fn retry_backlog(&self) {
        for index in self.indices() {
            let mut shard = self.lock(index);
            let waiting = shard.waiting();
            if !shard.is_down() {
                continue;
            }
            let result = shard.retry(&self.place(index));
            drop(shard);
            self.dirty.store(true, Ordering::Release);
            match result {
                Ok(()) if waiting == 0 => {}
                Ok(()) => log::warn!("ledger: the journal takes records again, {waiting} were written late"),
                Err(e) => log::debug!("ledger: the journal still cannot be written: {e}"),
            }
        }
    }

    fn sync_all(&self) {
        for index in self.indices() {
            let (files, ticket, directory_dirty) = {
                let mut shard = self.lock(index);
                let mut files = std::mem::take(&mut shard.retired);
                files.extend(shard.active.as_ref().map(|a| Arc::clone(&a.file)));
                (files, shard.written, std::mem::take(&mut shard.directory_dirty))
            };
            let cell = &self.shards[usize::from(index)];
            if cell.synced.load(Ordering::Acquire) == ticket && !directory_dirty {
                continue;
            }
            if let Err(e) = self.sync_files(index, &files, directory_dirty) {
                log::error!("ledger: the journal could not be synced: {e}");
                self.errors.fetch_add(1, Ordering::Relaxed);
                cell.failed.store(ticket, Ordering::Release);
                // After a failed sync the kernel may call the same pages clean: nothing more is
                // entrusted to that file.
                let mut shard = self.lock(index);
                shard.rotate();
                shard.retired.retain(|file| !files.iter().any(|f| Arc::ptr_eq(f, file)));
            }
            cell.synced.store(ticket, Ordering::Release);
        }
        self.progress.notify_waiters();
    }

    fn sync_files(&self, index: u16, files: &[Arc<File>], directory_dirty: bool) -> io::Result<()> {
        if directory_dirty {
            self.disk.sync_directory(&shard_directory(&self.directory, index))?;
            self.disk.sync_directory(&self.directory)?;
        }
        files.iter().try_for_each(|file| self.disk.sync(file))
    }
}
