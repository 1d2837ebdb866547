//! Upstreams that are not there, are slow, or lie.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Script, Upstream, answer, anthropic, gateway, gemini, openai, raw_answer, upstream};

const PATHS: [(&str, &str); 3] = [
    ("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#),
    ("/v1/messages", r#"{"model":"claude-x","messages":[]}"#),
    ("/v1beta/models/gemini-2.5-flash:generateContent", r#"{"contents":[]}"#),
];

async fn gateway_to(upstream: &Upstream) -> Gateway {
    gateway().channel(openai(upstream.address()).timeouts("2s", "2s")).key("alice").start().await
}

async fn ask(gateway: &Gateway) -> crate::support::Answer {
    gateway.post(PATHS[0].0).key("alice").body(PATHS[0].1).send().await
}

/// A connection goes back to the pool just after its answer has gone to the client.
async fn is_pooled() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn assert_is_refused(gateway: &Gateway, status: u16, message: &str, kinds: [&str; 3]) {
    for ((path, body), kind) in PATHS.into_iter().zip(kinds) {
        let answer = gateway.post(path).key("alice").body(body).send().await;
        let id = answer.header("x-weir-request-id");
        let message = format!("{message} Request id: {id}");
        let expected = match path {
            "/v1/messages" => {
                json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": id})
            }
            "/v1/chat/completions" => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
            }
            _ => json!({"error": {"code": status, "message": message, "status": kind}}),
        };
        assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
    }
    let row = gateway.used("key", "alice", 3).await;
    assert_eq!((&row["failed"], &row["input_tokens"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_502_in_each_protocols_shape() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = gateway().channel(openai(gone)).channel(anthropic(gone)).channel(gemini(gone)).key("alice");
    let gateway = gateway.start().await;
    let message = "The upstream provider could not be reached. Try again later.";
    assert_is_refused(&gateway, 502, message, ["server_error", "api_error", "UNAVAILABLE"]).await;
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_504_once_its_time_is_over() {
    let upstream = upstream([Script::default().until_closed()]).await;
    let slow = |channel: crate::support::Channel| channel.timeouts("300ms", "10s");
    let gateway = gateway()
        .channel(slow(openai(upstream.address())))
        .channel(slow(anthropic(upstream.address())))
        .channel(slow(gemini(upstream.address())))
        .key("alice")
        .start()
        .await;
    let start = Instant::now();
    let message = "The upstream provider did not answer in time. Try again later.";
    assert_is_refused(&gateway, 504, message, ["server_error", "timeout_error", "DEADLINE_EXCEEDED"]).await;
    assert!(start.elapsed() >= Duration::from_millis(900), "each waited");
    upstream.closed().await;
    assert_eq!(upstream.heads(), 3, "and none was tried twice");
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http_is_502() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let scripts = [
        raw_answer("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx"),
        raw_answer("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\nx"),
        raw_answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"),
        raw_answer(huge),
        raw_answer("HTTP/1.1 102 Processing\r\n\r\n".repeat(50)),
        Script::default().close(),
        Script::default().reset(),
    ];
    let count = scripts.len();
    let upstream = upstream(scripts).await;
    let gateway = gateway_to(&upstream).await;
    for i in 0..count {
        let answer = ask(&gateway).await;
        assert_eq!(answer.status, 502, "{i}: {}", answer.text());
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.starts_with("The upstream provider's answer was broken. Try again later."), "{i}: {message}");
    }
    assert_eq!((upstream.heads(), upstream.connections()), (count, count), "none is repeated, none reused");
}

#[tokio::test]
async fn a_pooled_connection_that_the_upstream_closed_while_idle_is_no_error() {
    let script = answer(200, &[], "{}").wait(30).close();
    let upstream = upstream([script]).await;
    let gateway = gateway_to(&upstream).await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway).await.status, 200);
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    assert_eq!((upstream.connections(), upstream.heads()), (5, 5));
}

#[tokio::test]
async fn a_pooled_connection_that_the_upstream_closes_just_as_it_is_used_is_no_error() {
    let fine = || answer(200, &[], "{}");
    for end in [Script::default().close(), Script::default().reset()] {
        let upstream = upstream([fine(), end, fine()]).await;
        let gateway = gateway_to(&upstream).await;
        assert_eq!(ask(&gateway).await.status, 200);
        is_pooled().await;
        assert_eq!(ask(&gateway).await.status, 200, "it was asked again, over a new connection");
        let received = upstream.received();
        let connections: Vec<usize> = received.iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1]);
        assert_eq!(received[2].body, received[1].body);
        gateway.used("key", "alice", 2).await;
    }
}

#[tokio::test]
async fn a_large_body_is_sent_again_whole_when_a_pooled_connection_turns_out_closed() {
    let fine = || answer(200, &[], "{}");
    let body = format!(r#"{{"x":"{}","model":"gpt-4o"}}"#, "0123456789".repeat(300_000));
    for end in [Script::default().before_body().close(), Script::default().before_body().reset()] {
        let upstream = upstream([fine(), end, fine()]).await;
        let gateway = gateway_to(&upstream).await;
        assert_eq!(ask(&gateway).await.status, 200);
        is_pooled().await;
        let answer = gateway.post(PATHS[0].0).key("alice").body(body.clone()).send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(crate::support::sha256(&upstream.received().pop().unwrap().body), crate::support::sha256(&body));
        assert_eq!(upstream.heads(), 3);
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_answered_is_not_sent_again() {
    let fine = answer(200, &[], "{}");
    let upstream = upstream([fine.clone(), raw_answer("HTTP/1.1 2").close(), fine]).await;
    let gateway = gateway_to(&upstream).await;
    assert_eq!(ask(&gateway).await.status, 200);
    is_pooled().await;
    assert_eq!(ask(&gateway).await.status, 502, "a byte of an answer had come");
    assert_eq!(upstream.heads(), 2);
    assert_eq!(ask(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_lie_about_the_length_does_not_poison_the_next_request() {
    let truth = || answer(200, &[("x-which", "truth")], "truth");
    let forged = "HTTP/1.1 200 OK\r\nx-which: forged\r\ncontent-length: 6\r\n\r\nforged";
    let too_short = raw_answer(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlie!{forged}"));
    let after_chunks =
        raw_answer(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nlie!\r\n0\r\n\r\n{forged}"));
    let both =
        raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n4\r\nlie!\r\n0\r\n\r\n");
    let late = raw_answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlie!").wait(30).send(forged);
    let bodiless = raw_answer(format!("HTTP/1.1 204 No Content\r\n\r\n{forged}"));
    for (script, body) in [(too_short, "lie!"), (after_chunks, "lie!"), (both, "lie!"), (late, "lie!"), (bodiless, "")]
    {
        let upstream = upstream([script, truth()]).await;
        let gateway = gateway_to(&upstream).await;
        let first = ask(&gateway).await;
        assert_eq!((first.text().as_str(), first.broken), (body, false));
        tokio::time::sleep(Duration::from_millis(60)).await;
        let second = ask(&gateway).await;
        assert_eq!((second.text().as_str(), second.header("x-which")), ("truth", "truth"));
        assert_eq!(upstream.received()[1].connection, 1, "the liar's connection is not used again");
    }
}

#[tokio::test]
async fn a_length_that_is_too_long_is_a_broken_answer() {
    let short = raw_answer("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{}").close();
    let upstream = upstream([short, answer(200, &[], "{}")]).await;
    let gateway = gateway_to(&upstream).await;
    let first = ask(&gateway).await;
    assert_eq!((first.status, first.text().as_str(), first.broken), (200, "{}", true));
    assert_eq!(ask(&gateway).await.text(), "{}");
    assert_eq!(gateway.used("key", "alice", 2).await["failed"], 1);
}

#[tokio::test]
async fn an_upstream_may_refuse_a_body_before_it_has_read_it() {
    let refusal = answer(413, &[("content-type", "application/json")], r#"{"error":"too much"}"#);
    let upstream = upstream([refusal.before_body().wait(200).close()]).await;
    let gateway = gateway_to(&upstream).await;
    let body = format!(r#"{{"model":"gpt-4o","x":"{}"}}"#, "a".repeat(3_000_000));
    let answer = gateway.post(PATHS[0].0).key("alice").body(body).send().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, r#"{"error":"too much"}"#));
}
