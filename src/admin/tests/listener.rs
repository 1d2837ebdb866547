//! Starting, stopping, slow and strange peers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use reqwest::StatusCode;

use super::*;
use crate::admin::client::ClientError;

#[test]
fn the_client_works_without_a_runtime() {
    let bench = Bench::new();
    let answer = bench.client().get_blocking("/healthz").unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]));
    let answer = bench.client().post_blocking("/admin/api/reload").unwrap();
    assert_eq!(answer.json().unwrap(), json!({ "version": 7 }));
    assert!(matches!(bench.client().get_blocking("no path"), Err(ClientError::Http(_))));
}

#[test]
fn the_client_says_when_no_gateway_runs() {
    let bench = Bench::new();
    let path = bench.home.path().join("absent.sock");
    let error = Client::new(&path).get_blocking("/healthz").unwrap_err();
    assert_eq!(error.to_string(), format!("no gateway listens on {}", path.display()));
    bench.handle.shutdown();
    assert!(matches!(bench.client().get_blocking("/healthz"), Err(ClientError::NotRunning(_))));
}

#[tokio::test]
async fn shutdown_closes_both_doors_and_removes_the_socket() {
    let bench = Bench::new();
    let address = bench.handle.address();
    assert_eq!(bench.get("/healthz", None).await.0, 200);
    bench.handle.shutdown();
    bench.handle.shutdown();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(!bench.home.path().join(SOCKET).exists());
}

#[tokio::test]
async fn an_answer_under_way_is_finished_at_a_stop() {
    let bench = Bench::new();
    bench.gateway.held.store(true, Ordering::SeqCst);
    let client = bench.client();
    let asking = tokio::spawn(async move { client.get("/admin/api/usage?by=key").await });
    bench.until_running(1).await;
    let handle = bench.handle;
    let stopped = tokio::task::spawn_blocking(move || drop(handle));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!stopped.is_finished(), "the stop waits for the answer");
    bench.gateway.held.store(false, Ordering::SeqCst);
    stopped.await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status, StatusCode::OK);
}

#[test]
fn a_port_in_use_is_an_error_of_the_start() {
    let bench = Bench::new();
    let options = AdminOptions {
        address: bench.handle.address(),
        token: AdminToken::of(&Secret::new(TOKEN)).unwrap(),
        metrics_token: None,
        socket: None,
        trusted_proxies: crate::config::loopback(),
    };
    let error = Admin::start(options, Arc::new(Gateway::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string().split(": ").next(), Some(bench.handle.address().to_string().as_str()));
}

#[test]
fn a_socket_in_use_is_an_error_of_the_start() {
    let bench = Bench::new();
    let options = AdminOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        token: AdminToken::of(&Secret::new(TOKEN)).unwrap(),
        metrics_token: None,
        socket: Some(bench.home.path().join(SOCKET)),
        trusted_proxies: crate::config::loopback(),
    };
    let error = Admin::start(options, Arc::new(Gateway::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn an_empty_metrics_token_is_an_error_of_the_start() {
    let options = AdminOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        token: AdminToken::of(&Secret::new(TOKEN)).unwrap(),
        metrics_token: Some(Secret::new("")),
        socket: None,
        trusted_proxies: crate::config::loopback(),
    };
    let error = Admin::start(options, Arc::new(Gateway::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_503_and_the_rest_goes_on() {
    let limits = Limits { request: Duration::from_millis(200), ..Limits::DEFAULT };
    let bench = Bench::with(Gateway::new(), None, limits);
    bench.gateway.held.store(true, Ordering::SeqCst);
    let body = r#"{"error":{"code":"unavailable","message":"this takes too long; what was started goes on"}}"#;
    let asked = bench.get("/admin/api/usage?by=key", Some(TOKEN)).await;
    assert_eq!(asked, (503, body.into()));
    assert_eq!(bench.gateway.running.load(Ordering::SeqCst), 1, "the question is still being worked on");
    assert_eq!(bench.get("/metrics", None).await.0, 200);
    bench.gateway.held.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn no_more_than_two_questions_are_worked_on_at_once() {
    let bench = Bench::new();
    bench.gateway.held.store(true, Ordering::SeqCst);
    let asked = futures::future::join_all((0..6).map(|_| bench.get("/admin/api/usage?by=key", Some(TOKEN))));
    let release = async {
        bench.until_running(2).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.gateway.held.store(false, Ordering::SeqCst);
    };
    for (status, _) in tokio::join!(asked, release).0 {
        assert_eq!(status, 200);
    }
    assert_eq!(bench.gateway.most_running.load(Ordering::SeqCst), 2);
}

#[test]
fn a_head_that_does_not_end_and_an_idle_connection_are_closed() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::DEFAULT };
    let bench = Bench::with(Gateway::new(), None, limits);
    for said in ["", "GET /healthz HTTP/1.1\r\nhost: a\r\n", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(bench.handle.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{said:?}: not closed: {error}"));
        assert!(begun.elapsed() >= Duration::from_millis(90), "{said:?}: closed at once");
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), said.ends_with("\r\n\r\n"), "{said:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_and_the_other_door_is_open() {
    let limits = Limits { connections: 2, head: Duration::from_millis(1500), ..Limits::DEFAULT };
    let bench = Bench::with(Gateway::new(), None, limits);
    let address = bench.handle.address();
    let _idle = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    assert_eq!(bench.client().get("/healthz").await.unwrap().status, StatusCode::OK);
    assert!(begun.elapsed() < Duration::from_secs(1), "the socket has slots of its own");
    assert_eq!(bench.get("/healthz", None).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_secs(1), "the third waits for a slot");
}

#[test]
fn a_peer_that_does_not_speak_http_harms_nobody() {
    let bench = Bench::new();
    let socket = bench.home.path().join(SOCKET);
    for said in [&b"\0\xff\xfe"[..], b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01", &[b'a'; 100_000]] {
        let mut network = TcpStream::connect(bench.handle.address()).unwrap();
        let mut local = UnixStream::connect(&socket).unwrap();
        // It may be closed on us in the middle of it.
        let _ = (network.write_all(said), local.write_all(said));
    }
    assert_eq!(bench.client().get_blocking("/healthz").unwrap().status.as_u16(), 200);
}

/// Whoever follows and never reads is let go as soon as nothing more goes into the sockets between the two.
#[tokio::test]
async fn who_follows_and_reads_nothing_is_let_go() {
    let bench = Bench::with(Gateway::new(), None, Limits { write: Duration::from_millis(200), ..Limits::DEFAULT });
    let mut silent = TcpStream::connect(bench.handle.address()).unwrap();
    write!(silent, "GET /admin/api/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
    let live = &bench.gateway.live;
    let until = async |count: usize| {
        for _ in 0..500 {
            if live.followers() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are {} followers", live.followers());
    };
    until(1).await;
    let large: Arc<str> = "x".repeat(8 << 20).into();
    for _ in 0..4 {
        live.publish(audit::Event::RunCompleted(large.clone()));
    }
    until(0).await;
    let mut reads = bench.ask(Method::GET, "/admin/api/events", Some(TOKEN)).await;
    assert!(reads.chunk().await.unwrap().is_some(), "others are served");
    drop(silent);
}
