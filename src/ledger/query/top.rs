//! Owns which rows of a long answer are shown, and what the others come to. A gateway with ten thousand keys has ten
//! thousand rows by key: people look at the dearest, and the sums must be right all the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::counters::Counters;
use super::UsageRow;

/// An answer that was made shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// The rows of the values that are shown, by time, then by value.
    pub rows: Vec<UsageRow>,
    /// What all others come to: a row without a value for each step in which there are any.
    pub rest: Vec<UsageRow>,
    /// How many values there are in all.
    pub values: usize,
}

/// An answer would have more rows than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRows;

/// What is counted: when, under which value, how much.
type Counted<'c> = (Option<u64>, &'c str, &'c Counters);

impl Top {
    /// Shows `most` values: those that cost most over the whole time, and of those that cost the same the ones with the
    /// most tokens, then with the most requests. `counted` is gone through twice, so that what is not shown takes no room
    /// for each of its steps.
    ///
    /// # Errors
    /// There are more than `max_rows`, the sums of the others included.
    pub fn of<'c, I>(counted: impl Fn() -> I, most: usize, max_rows: usize) -> Result<Self, TooManyRows>
    where
        I: Iterator<Item = Counted<'c>>,
    {
        let (shown, values) = dearest(counted(), most);
        let mut sums: BTreeMap<(Option<u64>, Option<&str>), Counters> = BTreeMap::new();
        for (time, value, counters) in counted() {
            let value = shown.contains(value).then_some(value);
            sums.entry((time, value)).or_default().add(counters);
            if sums.len() > max_rows {
                return Err(TooManyRows);
            }
        }
        let mut top = Self { values, ..Self::default() };
        for ((time, value), counters) in sums {
            let rows = if value.is_some() { &mut top.rows } else { &mut top.rest };
            rows.push(UsageRow { value: value.unwrap_or_default().to_owned(), time, counters });
        }
        Ok(top)
    }
}

/// The values that are shown, and how many there are in all.
fn dearest<'c>(counted: impl Iterator<Item = Counted<'c>>, most: usize) -> (HashSet<&'c str>, usize) {
    let mut sums: HashMap<&str, Counters> = HashMap::new();
    for (_, value, counters) in counted {
        sums.entry(value).or_default().add(counters);
    }
    let values = sums.len();
    let mut ranked: Vec<(&str, Counters)> = sums.into_iter().collect();
    ranked.sort_unstable_by_key(|(value, c)| {
        Reverse((c.cost_nano_usd, c.input_tokens().saturating_add(c.output), c.requests, Reverse(*value)))
    });
    ranked.truncate(most);
    (ranked.into_iter().map(|(value, _)| value).collect(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: &str, time: Option<u64>, cost: u64, requests: u64) -> UsageRow {
        UsageRow {
            value: value.into(),
            time,
            counters: Counters { cost_nano_usd: cost, requests, ..Counters::default() },
        }
    }

    fn top(rows: &[UsageRow], most: usize) -> Top {
        capped(rows, most, usize::MAX).expect("few rows")
    }

    fn capped(rows: &[UsageRow], most: usize, max_rows: usize) -> Result<Top, TooManyRows> {
        Top::of(|| rows.iter().map(|row| (row.time, row.value.as_str(), &row.counters)), most, max_rows)
    }

    #[test]
    fn the_dearest_are_shown_and_the_others_are_summed() {
        let rows = vec![row("a", None, 1, 9), row("b", None, 5, 1), row("c", None, 3, 1), row("d", None, 1, 2)];
        let top = top(&rows, 2);
        assert_eq!(top.rows, [row("b", None, 5, 1), row("c", None, 3, 1)]);
        assert_eq!((top.rest, top.values), (vec![row("", None, 2, 11)], 4));
    }

    #[test]
    fn what_costs_the_same_is_told_apart_by_requests_and_then_by_name() {
        let rows = vec![row("c", None, 1, 1), row("b", None, 1, 1), row("a", None, 1, 1), row("d", None, 1, 2)];
        let shown = |most| top(&rows, most).rows.into_iter().map(|row| row.value).collect::<Vec<_>>();
        assert_eq!(shown(1), ["d"]);
        assert_eq!(shown(3), ["a", "b", "d"], "rows come by value");
    }

    #[test]
    fn with_steps_a_value_is_shown_in_all_of_them_or_in_none() {
        let rows =
            vec![row("a", Some(1), 4, 1), row("b", Some(1), 3, 1), row("c", Some(1), 1, 1), row("b", Some(2), 3, 1)];
        let top = top(&rows, 1);
        assert_eq!(top.rows, [row("b", Some(1), 3, 1), row("b", Some(2), 3, 1)]);
        assert_eq!((top.rest, top.values), (vec![row("", Some(1), 5, 2)], 3));
    }

    #[test]
    fn a_short_answer_stays_as_it_is() {
        let rows = vec![row("a", None, 1, 1)];
        assert_eq!(top(&rows, 5), Top { rows, rest: Vec::new(), values: 1 });
        assert_eq!(top(&[], 0), Top::default());
    }

    #[test]
    fn more_rows_than_may_be_are_none_and_what_is_not_shown_is_none_of_them() {
        let rows: Vec<UsageRow> = (0..6).map(|n| row(["a", "b", "c"][n % 3], Some(n as u64 / 3), 1, 1)).collect();
        assert_eq!(capped(&rows, usize::MAX, 6).map(|top| top.rows), Ok(rows.clone()));
        assert_eq!(capped(&rows, usize::MAX, 5), Err(TooManyRows));
        assert_eq!(capped(&rows, 1, 4).map(|top| (top.rows.len(), top.rest.len(), top.values)), Ok((2, 2, 3)));
        assert_eq!(capped(&rows, 1, 3), Err(TooManyRows));
    }
}
