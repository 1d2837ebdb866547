//! The civil calendar of UTC, in which figures are shown and budgets are counted. Knows no clock and no zone.

use std::fmt::Write as _;

/// A day, in milliseconds.
pub const DAY_MS: u64 = 86_400_000;

/// Year, month (1–12) and day (1–31) of a count of days since 1970-01-01, after
/// H. Hinnant's `civil_from_days`.
pub fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The start of the month that holds `time_ms`, in milliseconds since 1970-01-01.
pub fn month_start(time_ms: u64) -> u64 {
    let days = time_ms / DAY_MS;
    let (_, _, day) = civil(days);
    (days + 1 - day) * DAY_MS
}

/// The number of the month that holds `time_ms`, counted from the year 0.
pub fn month_number(time_ms: u64) -> u64 {
    let (year, month, _) = civil(time_ms / DAY_MS);
    year * 12 + month - 1
}

/// The start of the month that [`month_number`] numbers, in milliseconds since 1970-01-01; 0 for one that
/// lies before that.
pub fn month_of(number: u64) -> u64 {
    let (year, month) = (number / 12, number % 12);
    // The days before the first of March, of the year that begins with that day (H. Hinnant's
    // `days_from_civil`).
    let year = if month < 2 { year.saturating_sub(1) } else { year };
    let month_from_march = (month + 10) % 12;
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * month_from_march + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era).saturating_sub(719_468) * DAY_MS
}

/// `2026-11-21`
pub fn date(time_ms: u64) -> String {
    let (year, month, day) = civil(time_ms / DAY_MS);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-21T08:01:55Z`: RFC 3339, UTC, without what is less than a second; for years of four digits.
pub fn rfc3339_seconds(time_ms: u64) -> [u8; 20] {
    let (year, month, day) = civil(time_ms / DAY_MS);
    let seconds = time_ms % DAY_MS / 1000;
    let mut text = *b"0000-00-00T00:00:00Z";
    for (at, number) in [
        (0, year / 100 % 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, seconds / 3600),
        (14, seconds / 60 % 60),
        (17, seconds % 60),
    ] {
        text[at] += (number / 10).to_le_bytes()[0];
        text[at + 1] += (number % 10).to_le_bytes()[0];
    }
    text
}

/// `2026-11-21T08:01:55.000Z`: RFC 3339, UTC, with milliseconds.
pub fn rfc3339(time_ms: u64) -> String {
    let of_day = time_ms % DAY_MS;
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let mut text = date(time_ms);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a String cannot fail.
    let _ = write!(text, "T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400_000), "2000-02-29");
        assert_eq!(date(951_868_800_000), "2000-03-01");
        assert_eq!(date(4_107_542_400_000), "2100-03-01");
        assert_eq!(rfc3339(1_795_248_115_042), "2026-11-21T08:01:55.042Z");
        assert_eq!(&rfc3339_seconds(1_795_248_115_042), b"2026-11-21T08:01:55Z");
        assert_eq!(&rfc3339_seconds(253_402_300_799_999), b"9999-12-31T23:59:59Z");
    }

    #[test]
    fn each_day_follows_the_last() {
        let mut last = (1970, 1, 1);
        for days in 1..200_000 {
            let (y, m, d) = civil(days);
            let next_day = (y, m) == (last.0, last.1) && d == last.2 + 1;
            let next_month = d == 1 && (y == last.0 && m == last.1 + 1 || (y == last.0 + 1 && (m, last.1) == (1, 12)));
            assert!(next_day || next_month, "{last:?} then {:?}", (y, m, d));
            last = (y, m, d);
        }
    }

    #[test]
    fn a_month_starts_at_its_first_day() {
        let feb_29_noon = 951_782_400_000 + DAY_MS / 2;
        assert_eq!(rfc3339(month_start(feb_29_noon)), "2000-02-01T00:00:00.000Z");
        assert_eq!(month_start(month_start(feb_29_noon)), month_start(feb_29_noon));
    }

    #[test]
    fn a_month_is_found_by_its_number_and_numbered_by_its_days() {
        for days in 0..200_000 {
            let time = days * DAY_MS + 5;
            assert_eq!(month_of(month_number(time)), month_start(time), "{}", date(time));
        }
        assert_eq!(month_number(0), 1970 * 12);
    }
}
