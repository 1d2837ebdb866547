//! Every endpoint, through real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::*;
use crate::metrics::{AuthFailure, Metrics};

const TOKEN: &str = "weir-admin-test";

/// A gateway that is told what to answer.
struct Gateway {
    not_ready: Mutex<Vec<NotReady>>,
    asked: Mutex<Option<UsageQuery>>,
    reload: Mutex<Result<u64, Vec<String>>>,
    /// While set, questions do not come to an end.
    held: AtomicBool,
    running: AtomicU64,
    most_running: AtomicU64,
    metrics: Metrics,
}

impl Gateway {
    fn new() -> Self {
        Self {
            not_ready: Mutex::default(),
            asked: Mutex::default(),
            reload: Mutex::new(Ok(7)),
            held: AtomicBool::new(false),
            running: AtomicU64::new(0),
            most_running: AtomicU64::new(0),
            metrics: Metrics::new(),
        }
    }
}

impl AdminState for Gateway {
    fn readiness(&self) -> Vec<NotReady> {
        self.not_ready.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn usage(&self, query: &UsageQuery) -> Result<Vec<Value>, UsageError> {
        *self.asked.lock().unwrap() = Some(*query);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        match query.by {
            By::Key => Ok(vec![json!({ "key": "alice-laptop", "requests": 3 })]),
            By::User => Err(UsageError::Unavailable("the store is being rebuilt".into())),
            By::Model => panic!("a mistake in the state"),
            By::Day => Err(UsageError::Invalid {
                parameter: "step".into(),
                message: "rows are days already".into(),
            }),
            By::Channel | By::Route => Ok(Vec::new()),
        }
    }

    fn reload(&self) -> Result<u64, Vec<String>> {
        self.reload.lock().unwrap().clone()
    }
}

struct Bench {
    handle: AdminHandle,
    gateway: Arc<Gateway>,
    http: reqwest::Client,
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Gateway::new(), None, Limits::DEFAULT)
    }

    fn with(gateway: Gateway, metrics_token: Option<&str>, limits: Limits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let options = AdminOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            token: AdminToken::of(&Secret::new(TOKEN)).unwrap(),
            metrics_token: metrics_token.map(Secret::new),
            socket: Some(home.path().join(SOCKET)),
        };
        let gateway = Arc::new(gateway);
        let state: Arc<dyn AdminState> = gateway.clone();
        let handle = Admin::start_with(options, state, limits).unwrap();
        Self {
            handle,
            gateway,
            http: reqwest::Client::new(),
            home,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.home.path().join(SOCKET))
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> reqwest::Response {
        let url = format!("http://{}{path}", self.handle.address());
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    async fn until_running(&self, questions: u64) {
        while self.gateway.running.load(Ordering::SeqCst) < questions {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let response = self.ask(Method::GET, path, token).await;
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn healthz_is_ok_without_a_token() {
    let response = Bench::new().ask(Method::GET, "/healthz", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        header(&response, "content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(
        header(&response, "content-security-policy"),
        Some("default-src 'none'; frame-ancestors 'none'")
    );
    assert_eq!(response.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn readyz_names_what_is_not_ready() {
    let bench = Bench::new();
    assert_eq!(
        bench.get("/readyz", None).await,
        (200, r#"{"ready":true,"reasons":[]}"#.into())
    );
    let reason = NotReady {
        part: "store",
        message: "is being rebuilt".into(),
    };
    bench.gateway.not_ready.lock().unwrap().push(reason);
    let body = r#"{"ready":false,"reasons":[{"message":"is being rebuilt","part":"store"}]}"#;
    assert_eq!(bench.get("/readyz", None).await, (503, body.into()));
}

#[tokio::test]
async fn metrics_are_open_without_a_metrics_token() {
    let bench = Bench::new();
    bench.gateway.metrics.auth_failure(AuthFailure::Missing);
    let response = bench.ask(Method::GET, "/metrics", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        header(&response, "content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = response.text().await.unwrap();
    assert_eq!(
        text.matches("\nweir_auth_failures_total{reason=\"missing\"} 1\n")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_metrics_token_closes_metrics_at_the_network_only() {
    let bench = Bench::with(Gateway::new(), Some("scrape"), Limits::DEFAULT);
    let body = r#"{"error":{"message":"the metrics token is needed, as Authorization: Bearer"}}"#;
    for token in [None, Some("wrong"), Some(TOKEN)] {
        assert_eq!(
            bench.get("/metrics", token).await,
            (401, body.into()),
            "{token:?}"
        );
    }
    assert_eq!(bench.get("/metrics", Some("scrape")).await.0, 200);
    assert_eq!(
        bench.client().get("/metrics").await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_api_needs_the_token_even_for_paths_that_are_not_there() {
    let bench = Bench::new();
    let body = r#"{"error":{"message":"the admin token is needed, as Authorization: Bearer"}}"#;
    for path in [
        "/admin/api/usage?by=key",
        "/admin/api/reload",
        "/admin/api/nothing",
    ] {
        for token in [None, Some(""), Some("wrong"), Some("weir-admin-tes")] {
            let response = bench.ask(Method::GET, path, token).await;
            assert_eq!(
                header(&response, "www-authenticate"),
                Some(r#"Bearer realm="weir""#)
            );
            assert_eq!(
                (response.status().as_u16(), response.text().await.unwrap()),
                (401, body.into()),
                "{path}"
            );
        }
    }
    assert_eq!(
        *bench.gateway.asked.lock().unwrap(),
        None,
        "nobody without the token reaches the state"
    );
}

#[tokio::test]
async fn usage_asks_the_state_what_the_query_says() {
    let bench = Bench::new();
    let path = "/admin/api/usage?by=key&from=2025-12-02T01:00:00%2B01:00&to=1764720000&step=hour";
    let body = r#"{"rows":[{"key":"alice-laptop","requests":3}]}"#;
    assert_eq!(bench.get(path, Some(TOKEN)).await, (200, body.into()));
    let (from, to) = (Some(1_764_633_600_000), Some(1_764_720_000_000));
    let expected = UsageQuery {
        by: By::Key,
        from,
        to,
        step: Some(Step::Hour),
    };
    assert_eq!(*bench.gateway.asked.lock().unwrap(), Some(expected));
    assert_eq!(
        bench.get("/admin/api/usage?by=route", Some(TOKEN)).await,
        (200, r#"{"rows":[]}"#.into())
    );
}

#[tokio::test]
async fn a_wrong_query_is_answered_with_its_parameter() {
    let bench = Bench::new();
    for (query, parameter, message) in [
        (
            "",
            "by",
            "must be one of key, user, model, channel, route, day",
        ),
        (
            "?by=price",
            "by",
            "must be one of key, user, model, channel, route, day",
        ),
        (
            "?by=key&step=week",
            "step",
            "must be one of minute, hour, day, month",
        ),
        (
            "?by=key&from=now",
            "from",
            "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970",
        ),
        (
            "?by=key&%3Cb%3E=1",
            "<b>",
            "unknown parameter; there are by, from, to and step",
        ),
        ("?by=day", "step", "rows are days already"),
    ] {
        let (status, body) = bench
            .get(&format!("/admin/api/usage{query}"), Some(TOKEN))
            .await;
        let message = format!("{parameter}: {message}");
        let expected = json!({ "error": { "message": message, "parameter": parameter } });
        assert_eq!((status, body), (400, expected.to_string()), "{query}");
    }
}

#[tokio::test]
async fn what_the_state_cannot_answer_is_an_error_and_the_listener_lives() {
    let bench = Bench::new();
    let body = r#"{"error":{"message":"the store is being rebuilt"}}"#;
    assert_eq!(
        bench.get("/admin/api/usage?by=user", Some(TOKEN)).await,
        (503, body.into())
    );
    let body = r#"{"error":{"message":"the gateway failed to answer; see its log"}}"#;
    assert_eq!(
        bench.get("/admin/api/usage?by=model", Some(TOKEN)).await,
        (500, body.into())
    );
    assert_eq!(bench.get("/healthz", None).await, (200, "ok".into()));
}

#[tokio::test]
async fn reload_tells_the_version_or_all_mistakes() {
    let bench = Bench::new();
    let response = bench
        .ask(Method::POST, "/admin/api/reload", Some(TOKEN))
        .await;
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap()),
        (200, r#"{"version":7}"#.into())
    );
    *bench.gateway.reload.lock().unwrap() =
        Err(vec!["weir.yaml:3:1: unknown field".into(), "second".into()]);
    let response = bench
        .ask(Method::POST, "/admin/api/reload", Some(TOKEN))
        .await;
    let message = "the configuration was not taken; the one before it is still served";
    let mistakes = ["weir.yaml:3:1: unknown field", "second"];
    let expected = json!({ "error": { "message": message, "mistakes": mistakes } });
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap()),
        (422, expected.to_string())
    );
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let bench = Bench::new();
    let url = format!("http://{}/admin/api/reload", bench.handle.address());
    for (size, status) in [(64 * 1024, 200), (64 * 1024 + 1, 413)] {
        let response = bench
            .http
            .post(&url)
            .bearer_auth(TOKEN)
            .body(vec![b'x'; size])
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), status, "{size} bytes");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow() {
    let bench = Bench::new();
    for (method, path, allow) in [
        (Method::POST, "/healthz", "GET,HEAD"),
        (Method::PUT, "/readyz", "GET,HEAD"),
        (Method::DELETE, "/metrics", "GET,HEAD"),
        (Method::POST, "/admin/api/usage", "GET,HEAD"),
        (Method::GET, "/admin/api/reload", "POST"),
    ] {
        let response = bench.ask(method, path, Some(TOKEN)).await;
        assert_eq!(header(&response, "allow"), Some(allow), "{path}");
        let body = r#"{"error":{"message":"this path does not take this method"}}"#;
        assert_eq!(
            (response.status().as_u16(), response.text().await.unwrap()),
            (405, body.into()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn any_other_path_is_404() {
    let bench = Bench::new();
    let body = r#"{"error":{"message":"there is nothing at this path"}}"#;
    for path in [
        "/",
        "/admin",
        "/admin/api/config",
        "/healthz/",
        "/v1/models",
        "/admin/%61pi/usage",
        "//metrics",
    ] {
        assert_eq!(
            bench.get(path, Some(TOKEN)).await,
            (404, body.into()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_socket_needs_no_token_and_is_its_owners_alone() {
    let bench = Bench::new();
    let file = std::fs::symlink_metadata(bench.home.path().join(SOCKET)).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let answer = bench.client().get("/admin/api/usage?by=key").await.unwrap();
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.json().unwrap()["rows"][0]["requests"].clone()
        ),
        (200, json!(3))
    );
    let answer = bench.client().post("/admin/api/reload").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &br#"{"version":7}"#[..])
    );
    let answer = bench.client().get("/admin/api/nothing").await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
}

#[test]
fn the_client_works_without_a_runtime() {
    let bench = Bench::new();
    let answer = bench.client().get_blocking("/healthz").unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"ok"[..])
    );
    let answer = bench.client().post_blocking("/admin/api/reload").unwrap();
    assert_eq!(answer.json().unwrap(), json!({ "version": 7 }));
    assert!(matches!(
        bench.client().get_blocking("no path"),
        Err(ClientError::Http(_))
    ));
}

#[test]
fn the_client_says_when_no_gateway_runs() {
    let bench = Bench::new();
    let path = bench.home.path().join("absent.sock");
    let error = Client::new(&path).get_blocking("/healthz").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no gateway listens on {}", path.display())
    );
    bench.handle.shutdown();
    assert!(matches!(
        bench.client().get_blocking("/healthz"),
        Err(ClientError::NotRunning(_))
    ));
}

#[tokio::test]
async fn shutdown_closes_both_doors_and_removes_the_socket() {
    let bench = Bench::new();
    let address = bench.handle.address();
    assert_eq!(bench.get("/healthz", None).await.0, 200);
    bench.handle.shutdown();
    bench.handle.shutdown();
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
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
    };
    let error = Admin::start(options, Arc::new(Gateway::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string().split(": ").next(),
        Some(bench.handle.address().to_string().as_str())
    );
}

#[test]
fn a_socket_in_use_is_an_error_of_the_start() {
    let bench = Bench::new();
    let options = AdminOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        token: AdminToken::of(&Secret::new(TOKEN)).unwrap(),
        metrics_token: None,
        socket: Some(bench.home.path().join(SOCKET)),
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
    };
    let error = Admin::start(options, Arc::new(Gateway::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_503_and_the_rest_goes_on() {
    let limits = Limits {
        request: Duration::from_millis(200),
        ..Limits::DEFAULT
    };
    let bench = Bench::with(Gateway::new(), None, limits);
    bench.gateway.held.store(true, Ordering::SeqCst);
    let body = r#"{"error":{"message":"this takes too long; what was started goes on"}}"#;
    let asked = bench.get("/admin/api/usage?by=key", Some(TOKEN)).await;
    assert_eq!(asked, (503, body.into()));
    assert_eq!(
        bench.gateway.running.load(Ordering::SeqCst),
        1,
        "the question is still being worked on"
    );
    assert_eq!(bench.get("/metrics", None).await.0, 200);
    bench.gateway.held.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn no_more_than_two_questions_are_worked_on_at_once() {
    let bench = Bench::new();
    bench.gateway.held.store(true, Ordering::SeqCst);
    let asked = futures::future::join_all(
        (0..6).map(|_| bench.get("/admin/api/usage?by=key", Some(TOKEN))),
    );
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
    let limits = Limits {
        head: Duration::from_millis(100),
        ..Limits::DEFAULT
    };
    let bench = Bench::with(Gateway::new(), None, limits);
    for said in [
        "",
        "GET /healthz HTTP/1.1\r\nhost: a\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(bench.handle.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .unwrap_or_else(|error| panic!("{said:?}: not closed: {error}"));
        assert!(
            begun.elapsed() >= Duration::from_millis(90),
            "{said:?}: closed at once"
        );
        assert_eq!(
            answer.starts_with(b"HTTP/1.1 200"),
            said.ends_with("\r\n\r\n"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_and_the_other_door_is_open() {
    let limits = Limits {
        connections: 2,
        head: Duration::from_millis(1500),
        ..Limits::DEFAULT
    };
    let bench = Bench::with(Gateway::new(), None, limits);
    let address = bench.handle.address();
    let _idle = [
        TcpStream::connect(address).unwrap(),
        TcpStream::connect(address).unwrap(),
    ];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    assert_eq!(
        bench.client().get("/healthz").await.unwrap().status,
        StatusCode::OK
    );
    assert!(
        begun.elapsed() < Duration::from_millis(1000),
        "the socket has slots of its own"
    );
    assert_eq!(bench.get("/healthz", None).await.0, 200);
    assert!(
        begun.elapsed() >= Duration::from_millis(1000),
        "the third waits for a slot"
    );
}

#[test]
fn a_peer_that_does_not_speak_http_harms_nobody() {
    let bench = Bench::new();
    let socket = bench.home.path().join(SOCKET);
    for said in [
        &b"\0\xff\xfe"[..],
        b"GET / HTTP/9\r\n\r\n",
        b"\x16\x03\x01",
        &[b'a'; 100_000],
    ] {
        let mut network = TcpStream::connect(bench.handle.address()).unwrap();
        let mut local = UnixStream::connect(&socket).unwrap();
        // It may be closed on us in the middle of it.
        let _ = (network.write_all(said), local.write_all(said));
    }
    assert_eq!(
        bench
            .client()
            .get_blocking("/healthz")
            .unwrap()
            .status
            .as_u16(),
        200
    );
}
