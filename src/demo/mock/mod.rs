//! The providers, in this process: OpenAI and what is compatible with it, Anthropic, Gemini, Ollama.
//!
//! The mock listens on a real socket and answers in the providers' real shapes, quirks included. It
//! keeps its own ledger, so that whoever meters the traffic can be checked against the other side.
//! `GET /mock/ledger` shows the ledger to other processes, `DELETE /mock/ledger` empties it. `x-mock-…`
//! request headers make trouble (`trouble.rs` lists them).
//!
//! Refuses to know Weir: to it, a gateway is a client like any other.

mod answer;
mod anthropic;
mod ask;
mod book;
mod completions;
mod deliver;
mod gemini;
mod json;
mod ollama;
mod openai;
mod other;
mod quirk;
mod responses;
mod serve;
mod trouble;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

pub use book::Entry;

use book::Book;
use serve::State;

/// The id under which a response to this JSON body is stored.
pub(super) fn response_id(model: &str, body: &serde_json::Value) -> String {
    responses::id(&ask::Ask::new(model.to_owned(), false, body.clone(), None))
}

/// How long open answers may take once the mock is dropped.
const GRACE: Duration = Duration::from_secs(1);
/// Wait after a failed accept, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What the mock needs to know.
#[derive(Clone, Debug)]
pub struct MockOptions {
    /// The key that must come with every request.
    pub upstream_key: Secret,
}

/// A running mock; dropping it stops it.
///
/// It has a thread and a runtime of its own, so it can be started from anywhere.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Mock {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no socket, runtime or thread is to be had.
    pub fn start(options: MockOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = Arc::new(State {
            upstream_key: options.upstream_key,
            book: Arc::new(Book::default()),
            stored: other::Stored::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let served = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("weir-mock".into()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, served, stopped).await,
                    Err(error) => log::error!("the mock cannot listen: {error}"),
                }
            });
        })?;
        Ok(Self { address, state, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request that it has answered or is answering, in order of arrival.
    pub fn ledger(&self) -> Vec<Entry> {
        self.state.book.entries()
    }

    /// How many those are.
    pub fn requests(&self) -> usize {
        self.ledger().len()
    }

    /// How many of them were of `operation` and named `model`.
    pub fn count(&self, operation: Operation, model: &str) -> usize {
        self.ledger().iter().filter(|entry| entry.operation == operation && entry.model == model).count()
    }

    /// Empties the ledger.
    pub fn forget(&self) {
        self.state.book.clear();
    }
}

impl Drop for Mock {
    /// Stops accepting, lets open answers finish for a second, then closes them.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the mock's thread has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

async fn accept(listener: tokio::net::TcpListener, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve(socket, Arc::clone(&state), stopped.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Ends when the mock is dropped.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: the same news.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve(socket: TcpStream, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    // Without it the kernel would join small events.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| Arc::clone(&state).serve(request));
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks is the client's affair; what was sent is in the ledger.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
