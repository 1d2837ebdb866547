//! Requests followed while they happen: the admin API's stream of events, and the command that shows it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, gateway, mock, openai};

const CHAT: &str = "/v1/chat/completions";

async fn running() -> (Mock, Gateway) {
    let mock = mock();
    // Records of two threads are only nearly in the order in which requests end.
    let gateway = gateway().with("server.threads", 1).channel(openai(mock.address())).key("alice").key("bob");
    let gateway = gateway.start().await;
    (mock, gateway)
}

async fn ask(gateway: &Gateway, key: &str, model: &str) -> String {
    let body = json!({"model": model, "messages": []});
    let answer = gateway.post(CHAT).key(key).json(&body).send().await;
    answer.header("x-weir-request-id").to_owned()
}

#[tokio::test]
async fn who_follows_hears_of_each_request_that_is_wanted_and_of_reloads() {
    let (_mock, gateway) = running().await;
    let mut all = gateway.admin("GET", "/admin/api/events").stream().await;
    let mut refused = gateway.admin("GET", "/admin/api/events?key=alice&status=4xx").stream().await;
    assert_eq!((all.answer.status, all.answer.header("content-type")), (200, "text/event-stream"));
    let heard = async |stream: &mut crate::support::Streamed, until: &[&str]| {
        let mut text = String::new();
        while !until.iter().all(|part| text.contains(part)) {
            let piece = stream.next().await.expect("the stream has no end");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
        text
    };
    heard(&mut all, &[": follows\n\n"]).await;
    heard(&mut refused, &[": follows\n\n"]).await;
    let served = ask(&gateway, "alice", "gpt-4o").await;
    let other = ask(&gateway, "bob", "nobody").await;
    let wanted = ask(&gateway, "alice", "nobody").await;
    assert!(gateway.command(&["reload"]).status.success());
    let text = heard(&mut all, &["event: config_reloaded\ndata: {\"version\":2}\n\n", &wanted]).await;
    for id in [&served, &other, &wanted] {
        assert!(text.contains(&format!("\nevent: request\ndata: {{\"schema_version\":1,\"id\":\"{id}\"")), "{text}");
    }
    let text = heard(&mut refused, &["config_reloaded", &wanted]).await;
    assert!(text.contains(&wanted) && !text.contains(&other) && !text.contains(&served), "{text}");
    let wrong = gateway.admin("GET", "/admin/api/events?keey=alice").send().await;
    assert_eq!((wrong.status, wrong.json()["error"]["parameter"].clone()), (400, json!("keey")));
    assert_eq!(gateway.admin_request("GET", "/admin/api/events").send().await.status, 401);
}

#[tokio::test]
async fn the_command_shows_the_latest_and_then_what_comes_each_once() {
    let (_mock, gateway) = running().await;
    let before = ask(&gateway, "alice", "gpt-4o").await;
    ask(&gateway, "bob", "gpt-4o").await;
    let mut tail = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["tail", "--json", "--key", "alice", "-c"])
        .arg(gateway.config_file())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = move || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["id"], before);
    for model in ["gpt-4o", "nobody"] {
        ask(&gateway, "bob", model).await;
        let id = ask(&gateway, "alice", model).await;
        let record = next();
        assert_eq!((&record["id"], &record["model_requested"]), (&json!(id), &json!(model)));
    }
    tail.kill().unwrap();
    tail.wait().unwrap();

    let shown = gateway.command(&["tail", "--no-follow", "-n", "2", "--status", "4xx"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].contains("404 refused (model_not_found) alice nobody via - 0→0 tokens "), "{text}");
    let wrong = gateway.command(&["tail", "--status", "often"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("status: must be a status such as 429"), "{wrong:?}");
}

#[tokio::test]
async fn without_a_gateway_there_is_nothing_to_follow() {
    let (_mock, mut gateway) = running().await;
    gateway.stop().await;
    let shown = gateway.command(&["tail"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stderr).contains("no gateway listens on"), "{shown:?}");
}
