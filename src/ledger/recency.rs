//! Owns when users last sent something. Refuses to know what they used.
//!
//! A key's latest request is among the totals; a user's is that of a key, if it was made while the key was the user's.

use std::collections::{HashMap, HashSet};

use super::view::{Grain, View};

/// How many cells of days are looked at for keys that have another user now: with more of them it is not said when
/// their former users last used them.
const MAX_CELLS: usize = 200_000;

impl View {
    /// When each user's latest request arrived, in milliseconds since 1970-01-01 UTC. Of a key that has gone to another
    /// user the day alone is known.
    pub(crate) fn user_last_used(&self) -> HashMap<String, u64> {
        let mut latest: HashMap<&str, u64> = HashMap::new();
        let mut told: HashSet<(u32, &str)> = HashSet::new();
        let with_user = || (0..).zip(&self.series).filter(|(_, series)| !series.user.is_empty());
        for (number, series) in with_user() {
            let time = self.keys.at(series.key).last_used_ms;
            if self.has_cell(time, number) {
                told.insert((series.key, &series.user));
                let of_user = latest.entry(&series.user).or_default();
                *of_user = time.max(*of_user);
            }
        }
        let mut left: HashSet<u32> = with_user()
            .filter(|(_, series)| !told.contains(&(series.key, &*series.user)))
            .map(|(number, _)| number)
            .collect();
        for (bucket, number) in self.cells[Grain::Day as usize].keys().rev().take(MAX_CELLS) {
            if left.is_empty() {
                break;
            }
            if left.remove(number) {
                let of_user = latest.entry(&self.series[*number as usize].user).or_default();
                *of_user = (u64::from(*bucket) * Grain::Day.ms()).max(*of_user);
            }
        }
        latest.into_iter().map(|(user, time)| (user.to_owned(), time)).collect()
    }

    /// Whether something was counted in the series at that time, by the finest cells that are kept of it.
    fn has_cell(&self, time: u64, series: u32) -> bool {
        let kept = |grain: &Grain| grain.bucket(time) >= self.kept_from(*grain);
        let grain = Grain::ALL.into_iter().find(kept).unwrap_or(Grain::Day);
        self.cells[grain as usize].contains_key(&(grain.bucket(time), series))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::codec::{RecordRef, encode};
    use super::super::fixtures::settlement;
    use super::*;

    const DAY: u64 = 86_400_000;

    fn used(view: &mut View, key: &str, user: &str, time: u64) {
        let mut payload = Vec::new();
        let mut record = settlement(u128::from(time), time);
        (record.key_id, record.user) = (key.into(), user.into());
        encode(&record, &mut payload);
        view.apply(&RecordRef::decode(&payload).unwrap());
    }

    fn latest(view: &View) -> Vec<(String, u64)> {
        let mut latest: Vec<_> = view.user_last_used().into_iter().collect();
        latest.sort();
        latest
    }

    #[test]
    fn a_users_latest_request_is_the_latest_of_all_keys() {
        let mut view = View::default();
        for (key, user, time) in
            [("k1", "alice", DAY + 5), ("k2", "alice", DAY + 90_007), ("k3", "bob", 7), ("k4", "", 9)]
        {
            used(&mut view, key, user, time);
        }
        let expected = [("alice".to_owned(), DAY + 90_007), ("bob".to_owned(), 7)];
        assert_eq!(latest(&view), expected);
        view.prune(90 * DAY, Duration::from_secs(60), Duration::from_secs(60));
        assert_eq!(latest(&view), expected, "days are kept");
    }

    #[test]
    fn a_key_that_went_to_another_user_says_nothing_of_the_one_before_but_the_day() {
        let mut view = View::default();
        used(&mut view, "k1", "alice", 3 * DAY + 5);
        used(&mut view, "k1", "bob", 4 * DAY + 6);
        assert_eq!(latest(&view), [("alice".to_owned(), 3 * DAY), ("bob".to_owned(), 4 * DAY + 6)]);
    }
}
