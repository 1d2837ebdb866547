//! A long answer in parts: the gateway gives so many rows at once, and what is of one step stands together.
//!
//! Owns where a stretch of time is cut. Knows nothing of who is asked.

use serde_json::Value;
use weir_filters::calendar::{month_number, month_of};

use crate::ledger::Step;

/// From a moment on and up to another one, in milliseconds since 1970; `None`: from the first, or to the last.
pub(super) type Span = (Option<u64>, Option<u64>);

/// What is said to a question about a stretch of time.
pub(super) enum Part {
    Rows(Vec<Value>),
    /// They are too many for one answer; in these words.
    TooMany(String),
}

/// The rows of the whole stretch, which `ask` is asked for in halves as often as they are too many.
pub(super) fn all<E: From<String>>(
    span: Span,
    step: Option<Step>,
    now_ms: u64,
    ask: &impl Fn(Span) -> Result<Part, E>,
) -> Result<Vec<Value>, E> {
    let message = match ask(span)? {
        Part::Rows(rows) => return Ok(rows),
        Part::TooMany(message) => message,
    };
    let (from, to) = span;
    let Some(at) = step.and_then(|step| cut(from.unwrap_or(0), to.unwrap_or(now_ms), step)) else {
        return Err(message.into());
    };
    let mut rows = all((from, Some(at)), step, now_ms, ask)?;
    rows.extend(all((Some(at), to), step, now_ms, ask)?);
    Ok(rows)
}

/// A beginning of a step near the middle, so that no row is cut in two.
fn cut(from: u64, to: u64, step: Step) -> Option<u64> {
    let middle = from + to.saturating_sub(from) / 2;
    let (before, after) = match width_ms(step) {
        Some(width) => (middle / width * width, middle.div_ceil(width) * width),
        None => (month_of(month_number(middle)), month_of(month_number(middle) + 1)),
    };
    [after, before].into_iter().find(|at| from < *at && *at < to)
}

/// Of a month there is none.
const fn width_ms(step: Step) -> Option<u64> {
    match step {
        Step::Minute => Some(60_000),
        Step::Hour => Some(3_600_000),
        Step::Day => Some(86_400_000),
        Step::Month => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    #[test]
    fn a_stretch_is_cut_where_a_step_begins_and_not_at_all_within_one() {
        assert_eq!(cut(0, 10 * HOUR, Step::Hour), Some(5 * HOUR));
        assert_eq!(cut(HOUR / 2, 2 * HOUR - 1, Step::Hour), Some(HOUR));
        assert_eq!(cut(HOUR - 1, HOUR + 1, Step::Hour), Some(HOUR));
        assert_eq!(cut(0, HOUR, Step::Hour), None);
        assert_eq!(cut(HOUR, HOUR, Step::Minute), None);
        assert_eq!(cut(2 * HOUR, HOUR, Step::Minute), None);
        assert_eq!(cut(0, 59 * DAY, Step::Month), Some(31 * DAY));
        assert_eq!(cut(0, 31 * DAY, Step::Month), None);
    }

    #[test]
    fn parts_are_put_together_in_their_order_and_each_row_is_there_once() {
        let hours = |(from, to): Span| -> Result<Part, String> {
            let (from, to) = (from.unwrap_or(0).div_ceil(HOUR), to.unwrap_or(u64::MAX).div_ceil(HOUR).min(100));
            let rows: Vec<Value> = (from..to).map(|hour| json!(hour)).collect();
            Ok(if rows.len() > 7 { Part::TooMany("too many".into()) } else { Part::Rows(rows) })
        };
        let expected: Vec<Value> = (0..100).map(|hour| json!(hour)).collect();
        assert_eq!(all((None, None), Some(Step::Hour), 90 * HOUR, &hours), Err("too many".into()), "from ahead of now");
        assert_eq!(all((None, None), Some(Step::Hour), 99 * HOUR, &hours), Ok(expected.clone()));
        assert_eq!(all((Some(1), Some(50 * HOUR)), Some(Step::Hour), 0, &hours), Ok(expected[1..50].to_vec()));
        assert_eq!(all((None, None), None, 100 * HOUR, &hours), Err("too many".into()));
    }
}
