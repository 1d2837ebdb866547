//! A gateway with one worker thread, the upstream behind it and a client in front.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use weir::Gateway;

const KEY: &str = "sk-weir-allocations-0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Scene {
    gateway: SocketAddr,
    _home: tempfile::TempDir,
}

/// A connection to the gateway.
pub(crate) struct Connection(BufReader<TcpStream>);

/// Nobody stops the gateway: it ends with the process.
struct Never;

#[async_trait]
impl ShutdownSignalWatch for Never {
    async fn recv(&self) -> ShutdownSignal {
        std::future::pending().await
    }
}

impl Scene {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let upstream = upstream();
        let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let text = format!(
            "server: {{ threads: 1 }}
data_dir: {}
listen: [{{ address: '{gateway}' }}]
channels:
  - name: mock
    protocol: openai
    base_url: http://{upstream}
    keys: [{{ name: main, value: upstream-key }}]
    models: [bench-model]
keys: [{{ name: one, sha256: {digest} }}]
",
            home.path().display(),
            digest = weir_filters::key::KeyDigest::of(KEY),
        );
        let config = weir::config::parse(&text, Path::new("weir.yaml"), &|_| None).expect("it is right");
        thread::spawn(move || {
            let served = Gateway::open(&config).and_then(|open| open.serve(&config, Box::new(Never)));
            panic!("the gateway ended: {served:?}");
        });
        let begun = Instant::now();
        while TcpStream::connect(gateway).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the gateway does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self { gateway, _home: home }
    }

    pub(crate) fn client(&self) -> Connection {
        let stream = TcpStream::connect(self.gateway).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection(BufReader::new(stream))
    }

    /// Asks `n` times for a small answer.
    pub(crate) fn json(&self, client: &mut Connection, n: u32) {
        for _ in 0..n {
            client.ask(
                self.gateway,
                &format!("\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}]", "x".repeat(220)),
            );
            let body = client.answer();
            assert!(body.ends_with(b"\"total_tokens\":33}}"), "{}", String::from_utf8_lossy(&body));
        }
    }

    /// Asks for a stream of `n` events.
    pub(crate) fn stream(&self, client: &mut Connection, n: u32) {
        client.ask(
            self.gateway,
            &format!("\"stream\":true,\"stream_options\":{{\"include_usage\":true}},\"max_tokens\":{n}"),
        );
        let body = client.answer();
        assert_eq!(body.windows(6).filter(|w| w == b"data: ").count(), n as usize + 2);
    }
}

impl Connection {
    fn ask(&mut self, host: SocketAddr, members: &str) {
        let body = format!("{{\"model\":\"bench-model\",{members}}}");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 1.99\r\n\
             X-Stainless-Lang: python\r\nX-Stainless-Async: false\r\nAccept-Encoding: identity\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Vec<u8> {
        let head = head(&mut self.0).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut body = Vec::new();
        if let Some(length) = length(&head) {
            body.resize(length, 0);
            self.0.read_exact(&mut body).unwrap();
            return body;
        }
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.0.read_exact(&mut body[start..]).unwrap();
            body.truncate(start + size);
            if size == 0 {
                return body;
            }
        }
    }
}

/// Answers each request with a completion, or with the events that it asks for, each in a write of its own.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(&stream.unwrap()));
        }
    });
    address
}

fn serve(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut input, mut output) = (BufReader::new(stream), stream);
    while let Some(head) = head(&mut input) {
        let mut body = vec![0; length(&head).expect("a length")];
        input.read_exact(&mut body).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let mut say = |text: &str| output.write_all(text.as_bytes()).unwrap();
        let usage = "\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":22,\"total_tokens\":33}}";
        if body["stream"] != true {
            let answer = format!(
                "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"model\":\"bench-model\",\"choices\":\
                 [{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\"}}}}],{usage}",
                "y".repeat(300)
            );
            let length = answer.len();
            say(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
            ));
            continue;
        }
        let chunk = |data: &str| format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8);
        say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        for n in 0..body["max_tokens"].as_u64().unwrap() {
            say(&chunk(&format!(
                "{{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}}}}]}}"
            )));
        }
        say(&chunk(&format!("{{\"id\":\"1\",\"choices\":[],{usage}")));
        say(&chunk("[DONE]"));
        say("0\r\n\r\n");
    }
}

fn head(input: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
}
