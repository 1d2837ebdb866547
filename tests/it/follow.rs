//! Following what happens, through whatever breaks the stream: each event once, in order, or word that some were missed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Event, Events, Gateway, Mock, PATIENCE, Upstream, answer, eventually, gateway, mock, openai, upstream,
};

const CHAT: &str = "/v1/chat/completions";

async fn running() -> (Mock, Gateway) {
    let mock = mock();
    let gateway = gateway().channel(openai(mock.address())).key("alice").key("bob").start().await;
    (mock, gateway)
}

/// Asks, and gives the request's id.
async fn ask(gateway: &Gateway, key: &str) -> String {
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let answer = gateway.post(CHAT).key(key).json(&body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-weir-request-id").to_owned()
}

/// Numbers that look drawn, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Follows until `records` have come, and breaks the stream off again and again meanwhile.
async fn restlessly(gateway: &Gateway, filter: &str, records: usize, mut dice: Dice) -> Vec<Event> {
    let mut events = gateway.follow(&format!("?{filter}"), None).await;
    let (mut heard, mut breaks) = (Vec::new(), 0);
    let count = |heard: &[Event]| heard.iter().filter(|event| event.name == "request").count();
    let begun = Instant::now();
    while count(&heard) < records {
        assert!(begun.elapsed() < 3 * PATIENCE, "{} of {records} records came", count(&heard));
        for _ in 0..dice.below(12) {
            // It may break off while it waits, too.
            let wait = Duration::from_millis(dice.below(80));
            match tokio::time::timeout(wait, events.next()).await {
                Ok(event) => heard.push(event.expect("the stream has no end")),
                Err(_) => break,
            }
        }
        let last = events.last.clone();
        drop(events);
        tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
        events = match dice.below(2) {
            0 => gateway.follow(&format!("?{filter}"), Some(&last)).await,
            _ => gateway.follow(&format!("?{filter}&last_event_id={last}"), None).await,
        };
        breaks += 1;
    }
    assert!(breaks >= 10, "{breaks}");
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_nor_told_twice_however_often_the_stream_breaks_off() {
    const EACH: usize = 120;
    let (_mock, gateway) = running().await;
    let load = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asks = async |key: &'static str| {
            let mut ids = Vec::new();
            for n in 0..EACH {
                ids.push(ask(&gateway, key).await);
                tokio::time::sleep(Duration::from_millis(n as u64 % 7)).await;
            }
            ids
        };
        let reloads = async {
            for _ in 0..5 {
                gateway.api("reload").post(&json!({})).await.expect(200);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::join!(asks("alice"), asks("bob"), asks("bob"), reloads)
    };
    let (all, alice, (of_alice, of_bob, more_of_bob, ())) = tokio::join!(
        restlessly(&gateway, "", 3 * EACH, Dice(7)),
        restlessly(&gateway, "key=alice", EACH, Dice(11)),
        load
    );
    let (epoch, _) = all[0].place();
    let places: Vec<_> = all.iter().map(Event::place).collect();
    let expected: Vec<_> = (1..=all.len() as u64).map(|number| (epoch, number)).collect();
    assert_eq!(places, expected, "each number once, without a gap");
    let ids = |events: &[Event]| -> Vec<String> {
        let records = events.iter().filter(|event| event.name == "request");
        records.map(|event| event.data["id"].as_str().expect("an id").to_owned()).collect()
    };
    let set = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!((ids(&all).len(), set(&ids(&all))), (3 * EACH, set(&[of_alice.clone(), of_bob, more_of_bob].concat())));
    assert_eq!((ids(&alice).len(), set(&ids(&alice))), (EACH, set(&of_alice)));
    let wanted: Vec<_> = all
        .iter()
        .filter(|event| event.data["key_name"] == "alice" || event.name == "config_reloaded")
        .take(alice.len())
        .cloned()
        .collect();
    assert_eq!(alice, wanted, "the same events, in the same order");
}

#[tokio::test]
async fn who_comes_back_with_an_id_of_nobody_is_told_so_once_and_hears_what_comes() {
    let (_mock, mut gateway) = running().await;
    let first = gateway.follow("", None).await.last;
    let id = ask(&gateway, "alice").await;
    let mut events = gateway.follow("?last_event_id=nonsense", Some(&first)).await;
    let record = events.next().await.expect("an event");
    assert_eq!((&record.data["id"], record.place().1), (&json!(id), 1), "the header counts");
    let ahead = record.id.replace("-1", "-7");
    for last in ["nonsense", &id, &ahead, "0000000000000000-1", "%", "-", "\u{e9}"] {
        let mut events = gateway.follow("", Some(last)).await;
        let missed = events.next().await.expect("an event");
        assert_eq!((&*missed.name, &missed.data), ("missed", &json!({ "records": null })), "{last}");
        assert_eq!(missed.id, record.id, "it goes on behind this one");
    }
    let mut events = gateway.follow("", Some("nonsense")).await;
    let id = ask(&gateway, "alice").await;
    let heard = [events.next().await, events.next().await].map(|event| event.expect("an event"));
    assert_eq!((&*heard[0].name, &heard[1].data["id"]), ("missed", &json!(id)));
    gateway.kill();
    gateway.start().await;
    let mut events = gateway.follow("", Some(&heard[1].id)).await;
    assert_eq!(events.next_of("missed").await, json!({ "records": null }), "another process serves");
}

#[tokio::test]
async fn more_than_is_kept_is_missed_and_said_so() {
    let upstream = ok().await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .with("audit.bodies", "full")
        .with("audit.max_body", 2 << 20)
        .start()
        .await;
    let first = gateway.follow("", None).await.last;
    let large = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "x".repeat(1 << 20) }] });
    let mut last = String::new();
    for _ in 0..20 {
        let answer = gateway.post(CHAT).key("alice").json(&large).send().await;
        assert_eq!(answer.status, 200);
        answer.header("x-weir-request-id").clone_into(&mut last);
    }
    let mut live = gateway.follow("", None).await;
    eventually("a record of the last request", async || {
        let answer = gateway.admin("GET", &format!("/admin/api/requests/{last}")).send().await;
        (answer.status == 200).then_some(())
    })
    .await;
    let mut events = gateway.follow("", Some(&first)).await;
    assert_eq!(
        events.next().await.map(|event| (event.name, event.data)),
        Some(("missed".to_owned(), json!({ "records": null })))
    );
    let id = ask(&gateway, "alice").await;
    assert_eq!(events.next_of("request").await["id"], id, "nothing is told that stands behind the gap");
    while live.next_of("request").await["id"] != id {}
}

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#)]).await
}

/// Name and state of the channel of the next event about one.
async fn updated(events: &mut Events) -> (Value, Value) {
    let mut data = events.next_of("channel_updated").await;
    (data["name"].take(), data["state"].take())
}

#[tokio::test]
async fn whoever_follows_hears_of_channels_that_are_made_changed_drained_and_removed() {
    let (_mock, gateway) = running().await;
    let mut events = gateway.follow("?key=nobody", None).await;
    let fields = json!({
        "name": "made", "protocol": "openai", "base_url": "https://api.example.com", "models": ["made-*"],
        "keys": [{ "name": "main", "value": "sk-upstream-made" }],
    });
    gateway.api("channels").post(&fields).await.expect(201);
    assert_eq!(updated(&mut events).await, (json!("made"), json!("healthy")));
    gateway.api("channels/made").patch(&json!({ "weight": 7 })).await.expect(200);
    assert_eq!(updated(&mut events).await, (json!("made"), json!("healthy")));
    for (drain, state) in [(true, "draining"), (false, "healthy")] {
        gateway.api("channels/openai/drain").post(&json!({ "drain": drain })).await.expect(200);
        assert_eq!(updated(&mut events).await, (json!("openai"), json!(state)));
    }
    gateway.api("channels/made").delete().await.expect(204);
    assert_eq!(updated(&mut events).await, (json!("made"), json!("removed")));
}

#[tokio::test]
async fn whoever_follows_hears_of_a_channel_that_cools_down_and_is_well_again() {
    let bad = answer(500, &[("content-type", "application/json")], "{}");
    let good = answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#);
    let upstream = upstream([bad, good]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()).with("cooldown", json!({ "failures": 1, "for": "2s" })))
        .key("alice")
        .start()
        .await;
    let mut events = gateway.follow("", None).await;
    let body = json!({ "model": "gpt-4o", "messages": [] });
    assert_eq!(gateway.post(CHAT).key("alice").json(&body).send().await.status, 500);
    let told = events.next_of("channel_updated").await;
    assert_eq!((&told["name"], &told["state"]), (&json!("openai"), &json!("cooling")));
    assert!(told["cooling_until"].as_str().is_some_and(|until| until.ends_with('Z')), "{told}");
    assert_eq!(updated(&mut events).await, (json!("openai"), json!("trial")));
    ask(&gateway, "alice").await;
    assert_eq!(
        events.next_of("channel_updated").await,
        json!({ "name": "openai", "state": "healthy", "cooling_until": null })
    );
}

#[tokio::test]
async fn whoever_follows_hears_what_came_of_a_run_by_hand() {
    let (_mock, gateway) = running().await;
    let mut events = gateway.follow("", None).await;
    let told = gateway.api("channels/openai/run").post(&json!({ "model": "gpt-4o" })).await.expect(200);
    let mut heard = events.next_of("run_completed").await;
    let added = ["channel", "by", "time"].map(|field| heard.as_object_mut().expect("an object").remove(field));
    assert_eq!(heard, told);
    assert_eq!(added[..2], [Some(json!("openai")), Some(json!("hand"))]);
    assert!(added[2].as_ref().and_then(Value::as_str).is_some_and(|time| time.ends_with('Z')));
}

#[tokio::test]
async fn an_upgrade_ends_the_stream_and_who_comes_back_is_told_that_something_may_be_missing() {
    let (_mock, mut gateway) = running().await;
    let mut events = gateway.follow("", None).await;
    let id = ask(&gateway, "alice").await;
    assert_eq!(events.next_of("request").await["id"], id);
    let before = events.last.clone();
    assert!(gateway.upgrade(&[]).status.success());
    while events.next().await.is_some() {}
    let mut events = gateway.follow("", Some(&before)).await;
    let missed = events.next().await.expect("an event");
    assert_eq!((&*missed.name, &missed.data), ("missed", &json!({ "records": null })));
    assert_ne!(missed.place().0, before.split('-').next().expect("a process"));
    let id = ask(&gateway, "alice").await;
    assert_eq!(events.next_of("request").await["id"], id);
}
