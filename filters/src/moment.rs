//! Times as people and programs write them: RFC 3339, or seconds since 1970.
//!
//! Owns the parsing. Knows nothing of clocks or time zones: an offset is part of the text.

/// Milliseconds since 1970-01-01 UTC, if `text` is such a time between then and the year 9999.
///
/// A space stands for the `+` of an offset, because that is what an unescaped `+` in a query becomes.
pub fn parse_ms(text: &str) -> Option<u64> {
    let text = text.as_bytes();
    if text.iter().all(u8::is_ascii_digit) {
        return number(text)?.checked_mul(1000).filter(|&ms| ms <= MAX_MS);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = match date {
        [y @ .., b'-', m1, m2, b'-', d1, d2] => (number(y)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?),
        _ => return None,
    };
    let (clock, rest) = rest.split_at_checked(9)?;
    let (hour, minute, second) = match *clock {
        [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] => {
            (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?)
        }
        _ => return None,
    };
    // A leap second is the last of its minute.
    let valid = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, rest) = fraction(rest)?;
    let seconds = days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second.min(59);
    let local = seconds * 1000 + millis;
    let utc = match *rest {
        [b'Z' | b'z'] => local,
        [sign @ (b'+' | b'-' | b' '), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000;
            if sign == b'-' { local + offset } else { local.checked_sub(offset)? }
        }
        _ => return None,
    };
    (utc <= MAX_MS).then_some(utc)
}

/// 9999-12-31T23:59:59.999Z: no year has five digits here.
const MAX_MS: u64 = 253_402_300_799_999;

/// Digits of a number that cannot overflow: the largest time in seconds has twelve.
const MAX_DIGITS: usize = 15;

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

/// The milliseconds of `.123456…`, if there is a fraction, and what follows.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let millis = [100, 10, 1].iter().zip(digits).map(|(unit, digit)| unit * u64::from(digit - b'0')).sum();
    (!digits.is_empty()).then_some((millis, rest))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date that is not before it.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leaps = |before: u64| before / 4 - before / 100 + before / 400;
    let years = year.checked_sub(1970)? * 365 + leaps(year - 1) - leaps(1969);
    Some(years + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_time_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("1764633600", 1_764_633_600_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2025-12-02T00:00:00Z", 1_764_633_600_000),
            ("2025-12-02T00:00:00.5Z", 1_764_633_600_500),
            ("2025-12-02t00:00:00.123456789z", 1_764_633_600_123),
            ("2025-12-02 02:30:00+02:30", 1_764_633_600_000),
            ("2025-12-02T02:30:00 02:30", 1_764_633_600_000),
            ("2025-12-01T16:00:00-08:00", 1_764_633_600_000),
            ("2024-02-29T12:00:00Z", 1_709_208_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("9999-12-31T23:59:59.999Z", MAX_MS),
            ("253402300799", 253_402_300_799_000),
        ] {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "-1",
            "1.5",
            "1e9",
            "yesterday",
            "253402300800",
            "99999999999999999999",
            "2025-12-02",
            "2025-12-02T00:00:00",
            "2025-12-02T00:00Z",
            "2025-13-02T00:00:00Z",
            "2025-00-02T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2025-12-00T00:00:00Z",
            "2025-12-02T24:00:00Z",
            "2025-12-02T00:60:00Z",
            "2025-12-02T00:00:61Z",
            "2025-12-02T00:00:00.Z",
            "2025-12-02T00:00:00+0200",
            "2025-12-02T00:00:00+24:00",
            "2025-12-02T00:00:00ZZ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00Z",
            "２０２５-12-02T00:00:00Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,12}[Z+-][0-9:]{0,5}") {
            let _ = (parse_ms(&text), parse_ms(&near));
        }
    }
}
