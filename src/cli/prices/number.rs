//! JSON's numbers as whole ones, digit by digit.
//!
//! Refuses to know what they count.

/// A number that was moved behind its point and made whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) value: u64,
    /// Whether digits were lost. It is the nearest then, halves away from zero.
    pub(super) is_rounded: bool,
}

impl Number {
    /// `text`, which is JSON, times ten to the power of `digits` and of `places`.
    pub(super) fn read(text: &str, digits: i32, places: u32) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("is negative: {text}"));
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let significant = [whole, fraction].concat();
        let exponent: Option<i64> = exponent.parse().ok();
        let (true, Some(exponent)) = (!whole.is_empty() && significant.bytes().all(|b| b.is_ascii_digit()), exponent)
        else {
            return Err("is no number".to_owned());
        };
        let significant = significant.trim_start_matches('0');
        if significant.is_empty() {
            return Ok(Self { value: 0, is_rounded: false });
        }
        // How many of the digits stand before the point.
        let fraction = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let moved = exponent.saturating_sub(fraction).saturating_add(i64::from(digits) + i64::from(places));
        let length = i64::try_from(significant.len()).unwrap_or(i64::MAX);
        let before = length.saturating_add(moved);
        if before > MAX_DIGITS {
            return Err(format!("is too large: {text}"));
        }
        let digit = |at: i64| usize::try_from(at).ok().and_then(|at| significant.as_bytes().get(at));
        let value = (0..before).try_fold(0_u64, |sum, at| {
            sum.checked_mul(10)?.checked_add(digit(at).map_or(0, |digit| u64::from(digit - b'0')))
        });
        let up = u64::from(digit(before).is_some_and(|digit| *digit >= b'5'));
        let lost = usize::try_from(before.max(0)).ok().and_then(|at| significant.get(at..)).unwrap_or_default();
        let value = value.and_then(|value| value.checked_add(up)).ok_or_else(|| format!("is too large: {text}"))?;
        Ok(Self { value, is_rounded: lost.bytes().any(|digit| digit != b'0') })
    }
}

/// Digits of the largest `u64`.
const MAX_DIGITS: i64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u64, bool), String> {
        Number::read(text, 6, 9).map(|number| (number.value, number.is_rounded))
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, value) in [
            ("2.5e-06", 2_500_000_000),
            ("0.0000025", 2_500_000_000),
            ("1.25E-7", 125_000_000),
            ("3e-15", 3),
            ("0", 0),
            ("0.0", 0),
            ("0e999999999999", 0),
            ("1", 1_000_000_000_000_000),
            ("1.8446744073709551615e4", u64::MAX),
            ("10.50e-6", 10_500_000_000),
        ] {
            assert_eq!(read(text), Ok((value, false)), "{text}");
        }
        assert_eq!(Number::read("128000.0", 0, 0), Ok(Number { value: 128_000, is_rounded: false }));
        assert_eq!(Number::read("1.28e5", 0, 0), Ok(Number { value: 128_000, is_rounded: false }));
    }

    #[test]
    fn digits_that_are_lost_are_told() {
        for (text, value) in [
            // What a float makes of 2.99999 and of 0.132.
            ("2.9999900000000002e-06", 2_999_990_000),
            ("1.3200000000000002e-07", 132_000_000),
            ("9.499999999999999e-07", 950_000_000),
            ("5e-16", 1),
            ("4.9e-16", 0),
            ("1e-17", 0),
            ("9e-99999999", 0),
        ] {
            assert_eq!(read(text), Ok((value, true)), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for (text, why) in [
            ("-1e-6", "is negative: -1e-6"),
            ("\"1e-6\"", "is no number"),
            ("true", "is no number"),
            ("{}", "is no number"),
            ("\"see the page\"", "is no number"),
            ("1e99999999999999999999", "is no number"),
            ("1e6", "is too large: 1e6"),
            ("1.8446744073709551616e4", "is too large: 1.8446744073709551616e4"),
        ] {
            assert_eq!(read(text), Err(why.to_owned()), "{text}");
        }
    }
}
