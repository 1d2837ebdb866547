//! The end of a gateway, and what systemd is told of its life.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Authority, Gate, Gateway, GatewayBuilder, Http, answer, chunked, eventually, gateway, openai, secret_of, upstream,
};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const STREAMED: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const SSE: (&str, &str) = ("content-type", "text/event-stream");
const REPORT: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";

/// How long an end may take after the last stream.
const AT_ONCE: Duration = Duration::from_secs(1);

/// One that would wait for long.
fn patient() -> GatewayBuilder {
    gateway().key("alice").with("server.grace_period", "60s")
}

/// How long it takes until the gateway has ended, well.
async fn end(gateway: &mut Gateway) -> Duration {
    let begun = Instant::now();
    let status = eventually("an end", async || gateway.exit_status()).await;
    assert!(status.success(), "{status}: {}", gateway.stderr());
    begun.elapsed()
}

fn figures(gateway: &Gateway) -> Vec<Value> {
    let rows: Value = serde_json::from_slice(&gateway.command(&["usage", "--by", "key", "--json"]).stdout).unwrap();
    ["requests", "failed", "input_tokens", "output_tokens"].map(|name| rows["rows"][0][name].clone()).into()
}

#[tokio::test]
async fn sigterm_ends_with_the_last_stream_over_every_version_of_http() {
    for http in Http::ALL {
        let gate = Gate::new();
        let script = chunked(200, &[SSE]).chunk("data: {\"choices\":[]}\n\n").gate(&gate).chunk(REPORT).last_chunk();
        let upstream = upstream([script]).await;
        let mut gateway = patient().channel(openai(upstream.address())).tls(Authority::new()).start().await;
        let mut stream = gateway.over(http).post(CHAT).key("alice").body(STREAMED).stream().await;
        assert!(stream.next().await.is_some());
        gateway.signal("TERM");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(gateway.exit_status(), None, "{http:?}: a stream is open");
        gate.open();
        let mut rest = Vec::new();
        while let Some(piece) = stream.next().await {
            rest.extend_from_slice(&piece);
        }
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), stream.answer.broken), (REPORT, false), "{http:?}");
        let took = end(&mut gateway).await;
        assert!(took < AT_ONCE, "{http:?}: {took:?}");
        assert_eq!(figures(&gateway), [1, 0, 9, 7].map(Value::from), "{http:?}");
    }
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once_whatever_connections_are_open() {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], "{}")]).await;
    let mut gateway = patient().channel(openai(upstream.address())).tls(Authority::new()).start().await;
    let clients: Vec<_> = Http::ALL.into_iter().map(|http| gateway.over(http)).collect();
    for client in &clients {
        assert_eq!(client.post(CHAT).key("alice").body(BODY).send().await.status, 200);
    }
    let mut silent = gateway.connect().await;
    gateway.signal("TERM");
    let took = end(&mut gateway).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert!(silent.is_closed().await);
}

#[tokio::test]
async fn whoever_was_let_in_is_served_once_and_told_to_go() {
    let gate = Gate::new();
    let held = chunked(200, &[SSE]).chunk("data: {}\n\n").gate(&gate).chunk(REPORT).last_chunk();
    let upstream = upstream([held, answer(200, &[("content-type", "application/json")], "{}")]).await;
    let mut gateway = patient().channel(openai(upstream.address())).start().await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert!(stream.next().await.is_some());
    let (mut new, mut used) = (gateway.connect().await, gateway.connect().await);
    let (key, length) = (format!("x-api-key: {}", secret_of("alice")), format!("content-length: {}", BODY.len()));
    let lines = [key.as_str(), &length];
    used.send_head(&format!("POST {CHAT}"), &lines).await;
    used.send(BODY).await;
    assert_eq!(used.answer().await.header("connection"), Some("keep-alive"));
    gateway.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    for client in [&mut new, &mut used] {
        client.send_head(&format!("POST {CHAT}"), &lines).await;
        client.send(BODY).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed().await);
    }
    assert!(gateway.post(CHAT).key("alice").body(BODY).try_send().await.is_none(), "nobody else is let in");
    gate.open();
    assert!(end(&mut gateway).await < AT_ONCE);
}

#[tokio::test]
async fn what_is_read_for_nobody_is_waited_for() {
    let gate = Gate::new();
    let upstream = upstream([chunked(200, &[SSE]).chunk("data: {}\n\n").gate(&gate).chunk(REPORT).last_chunk()]).await;
    let mut gateway = patient().channel(openai(upstream.address())).start().await;
    let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
    assert!(stream.next().await.is_some());
    drop(stream);
    let drains = "weir_drains_active 1";
    eventually("a drain", async || gateway.metrics().await.contains(drains).then_some(())).await;
    gateway.signal("TERM");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(gateway.exit_status(), None, "the upstream's report is still to come");
    gate.open();
    assert!(end(&mut gateway).await < AT_ONCE);
    assert_eq!(figures(&gateway), [1, 1, 9, 7].map(Value::from), "as the upstream reports it, and without its client");
}

#[tokio::test]
async fn sigint_and_the_end_of_the_grace_cut_what_is_open() {
    for (signals, grace, least) in
        [(&["INT"][..], "60s", 0), (&["TERM", "TERM", "INT"], "60s", 0), (&["TERM"], "1s", 1)]
    {
        let upstream = upstream([chunked(200, &[SSE]).chunk("data: {}\n\n").until_closed()]).await;
        let mut gateway =
            patient().channel(openai(upstream.address())).with("server.grace_period", grace).start().await;
        let mut stream = gateway.post(CHAT).key("alice").body(STREAMED).stream().await;
        assert!(stream.next().await.is_some());
        for signal in signals {
            gateway.signal(signal);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = end(&mut gateway).await;
        assert!(took + AT_ONCE / 10 > Duration::from_secs(least) && took < AT_ONCE * 2, "{signals:?}: {took:?}");
        upstream.closed().await;
        assert_eq!(figures(&gateway)[0], json!(1), "what was cut is settled");
    }
}

/// The messages to systemd until one begins with `last`.
fn told(socket: &UnixDatagram, last: &str) -> Vec<String> {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut told = Vec::new();
    loop {
        let mut bytes = [0; 256];
        let got = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("{told:?}, and then {e}"));
        told.push(String::from_utf8_lossy(&bytes[..got]).into_owned());
        if told.last().is_some_and(|line| line.starts_with(last)) {
            return told;
        }
    }
}

#[tokio::test]
async fn systemd_is_told_when_it_serves_that_it_lives_and_when_it_stops() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let notify = path.to_str().unwrap();
    let mut gateway = gateway()
        .tls(Authority::new())
        .environment("NOTIFY_SOCKET", notify)
        .environment("WATCHDOG_USEC", "300000")
        .start()
        .await;
    let first = told(&systemd, "READY=1");
    assert_eq!(first, [format!("READY=1\nMAINPID={}\nSTATUS=serving", gateway.pid())]);
    for _ in 0..3 {
        assert_eq!(told(&systemd, "WATCHDOG=1"), ["WATCHDOG=1"]);
    }
    gateway.signal("STOP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    while systemd.set_nonblocking(true).is_ok() && systemd.recv(&mut [0; 256]).is_ok() {}
    systemd.set_nonblocking(false).unwrap();
    gateway.signal("CONT");
    assert_eq!(told(&systemd, "WATCHDOG=1"), ["WATCHDOG=1"]);
    gateway.signal("TERM");
    assert!(told(&systemd, "STOPPING=1").len() < 4);
    assert!(end(&mut gateway).await < AT_ONCE);
}

#[tokio::test]
async fn the_watchdog_asks_a_listener_with_tls_too() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut gateway = gateway()
        .tls(Authority::new())
        .environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .environment("WATCHDOG_USEC", "300000")
        .start()
        .await;
    gateway.stop().await;
    gateway.rewrite(|config| config["listen"].as_array_mut().expect("a list").reverse());
    let systemd = UnixDatagram::bind(&path).unwrap();
    gateway.start().await;
    for _ in 0..3 {
        told(&systemd, "WATCHDOG=1");
    }
    gateway.stop().await;
    assert!(!gateway.stderr().contains("ERROR"), "{}", gateway.stderr());
}

#[tokio::test]
async fn systemd_is_told_which_process_is_the_main_one_after_an_upgrade() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut gateway = gateway().environment("NOTIFY_SOCKET", path.to_str().unwrap()).start().await;
    told(&systemd, "READY=1");
    assert!(gateway.upgrade(&[]).status.success());
    eventually("the end of the first process", async || gateway.exit_status()).await;
    let pid = gateway.pid();
    let (by_old, by_new) = (format!("MAINPID={pid}"), format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
    gateway.signal("TERM");
    let mut all = told(&systemd, "STOPPING=1");
    all.sort();
    assert_eq!(
        all,
        [by_old, by_new, "STOPPING=1\nSTATUS=waiting for open streams".to_owned()],
        "it never stopped before"
    );
}

#[tokio::test]
async fn a_socket_of_systemd_is_served_and_stays_open_when_the_gateway_ends() {
    let upstream = upstream([answer(200, &[("content-type", "application/json")], "{}")]).await;
    let mut gateway = patient().channel(openai(upstream.address())).start().await;
    gateway.stop().await;
    let address = gateway.address();
    let listener = TcpListener::bind(address).expect("the gateway is gone");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run -c \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_weir")])
        .arg(gateway.config_file())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Whoever connects before it serves waits, and is not refused.
    let answer = gateway.post(CHAT).key("alice").body(BODY).send().await;
    let stopped = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
    assert!(stopped.unwrap().success());
    assert!(child.wait().unwrap().success());
    assert_eq!(answer.status, 200);
    std::net::TcpStream::connect(address).expect("systemd's socket is still open");
    drop(listener);
}
