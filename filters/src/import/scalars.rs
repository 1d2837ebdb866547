//! Texts, numbers and times, whatever they are written as.
//!
//! Owns the leniency. Refuses to know which member is read.

use serde_json::Value;

use super::Flaw;
use crate::moment::parse_ms;
use crate::price::NanoUsd;

/// Up to here a number is one of seconds since 1970, in the year 5138; from here one of milliseconds, in 1973.
const FIRST_MILLIS: f64 = 1e11;

/// More than this a single request does not cost, in dollars.
const MAX_USD: f64 = 1e6;

/// Nothing: missing, `null`, `""`, or what stands for nothing in other gateways' logs.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "-" | "null"),
        _ => false,
    }
}

/// A text; a number is one too.
pub(super) fn text(value: &Value) -> Result<String, Flaw> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(bool) => Ok(bool.to_string()),
        _ => Err(Flaw::NotText),
    }
}

/// A whole number up to `max`. What is behind the point is dropped.
pub(super) fn whole(value: &Value, max: u64) -> Result<u64, Flaw> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => return Err(Flaw::NotANumber),
    };
    let number = match number {
        Some(number) => number,
        None => truncated(real(value)?)?,
    };
    if number > max { Err(Flaw::TooLarge) } else { Ok(number) }
}

/// A flag.
pub(super) fn flag(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => text.trim().eq_ignore_ascii_case("true") || text.trim() == "1",
        Value::Number(number) => number.as_u64() == Some(1),
        _ => false,
    }
}

/// Dollars.
pub(super) fn usd(value: &Value) -> Result<NanoUsd, Flaw> {
    if let Value::String(text) = value
        && let Ok(exact) = NanoUsd::parse(text.trim())
        && real(value)? <= MAX_USD
    {
        return Ok(exact);
    }
    let dollars = real(value)?;
    if dollars > MAX_USD {
        return Err(Flaw::TooLarge);
    }
    truncated((dollars * 1e9).round()).map(NanoUsd)
}

/// Milliseconds, as microseconds up to `max`.
pub(super) fn micros_of_millis(value: &Value, max: u64) -> Result<u64, Flaw> {
    let micros = truncated((real(value)? * 1000.0).round())?;
    if micros > max { Err(Flaw::TooLarge) } else { Ok(micros) }
}

/// A moment, in milliseconds since 1970-01-01 UTC. A text without an offset is taken to be in UTC.
pub(super) fn moment(value: &Value) -> Result<u64, Flaw> {
    if let Ok(number) = real(value) {
        let millis = if number < FIRST_MILLIS { number * 1000.0 } else { number };
        let written = truncated(millis.round())?;
        // The same bounds as for a text.
        return parse_ms(&(written / 1000).to_string()).map(|_| written).ok_or(Flaw::NotATime);
    }
    let Value::String(text) = value else { return Err(Flaw::NotATime) };
    let text = text.trim();
    let with_zone = || parse_ms(&format!("{text}Z"));
    let with_colon = || {
        let at = text.len().checked_sub(2).filter(|at| text.is_char_boundary(*at))?;
        parse_ms(&format!("{}:{}", &text[..at], &text[at..]))
    };
    parse_ms(text).or_else(with_zone).or_else(with_colon).ok_or(Flaw::NotATime)
}

/// A number that is not negative.
fn real(value: &Value) -> Result<f64, Flaw> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number.filter(|number| number.is_finite()) {
        Some(number) if number < 0.0 => Err(Flaw::Negative),
        Some(number) => Ok(number),
        None => Err(Flaw::NotANumber),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within what an f64 counts exactly")]
fn truncated(number: f64) -> Result<u64, Flaw> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number < EXACT { Ok(number as u64) } else { Err(Flaw::TooLarge) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MAX: u64 = 1_000_000_000;

    #[test]
    fn a_number_is_read_whatever_it_is_written_as() {
        for (value, expected) in [
            (json!(12), Ok(12)),
            (json!(12.0), Ok(12)),
            (json!(12.9), Ok(12)),
            (json!(1.2e3), Ok(1200)),
            (json!("12"), Ok(12)),
            (json!(" 12 "), Ok(12)),
            (json!("12.0"), Ok(12)),
            (json!("1e3"), Ok(1000)),
            (json!(-0.0), Ok(0)),
            (json!(MAX), Ok(MAX)),
            (json!(MAX + 1), Err(Flaw::TooLarge)),
            (json!("1000000001"), Err(Flaw::TooLarge)),
            (json!(u64::MAX), Err(Flaw::TooLarge)),
            (json!(1e300), Err(Flaw::TooLarge)),
            (json!("99999999999999999999999"), Err(Flaw::TooLarge)),
            (json!(-1), Err(Flaw::Negative)),
            (json!(-0.5), Err(Flaw::Negative)),
            (json!("-3"), Err(Flaw::Negative)),
            (json!("NaN"), Err(Flaw::NotANumber)),
            (json!("inf"), Err(Flaw::NotANumber)),
            (json!("12 tokens"), Err(Flaw::NotANumber)),
            (json!("1,200"), Err(Flaw::NotANumber)),
            (json!(true), Err(Flaw::NotANumber)),
            (json!([12]), Err(Flaw::NotANumber)),
            (json!({}), Err(Flaw::NotANumber)),
        ] {
            assert_eq!(whole(&value, MAX), expected, "{value}");
        }
    }

    #[test]
    fn a_time_is_read_whatever_it_is_written_as() {
        let ms = 1_760_494_292_421;
        for (value, expected) in [
            (json!("2025-10-15T10:11:32.421+08:00"), ms),
            (json!("2025-10-15T10:11:32.421+0800"), ms),
            (json!("2025-10-15T02:11:32.421Z"), ms),
            (json!("2025-10-15T02:11:32.421"), ms),
            (json!("2025-10-15 02:11:32"), ms - 421),
            (json!(1_760_494_292), ms - 421),
            (json!("1760494292"), ms - 421),
            (json!(1_760_494_292.421), ms),
            (json!(ms), ms),
            (json!(ms.to_string()), ms),
            (json!(0), 0),
        ] {
            assert_eq!(moment(&value), Ok(expected), "{value}");
        }
        for value in [json!("yesterday"), json!("2025-10-15"), json!(-1), json!(1e15), json!("ü"), json!(true)] {
            assert!(moment(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn money_is_exact_where_it_is_written_exactly() {
        for (value, expected) in [
            (json!("0.000000123"), Ok(123)),
            (json!(0.25), Ok(250_000_000)),
            (json!("1e-3"), Ok(1_000_000)),
            (json!("0.0000000004"), Ok(0)),
            (json!(1_000_000), Ok(1_000_000_000_000_000)),
            (json!("1000000.01"), Err(Flaw::TooLarge)),
            (json!(-1), Err(Flaw::Negative)),
            (json!("$3"), Err(Flaw::NotANumber)),
        ] {
            assert_eq!(usd(&value), expected.map(NanoUsd), "{value}");
        }
    }

    #[test]
    fn milliseconds_become_microseconds() {
        assert_eq!(micros_of_millis(&json!(12.3456), MAX), Ok(12_346));
        assert_eq!(micros_of_millis(&json!("7"), MAX), Ok(7_000));
        assert_eq!(micros_of_millis(&json!(1e10), MAX), Err(Flaw::TooLarge));
    }

    proptest! {
        #[test]
        fn no_text_and_no_number_panics(text in "\\PC{0,30}", near in "[0-9+.eE:TZ -]{0,30}", number: f64, whole_number: i64) {
            for value in [json!(text), json!(near), json!(number), json!(whole_number)] {
                let _ = (whole(&value, MAX), usd(&value), moment(&value), micros_of_millis(&value, MAX));
                let _ = (super::text(&value), is_nothing(&value), flag(&value));
            }
        }
    }
}
