//! A gateway process: the real command with a written configuration, on ports and in a directory of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CipherSuite, SupportedCipherSuite};

use super::client::{Client, Http, Request};
use super::config::{Channel, Key};
use super::tls::Authority;
use super::{PATIENCE, Raw, eventually};

/// The admin token of every gateway that is not told to make one.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-it-77aa01";

/// How often a start is repeated on other ports.
const STARTS: usize = 5;

/// A gateway that does not run yet.
pub(crate) struct GatewayBuilder {
    config: Value,
    environment: Vec<(String, String)>,
    authority: Option<Authority>,
    files: Vec<(String, String)>,
}

/// A gateway without channels and keys.
pub(crate) fn gateway() -> GatewayBuilder {
    let config = json!({
        "server": { "threads": 2, "grace_period": "1s" },
        // Upstreams of tests are at 127.0.0.1.
        "admin": { "token": ADMIN_TOKEN, "allow_private_upstreams": true },
        "channels": [],
        "routes": [],
        "users": [],
        "keys": [],
    });
    GatewayBuilder { config, environment: Vec::new(), authority: None, files: Vec::new() }
}

impl GatewayBuilder {
    pub(crate) fn channel(mut self, channel: Channel) -> Self {
        push(&mut self.config["channels"], channel.0);
        self
    }

    pub(crate) fn key(mut self, key: impl Into<Key>) -> Self {
        let key = key.into();
        let user = json!({ "name": key.user() });
        if !self.config["users"].as_array().is_some_and(|users| users.contains(&user)) {
            push(&mut self.config["users"], user);
        }
        push(&mut self.config["keys"], key.0);
        self
    }

    pub(crate) fn route(mut self, route: Value) -> Self {
        push(&mut self.config["routes"], route);
        self
    }

    /// Any other field, by a path with dots.
    pub(crate) fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let field = path.split('.').fold(&mut self.config, |at, step| &mut at[step]);
        *field = value.into();
        self
    }

    /// A second listener, with TLS.
    pub(crate) fn tls(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    pub(crate) async fn start(self) -> Gateway {
        let home = tempfile::tempdir().expect("a directory");
        for (name, text) in &self.files {
            std::fs::write(home.path().join(name), text).expect("a file");
        }
        let mut gateway = Gateway {
            config: self.config,
            environment: self.environment,
            authority: self.authority,
            address: unused(),
            tls_address: unused(),
            admin: unused(),
            home,
            child: None,
            successors: Vec::new(),
            starts: 0,
        };
        gateway.config["data_dir"] = json!(gateway.data_dir());
        if let Some(authority) = &gateway.authority {
            authority.write_to(gateway.home.path());
        }
        gateway.start().await;
        gateway
    }
}

/// A running gateway. Dropping it kills it.
pub(crate) struct Gateway {
    config: Value,
    environment: Vec<(String, String)>,
    authority: Option<Authority>,
    address: SocketAddr,
    tls_address: SocketAddr,
    admin: SocketAddr,
    home: TempDir,
    child: Option<Child>,
    /// The processes that took its place, one after the other.
    successors: Vec<u32>,
    starts: usize,
}

impl Gateway {
    /// Starts it, again if it was stopped, in the same directory.
    pub(crate) async fn start(&mut self) {
        for attempt in 0..STARTS {
            if self.starts == 0 || attempt > 0 {
                self.choose_ports();
            }
            self.write();
            self.starts += 1;
            let log = |name: &str| File::create(self.log_file(name)).expect("a log file");
            let child = Command::new(env!("CARGO_BIN_EXE_weir"))
                .args(["run", "-c"])
                .arg(self.config_file())
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(log("out"))
                .stderr(log("err"))
                .spawn()
                .expect("the gateway is started");
            self.child = Some(child);
            if self.listens().await {
                return;
            }
            self.kill();
        }
        panic!("the gateway does not start: {}", self.stderr());
    }

    fn choose_ports(&mut self) {
        (self.address, self.tls_address, self.admin) = (unused(), unused(), unused());
        self.config["listen"] = match &self.authority {
            None => json!([{ "address": self.address }]),
            Some(_) => json!([
                { "address": self.address },
                { "address": self.tls_address, "tls": { "certificate": "server.pem", "private_key": "server.key" } },
            ]),
        };
        self.config["admin"]["address"] = json!(self.admin);
    }

    async fn listens(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.exit_status().is_some() {
                return false;
            }
            let ready = self.admin_request("GET", "/readyz").try_send().await;
            if ready.is_some_and(|answer| answer.status == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    fn write(&self) {
        self.write_text(&serde_json::to_string_pretty(&self.config).expect("JSON"));
    }

    /// Puts any text in place of the configuration.
    pub(crate) fn write_text(&self, text: &str) {
        std::fs::write(self.config_file(), text).expect("the configuration is written");
    }

    /// Changes the configuration file, and nothing else.
    pub(crate) fn rewrite(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.home.path().join("weir.yaml")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Where it listens without TLS.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this version of HTTP.
    pub(crate) fn over(&self, http: Http) -> Client {
        let address = if http.is_tls() { self.tls_address } else { self.address };
        Client::new(http, address, self.authority.as_ref())
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.over(Http::H1).get(path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        self.over(Http::H1).post(path)
    }

    /// A request to the admin listener, without its token.
    pub(crate) fn admin_request(&self, method: &str, path: &str) -> Request {
        Client::new(Http::H1, self.admin, None).request(method, path)
    }

    pub(crate) fn admin(&self, method: &str, path: &str) -> Request {
        self.admin_request(method, path).header("authorization", format!("Bearer {ADMIN_TOKEN}"))
    }

    pub(crate) async fn metrics(&self) -> String {
        self.admin_request("GET", "/metrics").send().await.text()
    }

    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.tls_address
    }

    /// A connection with TLS and without any HTTP on it yet. `protocol` is what its client can speak.
    pub(crate) async fn encrypted(&self, protocol: Option<&str>) -> TlsStream<TcpStream> {
        self.handshake(self.authority.as_ref().expect("TLS").connector(protocol)).await
    }

    /// The cipher that is agreed on with a client that likes these best.
    pub(crate) async fn cipher_for(&self, preferred: Vec<SupportedCipherSuite>) -> CipherSuite {
        let connector = self.authority.as_ref().expect("TLS").connector_that_prefers(preferred);
        let stream = self.handshake(connector).await;
        stream.get_ref().1.negotiated_cipher_suite().expect("a cipher").suite()
    }

    async fn handshake(&self, connector: TlsConnector) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.tls_address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        connector.connect(name, stream).await.expect("a handshake")
    }

    /// A connection without any HTTP on it yet.
    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// All rows of usage, as the admin API gives them.
    pub(crate) async fn usage(&self, by: &str) -> Vec<Value> {
        let answer = self.admin("GET", &format!("/admin/api/usage?by={by}")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["rows"].as_array().expect("rows").clone()
    }

    /// The row of `value`, once it has `requests` requests; it must not have more.
    pub(crate) async fn used(&self, by: &str, value: &str, requests: u64) -> Value {
        let what = format!("{requests} requests of the {by} {value:?}");
        let row = eventually(&what, async || {
            let rows = self.usage(by).await;
            let row = rows.into_iter().find(|row| row[by] == value)?;
            (row["requests"].as_u64() >= Some(requests)).then_some(row)
        });
        let row = row.await;
        assert_eq!(row["requests"], requests, "{row}");
        row
    }

    /// Runs a command of the binary with this gateway's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("-c")
            .arg(self.config_file())
            .output()
            .expect("the command runs")
    }

    /// Runs `weir upgrade` with these arguments. What takes the gateway's place is the gateway from then on.
    pub(crate) fn upgrade(&mut self, arguments: &[&str]) -> Output {
        let output = self.command(&[&["upgrade"], arguments].concat());
        if output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            let pid = said.lines().last().and_then(|line| line.split(' ').nth(1)?.parse().ok());
            self.successors.push(pid.unwrap_or_else(|| panic!("no number of a process: {said}")));
        }
        output
    }

    /// The process that serves now.
    pub(crate) fn pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or_else(|| self.child.as_ref().expect("a process").id())
    }

    /// Takes note of a successor that came without [`Gateway::upgrade`].
    pub(crate) fn succeeded_by(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// Whether the process that serves now has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        match self.successors.last() {
            Some(pid) => has_ended(*pid),
            None => self.exit_status().is_some(),
        }
    }

    /// Sends a signal by its name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("a shell");
        assert!(sent.success(), "kill -{name}");
    }

    /// Stops it as `^C` does and gives its exit status.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("INT");
        let status = eventually("an end after SIGINT", async || self.exit_status()).await;
        self.child = None;
        status
    }

    /// Kills it: `kill -9`.
    pub(crate) fn kill(&mut self) {
        for pid in self.successors.drain(..).filter(|pid| !has_ended(*pid)) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("its own child")
    }

    /// What the last start has printed.
    pub(crate) fn stdout(&self) -> String {
        self.log("out", self.starts)
    }

    pub(crate) fn stderr(&self) -> String {
        self.log("err", self.starts)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.{}", self.starts))
    }

    fn log(&self, name: &str, start: usize) -> String {
        let path = self.home.path().join(format!("{name}.{start}"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.stderr();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- stderr of the gateway\n{}\n---", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// Whether a process is gone, or nobody has asked yet how it ended.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

/// An address that nothing listens on, outside of the range from which the kernel takes ports for clients.
fn unused() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let first = u16::try_from(std::process::id() % 16_000).expect("below 16,000");
        let port = 12_000 + (first + offset) % 20_000;
        if let Ok(listener) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("an address");
        }
    }
}
