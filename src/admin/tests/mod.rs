//! Through real sockets: every endpoint, and what the listener does with its peers.

mod catalog;
mod console;
mod document;
mod endpoints;
mod events;
mod listener;
mod me;
mod recorded;
mod requests;
mod sessions;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::*;
use crate::identity::Hashing;
use crate::ledger::{By, Counters, UsageRow};
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
    /// Who gave them, and what they expected.
    askers: Mutex<Vec<(Actor, Option<IfMatch>)>>,
    /// What was asked for of the changes, and what is answered.
    changes_wanted: Mutex<Option<changes::Query>>,
    changes: Mutex<Option<changes::Page>>,
    /// What is answered to commands, from the last.
    answers: Mutex<Vec<Result<Value, Refused>>>,
    /// While set, questions do not come to an end.
    held: AtomicBool,
    /// While set, the metrics do not either.
    stuck: AtomicBool,
    /// While set, whatever is asked ends in a panic.
    broken: AtomicBool,
    /// What was to be imported, and the number of its first line.
    imports: Mutex<Vec<(Vec<u8>, u64)>>,
    running: AtomicU64,
    most_running: AtomicU64,
    metrics: Metrics,
    live: audit::Live,
    identity: Identity,
    _sessions: tempfile::TempDir,
}

impl Gateway {
    fn new() -> Self {
        let sessions = tempfile::tempdir().unwrap();
        Self {
            identity: Identity::open_with(sessions.path(), Hashing::cheap()).unwrap(),
            _sessions: sessions,
            not_ready: Mutex::default(),
            asked: Mutex::default(),
            wanted: Mutex::default(),
            records: Mutex::new(Ok(audit::Page::default())),
            reload: Mutex::new(Ok(7)),
            commands: Mutex::default(),
            askers: Mutex::default(),
            changes_wanted: Mutex::default(),
            changes: Mutex::new(Some(changes::Page::default())),
            answers: Mutex::default(),
            held: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            imports: Mutex::default(),
            running: AtomicU64::new(0),
            most_running: AtomicU64::new(0),
            metrics: Metrics::new(),
            live: audit::Live::default(),
        }
    }
}

impl Gateway {
    /// What everything that may take its time begins with.
    fn begin(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.broken.load(Ordering::SeqCst), "a mistake in the state");
    }
}

impl AdminState for Gateway {
    fn readiness(&self) -> Vec<NotReady> {
        self.not_ready.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        while self.stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(!self.broken.load(Ordering::SeqCst), "a mistake in the state");
        self.metrics.encode()
    }

    fn usage(&self, query: &UsageQuery, top: Option<usize>) -> Result<Top, UsageError> {
        *self.asked.lock().unwrap() = Some(query.clone());
        self.begin();
        let row = |(value, requests): (&str, u64)| UsageRow {
            value: value.into(),
            time: None,
            counters: Counters { requests, ..Counters::default() },
        };
        match query.by {
            By::Key => {
                let rows: Vec<UsageRow> =
                    ["alice-laptop", "bob", "carol"].into_iter().zip([3, 2, 1]).map(row).collect();
                let counted = || rows.iter().map(|row| (row.time, row.value.as_str(), &row.counters));
                Ok(Top::of(counted, top.unwrap_or(usize::MAX), usize::MAX).expect("no cap"))
            }
            By::User => Err(UsageError::Unavailable("the store is being rebuilt".into())),
            By::Model => panic!("a mistake in the state"),
            By::Day => Err(UsageError::Invalid { parameter: "step".into(), message: "rows are days already".into() }),
            By::Channel => Err(UsageError::too_many(query)),
            By::Route => Ok(Top::default()),
        }
    }

    fn requests(&self, query: &audit::Query) -> Result<audit::Page, RequestsError> {
        self.begin();
        *self.wanted.lock().unwrap() = Some(query.clone());
        self.records.lock().unwrap().clone()
    }

    fn request(&self, id: u128) -> Result<Option<String>, RequestsError> {
        self.begin();
        let page = self.records.lock().unwrap().clone()?;
        Ok(page.rows.into_iter().find(|row| row.contains(&format!("{id:032x}"))))
    }

    fn follow(&self, filter: &Filter, after: Option<&str>) -> Option<Following> {
        self.live.follow(filter, after)
    }

    fn catalog(&self, command: Command, who: &Actor, expected: Option<&IfMatch>) -> Result<Value, Refused> {
        self.begin();
        self.askers.lock().unwrap().push((who.clone(), expected.cloned()));
        self.commands.lock().unwrap().push(command);
        self.answers.lock().unwrap().pop().unwrap_or(Ok(Value::Null))
    }

    fn change_password(&self, _: &str, _: &str, seen: Stamp, _: &Actor) -> Result<Stamp, Refused> {
        self.begin();
        Ok(seen)
    }

    fn changes(&self, query: &changes::Query) -> io::Result<changes::Page> {
        self.begin();
        *self.changes_wanted.lock().unwrap() = Some(query.clone());
        self.changes.lock().unwrap().clone().ok_or_else(|| io::Error::other("a broken disk"))
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn client(&self, credential: &Credential<'_>) -> Result<Owner, Refusal> {
        match credential.expose() {
            "sk-alice" => Ok(Owner::Key { id: "k1".into(), name: "alice-laptop".into(), user: Some("alice".into()) }),
            "sk-disabled" => Err(Refusal::KeyDisabled),
            "sk-expired" => Err(Refusal::KeyExpired),
            _ => Err(Refusal::UnknownKey),
        }
    }

    fn import(&self, lines: &[u8], first_line: u64, _: &Actor) -> io::Result<Report> {
        self.begin();
        self.imports.lock().unwrap().push((lines.to_vec(), first_line));
        match lines {
            b"full" => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(Report { lines: 2, imported: 1, known: 1, ..Report::default() }),
        }
    }

    fn reload(&self, who: &Actor) -> Result<u64, Vec<String>> {
        self.begin();
        self.askers.lock().unwrap().push((who.clone(), None));
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
            trusted_proxies: crate::config::loopback(),
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
