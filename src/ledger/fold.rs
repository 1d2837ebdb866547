//! Owns the reading of the journal into the totals: which segments there are, how far each is read,
//! which are read whole. Refuses to know where totals are written.
//!
//! The offset of a segment moves in the same state as the totals, and both are written in one batch,
//! so a record counts once however often the process dies. Within one process a record that was
//! appended twice by mistake is recognised by its id, as long as it is among the last
//! [`RECENT_IDS`]; the window is not written, because nothing in the ledger appends twice. What is
//! imported may come again at any time: those ids are a part of the totals (see [`super::imported`]).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ahash::AHashSet;

use super::batch::Batch;
use super::codec::{Malformed, RecordRef};
use super::imported::settlement_in;
use super::journal::files::{self, SegmentId};
use super::journal::segment::{Corrupt, Extent, HEADER, HEADER_LEN, Header, scan};
use super::journal::{Head, SEGMENT_BYTES};
use super::reserved::{Reserved, is_reservation};
use super::view::View;

/// Ids remembered: a record that came twice by mistake would come soon. More of them would not stay in a
/// core's cache, and every record looks here.
const RECENT_IDS: usize = 8_192;
/// Read of one segment at once. Larger than any segment that this release writes, so that damage is
/// seen whole; a file that something else made this large is read in pieces.
const MAX_READ: usize = 64 << 20;
/// The same of a segment that another process is writing, most of which is still empty.
const MAX_READ_GROWING: usize = 1 << 20;
/// Reads of one segment in one plan: enough for all that another process could have written into a
/// segment by then.
const MAX_READS: u64 = SEGMENT_BYTES / MAX_READ_GROWING as u64 + 1;
/// Read at once of what is whole: the bytes are still in the core's nearest cache when they are folded, and
/// that takes a fraction of a millisecond.
const PIECE: usize = 16 << 10;

/// The totals and the places up to which the journal is in them.
pub(crate) struct Folder {
    pub(crate) view: View,
    journal: PathBuf,
    /// Segments that are read whole and will not grow.
    done: AHashSet<SegmentId>,
    recent: Recent,
    /// Of one read; empty between two.
    batch: Batch,
    /// At most [`PIECE`] bytes between two reads.
    buffer: Vec<u8>,
    /// Bytes of all segments when they were last listed.
    pub(crate) journal_bytes: u64,
    /// Records read from the segments of this process.
    pub(crate) own_records: u64,
}

/// The segments that are to be looked into, in order.
pub(crate) struct Plan {
    segments: VecDeque<(SegmentId, Option<Head>)>,
    /// Reads of the first one.
    reads: u64,
}

impl Folder {
    pub(crate) fn new(view: View, journal: &Path) -> Self {
        Self {
            view,
            journal: journal.to_owned(),
            done: AHashSet::new(),
            recent: Recent::default(),
            batch: Batch::default(),
            buffer: Vec::new(),
            journal_bytes: 0,
            own_records: 0,
        }
    }

    /// What there is to fold now. `heads` are the segments that this process writes, asked for
    /// before the call: what they hold up to there is whole. The plan has an end, however fast
    /// records keep coming.
    pub(crate) fn plan(&mut self, heads: &[Head]) -> io::Result<Plan> {
        let listed = files::list(&self.journal)?;
        self.journal_bytes = listed.iter().map(|(_, len)| len).sum();
        self.done.retain(|id| listed.binary_search_by(|(other, _)| other.cmp(id)).is_ok());
        let head_of = |id: SegmentId| heads.iter().find(|head| head.id == id).copied();
        let new = listed.iter().map(|(id, _)| (*id, head_of(*id))).filter(|(id, head)| self.has_more(*id, *head));
        Ok(Plan { segments: new.collect(), reads: 0 })
    }

    /// Takes one segment's work off the plan, with a `pause` between two reads; whether the plan is at its
    /// end.
    pub(crate) fn step(&mut self, plan: &mut Plan, pause: &mut dyn FnMut()) -> io::Result<bool> {
        let Some((id, head)) = plan.segments.front().copied() else {
            return Ok(true);
        };
        plan.reads += 1;
        let read = self.has_more(id, head) && self.fold_segment(id, head, pause)?;
        if !read || plan.reads > MAX_READS {
            plan.segments.pop_front();
            plan.reads = 0;
        }
        Ok(plan.segments.is_empty())
    }

    /// Whether a look into the segment may find something new.
    fn has_more(&self, id: SegmentId, head: Option<Head>) -> bool {
        let folded = self.view.offsets.get(&id).copied().unwrap_or(HEADER);
        let all = head.is_some_and(|head| folded >= head.end);
        !all && !self.view.is_below_floor(id) && !self.done.contains(&id)
    }

    /// Whether anything was read.
    fn fold_segment(&mut self, id: SegmentId, head: Option<Head>, pause: &mut dyn FnMut()) -> io::Result<bool> {
        let file = match File::open(id.path(&self.journal)) {
            Ok(file) => file,
            // Another process dropped it since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        // Asked before reading: what is sealed now has all its bytes.
        let extent = match head {
            Some(_) => Extent::Committed,
            None if files::is_sealed(&file) => Extent::Sealed,
            None => Extent::Growing,
        };
        let len = head.map_or(file.metadata()?.len(), |head| head.end);
        let mut start = [0; HEADER_LEN];
        let got = read_up_to(&file, &mut start, 0)?;
        let header = match Header::decode(&start[..got]) {
            Ok((header, note)) => {
                if let Some(note) = note.filter(|_| !self.view.offsets.contains_key(&id)) {
                    self.report(id, note);
                }
                header
            }
            Err(corrupt) => {
                // The rest cannot be checked without it.
                self.report(id, Corrupt { len, ..corrupt });
                self.view.set_offset(id, len);
                self.done.insert(id);
                return Ok(true);
            }
        };
        let offset = self.view.offsets.get(&id).copied().unwrap_or(HEADER);
        let mut end = offset;
        let read = self.fold_frames(id, &file, (header.salt, extent, head.is_some()), &mut end, len, pause);
        // Whatever was read is counted up to `end`, also if the disk failed behind it.
        self.view.settle(&mut self.batch);
        self.view.set_offset(id, end);
        read?;
        if extent == Extent::Sealed && end >= len {
            self.done.insert(id);
        }
        Ok(end > offset)
    }

    /// Folds the frames from `end` to `len`, and moves `end` to where it stopped.
    fn fold_frames(
        &mut self,
        id: SegmentId,
        file: &File,
        (salt, extent, own): (u32, Extent, bool),
        end: &mut u64,
        len: u64,
        pause: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let growing = extent == Extent::Growing;
        let most = if growing { MAX_READ_GROWING } else { MAX_READ };
        let rest = |at: u64| usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
        let limit = *end + rest(*end).min(most) as u64;
        let mut whole = false;
        loop {
            let left = rest(*end).min(usize::try_from(limit - *end).unwrap_or(most));
            // A frame that a piece cuts is the next one's first. What is no frame is looked at with
            // all that follows it, so that damage is seen whole.
            let last = whole || left <= PIECE;
            let (want, extent) = if last { (left, extent) } else { (PIECE, Extent::Growing) };
            let mut bytes = std::mem::take(&mut self.buffer);
            if bytes.len() < want {
                bytes.resize(want, 0);
            }
            let got = read_up_to(file, &mut bytes[..want], *end)?;
            let from = *end;
            *end = scan(&bytes[..got], from, salt, extent, |at, found| match found {
                Ok(payload) => self.count(id, at, payload, own),
                Err(corrupt) => self.report(id, corrupt),
            });
            if bytes.len() <= PIECE {
                self.buffer = bytes;
            }
            // What another process is still writing goes on at the next look.
            if last || *end == from && growing {
                return Ok(());
            }
            whole = *end == from;
            pause();
        }
    }

    fn count(&mut self, id: SegmentId, at: u64, payload: &[u8], own: bool) {
        self.own_records += u64::from(own);
        if is_reservation(payload) {
            match Reserved::decode(payload) {
                // A request is reserved and settled in one shard, which is read in its order; but whoever
                // stops a process may drop its requests on another thread.
                Ok((id, _)) if self.recent.known.contains(&id) => {}
                Ok((id, reserved)) => self.view.under_way.begin(id, reserved),
                Err(why) => self.report(id, why.at(at, payload)),
            }
            return;
        }
        if let Some(settlement) = settlement_in(payload) {
            match self.read(settlement) {
                Ok((record, series)) if self.view.import(record.id) => {
                    self.view.gather(&mut self.batch, &record, series);
                }
                Ok(_) => self.view.note_duplicate(),
                Err(why) => self.report(id, why.at(at, payload)),
            }
            return;
        }
        match self.read(payload) {
            Ok((record, series)) if self.recent.insert(record.id) => {
                self.view.under_way.end(record.id);
                self.view.gather(&mut self.batch, &record, series);
            }
            Ok((record, _)) => {
                log::warn!("ledger: request {:032x} was recorded twice, it counts once", record.id);
                self.view.note_duplicate();
            }
            Err(why) => self.report(id, why.at(at, payload)),
        }
    }

    /// A settlement, and its series if it has one already.
    fn read<'a>(&self, settlement: &'a [u8]) -> Result<(RecordRef<'a>, Option<u32>), Malformed> {
        let record = RecordRef::decode_but_dims(settlement)?;
        // Dimensions that have a series were read when it was made.
        let series = self.view.find(record.dims);
        let known = series.is_some() || record.operation().is_some();
        if known { Ok((record, series)) } else { Err(Malformed::Shape) }
    }

    fn report(&mut self, id: SegmentId, corrupt: Corrupt) {
        log::error!("ledger: shard {} segment {:016x}: {corrupt}", id.shard, id.seq);
        self.view.note_corrupt();
    }

    /// Raises the floors over the segments that are read whole. The newest segment of a shard stays,
    /// so that its number is never given out again even if all totals are lost.
    pub(crate) fn raise_floors(&mut self) -> io::Result<bool> {
        let mut raised = false;
        let listed = files::list(&self.journal)?;
        for shard in listed.chunk_by(|(a, _), (b, _)| a.shard == b.shard) {
            let older = &shard[..shard.len() - 1];
            let above = older.iter().map(|(id, _)| *id).filter(|id| !self.view.is_below_floor(*id));
            let last = above.take_while(|id| self.done.contains(id)).last();
            if let Some(last) = last {
                self.view.set_floor(last.shard, last.seq);
                raised = true;
            }
        }
        Ok(raised)
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// The last ids, to recognise a record that comes twice.
#[derive(Default)]
struct Recent {
    known: AHashSet<u128>,
    order: VecDeque<u128>,
}

impl Recent {
    /// Whether the id is new.
    fn insert(&mut self, id: u128) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > RECENT_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
