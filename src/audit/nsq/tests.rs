//! The sink from its outside: records go in, and a strict stand-in for nsqd has messages, or does not.

mod nsqd;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use weir_filters::secret::Secret;

use self::nsqd::{Mood, Nsqd};
use super::*;
use crate::audit::batch::{Batch, batch_of};
use crate::audit::queue::{Giver, queue};
use crate::config::BaseUrl;

const MS: Duration = Duration::from_millis(1);

fn config(port: u16) -> Nsq {
    Nsq {
        url: BaseUrl { tls: false, host: "127.0.0.1".into(), port, path: String::new() },
        topic: "weir_ai_event".into(),
        format: NsqFormat::Record,
        token: None,
        delivery: Delivery { batch: 64 << 10, batch_wait: 20 * MS, timeout: Duration::from_secs(5) },
    }
}

/// A sink on its thread.
struct Sink {
    giver: Option<Giver>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    fn start(config: Nsq) -> Self {
        let (giver, taker) = queue();
        Self { giver: Some(giver), thread: Some(std::thread::spawn(move || run(&config, taker))) }
    }

    fn to(nsqd: &Nsqd) -> Self {
        Self::start(config(nsqd.address().port()))
    }

    fn give(&self, records: &[String]) {
        self.give_batch(&Arc::new(batch_of(records.iter().map(String::as_str).zip(1..))));
    }

    fn give_batch(&self, batch: &Arc<Batch>) {
        self.giver.as_ref().unwrap().give(batch);
    }

    /// Delivered, failed, dropped, waiting.
    fn figures(&self) -> [u64; 4] {
        let stats = self.giver.as_ref().unwrap().stats();
        [&stats.delivered, &stats.failed, &stats.dropped, &stats.waiting].map(|n| n.load(Ordering::Relaxed))
    }

    fn eventually(&self, expected: [u64; 4]) {
        wait_until(&format!("{expected:?}"), || self.figures() == expected);
    }

    /// Ends it: its figures, and how long that took.
    fn end(&mut self) -> ([u64; 4], Duration) {
        let stats = self.giver.as_ref().unwrap().stats().clone();
        let begun = Instant::now();
        self.giver = None;
        self.thread.take().unwrap().join().unwrap();
        let figures = [&stats.delivered, &stats.failed, &stats.dropped, &stats.waiting];
        (figures.map(|n| n.load(Ordering::Relaxed)), begun.elapsed())
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let due = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < due, "{what}: not in time");
        std::thread::sleep(5 * MS);
    }
}

fn record(n: usize) -> String {
    json!({
        "schema_version": 1, "id": format!("{n:032x}"), "time": "2026-11-30T19:20:04.123Z", "node": "edge-1/00",
        "route": "openai", "channel": null, "model_requested": "gpt-4o", "model_upstream": null, "attempts": [],
        "input_tokens": n, "output_tokens": 1, "cost_nano_usd": 0, "usage_raw": null,
        "request_body": null, "response_body": null,
    })
    .to_string()
}

fn records(count: usize) -> Vec<String> {
    (0..count).map(record).collect()
}

fn with(mut record: Value, name: &str, len: usize) -> String {
    record[name] = json!({ "text": "x".repeat(len) });
    record.to_string()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A port that nothing listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn records_arrive_as_they_are_and_in_their_order() {
    let nsqd = Nsqd::start();
    let mut sink = Sink::to(&nsqd);
    let all = records(1_000);
    for some in all.chunks(7) {
        sink.give(some);
    }
    sink.eventually([1_000, 0, 0, 0]);
    assert_eq!(nsqd.messages(), all);
    assert_eq!(sink.end().0, [1_000, 0, 0, 0]);
}

#[test]
fn events_arrive_in_the_form_that_apipark_reads() {
    let nsqd = Nsqd::start();
    let topic = "apipark.ai_event#ephemeral".to_owned();
    let sink = Sink::start(Nsq { format: NsqFormat::AiEvent, topic, ..config(nsqd.address().port()) });
    sink.give(&[record(7), "no record".to_owned(), record(8)]);
    sink.eventually([2, 1, 0, 0]);
    assert_eq!(nsqd.taken()[0].topic, "apipark.ai_event#ephemeral");
    let messages = nsqd.messages();
    assert_eq!(json(&messages[0])["ai"]["ai_provider_statuses"], json!([]));
    assert_eq!(json(&messages[0])["ai"]["ai_model_input_token"], json!(7));
    assert_eq!(json(&messages[1])["request_id"], json!("00000000-0000-0000-0000-000000000008"));
}

#[test]
fn a_token_is_presented_and_a_path_kept() {
    let nsqd = Nsqd::start();
    let mut config = config(nsqd.address().port());
    config.token = Some(Secret::new("canary"));
    let sink = Sink::start(config.clone());
    sink.give(&records(1));
    sink.eventually([1, 0, 0, 0]);
    assert_eq!(nsqd.taken()[0].authorization.as_deref(), Some("Bearer canary"));

    config.url.path = "/nsq".into();
    let sink = Sink::start(config);
    sink.give(&records(1));
    sink.eventually([0, 1, 0, 0]);
}

#[test]
fn what_comes_within_the_wait_travels_together() {
    let nsqd = Nsqd::start();
    let mut config = config(nsqd.address().port());
    config.delivery.batch_wait = 300 * MS;
    let sink = Sink::start(config);
    let begun = Instant::now();
    for n in 0..5 {
        sink.give(&[record(n)]);
        std::thread::sleep(20 * MS);
    }
    sink.eventually([5, 0, 0, 0]);
    let taken = nsqd.taken();
    assert_eq!(taken.len(), 1);
    let waited = taken[0].at - begun;
    assert!((250 * MS..2_000 * MS).contains(&waited), "{waited:?}");
}

#[test]
fn no_body_is_larger_than_a_batch_and_no_wait_is_needed_for_a_full_one() {
    let nsqd = Nsqd::start();
    let mut config = config(nsqd.address().port());
    (config.delivery.batch, config.delivery.batch_wait) = (1 << 10, Duration::from_secs(60));
    let mut sink = Sink::start(config);
    let all = records(100);
    sink.give(&all);
    // The last ones wait for others.
    wait_until("all but a few", || sink.figures()[0] >= 97);
    let taken = nsqd.taken();
    assert!(taken.iter().all(|request| request.body_len <= 1 << 10), "{taken:?}");
    assert!(taken.iter().all(|request| request.messages.len() >= 2), "{taken:?}");
    assert_eq!(sink.end().0, [100, 0, 0, 0], "nothing waits at the end");
    assert_eq!(nsqd.messages(), all);
}

#[test]
fn a_record_that_is_too_long_gives_up_its_bodies_and_one_that_is_too_long_without_them_fails() {
    let nsqd = Nsqd::start();
    let sink = Sink::to(&nsqd);
    let both = with(json(&with(json(&record(1)), "request_body", 700 << 10)), "response_body", 800 << 10);
    sink.give(&[record(0), both, with(json(&record(2)), "route", 2 << 20), record(3)]);
    sink.eventually([3, 1, 0, 0]);
    let messages = nsqd.messages();
    assert_eq!([&messages[0], &messages[2]], [&record(0), &record(3)]);
    let shortened = json(&messages[1]);
    assert_eq!(shortened["response_body"], Value::Null, "the bigger one is enough");
    assert_eq!(shortened["request_body"]["text"].as_str().unwrap().len(), 700 << 10);
    assert_eq!(shortened["input_tokens"], 1);
}

#[test]
fn an_nsqd_with_lower_limits_gets_smaller_pieces_in_the_same_order() {
    let nsqd = Nsqd::with_limits(2 << 10, 8 << 10);
    let mut config = config(nsqd.address().port());
    config.delivery.batch_wait = 200 * MS;
    let sink = Sink::start(config);
    let mut all = records(40);
    all[17] = with(json(&record(17)), "request_body", 3 << 10);
    all[23] = with(json(&record(23)), "route", 3 << 10);
    sink.give(&all);
    sink.eventually([39, 1, 0, 0]);
    let ids: Vec<_> = nsqd.messages().iter().map(|message| json(message)["input_tokens"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..40).filter(|n| *n != 23).collect::<Vec<_>>());
    assert_eq!(json(&nsqd.messages()[17])["request_body"], Value::Null);
}

#[test]
fn nothing_is_lost_while_nsqd_is_down_for_a_moment() {
    let port = free_port();
    let mut sink = Sink::start(config(port));
    let all = records(50);
    sink.give(&all[..20]);
    std::thread::sleep(100 * MS);
    assert_eq!(sink.figures(), [0, 0, 0, 20]);
    sink.give(&all[20..]);
    let nsqd = Nsqd::start_at(([127, 0, 0, 1], port).into());
    sink.eventually([50, 0, 0, 0]);
    assert_eq!(nsqd.messages(), all);
    assert_eq!(sink.end().0, [50, 0, 0, 0]);
}

#[test]
fn nothing_is_lost_while_what_answers_takes_nothing() {
    for mood in [
        Mood::Hangs,
        Mood::Says(500, "", "{\"message\":\"INTERNAL_ERROR\"}"),
        Mood::Says(503, "", "{\"message\":\"EXITING\"}"),
        Mood::Says(429, "", ""),
        Mood::Says(200, "Content-Type: text/html\r\n", "<html>Please log in</html>"),
        Mood::Says(200, "", ""),
        Mood::Says(204, "", ""),
        Mood::Says(302, "Location: http://127.0.0.1:9/mpub\r\n", "OK"),
    ] {
        let nsqd = Nsqd::start();
        nsqd.is_now(mood);
        let sink = Sink::to(&nsqd);
        let all = records(30);
        sink.give(&all[..10]);
        wait_until("an attempt", || nsqd.heads() > 0);
        sink.give(&all[10..]);
        assert_eq!(sink.figures()[..3], [0, 0, 0]);
        nsqd.is_now(Mood::Well);
        sink.eventually([30, 0, 0, 0]);
        assert_eq!(nsqd.messages(), all);
    }
}

#[test]
fn what_hangs_is_asked_again() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Hangs);
    let mut config = config(nsqd.address().port());
    config.delivery.timeout = 200 * MS;
    let sink = Sink::start(config);
    sink.give(&records(3));
    wait_until("a second attempt", || nsqd.heads() > 1);
    assert_eq!(sink.figures(), [0, 0, 0, 3]);
    nsqd.is_now(Mood::Well);
    sink.eventually([3, 0, 0, 0]);
}

#[test]
fn a_redirect_is_not_followed() {
    let (elsewhere, port) = (Nsqd::start(), free_port());
    let target = format!("Location: http://{}/mpub?topic=t&binary=true\r\n", elsewhere.address());
    let nsqd = Nsqd::start_at(([127, 0, 0, 1], port).into());
    nsqd.is_now(Mood::Says(307, target.leak(), ""));
    let sink = Sink::to(&nsqd);
    sink.give(&records(1));
    wait_until("two attempts", || nsqd.heads() > 1);
    assert_eq!((elsewhere.heads(), sink.figures()), (0, [0, 0, 0, 1]));
}

#[test]
fn what_is_refused_is_counted_and_not_sent_again() {
    for status in [400, 401, 403, 404] {
        let nsqd = Nsqd::start();
        nsqd.is_now(Mood::Says(status, "", "{\"message\":\"INVALID_TOPIC\"}"));
        let mut sink = Sink::to(&nsqd);
        sink.give(&records(3));
        sink.eventually([0, 3, 0, 0]);
        assert_eq!(nsqd.heads(), 1);
        nsqd.is_now(Mood::Well);
        sink.give(&[record(3)]);
        assert_eq!(sink.end().0, [1, 3, 0, 0]);
        assert_eq!(nsqd.messages(), [record(3)]);
    }
}

#[test]
fn messages_without_an_answer_are_sent_again() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::BreaksOff);
    let sink = Sink::to(&nsqd);
    sink.give(&records(3));
    wait_until("they are taken", || !nsqd.taken().is_empty());
    assert_eq!(sink.figures(), [0, 0, 0, 3], "who knows?");
    nsqd.is_now(Mood::Well);
    sink.eventually([3, 0, 0, 0]);
    let messages = nsqd.messages();
    assert!(messages.len() >= 6 && messages.chunks(3).all(|three| three == records(3)), "{messages:?}");
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Closes);
    let sink = Sink::to(&nsqd);
    let begun = Instant::now();
    for n in 0..10 {
        sink.give(&[record(n)]);
        sink.eventually([n as u64 + 1, 0, 0, 0]);
        std::thread::sleep(50 * MS);
    }
    assert_eq!((nsqd.messages(), nsqd.heads()), (records(10), 10));
    // A failure is followed by half a second of rest at least.
    assert!(begun.elapsed() < 4_000 * MS, "{:?}", begun.elapsed());
}

#[test]
fn what_asks_for_a_rest_gets_it() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Says(429, "Retry-After: 2\r\n", ""));
    let sink = Sink::to(&nsqd);
    sink.give(&records(1));
    wait_until("an attempt", || nsqd.heads() > 0);
    let asked = Instant::now();
    nsqd.is_now(Mood::Well);
    sink.eventually([1, 0, 0, 0]);
    let rest = nsqd.taken()[0].at - asked;
    assert!((1_900 * MS..5_000 * MS).contains(&rest), "{rest:?}");
}

#[test]
fn what_finds_no_room_meanwhile_is_dropped_and_all_records_are_accounted_for() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Hangs);
    let mut sink = Sink::to(&nsqd);
    let large = with(json(&record(0)), "request_body", 900 << 10);
    let batch = Arc::new(batch_of((0..8).map(|id| (large.as_str(), id))));
    sink.give_batch(&batch);
    wait_until("an attempt", || nsqd.heads() > 0);
    for _ in 0..9 {
        sink.give_batch(&batch);
    }
    let [delivered, failed, dropped, waiting] = sink.figures();
    assert_eq!((delivered, failed, dropped + waiting), (0, 0, 80));
    // 32 MiB have room for four of them.
    assert_eq!(dropped, 40);
    nsqd.is_now(Mood::Well);
    sink.eventually([40, 0, 40, 0]);
    assert_eq!(sink.end().0, [40, 0, 40, 0]);
    assert_eq!(nsqd.messages().len(), 40);
}

#[test]
fn what_is_left_at_the_end_is_delivered_if_nsqd_comes_back_in_time() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Says(503, "Retry-After: 300\r\n", "{\"message\":\"EXITING\"}"));
    let mut sink = Sink::to(&nsqd);
    sink.give(&records(20));
    wait_until("an attempt", || nsqd.heads() > 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            nsqd.is_now(Mood::Well);
        });
        let (figures, took) = sink.end();
        assert_eq!(figures, [20, 0, 0, 0]);
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
    assert_eq!(nsqd.messages(), records(20));
}

#[test]
fn what_is_left_at_the_end_is_dropped_if_nsqd_takes_nothing() {
    let nsqd = Nsqd::start();
    nsqd.is_now(Mood::Hangs);
    let mut config = config(nsqd.address().port());
    config.delivery.timeout = Duration::from_secs(60);
    let mut sink = Sink::start(config);
    sink.give(&records(20));
    wait_until("an attempt", || nsqd.heads() > 0);
    for n in 0..500 {
        sink.give(&[record(n)]);
    }
    let (figures, took) = sink.end();
    assert_eq!(figures, [0, 0, 520, 0]);
    assert!((4_500 * MS..7_000 * MS).contains(&took), "{took:?}");
}

#[test]
fn a_sink_that_cannot_begin_loses_its_records_and_says_so() {
    let mut config = config(free_port());
    config.token = Some(Secret::new("line\nfeed"));
    let mut sink = Sink::start(config);
    sink.give(&records(3));
    assert_eq!(sink.end().0, [0, 0, 3, 0]);
}

#[test]
fn a_failure_is_told_without_what_others_said() {
    for (why, told) in [
        (sender::Why::Answer { status: 400, reason: Some("INVALID_TOPIC".into()) }, "400 INVALID_TOPIC"),
        (sender::Why::Answer { status: 502, reason: None }, "502"),
        (sender::Why::Answer { status: 200, reason: None }, "200, but not the OK of an nsqd"),
        (sender::Why::NoAnswer("no answer in time".into()), "no answer in time"),
    ] {
        assert_eq!(why.to_string(), told);
    }
}
