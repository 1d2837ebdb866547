//! Owns imports: settlements of requests that another gateway served, or this one before its ledger was lost. Refuses
//! to know where they were read.
//!
//! Whoever imports a file may import it again, in part, after a crash, or next year. So an imported settlement is a
//! record of a kind of its own: its id may have been counted any time before. The totals keep the ids of all that were
//! imported, in the same state and written in the same batch as the figures, so that a record counts once however
//! often it comes and whenever the process dies. Requests that were served here are not among them: their ids are
//! drawn, and each comes once.

use ahash::RandomState;
use hashbrown::HashTable;

use super::wire::Reader;

/// The first byte of an imported settlement; versions of settlements are below it. A release that does not know it
/// reports a record of version 129, and counts it no more than any other damage.
const KIND: u8 = 0x81;

/// Ids of one row, 4 KiB of them: an import adds to the last row and leaves all others as they are written.
const CHUNK: usize = 256;

/// Begins the payload of an imported settlement; the settlement's own follows.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.push(KIND);
}

/// The settlement's payload in that of an import.
pub(crate) fn settlement_in(payload: &[u8]) -> Option<&[u8]> {
    payload.strip_prefix(&[KIND])
}

/// The ids of all that was ever imported, in the order of their import.
///
/// They are kept for ever, because a file may be imported again at any time: 16 bytes an id on the disk, and about 25
/// in memory, so that a million imported requests cost 25 MB. A place in the table is four bytes and not the id once
/// more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Imported {
    /// Each but the last is full.
    chunks: Vec<Vec<u128>>,
    places: HashTable<u32>,
    /// Ids can be made up by whoever wrote a file: the hashes are keyed.
    hashes: RandomState,
}

impl Imported {
    /// Adds an id; gives the number of its chunk, or `None` if the id was there before.
    pub(crate) fn insert(&mut self, id: u128) -> Option<u32> {
        let place = self.len();
        let (Ok(place), false) = (u32::try_from(place), self.contains(id)) else { return None };
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(id);
        let (chunks, hashes) = (&self.chunks, &self.hashes);
        self.places.insert_unique(hashes.hash_one(id), place, |place| hashes.hash_one(at(chunks, *place)));
        u32::try_from(chunk).ok()
    }

    pub(crate) fn contains(&self, id: u128) -> bool {
        self.places.find(self.hashes.hash_one(id), |place| at(&self.chunks, *place) == id).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The numbers of all chunks.
    pub(crate) fn chunks(&self) -> std::ops::Range<u32> {
        // `insert` makes none beyond.
        0..u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    /// The ids of one chunk.
    pub(crate) fn encode(&self, chunk: u32, out: &mut Vec<u8>) {
        for id in self.chunks.get(chunk as usize).into_iter().flatten() {
            out.extend_from_slice(&id.to_le_bytes());
        }
    }

    /// Adds the chunk of that number, which is the next one, as [`Imported::encode`] wrote it. `None`: it is not.
    pub(crate) fn decode(&mut self, chunk: u32, r: &mut Reader<'_>) -> Option<()> {
        if r.is_empty() {
            return None;
        }
        while !r.is_empty() {
            if self.insert(u128::from_le_bytes(r.array()?))? != chunk {
                return None;
            }
        }
        Some(())
    }
}

fn at(chunks: &[Vec<u128>], place: u32) -> u128 {
    chunks[place as usize / CHUNK][place as usize % CHUNK]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::codec::{MAX_PAYLOAD, Malformed, RecordRef, encode};
    use super::super::fixtures::any_settlement;
    use super::super::reserved;
    use super::*;

    fn back(imported: &Imported) -> Option<Imported> {
        let mut back = Imported::default();
        for chunk in imported.chunks() {
            let mut row = Vec::new();
            imported.encode(chunk, &mut row);
            back.decode(chunk, &mut Reader::new(&row))?;
        }
        Some(back)
    }

    proptest! {
        #[test]
        fn an_id_is_new_once_and_survives_a_round_trip(ids in prop::collection::vec(0..500_u128, 0..1200)) {
            let (mut imported, mut known) = (Imported::default(), std::collections::HashSet::new());
            for id in &ids {
                prop_assert_eq!(imported.insert(*id).is_some(), known.insert(*id));
            }
            let back = back(&imported).unwrap();
            prop_assert_eq!((back.len(), &back.chunks), (known.len(), &imported.chunks));
            prop_assert!((0..500).all(|id| back.contains(id) == known.contains(&id)));
        }

        #[test]
        fn an_imported_settlement_survives_a_round_trip(s in any_settlement()) {
            let mut payload = Vec::new();
            begin(&mut payload);
            encode(&s, &mut payload);
            prop_assert!(payload.len() <= MAX_PAYLOAD && !reserved::is_reservation(&payload));
            // What a release says that does not know the kind.
            prop_assert_eq!(RecordRef::decode(&payload).unwrap_err(), Malformed::Version(129));
            let settlement = RecordRef::decode(settlement_in(&payload).unwrap()).unwrap();
            prop_assert_eq!(settlement.to_settlement(), Some(s));
        }
    }

    #[test]
    fn only_the_last_chunk_changes() {
        let mut imported = Imported::default();
        let chunks: Vec<_> = (0..600).map(|id| imported.insert(id).unwrap()).collect();
        assert_eq!((chunks[0], chunks[255], chunks[256], chunks[599]), (0, 0, 1, 2));
        assert_eq!((imported.chunks(), imported.len()), (0..3, 600));
    }

    #[test]
    fn chunks_that_contradict_each_other_are_refused() {
        let row = |ids: std::ops::Range<u128>| ids.flat_map(u128::to_le_bytes).collect::<Vec<_>>();
        let decode = |rows: &[(u32, Vec<u8>)]| {
            let mut imported = Imported::default();
            rows.iter().try_for_each(|(chunk, row)| imported.decode(*chunk, &mut Reader::new(row)))
        };
        assert!(decode(&[(0, row(0..256)), (1, row(256..300))]).is_some());
        for wrong in [
            vec![(1, row(0..2))],
            vec![(0, row(0..2)), (1, row(2..4))],
            vec![(0, row(0..257))],
            vec![(0, row(0..0))],
            vec![(0, [row(0..2), row(1..2)].concat())],
            vec![(0, row(0..2)[1..].to_vec())],
        ] {
            assert!(decode(&wrong).is_none(), "{wrong:?}");
        }
    }
}
