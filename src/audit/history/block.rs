//! A segment's part of the index: what the rows of the store say of its records.
//!
//! Owns the form of the rows. Refuses to know the store that they are in. All rows of a segment begin with its number:
//!
//! ```text
//! segment 00                      meta: how many records and bytes, the first and the last arrival. It comes last and
//!                                 goes first: without it the others say nothing
//! segment 01 chunk                columns: where 512 records are and when they arrived
//! segment 02+list last term,place postings: terms in their order, each with the places of its records, up to that one
//! ```
//!
//! A list of postings is cut into rows of a size that is good to read, wherever that is. A row goes by its last term
//! and place, so that whoever looks for a term reads from there on, and forward.

use crate::ledger::wire::{Reader, put_int};

use super::table::{NAMES, Row, Table};

/// Says which form the rows have. No segment has such a number.
pub(super) const FORMAT_KEY: &[u8] = b"format";
/// See [`FORMAT_KEY`].
pub(super) const FORMAT: &[u8] = b"1";

/// Records of one row of columns.
pub(super) const CHUNK: u32 = 512;
/// A row of postings is closed when it has so many bytes. sled reads and writes sixteen rows and more at once.
const ROW_BYTES: usize = 1024;

const META: u8 = 0;
const COLUMNS: u8 = 1;
/// The lists: one for each name, then those of status and id.
const LISTS: u8 = 2;
pub(super) const STATUS: usize = NAMES.len();
pub(super) const ID: usize = STATUS + 1;
const LIST_COUNT: usize = ID + 1;

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// What is known of a segment without its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) records: u32,
    /// Of the segment's lines.
    pub(super) bytes: u64,
    /// Of the rows.
    pub(super) index_bytes: u64,
    pub(super) oldest_ms: u64,
    pub(super) newest_ms: u64,
}

/// Where a record is, and when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) at: u64,
    pub(super) len: u32,
    pub(super) time_ms: u64,
}

/// A row that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The rows of a segment, but for [`Meta`]'s.
pub(super) fn encode(segment: u64, table: &Table) -> (Vec<Pair>, Meta) {
    let mut pairs = Vec::new();
    for (chunk, rows) in (0_u32..).zip(table.rows.chunks(CHUNK as usize)) {
        pairs.push((columns_key(segment, chunk), encode_columns(rows)));
    }
    let mut postings = Vec::with_capacity(table.rows.len());
    for list in 0..LIST_COUNT {
        let term = |row: &Row| match list {
            STATUS => u32::from(row.status),
            ID => row.id,
            name => row.terms[name],
        };
        postings.clear();
        postings.extend((0_u64..).zip(&table.rows).map(|(place, row)| u64::from(term(row)) << 32 | place));
        postings.sort_unstable();
        encode_list(segment, list, &postings, &mut pairs);
    }
    let meta = Meta {
        records: table.len(),
        bytes: table.bytes,
        index_bytes: pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
        oldest_ms: table.oldest_ms,
        newest_ms: table.newest_ms,
    };
    (pairs, meta)
}

impl Meta {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut value = Vec::new();
        for number in [self.records.into(), self.bytes, self.index_bytes, self.oldest_ms, self.newest_ms] {
            put_int(&mut value, number);
        }
        value
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value);
        let mut int = || reader.int().ok_or(Malformed);
        let records = u32::try_from(int()?).map_err(|_| Malformed)?;
        let meta = Self { records, bytes: int()?, index_bytes: int()?, oldest_ms: int()?, newest_ms: int()? };
        if reader.is_empty() { Ok(meta) } else { Err(Malformed) }
    }
}

pub(super) fn meta_key(segment: u64) -> Vec<u8> {
    key(segment, META, &[])
}

/// The segment that a row is of, and whether it is its meta row.
pub(super) fn segment_of(key: &[u8]) -> Result<(u64, bool), Malformed> {
    let (number, rest) = key.split_first_chunk().ok_or(Malformed)?;
    Ok((u64::from_be_bytes(*number), rest == [META]))
}

/// All rows of a segment, meta included, are from the first key on and before the second.
pub(super) fn keys_of(segment: u64) -> (Vec<u8>, Vec<u8>) {
    (meta_key(segment), segment.saturating_add(1).to_be_bytes().to_vec())
}

pub(super) fn columns_key(segment: u64, chunk: u32) -> Vec<u8> {
    key(segment, COLUMNS, &chunk.to_be_bytes())
}

/// Where to read from, and until where at most, for the terms from `first` on of a list.
pub(super) fn list_keys(segment: u64, list: usize, first: u32) -> (Vec<u8>, Vec<u8>) {
    (key(segment, list_kind(list), &posting_key(u64::from(first) << 32)), key(segment, list_kind(list) + 1, &[]))
}

/// Appends the places of the terms `wanted` that are in a row of postings. `true`: the next row may have more.
pub(super) fn read_postings(
    value: &[u8],
    wanted: std::ops::RangeInclusive<u32>,
    places: &mut Vec<u32>,
) -> Result<bool, Malformed> {
    let mut reader = Reader::new(value);
    let mut int = || reader.int().and_then(|int| u32::try_from(int).ok()).ok_or(Malformed);
    let entries = int()?;
    let mut term = 0_u32;
    for _ in 0..entries {
        term = term.checked_add(int()?).ok_or(Malformed)?;
        if term > *wanted.end() {
            return Ok(false);
        }
        let (count, is_wanted) = (int()?, wanted.contains(&term));
        let mut place = 0_u32;
        for _ in 0..count {
            place = place.checked_add(int()?).ok_or(Malformed)?;
            if is_wanted {
                places.push(place);
            }
        }
    }
    if reader.is_empty() { Ok(true) } else { Err(Malformed) }
}

/// The records of a row of columns.
pub(super) fn read_columns(value: &[u8]) -> Result<Vec<Spot>, Malformed> {
    let mut reader = Reader::new(value);
    let mut int = || reader.int().ok_or(Malformed);
    let count = u32::try_from(int()?).ok().filter(|count| *count <= CHUNK).ok_or(Malformed)?;
    let (mut at, mut time_ms) = (int()?, 0_u64);
    let mut spots = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let len = u32::try_from(int()?).map_err(|_| Malformed)?;
        time_ms = time_ms.wrapping_add(unzigzag(int()?));
        spots.push(Spot { at, len, time_ms });
        at = at.checked_add(len.into()).ok_or(Malformed)?;
    }
    if reader.is_empty() { Ok(spots) } else { Err(Malformed) }
}

fn encode_columns(rows: &[Row]) -> Vec<u8> {
    let mut value = Vec::with_capacity(rows.len() * 4);
    put_int(&mut value, rows.len() as u64);
    put_int(&mut value, rows.first().map_or(0, |row| row.at));
    let mut last = 0_u64;
    for row in rows {
        put_int(&mut value, row.len.into());
        // Later arrivals may end earlier.
        put_int(&mut value, zigzag(row.time_ms.wrapping_sub(last)));
        last = row.time_ms;
    }
    value
}

/// Postings are sorted: the term in the upper half, the place in the lower.
fn encode_list(segment: u64, list: usize, postings: &[u64], pairs: &mut Vec<Pair>) {
    let (mut value, mut entries) = (Vec::with_capacity(ROW_BYTES * 2), 0_u64);
    let (mut last_term, mut rest) = (0, postings);
    while let Some(first) = rest.first() {
        let term = first >> 32;
        // An entry's length is known before its places are: it is cut, too, where the row would become too long.
        let room = (ROW_BYTES - value.len()).max(1);
        let most = rest.len().min(room);
        let count = rest[..most].iter().take_while(|posting| **posting >> 32 == term).count();
        let (places, others) = rest.split_at(count);
        put_int(&mut value, term - last_term);
        put_int(&mut value, count as u64);
        let mut last = 0;
        for posting in places {
            let place = posting & 0xFFFF_FFFF;
            put_int(&mut value, place - last);
            last = place;
        }
        (last_term, rest, entries) = (term, others, entries + 1);
        if value.len() >= ROW_BYTES || rest.is_empty() {
            let key = key(segment, list_kind(list), &posting_key(places[count - 1]));
            let mut whole = Vec::with_capacity(value.len() + 2);
            put_int(&mut whole, entries);
            whole.extend_from_slice(&value);
            pairs.push((key, whole));
            value.clear();
            (last_term, entries) = (0, 0);
        }
    }
}

fn list_kind(list: usize) -> u8 {
    LISTS + u8::try_from(list).unwrap_or(u8::MAX - LISTS)
}

fn posting_key(posting: u64) -> [u8; 8] {
    posting.to_be_bytes()
}

fn key(segment: u64, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + rest.len());
    key.extend_from_slice(&segment.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (0_u64.wrapping_sub(difference >> 63))
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (0_u64.wrapping_sub(value & 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What the store does.
    fn look(pairs: &BTreeMap<Vec<u8>, Vec<u8>>, list: usize, wanted: std::ops::RangeInclusive<u32>) -> Vec<u32> {
        let (from, until) = list_keys(7, list, *wanted.start());
        let mut places = Vec::new();
        for (_, value) in pairs.range(from..until) {
            if !read_postings(value, wanted.clone(), &mut places).unwrap() {
                break;
            }
        }
        places.sort_unstable();
        places
    }

    fn row(at: u64, len: u32, time_ms: u64, terms: [u32; 4], id: u32, status: u16) -> Row {
        Row { at, time_ms, len, id, terms, status }
    }

    fn table(rows: &[(u32, u64, [u32; 4], u32, u16)]) -> Table {
        let mut table = Table::default();
        for (len, time_ms, terms, id, status) in rows {
            table.rows.push(row(table.bytes, *len, *time_ms, *terms, *id, *status));
            table.bytes += u64::from(*len);
            table.oldest_ms = table.oldest_ms.min(*time_ms);
            table.newest_ms = table.newest_ms.max(*time_ms);
        }
        table
    }

    fn any_row() -> impl Strategy<Value = (u32, u64, [u32; 4], u32, u16)> {
        let term = prop_oneof![0_u32..4, any::<u32>(), Just(u32::MAX)];
        (any::<u32>(), any::<u64>(), [term.clone(), term.clone(), term.clone(), term], any::<u32>(), 0_u16..600)
    }

    proptest! {
        #[test]
        fn every_list_and_column_survives_its_rows(rows in prop::collection::vec(any_row(), 0..1500)) {
            let table = table(&rows);
            let (pairs, meta) = encode(7, &table);
            prop_assert_eq!(meta.records as usize, rows.len());
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
            prop_assert!(pairs.iter().all(|(_, value)| value.len() < 15 * CHUNK as usize));
            let count = pairs.len();
            let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
            prop_assert_eq!(pairs.len(), count, "no two rows have the same key");
            let spots: Vec<Spot> = (0..u32::try_from(rows.len().div_ceil(CHUNK as usize)).unwrap())
                .flat_map(|chunk| read_columns(&pairs[&columns_key(7, chunk)]).unwrap()).collect();
            let expected: Vec<Spot> =
                table.rows.iter().map(|row| Spot { at: row.at, len: row.len, time_ms: row.time_ms }).collect();
            prop_assert_eq!(spots, expected);
            let places = |is: &dyn Fn(&Row) -> bool| -> Vec<u32> {
                (0..).zip(&table.rows).filter(|(_, row)| is(row)).map(|(place, _)| place).collect()
            };
            for sample in table.rows.iter().step_by(100) {
                for name in 0..4 {
                    let term = sample.terms[name];
                    prop_assert_eq!(look(&pairs, name, term..=term), places(&|row| row.terms[name] == term));
                }
                prop_assert_eq!(look(&pairs, ID, sample.id..=sample.id), places(&|row| row.id == sample.id));
            }
            for class in [0_u32..=0, 200..=299, 500..=599, 600..=699] {
                prop_assert_eq!(look(&pairs, STATUS, class.clone()), places(&|row| class.contains(&row.status.into())));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(value: Vec<u8>, first: u32) {
            let _ = (Meta::decode(&value), read_columns(&value), segment_of(&value));
            let _ = read_postings(&value, first..=u32::MAX, &mut Vec::new());
        }
    }

    #[test]
    fn a_term_of_every_record_is_cut_into_rows_and_found_whole() {
        let rows: Vec<_> = (0..30_000).map(|n| (1000, u64::from(n), [5, n % 2, 0, n], n, 200)).collect();
        let (pairs, meta) = encode(7, &table(&rows));
        let longest = pairs.iter().filter(|(key, _)| key[8] >= LISTS).map(|(_, value)| value.len()).max().unwrap();
        assert!(longest < 2 * ROW_BYTES, "{longest}");
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        assert_eq!(look(&pairs, 0, 5..=5).len(), 30_000);
        assert_eq!(look(&pairs, 1, 1..=1).len(), 15_000);
        assert!(look(&pairs, 1, 2..=9).is_empty());
        assert_eq!(look(&pairs, 3, 29_999..=29_999), [29_999]);
        assert_eq!(meta.index_bytes / 30_000, 16, "bytes of a record in the index");
        let of_segment = keys_of(7);
        assert!(pairs.keys().all(|key| (&of_segment.0..&of_segment.1).contains(&key)));
        assert!(pairs.keys().all(|key| segment_of(key) == Ok((7, false))));
        assert_eq!(segment_of(&meta_key(7)), Ok((7, true)));
        assert!(segment_of(b"seven").is_err());
    }
}
