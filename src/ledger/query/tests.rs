//! Owns what the answers must be.

use std::time::Duration;

use super::super::codec::{RecordRef, encode};
use super::super::fixtures::settlement;
use super::super::record::Settlement;
use super::*;

const DAY: u64 = 86_400_000;
const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;

fn view(all: &[Settlement]) -> View {
    let mut view = View::default();
    for s in all {
        let mut payload = Vec::new();
        encode(s, &mut payload);
        view.apply(&RecordRef::decode(&payload).unwrap());
    }
    view
}

fn of_model(time_ms: u64, model: &str) -> Settlement {
    Settlement { model: model.into(), ..settlement(u128::from(time_ms), time_ms) }
}

fn requests(rows: &[UsageRow]) -> Vec<(&str, Option<u64>, u64)> {
    rows.iter().map(|r| (r.value.as_str(), r.time, r.counters.requests)).collect()
}

#[test]
fn rows_come_by_time_then_by_value() {
    let view = view(&[of_model(DAY, "b"), of_model(DAY + 1, "a"), of_model(5, "c"), of_model(DAY + 2, "a")]);
    let query = |step| UsageQuery { by: By::Model, step, ..UsageQuery::default() };
    assert_eq!(requests(&view.usage(&query(None))), [("a", None, 2), ("b", None, 1), ("c", None, 1)]);
    assert_eq!(
        requests(&view.usage(&query(Some(Step::Day)))),
        [("c", Some(0), 1), ("a", Some(DAY), 2), ("b", Some(DAY), 1)]
    );
    let by_day = UsageQuery { by: By::Day, ..UsageQuery::default() };
    assert_eq!(requests(&view.usage(&by_day)), [("1970-01-01", Some(0), 1), ("1970-01-02", Some(DAY), 3)]);
}

#[test]
fn the_dearest_are_those_of_the_whole_time_and_days_are_told_by_their_dates() {
    let view = view(&[of_model(DAY, "b"), of_model(DAY + 1, "a"), of_model(5, "c"), of_model(DAY + 2, "a")]);
    let q = UsageQuery { by: By::Model, step: Some(Step::Day), ..UsageQuery::default() };
    let top = view.top(&q, Some(1)).unwrap();
    assert_eq!((requests(&top.rows), top.values), (vec![("a", Some(DAY), 2)], 3));
    assert_eq!(requests(&top.rest), [("", Some(0), 1), ("", Some(DAY), 1)]);
    assert_eq!(view.top(&q, None).unwrap().rows, view.usage(&q));
    let top = view.top(&UsageQuery { by: By::Day, ..q }, Some(1)).unwrap();
    assert_eq!(
        (requests(&top.rows), requests(&top.rest)),
        (vec![("1970-01-02", Some(DAY), 3)], vec![("", Some(0), 1)])
    );
}

#[test]
fn months_are_made_of_days() {
    let view = view(&[of_model(30 * DAY, "m"), of_model(31 * DAY, "m"), of_model(58 * DAY, "m")]);
    let q = UsageQuery { by: By::Model, step: Some(Step::Month), ..UsageQuery::default() };
    assert_eq!(requests(&view.usage(&q)), [("m", Some(0), 1), ("m", Some(31 * DAY), 2)]);
}

#[test]
fn a_range_takes_the_buckets_that_start_in_it() {
    let all = [of_model(DAY, "m"), of_model(DAY + MINUTE, "m"), of_model(DAY + HOUR, "m"), of_model(2 * DAY, "m")];
    let view = view(&all);
    let count = |from, to| {
        let q = UsageQuery { by: By::Model, from, to, ..UsageQuery::default() };
        view.usage(&q).first().map_or(0, |row| row.counters.requests)
    };
    assert_eq!(count(Some(DAY), Some(2 * DAY)), 3);
    assert_eq!(count(Some(DAY + MINUTE), Some(2 * DAY)), 2);
    assert_eq!(count(Some(DAY + MINUTE), Some(DAY + HOUR)), 1);
    assert_eq!(count(Some(DAY + HOUR), None), 2);
    assert_eq!(count(None, Some(DAY + 1)), 1);
    assert_eq!(count(Some(2 * DAY), Some(DAY)), 0);
    assert_eq!(count(Some(u64::MAX), Some(u64::MAX)), 0);
}

#[test]
fn pruned_buckets_are_answered_from_coarser_ones() {
    let mut view = view(&[of_model(DAY, "m"), of_model(DAY + MINUTE, "m"), of_model(9 * DAY + MINUTE, "m")]);
    view.prune(9 * DAY + HOUR, Duration::from_millis(HOUR), Duration::from_millis(DAY));
    let count = |from| {
        let q = UsageQuery { by: By::Model, from: Some(from), to: Some(9 * DAY + 2 * MINUTE), ..UsageQuery::default() };
        view.usage(&q).first().map_or(0, |row| row.counters.requests)
    };
    assert_eq!(count(9 * DAY + MINUTE), 1, "minutes are kept");
    assert_eq!(count(8 * DAY + HOUR), 1, "hours are kept");
    assert_eq!(count(DAY), 3, "days are kept");
}

#[test]
fn one_key_or_user_can_be_asked_for_and_keys_go_by_their_latest_name() {
    let mut renamed = settlement(2, 10);
    renamed.key_name = "alice-desktop".into();
    let mut other = settlement(3, 10);
    (other.key_id, other.key_name, other.user) = ("k2".into(), "bob".into(), "bob".into());
    let view = view(&[settlement(1, 5), renamed, other]);
    let all = view.usage(&UsageQuery::default());
    assert_eq!(requests(&all), [("alice-desktop", None, 2), ("bob", None, 1)]);
    let of_bob = UsageQuery { user: Some("bob".into()), by: By::Model, ..UsageQuery::default() };
    assert_eq!(requests(&view.usage(&of_bob)), [("gpt-4o", None, 1)]);
    let of_k1 = UsageQuery { key_id: Some("k1".into()), by: By::User, ..UsageQuery::default() };
    assert_eq!(requests(&view.usage(&of_k1)), [("alice", None, 2)]);
    let totals = view.key_totals();
    assert_eq!(
        (totals[0].name.as_str(), totals[0].last_used_ms, totals[1].counters.requests),
        ("alice-desktop", 10, 1)
    );
}

#[test]
fn spending_is_of_today_this_month_and_ever() {
    let view = view(&[settlement(1, 0), settlement(2, 31 * DAY), settlement(3, 33 * DAY), settlement(4, 33 * DAY + 5)]);
    let spends = view.spends(33 * DAY + HOUR);
    let spent = Spent { day: NanoUsd(14), month: NanoUsd(21), total: NanoUsd(28) };
    let past = Past { spent, ..Past::default() };
    assert_eq!([spends.keys["k1"], spends.users["alice"], spends.channels["miniai"]], [past; 3]);
}

#[test]
fn what_was_used_within_the_last_two_minutes_is_known_and_a_failure_used_no_request() {
    let at = 33 * DAY + HOUR;
    let mut failed = settlement(4, at + 10);
    failed.status = 429;
    let view = view(&[settlement(1, at - 60_001), settlement(2, at - 1), settlement(3, at + 5), failed]);
    let taken = |requests, tokens| Taken { requests, tokens };
    assert_eq!(view.spends(at + 20).keys["k1"].minutes, [taken(1, 16), taken(1, 8)]);
}

#[test]
fn a_row_has_the_shape_of_the_interface() {
    let counters = Counters {
        requests: 4,
        failed: 1,
        events: 9,
        input_uncached: 1,
        cache_read: 2,
        cache_write_5m: 3,
        cache_write_1h: 4,
        output: 5,
        reasoning: 2,
        cost_nano_usd: 1_500,
        unpriced: 1,
        ..Counters::default()
    };
    let row = UsageRow { value: "alice".into(), time: Some(0), counters };
    let expected = serde_json::json!({
        "user": "alice", "time": "1970-01-01T00:00:00.000Z", "requests": 4, "failed": 1, "events": 9,
        "input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 2, "cache_write_tokens": 7,
        "reasoning_tokens": 2, "cost_micro_usd": 2, "cost_nano_usd": 1500, "unpriced": 1
    });
    assert_eq!(row.to_json(By::User), expected);
    assert_eq!(UsageRow { time: None, ..row }.to_json(By::Day)["time"], Value::Null);
}

#[test]
fn all_of_a_key_is_what_its_days_come_to() {
    let mut other = settlement(3, 10);
    (other.key_id, other.key_name) = ("k2".into(), "bob".into());
    let view = view(&[of_model(5, "a"), of_model(40 * DAY, "b"), other]);
    let all = UsageQuery { key_id: Some("k1".into()), ..UsageQuery::default() };
    let days = UsageQuery { from: Some(0), ..all.clone() };
    assert_eq!(requests(&view.usage(&all)), [("alice-laptop", None, 2)]);
    assert_eq!(view.usage(&all), view.usage(&days));
    assert_eq!(view.top(&all, Some(1)), view.top(&days, Some(1)));
    let unknown = UsageQuery { key_id: Some("k3".into()), ..all };
    assert_eq!(view.usage(&unknown), []);
}
