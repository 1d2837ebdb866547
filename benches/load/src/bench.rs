//! What an answer is asked to be: the value of `x-bench`, which a proxy passes on unchanged.

use crate::head::number;

/// More events in one write than this are more than a socket's buffer takes.
const MAX_BATCH: u64 = 256;

/// The answer that a request asks the mock for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bench {
    /// One JSON document.
    Json,
    /// A stream of events.
    Sse(Sse),
}

/// The stream that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sse {
    /// How many, `[DONE]` among them, but not the usage report of a request that asks for it.
    pub(crate) events: u64,
    /// From one event to the next, in nanoseconds; 0 is as fast as the socket takes them.
    pub(crate) every: u64,
    /// Events in one write, if `every` is 0.
    pub(crate) batch: u64,
}

impl Bench {
    /// Reads `json` or `sse;events=N;every=MICROSECONDS;batch=B`; `every` is 0 and `batch` 1 if left out.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        if value == b"json" {
            return Some(Self::Json);
        }
        let mut sse = Sse { events: 0, every: 0, batch: 1 };
        for part in value.strip_prefix(b"sse;")?.split(|byte| *byte == b';') {
            let equals = memchr::memchr(b'=', part)?;
            let given = number(&part[equals + 1..])?;
            match &part[..equals] {
                b"events" => sse.events = given,
                b"every" => sse.every = given.checked_mul(1000)?,
                b"batch" => sse.batch = given,
                _ => return None,
            }
        }
        let fits = sse.events > 0 && (1..=MAX_BATCH).contains(&sse.batch);
        // The last event's time must be one that the clock can reach.
        let ends = sse.events.checked_mul(sse.every).is_some_and(|nanos| nanos < u64::MAX / 2);
        (fits && ends).then_some(Self::Sse(sse))
    }

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Sse(_))
    }

    /// Whether events come at times of their own.
    pub(crate) fn is_paced(self) -> bool {
        matches!(self, Self::Sse(sse) if sse.every > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_answer_are_read() {
        assert_eq!(Bench::parse(b"json"), Some(Bench::Json));
        let sse = Sse { events: 50, every: 20_000_000, batch: 1 };
        assert_eq!(Bench::parse(b"sse;events=50;every=20000"), Some(Bench::Sse(sse)));
        let sse = Sse { events: 1, every: 0, batch: 8 };
        assert_eq!(Bench::parse(b"sse;events=1;every=0;batch=8"), Some(Bench::Sse(sse)));
    }

    #[test]
    fn other_answers_are_not_known() {
        let cases: [&[u8]; 11] = [
            b"",
            b"JSON",
            b"sse",
            b"sse;",
            b"sse;events=0",
            b"sse;events=",
            b"sse;events=-1",
            b"sse;events=1;batch=0",
            b"sse;events=1;batch=257",
            b"sse;events=1;speed=2",
            b"sse;events=9999999999;every=9999999999999",
        ];
        for case in cases {
            assert_eq!(Bench::parse(case), None, "{:?}", String::from_utf8_lossy(case));
        }
    }
}
