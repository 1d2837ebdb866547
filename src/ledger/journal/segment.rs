//! Owns the form of a segment: its header, its frames, and how a damaged one is read. Pure: bytes in,
//! records out. Refuses to know files.
//!
//! A frame is `len u32 | crc u32 | payload`, little endian. The top byte of `len` is a mark, so that
//! a search for the next frame after damage looks at few places. The checksum covers length and
//! payload and starts from the segment's random salt: a client that writes a forged frame into its
//! model's name cannot make it valid, and neither can blocks of a file that was there before.
//! Preallocated space is zero and is no frame.

use std::fmt;

use super::super::codec::{MAX_PAYLOAD, Malformed, RecordRef};
use super::super::imported;
use super::super::record::Settlement;
use super::super::reserved::Reserved;
use super::super::wire::Reader;

/// Bytes of both copies of the header; the first frame starts here. There are two copies, because
/// without the salt no frame of the segment could be checked.
pub(crate) const HEADER: u64 = HEADER_LEN as u64;
/// The same as a length in memory.
pub(crate) const HEADER_LEN: usize = 2 * COPY;
/// Bytes before a payload.
pub(crate) const FRAME_HEAD: usize = 8;

const COPY: usize = 32;
const MAGIC: [u8; 8] = *b"WEIRJNL\n";
const VERSION: u16 = 1;
const MARK: u32 = 0xA7;
const LEN_MASK: u32 = 0x00ff_ffff;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) shard: u16,
    pub(crate) seq: u64,
    pub(crate) salt: u32,
}

/// A part of a journal that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Where it starts, in bytes from the segment's start.
    pub at: u64,
    /// How many bytes were passed over.
    pub len: u64,
    /// What is wrong.
    pub kind: CorruptKind,
}

/// What is wrong with a part of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptKind {
    /// The segment's header, or one of its two copies.
    Header,
    /// Damage with valid records after it.
    Gap,
    /// An unfinished record at the end, as a crash leaves it.
    Torn,
    /// A valid checksum over what no release writes.
    Record,
    /// A record or segment of a later release, of this version.
    Version(u16),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CorruptKind::Header => f.write_str("damaged header")?,
            CorruptKind::Gap => f.write_str("damaged records")?,
            CorruptKind::Torn => f.write_str("torn tail")?,
            CorruptKind::Record => f.write_str("malformed record")?,
            CorruptKind::Version(version) => write!(f, "unknown version {version}")?,
        }
        write!(f, " at offset {}, {} bytes", self.at, self.len)
    }
}

/// How far a segment's bytes can be trusted to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Somebody is writing: the first frame that is not whole ends the reading, for now.
    Growing,
    /// Every byte is known to be written: anything but frames is damage.
    Committed,
    /// Nobody will write again: zeros up to the end are unused space.
    Sealed,
}

impl Header {
    /// Both copies.
    pub(crate) fn encode(self) -> [u8; 2 * COPY] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&VERSION.to_le_bytes());
        copy[10..12].copy_from_slice(&self.shard.to_le_bytes());
        copy[12..16].copy_from_slice(&self.salt.to_le_bytes());
        copy[16..24].copy_from_slice(&self.seq.to_le_bytes());
        let crc = crc32fast::hash(&copy[..28]);
        copy[28..].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; 2 * COPY];
        both[..COPY].copy_from_slice(&copy);
        both[COPY..].copy_from_slice(&copy);
        both
    }

    /// Reads the header; the second value says which of its copies is damaged, if one is.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, Option<Corrupt>), Corrupt> {
        let whole = Corrupt { at: 0, len: bytes.len() as u64, kind: CorruptKind::Header };
        let copies = [bytes.get(..COPY), bytes.get(COPY..2 * COPY)];
        let [first, second] = copies.map(|c| c.and_then(decode_copy));
        let damaged = |at| Some(Corrupt { at, len: COPY as u64, kind: CorruptKind::Header });
        let (header, version, note) = match (first, second) {
            (Some((h, v)), Some(_)) => (h, v, None),
            (Some((h, v)), None) => (h, v, damaged(COPY as u64)),
            (None, Some((h, v))) => (h, v, damaged(0)),
            (None, None) => return Err(whole),
        };
        if bytes.len() < HEADER_LEN {
            return Err(whole);
        }
        if version == VERSION {
            Ok((header, note))
        } else {
            Err(Corrupt { kind: CorruptKind::Version(version), ..whole })
        }
    }
}

fn decode_copy(copy: &[u8]) -> Option<(Header, u16)> {
    let mut r = Reader::new(copy);
    if r.array()? != MAGIC {
        return None;
    }
    let version = u16::from_le_bytes(r.array()?);
    let shard = u16::from_le_bytes(r.array()?);
    let salt = u32::from_le_bytes(r.array()?);
    let seq = u64::from_le_bytes(r.array()?);
    r.take(4)?;
    let crc = u32::from_le_bytes(r.array()?);
    let valid = crc == crc32fast::hash(&copy[..COPY - 4]);
    valid.then_some((Header { shard, seq, salt }, version))
}

/// Puts length and checksum into the first eight bytes of `frame`, whose payload stands after them.
pub(crate) fn seal_frame(frame: &mut [u8], salt: u32) {
    // A payload is at most MAX_PAYLOAD bytes, far below the 24 bits of the mask.
    let len = u32::try_from(frame.len() - FRAME_HEAD).unwrap_or(LEN_MASK) | (MARK << 24);
    frame[..4].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(salt, len, &frame[FRAME_HEAD..]);
    frame[4..FRAME_HEAD].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(salt: u32, len: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&len.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The payload of a valid frame at the start of `bytes`.
fn frame(bytes: &[u8], salt: u32) -> Option<&[u8]> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (len, crc) = (word(0)?, word(4)?);
    let size = (len & LEN_MASK) as usize;
    if len >> 24 != MARK || size > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(FRAME_HEAD..FRAME_HEAD + size)?;
    (checksum(salt, len, payload) == crc).then_some(payload)
}

/// Reads the frames of `bytes`, which start at `offset` of their segment, and gives each payload or
/// damage to `each`, with the offset where it starts. The answer is the offset up to which the
/// segment is read.
pub(crate) fn scan(
    bytes: &[u8],
    offset: u64,
    salt: u32,
    extent: Extent,
    mut each: impl FnMut(u64, Result<&[u8], Corrupt>),
) -> u64 {
    let mut at = 0;
    loop {
        let here = offset + at as u64;
        if let Some(payload) = frame(&bytes[at..], salt) {
            each(here, Ok(payload));
            at += FRAME_HEAD + payload.len();
            continue;
        }
        let rest = &bytes[at..];
        if rest.is_empty() || extent == Extent::Growing {
            return here;
        }
        let used = without_zeros(rest);
        let next = (1..used)
            .find(|&n| rest.get(n + 3).is_some_and(|b| u32::from(*b) == MARK) && frame(&rest[n..], salt).is_some());
        let mut report = |len: usize, kind| each(here, Err(Corrupt { at: here, len: len as u64, kind }));
        if let Some(n) = next {
            report(n, CorruptKind::Gap);
            at += n;
            continue;
        }
        if extent == Extent::Committed {
            report(rest.len(), CorruptKind::Gap);
        } else if used > 0 {
            report(rest.len(), CorruptKind::Torn);
        }
        return offset + bytes.len() as u64;
    }
}

/// The length of `bytes` without the zeros at its end, which may be megabytes: compared in blocks.
fn without_zeros(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let mut end = bytes.len();
    while end >= BLOCK && bytes[end - BLOCK..end] == [0; BLOCK] {
        end -= BLOCK;
    }
    bytes[..end].iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

/// Reads a whole segment that nobody writes any more. Damage is given to `each` and passed over;
/// what follows it is still read. Any bytes are accepted.
pub fn decode_segment(bytes: &[u8], mut each: impl FnMut(Result<Settlement, Corrupt>)) {
    let header = match Header::decode(bytes) {
        Ok((header, note)) => {
            if let Some(note) = note {
                each(Err(note));
            }
            header
        }
        Err(corrupt) => {
            each(Err(corrupt));
            return;
        }
    };
    scan(&bytes[HEADER_LEN..], HEADER, header.salt, Extent::Sealed, |at, found| {
        // A reservation is no settlement, and no damage either if it can be read.
        if found.is_ok_and(is_reservation) {
            return;
        }
        each(found.and_then(|payload| {
            let settlement = imported::settlement_in(payload).unwrap_or(payload);
            let record = RecordRef::decode(settlement).and_then(|r| r.to_settlement().ok_or(Malformed::Shape));
            record.map_err(|why| why.at(at, payload))
        }));
    });
}

/// A sealed segment around any payloads, so that fuzzing reaches behind the checksums.
#[doc(hidden)]
pub fn segment_around(payloads: &[Vec<u8>]) -> Vec<u8> {
    const SALT: u32 = 0x5EED_5EED;
    let mut bytes = Header { shard: 0, seq: 1, salt: SALT }.encode().to_vec();
    for payload in payloads {
        let mut frame = vec![0; FRAME_HEAD];
        frame.extend_from_slice(payload);
        seal_frame(&mut frame, SALT);
        bytes.extend_from_slice(&frame);
    }
    bytes
}

/// Whether a payload is a reservation: [`decode_segment`] passes over it.
#[doc(hidden)]
pub fn is_reservation(payload: &[u8]) -> bool {
    Reserved::decode(payload).is_ok()
}

impl Malformed {
    /// The same, with the place of the frame of `payload`.
    pub(crate) fn at(self, at: u64, payload: &[u8]) -> Corrupt {
        let len = (FRAME_HEAD + payload.len()) as u64;
        let kind = match self {
            Malformed::Version(version) => CorruptKind::Version(version.into()),
            Malformed::Shape => CorruptKind::Record,
        };
        Corrupt { at, len, kind }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::codec::encode;
    use super::super::super::fixtures::{any_settlement, settlement};
    use super::*;

    const SALT: u32 = 0xDEAD_BEEF;

    fn segment(settlements: &[Settlement]) -> Vec<u8> {
        let mut bytes = Header { shard: 3, seq: 9, salt: SALT }.encode().to_vec();
        for s in settlements {
            let mut frame = vec![0; FRAME_HEAD];
            encode(s, &mut frame);
            seal_frame(&mut frame, SALT);
            bytes.extend_from_slice(&frame);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<u128>, Vec<Corrupt>) {
        let (mut ids, mut damage) = (Vec::new(), Vec::new());
        decode_segment(bytes, |found| match found {
            Ok(s) => ids.push(s.id),
            Err(corrupt) => damage.push(corrupt),
        });
        (ids, damage)
    }

    fn three() -> Vec<u8> {
        segment(&[settlement(1, 10), settlement(2, 20), settlement(3, 30)])
    }

    proptest! {
        #[test]
        fn a_segment_survives_a_round_trip(all in prop::collection::vec(any_settlement(), 0..8), unused in 0_usize..100) {
            let mut bytes = segment(&all);
            bytes.resize(bytes.len() + unused, 0);
            let mut back = Vec::new();
            decode_segment(&bytes, |found| back.push(found.unwrap()));
            prop_assert_eq!(back, all);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), after_header: bool) {
            let mut all = if after_header { three() } else { Vec::new() };
            all.extend_from_slice(&bytes);
            decode_segment(&all, |_| ());
        }
    }

    #[test]
    fn every_truncation_gives_the_prefix() {
        let bytes = three();
        let frame = (bytes.len() - HEADER_LEN) / 3;
        for cut in HEADER_LEN..=bytes.len() {
            let (ids, damage) = read(&bytes[..cut]);
            let whole = (cut - HEADER_LEN) / frame;
            assert_eq!(ids, (1..=u128::try_from(whole).unwrap()).collect::<Vec<_>>(), "cut at {cut}");
            let torn = (cut - HEADER_LEN) % frame;
            let expected = Corrupt { at: (cut - torn) as u64, len: torn as u64, kind: CorruptKind::Torn };
            assert_eq!(damage, if torn == 0 { vec![] } else { vec![expected] }, "cut at {cut}");
        }
        for cut in 0..HEADER_LEN {
            assert_eq!(read(&bytes[..cut]).1[0].kind, CorruptKind::Header, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_detected_and_costs_one_record_at_most() {
        let mut bytes = three();
        bytes.resize(bytes.len() + 40, 0);
        let used = three().len();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let (ids, damage) = read(&bytes);
                assert_eq!(damage.len(), 1, "byte {at} bit {bit}");
                let expected = if (HEADER_LEN..used).contains(&at) { 2 } else { 3 };
                assert_eq!(ids.len(), expected, "byte {at} bit {bit}");
                bytes[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_forged_frame_inside_a_name_is_never_a_record() {
        let mut inner = vec![0; FRAME_HEAD];
        encode(&settlement(99, 1), &mut inner);
        seal_frame(&mut inner, 0);
        let mut bytes = three();
        let (start, end) = (HEADER_LEN, HEADER_LEN + inner.len());
        bytes[start..end].copy_from_slice(&inner);
        let (ids, damage) = read(&bytes);
        assert_eq!(ids, [2, 3]);
        assert_eq!(damage, [Corrupt { at: HEADER, len: inner.len() as u64, kind: CorruptKind::Gap }]);
    }

    #[test]
    fn a_growing_segment_is_read_up_to_its_last_whole_frame() {
        let bytes = three();
        let frame = (bytes.len() as u64 - HEADER) / 3;
        let mut seen = 0;
        let body = &bytes[HEADER_LEN..bytes.len() - 1];
        let end = scan(body, HEADER, SALT, Extent::Growing, |_, found| {
            assert!(found.is_ok());
            seen += 1;
        });
        assert_eq!((seen, end), (2, HEADER + 2 * frame));
    }

    #[test]
    fn zeros_among_committed_bytes_are_damage() {
        let mut damage = Vec::new();
        let end = scan(&[0; 20], HEADER, SALT, Extent::Committed, |_, found| damage.extend(found.err()));
        assert_eq!(damage, [Corrupt { at: HEADER, len: 20, kind: CorruptKind::Gap }]);
        assert_eq!(end, HEADER + 20);
    }
}
