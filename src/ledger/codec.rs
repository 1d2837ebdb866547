//! Owns the binary form of a settlement. Refuses to know where the bytes are kept.
//!
//! Version 1: `version u8 | flags u8 | id 16 bytes | time | dimensions length | dimensions | …`,
//! where the dimensions (key id, user, model, channel, route) stand together, so that the fold can
//! find their counters by these bytes alone, without building a string.
//!
//! Version 2 ends with the version of the price table, 8 bytes, and the number of attempts. Both are read.

use std::sync::Arc;

use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use super::record::{Outcome, Settlement};
use super::reserved;
use super::wire::{MAX_TEXT, Reader, put_int, put_text};

/// The only version written. A record of a later one is reported, never guessed at.
pub(crate) const VERSION: u8 = 2;
/// The version without prices.
const FIRST_VERSION: u8 = 1;
/// No payload is longer: six strings of at most [`MAX_TEXT`] bytes and about twenty integers, and what a
/// reservation has before them.
pub(crate) const MAX_PAYLOAD: usize = 6 * (MAX_TEXT + 2) + 512 + reserved::OVERHEAD;

const FLAG_STREAM: u8 = 1;
const FLAG_FIRST_TOKEN: u8 = 2;
const FLAG_UNPRICED: u8 = 4;

/// Why a payload is not a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Written by a later release.
    Version(u8),
    /// Not what any release writes.
    Shape,
}

/// A settlement as it stands in the journal, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordRef<'a> {
    pub(crate) id: u128,
    pub(crate) time_ms: u64,
    pub(crate) dims: &'a [u8],
    pub(crate) key_name: &'a str,
    pub(crate) outcome: Outcome,
    pub(crate) stream: bool,
    pub(crate) status: u16,
    pub(crate) duration_us: u64,
    pub(crate) first_token_us: Option<u64>,
    pub(crate) events: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) usage: Usage,
    pub(crate) cost: NanoUsd,
    pub(crate) price_version: u64,
    pub(crate) unpriced: bool,
    pub(crate) attempts: u32,
}

/// What a record is counted under, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims<'a> {
    pub(crate) key_id: &'a str,
    pub(crate) user: &'a str,
    pub(crate) model: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) route: &'a str,
    /// The operation's name.
    pub(crate) operation: &'a str,
}

impl<'a> Dims<'a> {
    /// Appends the block of bytes that records and counters share.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for text in [self.key_id, self.user, self.model, self.channel, self.route, self.operation] {
            put_text(out, text);
        }
    }

    /// Reads the whole of `bytes`.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let dims = Self {
            key_id: reader.text()?,
            user: reader.text()?,
            model: reader.text()?,
            channel: reader.text()?,
            route: reader.text()?,
            operation: reader.text()?,
        };
        reader.is_empty().then_some(dims)
    }
}

/// Appends the payload of `s`.
pub(crate) fn encode<T: AsRef<str>>(s: &Settlement<T>, out: &mut Vec<u8>) {
    let mut flags = 0;
    if s.stream {
        flags |= FLAG_STREAM;
    }
    if s.first_token_us.is_some() {
        flags |= FLAG_FIRST_TOKEN;
    }
    if s.unpriced {
        flags |= FLAG_UNPRICED;
    }
    out.extend_from_slice(&[VERSION, flags]);
    out.extend_from_slice(&s.id.to_le_bytes());
    put_int(out, s.time_ms);
    let dims = Dims {
        key_id: s.key_id.as_ref(),
        user: s.user.as_ref(),
        model: s.model.as_ref(),
        channel: s.channel.as_ref(),
        route: s.route.as_ref(),
        operation: s.operation.name(),
    };
    // The length goes before the block: two bytes of a padded LEB128 hold up to 16383.
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    dims.encode(out);
    let len = out.len() - at - 2;
    out[at] = len.to_le_bytes()[0] | 0x80;
    out[at + 1] = (len >> 7).to_le_bytes()[0];
    put_text(out, s.key_name.as_ref());
    out.extend_from_slice(&[s.outcome as u8, source_code(s.usage.source)]);
    put_int(out, u64::from(s.status));
    put_int(out, s.duration_us);
    if let Some(first) = s.first_token_us {
        put_int(out, first);
    }
    let u = &s.usage;
    for value in [
        s.events,
        s.request_bytes,
        s.response_bytes,
        u.input_uncached,
        u.cache_read,
        u.cache_write_5m,
        u.cache_write_1h,
        u.output,
        u.reasoning,
        s.cost.0,
    ] {
        put_int(out, value);
    }
    out.extend_from_slice(&s.price_version.to_le_bytes());
    put_int(out, s.attempts.into());
}

impl<'a> RecordRef<'a> {
    /// Reads a whole payload.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Malformed> {
        let record = Self::decode_but_dims(payload)?;
        record.operation().map(|_| record).ok_or(Malformed::Shape)
    }

    /// The same without a look at the dimensions: whoever has seen the same bytes before need not
    /// read them again.
    pub(crate) fn decode_but_dims(payload: &'a [u8]) -> Result<Self, Malformed> {
        match payload.first() {
            Some(&version @ FIRST_VERSION..=VERSION) => Self::decode_as(version, payload).ok_or(Malformed::Shape),
            Some(&version) if version > VERSION => Err(Malformed::Version(version)),
            _ => Err(Malformed::Shape),
        }
    }

    /// The id alone, of whatever version.
    pub(crate) fn id_of(payload: &[u8]) -> Result<u128, Malformed> {
        match payload {
            [FIRST_VERSION..=VERSION, _, rest @ ..] => {
                rest.first_chunk().map(|id| u128::from_le_bytes(*id)).ok_or(Malformed::Shape)
            }
            [version, ..] if *version > VERSION => Err(Malformed::Version(*version)),
            _ => Err(Malformed::Shape),
        }
    }

    fn decode_as(version: u8, payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        r.byte()?;
        let flags = r.byte()?;
        let known = FLAG_STREAM | FLAG_FIRST_TOKEN | if version == FIRST_VERSION { 0 } else { FLAG_UNPRICED };
        if flags & !known != 0 {
            return None;
        }
        let id = u128::from_le_bytes(r.array()?);
        let time_ms = r.int()?;
        let len = usize::try_from(r.int()?).ok()?;
        let dims = r.take(len)?;
        let key_name = r.text()?;
        let outcome = r.byte()?;
        let source = source_of(r.byte()?)?;
        let mut record = Self {
            id,
            time_ms,
            dims,
            key_name,
            outcome: Outcome::ALL.into_iter().find(|o| *o as u8 == outcome)?,
            stream: flags & FLAG_STREAM != 0,
            status: u16::try_from(r.int()?).ok()?,
            duration_us: r.int()?,
            first_token_us: if flags & FLAG_FIRST_TOKEN == 0 { None } else { Some(r.int()?) },
            events: r.int()?,
            request_bytes: r.int()?,
            response_bytes: r.int()?,
            usage: Usage {
                input_uncached: r.int()?,
                cache_read: r.int()?,
                cache_write_5m: r.int()?,
                cache_write_1h: r.int()?,
                output: r.int()?,
                reasoning: r.int()?,
                source,
            },
            cost: NanoUsd(r.int()?),
            price_version: 0,
            unpriced: flags & FLAG_UNPRICED != 0,
            attempts: 0,
        };
        if version > FIRST_VERSION {
            record.price_version = u64::from_le_bytes(r.array()?);
            record.attempts = u32::try_from(r.int()?).ok()?;
        }
        r.is_empty().then_some(record)
    }

    /// What was asked for; `None` if the dimensions cannot be read, or name what this release does not know.
    pub(crate) fn operation(&self) -> Option<Operation> {
        Dims::decode(self.dims)?.operation.parse().ok()
    }

    /// The settlement with strings of its own.
    pub(crate) fn to_settlement(self) -> Option<Settlement> {
        let dims = Dims::decode(self.dims)?;
        Some(Settlement {
            id: self.id,
            time_ms: self.time_ms,
            duration_us: self.duration_us,
            first_token_us: self.first_token_us,
            key_id: Arc::from(dims.key_id),
            key_name: Arc::from(self.key_name),
            user: Arc::from(dims.user),
            route: Arc::from(dims.route),
            operation: self.operation()?,
            channel: Arc::from(dims.channel),
            model: Arc::from(dims.model),
            status: self.status,
            outcome: self.outcome,
            stream: self.stream,
            events: self.events,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            usage: self.usage,
            cost: self.cost,
            price_version: self.price_version,
            unpriced: self.unpriced,
            attempts: self.attempts,
        })
    }

    /// The same rule as [`Settlement::is_failed`].
    pub(crate) fn is_failed(&self) -> bool {
        self.outcome != Outcome::Ok || self.status >= 400
    }
}

const fn source_code(source: Source) -> u8 {
    match source {
        Source::Upstream => 0,
        Source::Partial => 1,
        Source::Estimated => 2,
        Source::None => 3,
    }
}

fn source_of(code: u8) -> Option<Source> {
    [Source::Upstream, Source::Partial, Source::Estimated, Source::None].into_iter().find(|s| source_code(*s) == code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::any_settlement;
    use super::*;

    proptest! {
        #[test]
        fn a_settlement_survives_a_round_trip(s in any_settlement()) {
            let mut payload = Vec::new();
            encode(&s, &mut payload);
            prop_assert!(payload.len() <= MAX_PAYLOAD);
            let back = RecordRef::decode(&payload).unwrap();
            prop_assert_eq!(back.is_failed(), s.is_failed());
            prop_assert_eq!(back.to_settlement(), Some(s));
        }

        #[test]
        fn every_truncation_of_a_payload_is_refused(s in any_settlement(), cut: prop::sample::Index) {
            let mut payload = Vec::new();
            encode(&s, &mut payload);
            let cut = cut.index(payload.len());
            prop_assert_eq!(RecordRef::decode(&payload[..cut]).unwrap_err(), Malformed::Shape);
        }

        #[test]
        fn any_payload_is_read_without_a_panic(mut bytes: Vec<u8>, version in FIRST_VERSION..=VERSION) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = RecordRef::decode(&bytes);
        }
    }

    #[test]
    fn a_later_version_is_told_from_garbage() {
        assert_eq!(RecordRef::decode(&[3, 0, 0]).unwrap_err(), Malformed::Version(3));
        assert_eq!(RecordRef::decode(&[0, 0, 0]).unwrap_err(), Malformed::Shape);
        assert_eq!(RecordRef::decode(&[]).unwrap_err(), Malformed::Shape);
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let dims = b"\x02k1\x05alice\x06gpt-4o\x06miniai\x14/v1/chat/completions\x0bopenai.chat";
        let head = [&[1, FLAG_STREAM | FLAG_FIRST_TOKEN][..], &7_u128.to_le_bytes(), &[0xe8, 0x07, 0xb8, 0]].concat();
        let tail = b"\x0calice-laptop\x00\x00\xc8\x01\xdc\x0b\x09\x02\x64\xc8\x01\x03\x00\x00\x00\x05\x00\x07";
        let payload = [&head[..], dims, tail].concat();
        let now = super::super::fixtures::settlement(7, 1000);
        let expected =
            Settlement { stream: true, first_token_us: Some(9), price_version: 0, unpriced: false, attempts: 0, ..now };
        assert_eq!(RecordRef::decode(&payload).unwrap().to_settlement(), Some(expected));
        let unpriced = [&[1, FLAG_UNPRICED][..], &payload[2..]].concat();
        assert_eq!(RecordRef::decode(&unpriced).unwrap_err(), Malformed::Shape, "that version had no such flag");
    }

    #[test]
    fn the_longest_settlement_fits_a_payload() {
        let mut s = super::super::fixtures::settlement(u128::MAX, u64::MAX);
        let long: Arc<str> = "x".repeat(10 * MAX_TEXT).into();
        (s.key_id, s.key_name, s.user) = (long.clone(), long.clone(), long.clone());
        (s.route, s.channel, s.model) = (long.clone(), long.clone(), long);
        (s.duration_us, s.first_token_us, s.events) = (u64::MAX, Some(u64::MAX), u64::MAX);
        (s.request_bytes, s.response_bytes, s.cost) = (u64::MAX, u64::MAX, NanoUsd(u64::MAX));
        (s.usage.output, s.price_version, s.attempts) = (u64::MAX, u64::MAX, u32::MAX);
        let mut payload = Vec::new();
        encode(&s, &mut payload);
        assert!(payload.len() <= MAX_PAYLOAD, "{} bytes", payload.len());
        assert_eq!(RecordRef::decode(&payload).unwrap().key_name.len(), MAX_TEXT);
    }
}
