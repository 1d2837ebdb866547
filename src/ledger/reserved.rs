//! Owns reservations: what a request with a budget is thought to cost, written down before anybody is
//! asked. Refuses to know why a request has a budget.
//!
//! A process that is killed leaves requests that an upstream has answered, or still answers, and that
//! nobody settles. Without a trace of them the next process would give their money out a second time. So
//! a reservation is a record of the journal: the settlement that counts if no other one comes. Whoever
//! leads the ledger next settles what the dead have left.

use ahash::AHashMap;

use super::codec::{Malformed, RecordRef};
use super::record::Settlement;
use super::wire::{Reader, put_int};

/// The first byte of a reservation; versions of settlements are below it.
const KIND: u8 = 0x80;
/// Bytes before the settlement: the kind and the instance.
pub(crate) const OVERHEAD: usize = 1 + size_of::<u64>();

/// A reservation that no settlement has followed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The run of a gateway that made it: a number of its own for each.
    pub(crate) instance: u64,
    /// The settlement's payload.
    payload: Box<[u8]>,
}

/// Begins the payload of a reservation; a settlement's follows.
pub(crate) fn begin(instance: u64, out: &mut Vec<u8>) {
    out.push(KIND);
    out.extend_from_slice(&instance.to_le_bytes());
}

/// Whether the payload is a reservation's.
pub(crate) fn is_reservation(payload: &[u8]) -> bool {
    payload.first() == Some(&KIND)
}

impl Reserved {
    /// Reads a payload, and the id of its request.
    pub(crate) fn decode(payload: &[u8]) -> Result<(u128, Self), Malformed> {
        let (instance, settlement) =
            payload.strip_prefix(&[KIND]).and_then(|rest| rest.split_first_chunk::<8>()).ok_or(Malformed::Shape)?;
        // The rest is read if it is settled from here, which is seldom; its checksum says that it is whole.
        let id = RecordRef::id_of(settlement)?;
        Ok((id, Self { instance: u64::from_le_bytes(*instance), payload: settlement.into() }))
    }

    /// The payload again, as [`Reserved::decode`] reads it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        begin(self.instance, out);
        out.extend_from_slice(&self.payload);
    }

    /// What counts if nothing else comes.
    pub(crate) fn settlement(&self) -> Option<Settlement> {
        RecordRef::decode(&self.payload).ok()?.to_settlement()
    }
}

/// The reservations of requests under way. They come and go with each request, so they are written
/// together, in one row, if they are not the same as when they were written last.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay {
    by_id: AHashMap<u128, Reserved>,
    pub(crate) is_changed: bool,
}

impl UnderWay {
    /// Notes a reservation.
    pub(crate) fn begin(&mut self, id: u128, reserved: Reserved) {
        self.by_id.insert(id, reserved);
        self.is_changed = true;
    }

    /// Forgets the reservation of a request that was settled. Most requests have none.
    pub(crate) fn end(&mut self, id: u128) {
        if !self.by_id.is_empty() && self.by_id.remove(&id).is_some() {
            self.is_changed = true;
        }
    }

    /// Whose they are, each once.
    pub(crate) fn instances(&self) -> Vec<u64> {
        let mut instances: Vec<u64> = self.by_id.values().map(|reserved| reserved.instance).collect();
        instances.sort_unstable();
        instances.dedup();
        instances
    }

    /// The settlements of what `instances` have left, in no order. What cannot be read as one is forgotten here, or
    /// it would stay for ever; the answer says how many.
    pub(crate) fn left_by(&mut self, instances: &[u64]) -> (Vec<Settlement>, u64) {
        let (mut left, mut unreadable) = (Vec::new(), 0);
        self.by_id.retain(|_, reserved| {
            if !instances.contains(&reserved.instance) {
                return true;
            }
            let settlement = reserved.settlement();
            unreadable += u64::from(settlement.is_none());
            let is_readable = settlement.is_some();
            left.extend(settlement);
            is_readable
        });
        self.is_changed |= unreadable > 0;
        (left, unreadable)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut ids: Vec<_> = self.by_id.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        for (_, reserved) in ids {
            put_int(out, (OVERHEAD + reserved.payload.len()) as u64);
            reserved.encode(out);
        }
    }

    /// Reads what [`UnderWay::encode`] wrote.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let mut under_way = Self::default();
        while !r.is_empty() {
            let len = usize::try_from(r.int()?).ok()?;
            let (id, reserved) = Reserved::decode(r.take(len)?).ok()?;
            under_way.by_id.insert(id, reserved);
        }
        Some(under_way)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::codec::{MAX_PAYLOAD, encode};
    use super::super::fixtures::{any_settlement, settlement};
    use super::*;

    fn payload(instance: u64, s: &Settlement) -> Vec<u8> {
        let mut payload = Vec::new();
        begin(instance, &mut payload);
        encode(s, &mut payload);
        payload
    }

    proptest! {
        #[test]
        fn a_reservation_survives_a_round_trip(s in any_settlement(), instance: u64) {
            let bytes = payload(instance, &s);
            prop_assert!(is_reservation(&bytes) && bytes.len() <= MAX_PAYLOAD);
            let (id, reserved) = Reserved::decode(&bytes).unwrap();
            prop_assert_eq!((id, reserved.instance), (s.id, instance));
            prop_assert_eq!(reserved.settlement(), Some(s));
            let mut again = Vec::new();
            reserved.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn any_payload_is_read_without_a_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, KIND);
            let _ = Reserved::decode(&bytes);
        }
    }

    #[test]
    fn what_is_settled_is_not_left() {
        let mut under_way = UnderWay::default();
        for (id, instance) in [(1, 7), (2, 7), (3, 8)] {
            let (id, reserved) = Reserved::decode(&payload(instance, &settlement(id, 0))).unwrap();
            under_way.begin(id, reserved);
        }
        under_way.end(2);
        under_way.end(9);
        let mut bytes = Vec::new();
        under_way.encode(&mut bytes);
        let mut back = UnderWay::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(back.by_id, under_way.by_id);
        let mut ids = |instances: &[u64]| {
            let mut ids: Vec<_> = back.left_by(instances).0.iter().map(|s| s.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!((ids(&[7]), ids(&[8]), ids(&[7, 8]), ids(&[9])), (vec![1], vec![3], vec![1, 3], vec![]));
        assert_eq!(back.instances(), [7, 8]);
    }

    #[test]
    fn what_cannot_be_read_is_counted_once_and_forgotten() {
        let mut under_way = UnderWay::default();
        let mut later = payload(7, &settlement(1, 0));
        // Whole by its checksum, and with something in it that this release does not know.
        later.push(0);
        let (id, reserved) = Reserved::decode(&later).unwrap();
        under_way.begin(id, reserved);
        under_way.is_changed = false;
        assert_eq!((under_way.left_by(&[8]), under_way.is_changed), ((vec![], 0), false), "it is another's");
        assert_eq!((under_way.left_by(&[7]), under_way.is_changed), ((vec![], 1), true));
        assert!(under_way.is_empty());
        assert_eq!(under_way.left_by(&[7]), (vec![], 0));
    }
}
