//! Owns what Loki's answer means for the records of a push, and how long to wait before the next. Refuses to know a
//! connection or a clock.

use std::time::{Duration, SystemTime};

use crate::retry;

/// The first wait is drawn from the upper half of this, and so is at least 0.5 s; each further one from twice as much.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait that is Weir's own idea: after an outage of any length records come again within it.
const LONGEST: Duration = Duration::from_secs(30);

/// The longest wait that Loki can ask for: a mistake there must not silence a gateway for days.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Loki has the records.
    Taken,
    /// It says nothing of the records: the push is sent again.
    Again,
    /// Some of the records are refused for what they are, or all are too much at once. Loki keeps those of such a
    /// push that it takes, and knows them again by time and line; a part of the push is sent again to tell.
    RefusedInPart,
    /// The push is refused, with all its records.
    Refused,
}

/// What an answer with this status means. `is_empty`: it has no body.
///
/// Loki answers 204. What answers 200 with a page is no Loki, but what stands before it or in its place, such as a
/// form to log in: it has not taken anything, and neither has one that sends elsewhere.
pub fn verdict(status: u16, is_empty: bool) -> Verdict {
    match status {
        200..=299 if is_empty => Verdict::Taken,
        400 | 413 | 422 => Verdict::RefusedInPart,
        408 | 425 | 429 => Verdict::Again,
        401..=499 => Verdict::Refused,
        _ => Verdict::Again,
    }
}

/// How long to wait after `failures` in a row, one at least. `random` is any number: gateways that lost the same Loki
/// do not come back all at once.
pub fn backoff(failures: u32, random: u64) -> Duration {
    let longest = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    let half = longest / 2;
    let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
    half + Duration::from_millis(random % (span + 1))
}

/// The wait that a `Retry-After` asks for at the time `now`: a number of seconds or a date, [`MAX_WAIT`] at most.
pub fn wait(retry_after: &[u8], now: SystemTime) -> Option<Duration> {
    let date = || {
        let date = httpdate::parse_http_date(str::from_utf8(retry_after).ok()?.trim()).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    };
    retry::wait(Some(retry_after), None).or_else(date).map(|wait| wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn only_an_empty_answer_of_success_takes_records() {
        for status in [200, 202, 204] {
            assert_eq!(verdict(status, true), Verdict::Taken, "{status}");
            assert_eq!(verdict(status, false), Verdict::Again, "{status} with a page");
        }
    }

    #[test]
    fn what_is_no_fault_of_the_records_is_sent_again() {
        for status in [100, 301, 302, 307, 408, 425, 429, 500, 502, 503, 504, 529, 599, 600, 0] {
            assert_eq!(verdict(status, true), Verdict::Again, "{status}");
        }
        for status in [400, 413, 422] {
            assert_eq!(verdict(status, false), Verdict::RefusedInPart, "{status}");
        }
        for status in [401, 403, 404, 405, 411, 415, 499] {
            assert_eq!(verdict(status, true), Verdict::Refused, "{status}");
        }
    }

    #[test]
    fn waits_grow_from_half_a_second_to_half_a_minute() {
        let ms = |failures, random| backoff(failures, random).as_millis();
        let least: Vec<_> = (1..=7).map(|failures| ms(failures, 0)).collect();
        assert_eq!(least, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        let most: Vec<_> = [(1, 500), (2, 1_000), (5, 8_000), (6, 15_000), (u32::MAX, 15_000)]
            .map(|(failures, random)| ms(failures, random))
            .into();
        assert_eq!(most, [1_000, 2_000, 16_000, 30_000, 30_000]);
        assert_eq!(ms(1, 501), 500, "a random number counts by its rest");
        assert_eq!(ms(0, 0), 500);
        assert!((0..100).all(|n| (15_000..=30_000).contains(&ms(40, n * 7_919))));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_days() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("299", Some(299)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("Sun, 06 Nov 2044 08:49:30 GMT", Some(300)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(wait(value.as_bytes(), now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(wait(b"\xff", now), None);
    }
}
