//! Decimal numbers as whole ones: no money and no rate is ever a float.

/// Why a text is no decimal number of the kind that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Something else than digits with at most one point among them.
    #[error("must be a decimal number such as 2.5")]
    Shape,
    /// More digits behind the point than are counted.
    #[error("has more than {0} digits behind the point")]
    TooFine(u32),
    /// More than can be counted.
    #[error("is too large")]
    TooLarge,
}

/// `text` times ten to the power of `places`, exactly: `2.5` with nine places is 2 500 000 000. Zeros behind
/// the last place are allowed; signs, exponents, spaces and separators are not.
///
/// # Errors
/// When it is no such number, or cannot be counted exactly.
pub fn fixed(text: &str, places: u32) -> Result<u64, DecimalError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(DecimalError::Shape);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = (places as usize).checked_sub(fraction.len()).ok_or(DecimalError::TooFine(places))?;
    let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', missing));
    digits
        .map(|digit| u64::from(digit - b'0'))
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
        .ok_or(DecimalError::TooLarge)
}

/// What [`fixed`] reads as `value`, without needless zeros: 2 500 000 000 with nine places is `2.5`.
pub fn shown(value: u64, places: u32) -> String {
    let places = places as usize;
    let digits = format!("{value:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for (value, places, text) in [
            (0, 9, "0"),
            (2_500_000_000, 9, "2.5"),
            (37_500_000, 9, "0.0375"),
            (1, 9, "0.000000001"),
            (10_000_000_000, 9, "10"),
            (u64::MAX, 9, "18446744073.709551615"),
            (70, 0, "70"),
        ] {
            assert_eq!(shown(value, places), text);
            assert_eq!(fixed(text, places), Ok(value));
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (text, places, value) in [
            ("0", 9, 0),
            ("2.5", 9, 2_500_000_000),
            ("0.0375", 9, 37_500_000),
            ("00.10", 1, 1),
            ("0.000000001", 9, 1),
            ("1.20000000000000", 1, 12),
            ("18446744073.709551615", 9, u64::MAX),
            ("7", 0, 7),
        ] {
            assert_eq!(fixed(text, places), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_number_is_refused() {
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", " 1", "1 ", "1.2.3", "0x1", "½", "NaN"] {
            assert_eq!(fixed(text, 9), Err(DecimalError::Shape), "{text}");
        }
        assert_eq!(fixed("0.0000000001", 9), Err(DecimalError::TooFine(9)));
        assert_eq!(fixed("1.5", 0), Err(DecimalError::TooFine(0)));
        assert_eq!(fixed("18446744073.709551616", 9), Err(DecimalError::TooLarge));
        assert_eq!(fixed(&"9".repeat(400), 0), Err(DecimalError::TooLarge));
    }
}
