//! Owns which rows of a long answer are shown, and what the others come to. A gateway with ten thousand keys has ten
//! thousand rows by key: people look at the dearest, and the sums must be right all the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::counters::Counters;
use super::UsageRow;

/// An answer that was made shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// The rows of the values that are shown, in their order.
    pub rows: Vec<UsageRow>,
    /// What all others come to: a row without a value for each step in which there are any.
    pub rest: Vec<UsageRow>,
    /// How many values there are in all.
    pub values: usize,
}

impl Top {
    /// Shows `most` values: those that cost most over the whole time, and of those that cost the same the ones with the
    /// most tokens, then with the most requests.
    pub fn of(rows: Vec<UsageRow>, most: usize) -> Self {
        let mut sums: HashMap<&str, Counters> = HashMap::new();
        for row in &rows {
            sums.entry(&row.value).or_default().add(&row.counters);
        }
        let values = sums.len();
        let mut ranked: Vec<(&str, Counters)> = sums.into_iter().collect();
        ranked.sort_unstable_by_key(|(value, c)| {
            Reverse((c.cost_nano_usd, c.input_tokens().saturating_add(c.output), c.requests, Reverse(*value)))
        });
        ranked.truncate(most);
        let shown: HashSet<String> = ranked.into_iter().map(|(value, _)| value.to_owned()).collect();
        let (rows, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| shown.contains(&row.value));
        let mut rest: BTreeMap<Option<u64>, Counters> = BTreeMap::new();
        for row in &others {
            rest.entry(row.time).or_default().add(&row.counters);
        }
        let rest = rest.into_iter().map(|(time, counters)| UsageRow { value: String::new(), time, counters }).collect();
        Self { rows, rest, values }
    }
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

    #[test]
    fn the_dearest_are_shown_and_the_others_are_summed() {
        let rows = vec![row("a", None, 1, 9), row("b", None, 5, 1), row("c", None, 3, 1), row("d", None, 1, 2)];
        let top = Top::of(rows, 2);
        assert_eq!(top.rows, [row("b", None, 5, 1), row("c", None, 3, 1)]);
        assert_eq!((top.rest, top.values), (vec![row("", None, 2, 11)], 4));
    }

    #[test]
    fn what_costs_the_same_is_told_apart_by_requests_and_then_by_name() {
        let rows = vec![row("c", None, 1, 1), row("b", None, 1, 1), row("a", None, 1, 1), row("d", None, 1, 2)];
        let shown = |most| Top::of(rows.clone(), most).rows.into_iter().map(|row| row.value).collect::<Vec<_>>();
        assert_eq!(shown(1), ["d"]);
        assert_eq!(shown(3), ["b", "a", "d"], "they stay in their order");
    }

    #[test]
    fn with_steps_a_value_is_shown_in_all_of_them_or_in_none() {
        let rows =
            vec![row("a", Some(1), 4, 1), row("b", Some(1), 3, 1), row("c", Some(1), 1, 1), row("b", Some(2), 3, 1)];
        let top = Top::of(rows, 1);
        assert_eq!(top.rows, [row("b", Some(1), 3, 1), row("b", Some(2), 3, 1)]);
        assert_eq!((top.rest, top.values), (vec![row("", Some(1), 5, 2)], 3));
    }

    #[test]
    fn a_short_answer_stays_as_it_is() {
        let rows = vec![row("a", None, 1, 1)];
        assert_eq!(Top::of(rows.clone(), 5), Top { rows, rest: Vec::new(), values: 1 });
        assert_eq!(Top::of(Vec::new(), 0), Top::default());
    }
}
