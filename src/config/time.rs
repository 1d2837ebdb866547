//! Single values of time: durations and points in time.
//!
//! Each function gives the value or a complaint that reads on from the field's name. Knows nothing
//! of fields or positions, and reads no clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::scalar::{Parsed, Word};

/// Adding this to any clock of today cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

/// `10s`, `1m30s`, `500ms`, `2h`, `7d`: each unit once, the larger first.
pub(super) fn duration(word: Word<'_>) -> Parsed<Duration> {
    let what = "a duration such as 500ms, 10s, 1m30s, 2h or 7d";
    let mut total = Duration::ZERO;
    let mut rest = word.text;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit = &after[..after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len())];
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if digits > 0 && digits == word.text.len() => {
                return Err(word.must_be(what).suggest(format!("did you mean \"{number}s\"?")));
            }
            _ => return Err(word.must_be(what)),
        };
        let number: u64 = number.parse().map_err(|_| word.must_be(what))?;
        if millis >= last_unit {
            return Err(word.must_be(what));
        }
        last_unit = millis;
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MAX_DURATION)
            .ok_or_else(|| word.must_be("a duration of at most 3650d"))?;
        rest = &after[unit.len()..];
    }
    if word.text.is_empty() { Err(word.must_be(what)) } else { Ok(total) }
}

/// A duration during which something can happen.
pub(super) fn positive_duration(word: Word<'_>) -> Parsed<Duration> {
    duration(word).and_then(|d| if d.is_zero() { Err(word.must_be("longer than nothing")) } else { Ok(d) })
}

/// A point in time after RFC 3339, such as `2027-01-01T00:00:00Z`.
pub(super) fn time(word: Word<'_>) -> Parsed<SystemTime> {
    rfc3339(word.text).ok_or_else(|| word.must_be("a time after RFC 3339 such as 2027-01-01T00:00:00Z"))
}

/// <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>. A leap second counts as the next second.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let is = |at: usize, allowed: &str| text.as_bytes().get(at).is_some_and(|b| allowed.as_bytes().contains(b));
    let separated = is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":");
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !separated || day < 1 || day > days_in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }

    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return None;
        }
        // Beyond nanoseconds nothing is kept.
        nanos = format!("{:0<9.9}", &fraction[..digits]).parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset_minutes: i64 = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at..at + 2)?, number(at + 3..at + 5)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = i64::try_from(hours * 60 + minutes).ok()?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };

    let days = days_from_civil(i64::try_from(year).ok()?, i64::try_from(month).ok()?, i64::try_from(day).ok()?);
    let of_day = i64::try_from(hour * 3600 + minute * 60 + second).ok()?;
    let seconds = days * 86_400 + of_day - offset_minutes * 60;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(distance)? } else { UNIX_EPOCH.checked_add(distance)? };
    whole.checked_add(Duration::from_nanos(nanos))
}

/// Days since 1970-01-01 in the Gregorian calendar.
/// <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word<'_> {
        Word { text, raw: text }
    }

    #[test]
    fn durations_are_sums_of_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("300s", 300_000),
            ("1m30s", 90_000),
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ] {
            assert_eq!(duration(word(text)), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "1.5s",
            "-1s",
            "10 s",
            "1s1s",
            "1s1m",
            "10sec",
            "1m30",
            "１s",
            "3651d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(word(text)).is_err(), "{text}");
        }
        assert_eq!(duration(word("10")).unwrap_err().suggestion.as_deref(), Some("did you mean \"10s\"?"));
        assert_eq!(positive_duration(word("0ms")).unwrap_err().message, "must be longer than nothing, not `0ms`");
    }

    #[test]
    fn times_follow_rfc_3339() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2027-01-01T00:00:00Z", 1_798_761_600),
            ("2027-01-01t01:00:00+01:00", 1_798_761_600),
            ("2026-12-31T18:30:00-05:30", 1_798_761_600),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
        ] {
            assert_eq!(time(word(text)), Ok(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(time(word("1970-01-01T00:00:01.25Z")), Ok(UNIX_EPOCH + Duration::from_millis(1250)));
        assert_eq!(time(word("1969-12-31T23:59:59Z")), Ok(UNIX_EPOCH - Duration::from_secs(1)));
        for text in [
            "",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-13-01T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2027-01-01T00:00:00.Z",
            "2027-01-01T00:00:00+1:00",
            "2027-01-01T00:00:00Zx",
            "２027-01-01T00:00:00Z",
            "2027-01-01T00:00:00通",
        ] {
            assert!(time(word(text)).is_err(), "{text}");
        }
    }
}
