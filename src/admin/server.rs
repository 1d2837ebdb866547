//! The admin listener's runtime, its connections and their limits.
//!
//! Owns everything between `accept` and a request. Knows nothing of paths.

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener as AsyncTcp, UnixListener as AsyncUnix};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use weir_filters::network::Network;

use super::api::{self, Door};
use super::caller::Peer;
use super::pace::Paces;
use super::ui;
use super::write_deadline::WriteDeadline;
use super::{AdminState, AdminToken};
use crate::socket_file::Socket;

/// Connections of each door at once: dashboards, scrapers and a few people need far fewer, and each costs at most
/// a head's buffer and an answer.
const MAX_CONNECTIONS: usize = 128;

/// Bytes of a request's head. Browsers with long cookies stay below half of it.
const MAX_HEAD: usize = 32 * 1024;

/// Questions to the counters at once: more would only compete for the same two cores that carry traffic.
const MAX_QUERIES: usize = 2;

/// Questions at once of those who ask for their own: any client key may, so that nobody else waits for them.
const MAX_OWN: usize = 1;

/// Threads for what may take its time: the queries of both sorts, one change, and scrapes beside them.
const MAX_BLOCKING_THREADS: usize = MAX_QUERIES + MAX_OWN + 1 + MAX_SCRAPES;

/// Scrapes at once: a second Prometheus is common, more is not.
const MAX_SCRAPES: usize = 4;

/// How long answers that are under way have at a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// How long `accept` rests when it fails, as it does while descriptors are short.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a whole request head, and between two requests of a connection.
    pub(super) head: Duration,
    /// For a request's body and the making of its answer.
    pub(super) request: Duration,
    /// For reading any part of an answer.
    pub(super) write: Duration,
    /// Connections of each door.
    pub(super) connections: usize,
}

impl Limits {
    /// Those of production.
    pub(super) const DEFAULT: Self = Self {
        head: Duration::from_secs(10),
        request: Duration::from_secs(30),
        write: Duration::from_secs(30),
        connections: MAX_CONNECTIONS,
    };
}

/// What all requests share.
pub(crate) struct Shared {
    state: Arc<dyn AdminState>,
    token: AdminToken,
    metrics_token: Option<AdminToken>,
    proxies: Vec<Network>,
    limits: Limits,
    queries: Arc<Semaphore>,
    own: Arc<Semaphore>,
    paces: Paces,
    changes: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    imports: Semaphore,
}

impl Shared {
    pub(super) fn new(
        state: Arc<dyn AdminState>,
        token: AdminToken,
        metrics_token: Option<AdminToken>,
        proxies: Vec<Network>,
        limits: Limits,
    ) -> Arc<Self> {
        let slots = [MAX_QUERIES, MAX_OWN, 1, MAX_SCRAPES].map(|n| Arc::new(Semaphore::new(n)));
        let [queries, own, changes, scrapes] = slots;
        let (paces, imports) = (Paces::new(), Semaphore::new(1));
        Arc::new(Self { state, token, metrics_token, proxies, limits, queries, own, paces, changes, scrapes, imports })
    }

    pub(crate) fn state(&self) -> &dyn AdminState {
        &*self.state
    }

    pub(crate) fn token(&self) -> &AdminToken {
        &self.token
    }

    pub(crate) fn metrics_token(&self) -> Option<&AdminToken> {
        self.metrics_token.as_ref()
    }

    /// Whose word counts for where a request comes from.
    pub(crate) fn proxies(&self) -> &[Network] {
        &self.proxies
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.limits.request
    }

    /// Whose turn it is to send what is to be imported.
    pub(crate) fn imports(&self) -> &Semaphore {
        &self.imports
    }

    /// Asks the state something that may take its time.
    pub(crate) async fn query<T: Send + 'static>(&self, ask: impl Ask<T>) -> Result<T, Failed> {
        self.blocking(&self.queries, ask).await
    }

    /// The same, for those who ask for their own.
    pub(crate) async fn query_own<T: Send + 'static>(&self, ask: impl Ask<T>) -> Result<T, Failed> {
        self.blocking(&self.own, ask).await
    }

    /// How often whoever asks for their own may have figures summed.
    pub(crate) fn paces(&self) -> &Paces {
        &self.paces
    }

    /// Has the state change something; one at a time.
    pub(crate) async fn change<T: Send + 'static>(&self, ask: impl Ask<T>) -> Result<T, Failed> {
        self.blocking(&self.changes, ask).await
    }

    /// Asks the state for the metrics, which must not wait behind queries.
    pub(crate) async fn scrape<T: Send + 'static>(&self, ask: impl Ask<T>) -> Result<T, Failed> {
        self.blocking(&self.scrapes, ask).await
    }

    async fn blocking<T: Send + 'static>(&self, slots: &Arc<Semaphore>, ask: impl Ask<T>) -> Result<T, Failed> {
        let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| Failed)?;
        let state = Arc::clone(&self.state);
        let asked = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, not of the request: a client that gives up frees no slot.
            let _slot = slot;
            ask(&*state)
        });
        asked.await.map_err(|error| {
            log::error!("an admin request failed: {error}");
            Failed
        })
    }
}

/// The state panicked, or the listener is going down.
pub(crate) struct Failed;

/// A question to the state.
pub(crate) trait Ask<T>: FnOnce(&dyn AdminState) -> T + Send + 'static {}

impl<T, F: FnOnce(&dyn AdminState) -> T + Send + 'static> Ask<T> for F {}

/// A runtime for one thread. Requests are few; what is heavy goes to its blocking threads.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_name("weir-admin-work")
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
}

/// Both doors, bound and not yet served.
pub(super) struct Doors {
    pub(super) network: TcpListener,
    pub(super) socket: Option<Socket>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Doors {
    /// Serves until told to stop.
    pub(super) fn run(self, runtime: Runtime) -> io::Result<()> {
        let served = runtime.block_on(self.serve());
        // A query that hangs must not keep the process.
        runtime.shutdown_timeout(DRAIN);
        served
    }

    async fn serve(self) -> io::Result<()> {
        let network = AsyncTcp::from_std(self.network)?;
        let at_network = Entrance::new(Door::Network, &self.shared, &self.stop);
        let at_network =
            at_network.serve(async || network.accept().await.map(|(stream, from)| (stream, Peer(Some(from.ip())))));
        let Some(socket) = self.socket else {
            at_network.await;
            return Ok(());
        };
        let listener = AsyncUnix::from_std(socket.listener()?)?;
        let at_socket = Entrance::new(Door::Socket, &self.shared, &self.stop);
        let at_socket = at_socket.serve(async || listener.accept().await.map(|(stream, _)| (stream, Peer(None))));
        tokio::join!(at_network, at_socket);
        Ok(())
    }
}

/// A door, with what its connections need.
struct Entrance {
    router: Router,
    limits: Limits,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Entrance {
    fn new(door: Door, shared: &Arc<Shared>, stop: &watch::Receiver<bool>) -> Self {
        Self {
            router: ui::beside(api::router(door, Arc::clone(shared))),
            limits: shared.limits,
            connections: Arc::new(Semaphore::new(shared.limits.connections)),
            stop: stop.clone(),
        }
    }

    /// Accepts until told to stop, then waits for the connections that are left, for a while.
    async fn serve<S>(mut self, accept: impl AsyncFn() -> io::Result<(S, Peer)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = told(&mut stop) => {}
            () = self.accept_all(accept) => {}
        }
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(DRAIN, self.connections.acquire_many(all)).await;
    }

    async fn accept_all<S>(&mut self, accept: impl AsyncFn() -> io::Result<(S, Peer)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A slot is taken before a connection: what is too much waits in the kernel's queue.
        while let Ok(slot) = Arc::clone(&self.connections).acquire_owned().await {
            match accept().await {
                Ok((stream, peer)) => {
                    let connection = connection(stream, peer, self.router.clone(), self.limits, self.stop.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    log::warn!("the admin listener cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// One connection, to its end or to the stop.
async fn connection<S>(stream: S, peer: Peer, router: Router, limits: Limits, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let stream = TokioIo::new(WriteDeadline::new(stream, limits.write));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD);
    let mut served = pin!(http.serve_connection(stream, service));
    // Errors here are the client's: it left, was too slow, or does not speak HTTP.
    tokio::select! {
        _ = served.as_mut() => {}
        () = told(&mut stop) => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, served).await;
        }
    }
}

/// Until the handle says stop, or is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
