//! Through real sockets: every endpoint, and what the listener does with its peers.

mod catalog;
mod console;
mod endpoints;
mod events;
mod listener;
mod requests;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::*;
use crate::ledger::By;
use crate::metrics::Metrics;

const TOKEN: &str = "weir-admin-test";

/// A gateway that is told what to answer.
struct Gateway {
    not_ready: Mutex<Vec<NotReady>>,
    asked: Mutex<Option<UsageQuery>>,
    /// What was asked for of the records, and what is answered.
    wanted: Mutex<Option<audit::Query>>,
    records: Mutex<Result<audit::Page, RequestsError>>,
    reload: Mutex<Result<u64, Vec<String>>>,
    commands: Mutex<Vec<Command>>,
    /// What is answered to commands, from the last.
    answers: Mutex<Vec<Result<Value, Refused>>>,
    /// While set, questions do not come to an end.
    held: AtomicBool,
    /// What was to be imported, and the number of its first line.
    imports: Mutex<Vec<(Vec<u8>, u64)>>,
    running: AtomicU64,
    most_running: AtomicU64,
    metrics: Metrics,
    live: audit::Live,
}

impl Gateway {
    fn new() -> Self {
        Self {
            not_ready: Mutex::default(),
            asked: Mutex::default(),
            wanted: Mutex::default(),
            records: Mutex::new(Ok(audit::Page::default())),
            reload: Mutex::new(Ok(7)),
            commands: Mutex::default(),
            answers: Mutex::default(),
            held: AtomicBool::new(false),
            imports: Mutex::default(),
            running: AtomicU64::new(0),
            most_running: AtomicU64::new(0),
            metrics: Metrics::new(),
            live: audit::Live::default(),
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
        *self.asked.lock().unwrap() = Some(query.clone());
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
            By::Day => Err(UsageError::Invalid { parameter: "step".into(), message: "rows are days already".into() }),
            By::Channel | By::Route => Ok(Vec::new()),
        }
    }

    fn requests(&self, query: &audit::Query) -> Result<audit::Page, RequestsError> {
        *self.wanted.lock().unwrap() = Some(query.clone());
        self.records.lock().unwrap().clone()
    }

    fn request(&self, id: u128) -> Result<Option<String>, RequestsError> {
        let page = self.records.lock().unwrap().clone()?;
        Ok(page.rows.into_iter().find(|row| row.contains(&format!("{id:032x}"))))
    }

    fn follow(&self, filter: &Filter) -> Option<Following> {
        self.live.follow(filter)
    }

    fn catalog(&self, command: Command) -> Result<Value, Refused> {
        self.commands.lock().unwrap().push(command);
        self.answers.lock().unwrap().pop().unwrap_or(Ok(Value::Null))
    }

    fn import(&self, lines: &[u8], first_line: u64) -> io::Result<Report> {
        self.imports.lock().unwrap().push((lines.to_vec(), first_line));
        match lines {
            b"full" => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(Report { lines: 2, imported: 1, known: 1, ..Report::default() }),
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
        let handle = Admin::start_with(options, None, state, limits).unwrap();
        Self { handle, gateway, http: reqwest::Client::new(), home }
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
    response.headers().get(name).map(|value| value.to_str().unwrap())
}
