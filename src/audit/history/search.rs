//! How a question is answered: segment after segment, newest first, from memory or from the index, and of the files
//! nothing but the lines that were found.
//!
//! Owns the bounds of the work that one question makes. Refuses to know how records came here.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::store::{Store, StoreError};

use super::block::{CHUNK, ID, Meta, STATUS, Spot};
use super::index::Look;
use super::query::{Cursor, Page, Query, Wanted};
use super::record::Record;
use super::segment;
use super::shelf::{Found, Looked, Shared};
use super::table::{NAMES, short_id};

/// Rows of the index that are read for one page, but for the segment that exceeds it. A segment takes two or three rows
/// to say that it has nothing: it is reached after some tens of millions of records.
const MAX_ROWS: usize = 8192;
/// Bytes of records that are read for one page, but for the record that exceeds it. Records with whole bodies can be
/// megabytes each.
const MAX_BYTES: usize = 8 << 20;

/// The index could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history's index cannot be read now; it is being seen to")]
pub(crate) struct Unavailable;

/// Answers `query`, of what arrived at `kept_from` or later. Gives the number of rows of the index that it took, too.
pub(super) fn page(
    shared: &Shared,
    directory: &Path,
    query: &Query,
    kept_from: u64,
) -> Result<(Page, usize), Unavailable> {
    let wanted = Wanted::of(query, kept_from);
    let mut page = Page::default();
    let mut files = Files::new(directory);
    let (mut before, mut bytes, mut rows) = (query.cursor.unwrap_or(Cursor::NEWEST), 0, 0);
    loop {
        // One more than is shown says whether there are more.
        let most = query.limit + 1 - page.rows.len();
        let looked = shared.lock().look(&wanted, before, most);
        let (segment, found) = match looked {
            Looked::Nothing => return Ok((page, rows)),
            Looked::Memory(segment, found) => (segment, found),
            Looked::Stored(segment, meta, below, store) => {
                let found = stored(&store, segment, meta, below, &wanted, most, &mut rows);
                (segment, found.map_err(|e| fail(shared, e))?)
            }
        };
        let is_cut = found.len() == most;
        for found in found {
            if bytes >= MAX_BYTES {
                return Ok((Page { next: Some(before), ..page }, rows));
            }
            if let Some(line) = files.read(&found) {
                bytes += line.len();
                if Record::read(&line).is_some_and(|record| wanted.is(&record)) {
                    if page.rows.len() == query.limit {
                        return Ok((Page { next: Some(before), ..page }, rows));
                    }
                    page.rows.extend(text(line));
                }
            }
            before = found.place;
        }
        if !is_cut {
            before = Cursor { segment, before: 0 };
        }
        if rows >= MAX_ROWS {
            return Ok((Page { next: Some(before), ..page }, rows));
        }
    }
}

/// The record with this id, if it arrived at `kept_from` or later.
pub(super) fn find(shared: &Shared, directory: &Path, id: u128, kept_from: u64) -> Result<Option<String>, Unavailable> {
    let mut files = Files::new(directory);
    let mut is_it = |found: &Found| {
        let line = files.read(found)?;
        let entry = Record::read(&line)?.entry(line.len())?;
        (entry.id == id && entry.time_ms >= kept_from).then(|| text(line)).flatten()
    };
    let (found, segments, store) = {
        let shelf = shared.lock();
        let (found, segments) = shelf.with_id(short_id(id));
        (found, segments, shelf.store.clone())
    };
    if let Some(line) = found.iter().find_map(&mut is_it) {
        return Ok(Some(line));
    }
    let Some(store) = store else { return Ok(None) };
    let mut look = Look::new(&store);
    for segment in segments {
        let places = look.places(segment, ID, short_id(id)..=short_id(id)).map_err(|e| fail(shared, e))?;
        for place in places {
            let chunk = look.spots(segment, place / CHUNK).map_err(|e| fail(shared, e))?;
            let found = chunk.get((place % CHUNK) as usize).map(|spot| located(segment, place, *spot));
            if let Some(line) = found.as_ref().and_then(&mut is_it) {
                return Ok(Some(line));
            }
        }
    }
    Ok(None)
}

/// What is wanted of a segment that is in the index, newest first.
fn stored(
    store: &Arc<Store>,
    segment: u64,
    meta: Meta,
    below: u32,
    wanted: &Wanted<'_>,
    most: usize,
    rows: &mut usize,
) -> Result<Vec<Found>, StoreError> {
    // Nothing arrived while the question asks.
    if meta.newest_ms < wanted.from || meta.oldest_ms >= wanted.to {
        return Ok(Vec::new());
    }
    let mut look = Look::new(store);
    let found = (|| {
        let Some(places) = places(&mut look, segment, wanted)? else { return Ok(Vec::new()) };
        let asks_time = wanted.divides(meta.oldest_ms, meta.newest_ms);
        let all = (0..meta.records.min(below)).rev();
        match places {
            None => located_all(&mut look, segment, all, wanted, asks_time, most),
            Some(places) => {
                let places = places.into_iter().rev().filter(|place| *place < below);
                located_all(&mut look, segment, places, wanted, asks_time, most)
            }
        }
    })();
    *rows += look.rows;
    found
}

/// The places that have all terms; `Some(None)`: all, because no term is asked for; `None`: none.
#[expect(clippy::option_option, reason = "three outcomes, told apart once, by one caller")]
fn places(look: &mut Look<'_>, segment: u64, wanted: &Wanted<'_>) -> Result<Option<Option<Vec<u32>>>, StoreError> {
    let names = (0..NAMES.len()).filter_map(|list| wanted.terms[list].map(|term| (list, term..=term)));
    let status = wanted.status.clone().map(|range| (STATUS, u32::from(*range.start())..=u32::from(*range.end())));
    let mut all: Option<Vec<u32>> = None;
    for (list, terms) in names.chain(status) {
        let found = look.places(segment, list, terms)?;
        let both = match all {
            None => found,
            Some(before) => intersection(before, &found),
        };
        if both.is_empty() {
            return Ok(None);
        }
        all = Some(both);
    }
    Ok(Some(all))
}

/// What is in both; each is in order and has nothing twice.
fn intersection(mut one: Vec<u32>, other: &[u32]) -> Vec<u32> {
    let mut rest = other;
    one.retain(|place| {
        let below = rest.iter().take_while(|other| *other < place).count();
        rest = &rest[below..];
        rest.first() == Some(place)
    });
    one
}

fn located_all(
    look: &mut Look<'_>,
    segment: u64,
    places: impl Iterator<Item = u32>,
    wanted: &Wanted<'_>,
    asks_time: bool,
    most: usize,
) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    let mut chunk: Option<(u32, Vec<Spot>)> = None;
    for place in places {
        let number = place / CHUNK;
        let spots = match chunk.take() {
            Some((read, spots)) if read == number => spots,
            _ => look.spots(segment, number)?,
        };
        let spot = spots.get((place % CHUNK) as usize).copied();
        chunk = Some((number, spots));
        let Some(spot) = spot else { return Err(StoreError::Broken("the index has a place that is none".into())) };
        if !asks_time || wanted.has_time(spot.time_ms) {
            found.push(located(segment, place, spot));
            if found.len() == most {
                break;
            }
        }
    }
    Ok(found)
}

fn located(segment: u64, place: u32, spot: Spot) -> Found {
    Found { place: Cursor { segment, before: place }, at: spot.at, len: spot.len, waits: None }
}

/// The line without its line feed.
fn text(mut line: Vec<u8>) -> Option<String> {
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    String::from_utf8(line).ok()
}

fn fail(shared: &Shared, e: StoreError) -> Unavailable {
    log::error!("history: the index cannot be read: {e}");
    shared.lock().failure.get_or_insert(e);
    Unavailable
}

/// The files that a question reads, each opened once.
struct Files<'d> {
    directory: &'d Path,
    open: HashMap<u64, Option<File>>,
}

impl<'d> Files<'d> {
    fn new(directory: &'d Path) -> Self {
        Self { directory, open: HashMap::new() }
    }

    /// `None`: the segment is gone meanwhile, or what should be there is not.
    fn read(&mut self, found: &Found) -> Option<Vec<u8>> {
        if let Some((batch, range)) = &found.waits {
            return batch.lines.get(range.clone()).map(<[u8]>::to_vec);
        }
        let number = found.place.segment;
        if self.open.len() > MAX_OPEN {
            self.open.clear();
        }
        let file = self.open.entry(number).or_insert_with(|| File::open(segment::path(self.directory, number)).ok());
        let file = file.as_ref()?;
        // Less is there only if the disk has lost it.
        let is_there = file.metadata().is_ok_and(|meta| meta.len() >= found.at + u64::from(found.len));
        let mut line = vec![0; if is_there { found.len as usize } else { return None }];
        file.read_exact_at(&mut line, found.at).ok()?;
        Some(line)
    }
}

/// Files that a question holds open at once.
const MAX_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_both_is_found() {
        for (one, other, both) in [
            (&[][..], &[1, 2][..], &[][..]),
            (&[1, 2], &[], &[]),
            (&[1, 3, 5, 7], &[0, 3, 4, 7, 9], &[3, 7]),
            (&[4, 5], &[1, 2, 3], &[]),
            (&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]),
        ] {
            assert_eq!(intersection(one.to_vec(), other), both);
        }
    }
}
