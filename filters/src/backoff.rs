//! How long to wait before something that failed is sent again.
//!
//! Owns the waits. Refuses to know what failed, what time it is, and where chance comes from.

use std::time::{Duration, SystemTime};

use crate::retry;

/// The first wait is between a half of this and all of it, and each further one twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait that is Weir's own idea: after an outage of any length records flow again within it.
const LONGEST: Duration = Duration::from_secs(30);

/// The longest wait that another server can ask for: a mistake there must not silence a gateway for days.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// How long to wait after `failures` in a row, one at least. `random` is any number: gateways that lost the same
/// server do not come back all at once.
pub fn backoff(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = longest / 2;
    let steps = u64::try_from(half.as_millis()).unwrap_or(u64::MAX - 1) + 1;
    half + Duration::from_millis(random % steps)
}

/// The wait that a `Retry-After` asks for at the time `now` (RFC 9110, section 10.2.3): a number of seconds, or a date
/// in any of its three forms; [`MAX_WAIT`] at most.
pub fn wait(retry_after: &[u8], now: SystemTime) -> Option<Duration> {
    let date = || {
        let date = httpdate::parse_http_date(std::str::from_utf8(retry_after).ok()?.trim()).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    };
    retry::wait(Some(retry_after), None).or_else(date).map(|wait| wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_from_half_a_second_to_half_a_minute() {
        let waits = |random| (1..=7).map(|failures| backoff(failures, random).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(0), [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000], "at least");
        assert_eq!(waits(500)[..2], [1_000, 1_500]);
        assert_eq!(waits(501)[..2], [500, 1_501], "a random number counts by its rest");
        assert_eq!(backoff(0, 0), backoff(1, 0));
        assert_eq!(backoff(u32::MAX, 15_000).as_millis(), 30_000, "at most");
    }

    #[test]
    fn a_server_asks_for_seconds_or_names_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("Sun, 06 Nov 2044 08:49:27 GMT", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 CET", None),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(wait(value.as_bytes(), now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(wait(b"\xff", now), None);
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(failures: u32, random: u64, value: Vec<u8>) {
            prop_assert!((FIRST / 2..=LONGEST).contains(&backoff(failures, random)));
            prop_assert!(wait(&value, SystemTime::UNIX_EPOCH).is_none_or(|wait| wait <= MAX_WAIT));
        }
    }
}
