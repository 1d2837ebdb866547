//! What clients are held to before any key decides: time, size, number.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::CipherSuite;
use tokio_rustls::rustls::crypto::ring::cipher_suite;

use crate::support::{
    Authority, Gateway, Http, Upstream, answer, chunked, eventually, gateway, openai, raw_answer, secret_of, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o"}"#;

fn bearer() -> String {
    format!("authorization: Bearer {}", secret_of("alice"))
}

/// With one setting of `server`.
async fn open_with(field: &str, value: impl Into<serde_json::Value>) -> (Upstream, Gateway) {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], "{}")]).await;
    let builder = gateway().channel(openai(upstream.address())).key("alice").tls(Authority::new());
    let gateway = builder.with(&format!("server.{field}"), value).start().await;
    (upstream, gateway)
}

async fn turned_away(gateway: &Gateway, reason: &str, times: usize) {
    let line = format!("weir_clients_turned_away_total{{reason=\"{reason}\"}} {times}\n");
    eventually(&line, async || gateway.metrics().await.contains(&line).then_some(())).await;
}

/// Reads until the other side closes and gives what came, and how long that took.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Duration) {
    let (start, mut got) = (Instant::now(), Vec::new());
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
    // A reset is a close too.
    drop(read.expect("a close in time"));
    (String::from_utf8_lossy(&got).into_owned(), start.elapsed())
}

#[tokio::test]
async fn whichever_cipher_a_client_likes_best_the_gateway_s_own_order_decides() {
    let builder = gateway().channel(openai("127.0.0.1:9".parse().unwrap())).key("alice").tls(Authority::new());
    let gateway = builder.start().await;
    let of_version_1_2 = [
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ];
    let of_version_1_3 = [
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    assert_eq!(gateway.cipher_for(of_version_1_2.to_vec()).await, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    assert_eq!(gateway.cipher_for(of_version_1_3.to_vec()).await, CipherSuite::TLS13_AES_256_GCM_SHA384);
}

#[tokio::test]
async fn a_head_that_trickles_is_answered_and_closed_in_time() {
    let (upstream, gateway) = open_with("header_timeout", "1s").await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut read, mut write) = client.split();
    let trickle = async {
        for byte in format!("POST {CHAT} HTTP/1.1\r\nhost: w\r\n{}", "x-a: 1\r\n".repeat(100)).bytes() {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let (got, after) = tokio::select! {
        () = trickle => unreachable!("it does not end"),
        closed = closed(&mut read) => closed,
    };
    assert!(got.starts_with("HTTP/1.1 408 ") && got.contains("connection: close"), "{got}");
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&after), "{after:?}");
    turned_away(&gateway, "late_head", 1).await;
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn whoever_says_nothing_is_closed_in_the_same_time() {
    let (_upstream, gateway) = open_with("header_timeout", "1s").await;
    for address in [gateway.address(), gateway.tls_address()] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let (got, after) = closed(&mut client).await;
        assert_eq!(got, "", "{address}");
        assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&after), "{after:?}");
    }
    turned_away(&gateway, "handshake", 1).await;
}

#[tokio::test]
async fn a_handshake_and_the_first_head_share_their_time() {
    let (_upstream, gateway) = open_with("header_timeout", "1s").await;
    for (protocol, sent) in [
        (None, ""),
        (None, "GET /v1/models HTTP/1.1\r\nhost"),
        (Some("h2"), ""),
        (Some("h2"), "PRI * HTTP/2.0\r\n"),
        (Some("http/1.1"), ""),
    ] {
        let mut client = gateway.encrypted(protocol).await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let (got, after) = closed(&mut client).await;
        assert_eq!(got.contains(" 408 "), !sent.is_empty(), "{protocol:?} {sent:?} {got}");
        assert!(after < Duration::from_secs(4), "{protocol:?} {sent:?} {after:?}");
    }
}

#[tokio::test]
async fn who_agrees_on_one_version_of_http_and_speaks_another_is_refused() {
    let (upstream, gateway) = open_with("threads", 1).await;
    for (protocol, sent) in [
        ("h2", format!("GET /v1/models HTTP/1.1\r\nhost: w\r\n{}\r\n\r\n", bearer())),
        ("http/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        let mut client = gateway.encrypted(Some(protocol)).await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let (got, _) = closed(&mut client).await;
        assert!(got.starts_with("HTTP/1.1 505 "), "{protocol} {got}");
    }
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn an_idle_connection_may_wait_longer_than_a_head_but_not_in_the_middle_of_one() {
    let (_upstream, gateway) = open_with("header_timeout", "1s").await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send_head("GET /v1/models", &[&bearer()]).await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    client.send("GET /v1/models HTTP/1.1\r\n").await;
    assert_eq!(client.answer().await.status, 408);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_more_are_closed_unread() {
    let (_upstream, gateway) = open_with("connections_per_ip", 3).await;
    let mut held = Vec::new();
    for address in [gateway.address(), gateway.tls_address(), gateway.address()] {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    eventually("three connections", async || gateway.metrics().await.contains("\nweir_connections 3\n").then_some(()))
        .await;
    for address in [gateway.address(), gateway.tls_address()] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let (got, after) = closed(&mut client).await;
        assert_eq!(got, "", "no handshake is begun");
        assert!(after < Duration::from_secs(1), "{after:?}");
    }
    turned_away(&gateway, "connections_per_ip", 2).await;
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let mut other = elsewhere.connect(gateway.address()).await.unwrap();
    other.write_all(b"HEAD / HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(closed(&mut other).await.0.starts_with("HTTP/1.1 200 "), "another address is served");
    drop(held);
    eventually("room", async || {
        let mut client = gateway.connect().await;
        client.offer("HEAD / HTTP/1.1\r\nhost: w\r\n\r\n").await;
        (!client.leave().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn there_are_so_many_connections_in_all_and_a_reload_changes_it() {
    let (_upstream, mut gateway) = open_with("max_connections", 2).await;
    let (_first, mut second) = (gateway.connect().await, gateway.connect().await);
    second.send_head("GET /v1/models", &[&bearer()]).await;
    assert_eq!(second.answer().await.status, 200);
    let mut third = TcpStream::connect(gateway.address()).await.unwrap();
    assert_eq!(closed(&mut third).await.0, "");
    turned_away(&gateway, "connections", 1).await;
    second.send_head("GET /v1/models", &[&bearer()]).await;
    assert_eq!(second.answer().await.status, 200, "those that are there are served on");
    gateway.rewrite(|config| config["server"]["max_connections"] = 3.into());
    gateway.signal("HUP");
    eventually("the reload", async || gateway.metrics().await.contains("\nweir_config_version 2\n").then_some(()))
        .await;
    let mut third = gateway.connect().await;
    third.send_head("GET /v1/models", &[&bearer()]).await;
    assert_eq!(third.answer().await.status, 200);
}

#[tokio::test]
async fn a_head_may_be_as_large_as_is_written_and_no_larger() {
    let (_upstream, gateway) = open_with("max_header", "8KiB").await;
    for (size, status) in [(7_000, 200), (9_000, 431), (100_000, 431)] {
        let mut client = gateway.connect().await;
        let large = format!("x-large: {}", "a".repeat(size));
        client.offer(format!("GET /v1/models HTTP/1.1\r\nhost: w\r\n{}\r\n{large}\r\n\r\n", bearer())).await;
        assert_eq!(client.answer().await.status, status, "{size}");
    }
    turned_away(&gateway, "large_head", 2).await;
    for http in [Http::H2c, Http::TlsH2] {
        let ask = |size: usize| {
            gateway.over(http).get("/v1/models").key("alice").header("x-large", "a".repeat(size)).try_send()
        };
        assert_eq!(ask(7_000).await.map(|answer| answer.status), Some(200), "{http:?}");
        let large = ask(20_000).await.map(|answer| answer.status);
        assert!(matches!(large, None | Some(431)), "{http:?} {large:?}");
    }
}

#[tokio::test]
async fn more_requests_than_may_be_under_way_are_told_so_at_once_in_their_protocols_shape() {
    let slow = raw_answer("").wait(1_500).send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let upstream = upstream([slow.clone(), slow.clone(), answer(200, &[], "{}")]).await;
    let builder = gateway().channel(openai(upstream.address())).key("alice").tls(Authority::new());
    let gateway = builder.with("server.max_in_flight", 2).start().await;
    let served = futures::future::join_all((0..2).map(|_| gateway.post(CHAT).key("alice").body(BODY).send()));
    let refused = async {
        eventually("two requests", async || {
            gateway.metrics().await.contains("\nweir_requests_in_flight 2\n").then_some(())
        })
        .await;
        let start = Instant::now();
        for http in [Http::H1, Http::H2c, Http::TlsH1, Http::TlsH2] {
            let answer = gateway.over(http).post(CHAT).key("nobody").body(BODY).send().await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{http:?}: no key is looked at");
            assert_eq!(answer.json()["error"]["code"], "overloaded");
        }
        let answer = gateway.post("/v1/messages").key("alice").body(BODY).send().await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (503, &"overloaded_error".into()));
        let answer = gateway.post("/v1beta/models/gemini-x:generateContent").key("alice").body("{}").send().await;
        assert_eq!((answer.status, &answer.json()["error"]["status"]), (503, &"UNAVAILABLE".into()));
        let mut client = gateway.connect().await;
        client.send("HEAD / HTTP/1.1\r\nhost: w\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "), "it is alive all the same");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    };
    let (served, ()) = tokio::join!(served, refused);
    assert_eq!(served.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200]);
    turned_away(&gateway, "overload", 6).await;
    let after = gateway.post(CHAT).key("alice").body(BODY).send().await;
    assert_eq!(after.status, 200, "their places are free again");
    assert_eq!(gateway.used("key", "alice", 3).await["failed"], 0, "what was refused is no use of the key");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut_and_its_upstream_let_go() {
    // More than all buffers between the two hold.
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(16_000));
    let script = (0..2_000)
        .fold(chunked(200, &[("content-type", "text/event-stream")]), |script, _| script.chunk(event.as_str()));
    let upstream = upstream([script.last_chunk()]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()).with("on_disconnect", "abort"))
        .key("alice")
        .with("server.write_timeout", "1s")
        .start()
        .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut client = socket.connect(gateway.address()).await.unwrap();
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: w\r\n{}\r\ncontent-length: {}\r\n\r\n", bearer(), body.len());
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    turned_away(&gateway, "slow_reader", 1).await;
    let row = gateway.used("key", "alice", 1).await;
    assert_eq!(row["failed"], 1);
    eventually("no connection", async || gateway.metrics().await.contains("\nweir_connections 0\n").then_some(()))
        .await;
}

#[tokio::test]
async fn a_stream_that_is_slow_because_its_upstream_is_uses_none_of_the_clients_time() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let script =
        (0..6).fold(chunked(200, &[("content-type", "text/event-stream")]), |script, _| script.chunk(event).wait(400));
    let upstream = upstream([script.last_chunk()]).await;
    let gateway = gateway()
        .channel(openai(upstream.address()))
        .key("alice")
        .tls(Authority::new())
        .with("server.write_timeout", "500ms")
        .with("server.min_drain_rate", "1MiB")
        .start()
        .await;
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}"#;
    for http in Http::ALL {
        let answer = gateway.over(http).post(CHAT).key("alice").body(body).send().await;
        assert_eq!((answer.status, answer.broken, answer.text()), (200, false, event.repeat(6)), "{http:?}");
    }
}
