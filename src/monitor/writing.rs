//! What the monitor writes and reads: who may, and what follows from each line.
//!
//! Owns that a line is on its way to the disk before anybody acts on it. It refuses to know when channels are probed.

use std::io;

use weir_filters::monitor::{Cap, Spent, Standing};

use crate::control::now_ms;

use super::book::{Book, Open};
use super::line::{Begun, Done, Head, Line, Shown};
use super::store::{Place, Store};
use super::{Inner, LOCK_EVERY, lock};

impl Inner {
    /// Waits for the right to write, and reads what is there: the runs that are not over.
    pub(super) async fn begin_writing(&self) -> Option<Vec<Open>> {
        let right = loop {
            match self.folder.lock() {
                Ok(Some(right)) => break right,
                Ok(None) => {}
                Err(e) => {
                    log::error!("no channel is probed, for nothing could be kept of it: {e}");
                    return None;
                }
            }
            if self.is_stopped() {
                return None;
            }
            tokio::time::sleep(LOCK_EVERY).await;
        };
        let mut book = Book::default();
        let opened = self.folder.replay(|place, line| book.take(place, &line)).and_then(|broken| {
            if broken > 0 {
                log::warn!("{broken} lines of the monitor's files were passed over");
            }
            Store::open(self.folder.clone(), right)
        });
        match opened {
            Ok(store) => *lock(&self.store) = Some(store),
            Err(e) => {
                log::error!("no channel is probed, for nothing could be kept of it: {e}");
                return None;
            }
        }
        let live = self.shared.live.load_full();
        for (name, model, standing) in book.standings() {
            if let Some(channel) = live.channels().iter().find(|channel| **channel.name() == *name) {
                channel.restore(model, standing);
            }
        }
        book.points().for_each(|(channel, model, point)| {
            let seconds = (point.total_us > 0).then(|| f64::from(point.total_us) / 1e6);
            self.shared.metrics.probed(channel, model, point.bad.is_none(), seconds, point.time_ms);
        });
        let open = book.all_open();
        *self.book() = book;
        Some(open)
    }

    /// Sets aside what a probe may use at most, and writes that it begins. `false`: it does not fit.
    pub(super) fn begin(&self, head: &Head, model: &str, most: Spent, cap: Cap) -> io::Result<bool> {
        if self.is_stopped() {
            return Err(io::Error::other("nothing is begun any more"));
        }
        let at = now_ms();
        // Two of one channel ask at once: between the look and the line nobody else may look.
        let mut book = self.book();
        if !cap.has_room(book.course(&head.channel).spent(at), most) {
            return Ok(false);
        }
        let begun = Begun { run: head.clone(), model: model.to_owned(), at, reserved: most.into() };
        self.write_in(&mut book, &Line::Begun(begun))?;
        Ok(true)
    }

    pub(super) fn note(&self, head: &Head, spent: Spent, standing: Standing, result: Shown) -> io::Result<()> {
        let standing = standing.name().to_owned();
        self.write(&Line::Result(Done { run: head.clone(), at: now_ms(), spent: spent.into(), standing, result }))
    }

    pub(super) fn write(&self, line: &Line) -> io::Result<()> {
        self.write_in(&mut self.book(), line)
    }

    fn write_in(&self, book: &mut Book, line: &Line) -> io::Result<()> {
        let mut store = lock(&self.store);
        let store = store.as_mut().ok_or_else(|| io::Error::other("nothing is written any more"))?;
        let place: Place = store.append(line).inspect_err(|e| log::error!("a probe could not be written down: {e}"))?;
        book.take(place, line);
        book.forget_before(store.oldest());
        Ok(())
    }

    /// What came of a run so far.
    pub(super) fn results(&self, head: &Head) -> Vec<Shown> {
        let book = self.book();
        let open = book.of(&head.channel).and_then(|course| course.open.get(&head.id));
        open.map(|open| open.results.clone()).unwrap_or_default()
    }
}
