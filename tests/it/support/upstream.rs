//! An upstream that follows a script: it keeps the exact bytes that it got and answers exact bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::eventually;
use super::wire::{self, End};

/// Holds a script until a test opens it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Whether a script has opened it.
    pub(crate) fn is_open(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// Lets one script pass.
    pub(crate) fn open(&self) {
        self.0.add_permits(1);
    }
}

/// What an upstream does once it has a request.
#[derive(Clone, Default)]
pub(crate) struct Script {
    steps: Vec<Step>,
    before_body: bool,
}

#[derive(Clone)]
enum Step {
    Send(Bytes),
    Wait(Duration),
    Gate(Gate),
    Opens(Gate),
    Close,
    Reset,
    /// Waits until the gateway closes, and notes that it did.
    UntilClosed,
}

/// An answer with its length.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Script {
    let body = body.as_ref();
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    raw_answer(bytes)
}

/// The head of an answer in chunks; [`Script::chunk`] and [`Script::last_chunk`] go on.
pub(crate) fn chunked(status: u16, headers: &[(&str, &str)]) -> Script {
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    raw_answer(bytes)
}

/// These bytes.
pub(crate) fn raw_answer(bytes: impl Into<Bytes>) -> Script {
    Script::default().send(bytes)
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Said\r\n{lines}").into_bytes()
}

impl Script {
    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn send(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Send(bytes.into()))
    }

    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.send(framed)
    }

    pub(crate) fn last_chunk(self) -> Self {
        self.send("0\r\n\r\n")
    }

    pub(crate) fn wait(self, milliseconds: u64) -> Self {
        self.then(Step::Wait(Duration::from_millis(milliseconds)))
    }

    pub(crate) fn gate(self, gate: &Gate) -> Self {
        self.then(Step::Gate(gate.clone()))
    }

    /// Tells a test that all before it is done.
    pub(crate) fn opens(self, gate: &Gate) -> Self {
        self.then(Step::Opens(gate.clone()))
    }

    pub(crate) fn close(self) -> Self {
        self.then(Step::Close)
    }

    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    pub(crate) fn until_closed(self) -> Self {
        self.then(Step::UntilClosed)
    }

    /// All that `other` does, after this.
    pub(crate) fn followed_by(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self
    }

    /// Answers as soon as the head is there.
    pub(crate) fn before_body(mut self) -> Self {
        self.before_body = true;
        self
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The head's bytes, to the empty line.
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    /// Whether its body was whole.
    pub(crate) whole: bool,
}

impl Received {
    /// Method and target.
    pub(crate) fn line(&self) -> &str {
        self.head.split(" HTTP/1.1\r\n").next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        wire::values(&self.head, name)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    connections: usize,
    /// Heads that came, bodies or not.
    heads: usize,
    /// Connections that the gateway closed while the script waited for it.
    closed: usize,
    /// What is done from now on, in place of the scripts.
    instead: Option<Script>,
    /// Requests that are being answered, and the most that ever were.
    busy: usize,
    most_busy: usize,
}

/// One more request that is being answered, until it is dropped.
struct Busy(Arc<Mutex<State>>);

impl Busy {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        let mut locked = state.lock().expect("no panic");
        locked.busy += 1;
        locked.most_busy = locked.most_busy.max(locked.busy);
        drop(locked);
        Self(Arc::clone(state))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().expect("no panic").busy -= 1;
    }
}

/// A running upstream; dropping it stops it.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// An upstream at an address that was free a moment ago, which answers with one script.
pub(crate) async fn upstream_at(address: SocketAddr, script: Script) -> Upstream {
    Upstream::listen(TcpListener::bind(address).await.expect("the port is still free"), vec![script], None)
}

/// An upstream that answers the first request with the first script and so on; the last one repeats.
pub(crate) async fn upstream(scripts: impl IntoIterator<Item = Script>) -> Upstream {
    Upstream::start(scripts.into_iter().collect(), None).await
}

impl Upstream {
    /// The same over TLS.
    pub(crate) async fn over_tls(scripts: impl IntoIterator<Item = Script>, acceptor: TlsAcceptor) -> Self {
        Self::start(scripts.into_iter().collect(), Some(acceptor)).await
    }

    async fn start(scripts: Vec<Script>, acceptor: Option<TlsAcceptor>) -> Self {
        assert!(!scripts.is_empty(), "an upstream needs something to say");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::listen(listener, scripts, acceptor)
    }

    fn listen(listener: TcpListener, scripts: Vec<Script>, acceptor: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let scripts = Arc::new(scripts);
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let serving = Serving { state: Arc::clone(&shared), scripts: Arc::clone(&scripts) };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => {
                            if serving.serve(&mut stream).await == Last::Reset {
                                let _ = stream.set_zero_linger();
                            }
                        }
                        Some(acceptor) => {
                            if let Ok(mut stream) = acceptor.accept(stream).await {
                                serving.serve(&mut stream).await;
                                let _ = stream.shutdown().await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, whose bodies were read.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().expect("no panic").received.clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "one request");
        received.into_iter().next().expect("one")
    }

    /// Heads that arrived, whatever became of their bodies.
    pub(crate) fn heads(&self) -> usize {
        self.state.lock().expect("no panic").heads
    }

    /// The most requests that were being answered at a time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.lock().expect("no panic").most_busy
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().expect("no panic").connections
    }

    /// From now on it follows this script.
    pub(crate) fn now(&self, script: Script) {
        self.state.lock().expect("no panic").instead = Some(script);
    }

    /// Waits until the gateway has closed a connection whose script waits for that.
    pub(crate) async fn closed(&self) {
        eventually("a close by the gateway", async || (self.state.lock().expect("no panic").closed > 0).then_some(()))
            .await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Serving {
    state: Arc<Mutex<State>>,
    scripts: Arc<Vec<Script>>,
}

#[derive(PartialEq, Eq)]
enum Last {
    Close,
    Reset,
}

impl Serving {
    fn note<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no panic"))
    }

    async fn serve(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Last {
        let connection = self.note(|state| {
            state.connections += 1;
            state.connections - 1
        });
        let mut buffer = Vec::new();
        while let Some(head) = wire::head(stream, &mut buffer).await {
            let (number, instead) = self.note(|state| {
                state.heads += 1;
                (state.heads - 1, state.instead.clone())
            });
            let mut busy = Some(Busy::new(&self.state));
            let script = instead.as_ref().unwrap_or(&self.scripts[number.min(self.scripts.len() - 1)]);
            if !script.before_body {
                let (body, end) = wire::body(stream, &mut buffer, &head, false).await;
                let whole = end == End::Whole;
                self.note(|state| state.received.push(Received { head, body, connection, whole }));
                if !whole {
                    return Last::Close;
                }
            }
            for (at, step) in script.steps.iter().enumerate() {
                if at + 1 == script.steps.len() {
                    // Whoever gets the last bytes may ask again before this task goes on.
                    busy = None;
                }
                match step {
                    Step::Send(bytes) => {
                        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                            return Last::Close;
                        }
                    }
                    Step::Wait(time) => tokio::time::sleep(*time).await,
                    Step::Gate(gate) => {
                        gate.0.acquire().await.expect("an open semaphore").forget();
                    }
                    Step::Opens(gate) => gate.open(),
                    Step::Close => return Last::Close,
                    Step::Reset => return Last::Reset,
                    Step::UntilClosed => {
                        while wire::more(stream, &mut buffer).await.is_some() {}
                        self.note(|state| state.closed += 1);
                        return Last::Close;
                    }
                }
            }
            drop(busy);
        }
        Last::Close
    }
}
