//! What waits to be pushed: one frame in hand, then those on the disk, then those in memory.
//!
//! Owns the order of frames and the account of their records: each is delivered, refused or dropped once. Frames stay
//! in memory while pushes succeed, and go to the disk when they do not. Refuses to know what a push is.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_filters::loki::Frame;

use super::super::queue::SinkStats;
use super::Seldom;
use super::spool::{Place, Spool};

/// What waits in memory: a few seconds of a busy gateway while pushes succeed, and all that there is room for if
/// there is no spool, or if the disk takes nothing. Beyond it the oldest make room.
pub(super) const MAX_MEMORY: usize = 16 << 20;

/// Pushes for one frame beyond the first. Sixteen records among thousands can be told from the others with fewer;
/// what is still together then is given up together.
const MAX_PARTS: u32 = 128;

/// How long a disk that failed is left alone.
const REST: Duration = Duration::from_secs(1);

/// Frames that wait.
pub(super) struct Backlog {
    in_hand: Option<InHand>,
    spool: Option<Spool>,
    ready: VecDeque<Frame>,
    ready_bytes: usize,
    max_memory: usize,
    stats: Arc<SinkStats>,
    /// When the disk failed last.
    failed_at: Option<Instant>,
    notes: Seldom,
}

/// A frame that is pushed, whole or in parts.
struct InHand {
    frame: Frame,
    /// The records that nothing is known of yet, in the parts in which they are pushed.
    parts: VecDeque<Range<usize>>,
    parts_left: u32,
    place: Held,
}

impl InHand {
    /// Records that nothing is known of yet.
    fn left(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

/// Where a frame that is in hand is, too.
#[derive(Clone, Copy)]
enum Held {
    Nowhere,
    Disk(Place),
    /// Nowhere, and the room that it takes is wanted: it is tried once more and not again.
    Unwanted,
}

impl Backlog {
    pub(super) fn new(spool: Option<Spool>, max_memory: usize, stats: Arc<SinkStats>) -> Self {
        Self {
            in_hand: None,
            spool,
            ready: VecDeque::new(),
            ready_bytes: 0,
            max_memory,
            stats,
            failed_at: None,
            notes: Seldom::default(),
        }
    }

    /// Takes over what processes have left that are gone, and says its last timestamp.
    pub(super) fn adopt(&mut self) -> u64 {
        self.spool.as_mut().map_or(0, Spool::adopt)
    }

    /// Puts a frame behind all others.
    pub(super) fn put(&mut self, frame: Frame) {
        self.ready_bytes += frame.as_bytes().len();
        self.ready.push_back(frame);
        if self.ready_bytes > self.max_memory {
            self.spill();
        }
        while self.ready_bytes > self.max_memory {
            if let Some(in_hand) = &mut self.in_hand
                && matches!(in_hand.place, Held::Nowhere)
            {
                in_hand.place = Held::Unwanted;
            }
            let Some(oldest) = self.pop_ready() else { break };
            self.stats.drop_records(oldest.len() as u64);
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_hand.is_none() && self.ready.is_empty() && self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    /// The next records to push: a frame and which of its records. The same ones until something becomes of them.
    pub(super) fn part(&mut self) -> Option<(&Frame, Range<usize>)> {
        if self.in_hand.is_none() {
            let (frame, place) = match self.spool.as_mut().and_then(Spool::take) {
                Some((frame, place)) => (frame, Held::Disk(place)),
                None => (self.pop_ready()?, Held::Nowhere),
            };
            // One part, not its numbers.
            #[expect(clippy::single_range_in_vec_init, reason = "a list of one part")]
            let parts = VecDeque::from([0..frame.len()]);
            self.in_hand = Some(InHand { frame, parts, parts_left: MAX_PARTS, place });
        }
        let in_hand = self.in_hand.as_ref()?;
        Some((&in_hand.frame, in_hand.parts.front()?.clone()))
    }

    /// The part was delivered.
    pub(super) fn taken(&mut self) {
        if let Some(part) = self.finish_part() {
            self.stats.deliver(part.len() as u64);
        }
        self.finish_frame();
    }

    /// The part was refused. `in_part`: only some of its records are to blame, or their number.
    pub(super) fn refused(&mut self, in_part: bool) {
        let Some(part) = self.finish_part() else { return };
        if let Some(in_hand) = &mut self.in_hand
            && in_part
            && part.len() > 1
            && in_hand.parts_left >= 2
        {
            in_hand.parts_left -= 2;
            let middle = part.start + part.len() / 2;
            in_hand.parts.push_front(middle..part.end);
            in_hand.parts.push_front(part.start..middle);
            return;
        }
        self.stats.fail(part.len() as u64);
        self.finish_frame();
    }

    /// Nothing is known of the part: it will be pushed again.
    pub(super) fn again(&mut self) {
        let is_unwanted = self.in_hand.as_ref().is_some_and(|in_hand| match in_hand.place {
            Held::Nowhere => false,
            Held::Disk(place) => self.spool.as_ref().is_none_or(|spool| !spool.has(place)),
            Held::Unwanted => true,
        });
        if is_unwanted {
            self.drop_in_hand();
        }
    }

    /// Moves what is in memory to the disk, as far as that takes it.
    pub(super) fn spill(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        let in_hand = self.in_hand.as_mut().filter(|in_hand| matches!(in_hand.place, Held::Nowhere));
        if in_hand.is_none() && self.ready.is_empty() || self.failed_at.is_some_and(|at| at.elapsed() < REST) {
            return;
        }
        self.failed_at = None;
        let spill = || -> io::Result<()> {
            // All of it, even if a part is delivered already: Loki knows that one again.
            if let Some(in_hand) = in_hand {
                in_hand.place = Held::Disk(spool.append_in_hand(&in_hand.frame)?);
            }
            while let Some(frame) = self.ready.front() {
                spool.append(frame)?;
                self.ready_bytes -= frame.as_bytes().len();
                self.ready.pop_front();
            }
            Ok(())
        };
        if let Err(e) = spill() {
            self.failed_at = Some(Instant::now());
            if self.notes.is_time() {
                log::error!("the spool for Loki cannot be written: {e}; what has no room in memory is dropped");
            }
        }
    }

    /// Leaves on the disk what there is room for, for whoever finds it there, and gives up the rest.
    pub(super) fn end(mut self) {
        self.failed_at = None;
        self.spill();
        self.again();
        if self.in_hand.as_ref().is_some_and(|in_hand| matches!(in_hand.place, Held::Nowhere)) {
            self.drop_in_hand();
        }
        while let Some(frame) = self.pop_ready() {
            self.stats.drop_records(frame.len() as u64);
        }
        if let Some(spool) = &self.spool {
            spool.sync();
            self.stats.leave_behind(spool.records() + self.in_hand.as_ref().map_or(0, InHand::left));
        }
    }

    fn pop_ready(&mut self) -> Option<Frame> {
        let frame = self.ready.pop_front()?;
        self.ready_bytes -= frame.as_bytes().len();
        Some(frame)
    }

    fn finish_part(&mut self) -> Option<Range<usize>> {
        self.in_hand.as_mut()?.parts.pop_front()
    }

    fn finish_frame(&mut self) {
        let Some(InHand { place, .. }) = self.in_hand.take_if(|in_hand| in_hand.parts.is_empty()) else { return };
        if let (Held::Disk(place), Some(spool)) = (place, &mut self.spool) {
            spool.delivered(place);
        }
    }

    fn drop_in_hand(&mut self) {
        if let Some(in_hand) = self.in_hand.take() {
            self.stats.drop_records(in_hand.left());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use weir_filters::loki::{Class, Entry};

    use super::super::spool::RealDisk;
    use super::*;

    fn frame(ids: Range<u64>) -> Frame {
        let mut frame = Frame::default();
        for id in ids {
            let line = id.to_string();
            frame.push(Entry { time_ns: id, class: Class::of(200), route: "/v1", line: &line });
        }
        frame
    }

    struct Given {
        backlog: Backlog,
        stats: Arc<SinkStats>,
    }

    /// A backlog, after `count` records were put into it in frames of four.
    fn given(count: u64, spool: Option<&tempfile::TempDir>) -> Given {
        let stats = Arc::new(SinkStats::default());
        let spool = spool.map(|dir| Spool::new(dir.path().join("loki"), 1 << 20, Box::new(RealDisk), stats.clone()));
        let mut backlog = Backlog::new(spool, MAX_MEMORY, stats.clone());
        stats.find(count);
        (0..count / 4).for_each(|n| backlog.put(frame(n * 4..n * 4 + 4)));
        Given { backlog, stats }
    }

    impl Given {
        /// Delivered, failed, dropped, waiting.
        fn figures(&self) -> [u64; 4] {
            let SinkStats { delivered, failed, dropped, waiting } = &*self.stats;
            [delivered, failed, dropped, waiting].map(|figure| figure.load(Ordering::Relaxed))
        }

        /// The lines of the part that is next.
        fn part(&mut self) -> Vec<String> {
            let Some((frame, part)) = self.backlog.part() else { return Vec::new() };
            frame.entries().skip(part.start).take(part.len()).map(|entry| entry.line.to_owned()).collect()
        }

        /// Delivers all that waits and says what that was.
        fn delivered(&mut self) -> Vec<u64> {
            let mut all = Vec::new();
            loop {
                let part = self.part();
                if part.is_empty() {
                    return all;
                }
                all.extend(part.iter().map(|line| line.parse::<u64>().unwrap()));
                self.backlog.taken();
            }
        }
    }

    #[test]
    fn frames_come_out_in_their_order_from_memory_and_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut given = given(12, Some(&dir));
        assert_eq!(given.part(), ["0", "1", "2", "3"]);
        assert!(!dir.path().join("loki").exists(), "the disk is not needed yet");
        given.backlog.spill();
        given.stats.find(4);
        given.backlog.put(frame(12..16));
        assert_eq!(given.part(), ["0", "1", "2", "3"], "what is in hand stays in hand");
        assert_eq!(given.delivered(), (0..16).collect::<Vec<_>>());
        assert_eq!(given.figures(), [16, 0, 0, 0]);
        assert!(given.backlog.is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("loki")).unwrap().count(), 0, "and nothing stays on the disk");
    }

    #[test]
    fn of_a_push_that_is_refused_in_part_each_record_is_told_apart() {
        let mut given = given(8, None);
        let mut pushes = Vec::new();
        loop {
            let part = given.part();
            if part.is_empty() {
                break;
            }
            let is_bad = part.contains(&"2".to_owned());
            pushes.push((part.concat(), is_bad));
            if is_bad { given.backlog.refused(true) } else { given.backlog.taken() }
        }
        let expected = [("0123", true), ("01", false), ("23", true), ("2", true), ("3", false), ("4567", false)];
        assert_eq!(pushes, expected.map(|(part, is_bad)| (part.to_owned(), is_bad)));
        assert_eq!(given.figures(), [7, 1, 0, 0]);
    }

    #[test]
    fn parts_are_bounded_and_a_push_that_is_refused_for_itself_has_none() {
        let mut refused = given(8, None);
        refused.part();
        refused.backlog.refused(false);
        assert_eq!((refused.figures(), refused.part().concat()), ([0, 4, 0, 4], "4567".to_owned()));
        let mut many = given(0, None);
        many.stats.find(1000);
        many.backlog.put(frame(0..1000));
        let mut pushes = 0;
        while !many.part().is_empty() {
            many.backlog.refused(true);
            pushes += 1;
        }
        assert_eq!(pushes, 1 + MAX_PARTS);
        assert_eq!(many.figures(), [0, 1000, 0, 0]);
    }

    #[test]
    fn without_a_spool_the_oldest_make_room_and_what_is_in_hand_has_one_more_try() {
        let mut given = given(12, None);
        given.part();
        // The ids of the frame that comes have two digits, those of the one that goes have one.
        given.backlog.max_memory = given.backlog.ready_bytes + 4;
        given.stats.find(4);
        given.backlog.put(frame(12..16));
        assert_eq!(given.figures(), [0, 0, 4, 12]);
        given.backlog.again();
        assert_eq!(given.figures(), [0, 0, 8, 8]);
        assert_eq!(given.delivered(), (8..16).collect::<Vec<_>>());
        assert_eq!(given.figures(), [8, 0, 8, 0]);
    }

    #[test]
    fn what_is_left_at_the_end_waits_on_the_disk_or_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = given(12, Some(&dir));
        first.part();
        let stats = first.stats.clone();
        first.backlog.end();
        assert_eq!(stats.waiting.load(Ordering::Relaxed), 0, "they are nobody's now");
        let mut second = given(0, Some(&dir));
        assert_eq!(second.backlog.adopt(), 11);
        assert_eq!(second.figures(), [0, 0, 0, 12]);
        assert_eq!(second.delivered(), (0..12).collect::<Vec<_>>());

        let mut lost = given(8, None);
        lost.part();
        let stats = lost.stats.clone();
        lost.backlog.end();
        assert_eq!((stats.waiting.load(Ordering::Relaxed), stats.dropped.load(Ordering::Relaxed)), (0, 8));
    }
}
