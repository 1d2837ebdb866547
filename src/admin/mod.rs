//! What leaves for a person: health, metrics and the admin API, on a listener of their own.
//!
//! Owns the runtime that serves them, the doors and the shape of answers. It knows what it shows only through
//! [`AdminState`]: no proxy, no ledger, no configuration. Nothing here runs on a thread that carries traffic.

pub mod api;
mod auth;
mod caller;
pub mod client;
mod console;
mod pace;
mod server;
#[cfg(test)]
mod tests;
mod ui;
mod write_deadline;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use weir_filters::credential::Credential;
use weir_filters::etag::IfMatch;
use weir_filters::network::Network;
use weir_filters::refusal::Refusal;
use weir_filters::secret::Secret;

pub use self::api::requests::RequestsError;
pub use self::api::usage::UsageError;
pub use self::auth::AdminToken;
pub use self::console::{Console, MonitorAsked, MonitorPage, ProxyAsked, RunAsked, Trial};
use crate::audit::{self, Filter, Following};
use crate::catalog::{Command, Owner, Refused};
use crate::changes::{self, Actor};
use crate::identity::{Identity, Stamp};
use crate::import::Report;
use crate::ledger::{Top, UsageQuery, stand_back};

use self::server::{Doors, Limits, Shared};
use crate::socket_file::{self, Socket};

/// The name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";

/// What the admin listener shows and does.
pub trait AdminState: Console {
    /// What keeps the gateway from serving; empty: it is ready. Called on the listener's own thread, so it must
    /// read memory only. Anyone may see it: it must hold no secret.
    fn readiness(&self) -> Vec<NotReady>;

    /// The metrics, in the text format of Prometheus. May take its time.
    fn metrics(&self) -> String;

    /// The rows that answer a question about the counters: of the values that cost most so many, or all. May take its
    /// time.
    ///
    /// # Errors
    /// A question that cannot be answered as put, or counters that cannot be read.
    fn usage(&self, query: &UsageQuery, top: Option<usize>) -> Result<Top, UsageError>;

    /// The recent records that are asked for. May take its time.
    ///
    /// # Errors
    /// None are kept, or they cannot be read.
    fn requests(&self, query: &audit::Query) -> Result<audit::Page, RequestsError>;

    /// The record of the request with this id, a JSON object, if there still is one. May take its time.
    ///
    /// # Errors
    /// As for [`AdminState::requests`].
    fn request(&self, id: u128) -> Result<Option<String>, RequestsError>;

    /// Follows what happens behind the event with the id `after`, or else from now on, of records what `filter` admits;
    /// `None`: too many do already.
    fn follow(&self, filter: &Filter, after: Option<&str>) -> Option<Following>;

    /// Answers a question about keys, users and channels, or changes one for `who`, if it is what was `expected`: then
    /// the change is recorded, durable and in force. May take its time; no two changes at once.
    ///
    /// # Errors
    /// Why not.
    fn catalog(&self, command: Command, who: &Actor, expected: Option<&IfMatch>) -> Result<serde_json::Value, Refused>;

    /// Gives the user of that name another password, for whoever has shown the one of the stamp `seen`; gives the stamp
    /// of the new one. May take its time; no two changes at once.
    ///
    /// # Errors
    /// Why not: [`Refused::Changed`] if that password counts no more.
    fn change_password(&self, name: &str, new: &str, seen: Stamp, who: &Actor) -> Result<Stamp, Refused>;

    /// The recorded changes that are asked for. May take its time.
    ///
    /// # Errors
    /// When they cannot be read.
    fn changes(&self, query: &changes::Query) -> io::Result<changes::Page>;

    /// Who is signed in, and who may be. What is asked of it on the listener's own thread reads memory only.
    fn identity(&self) -> &Identity;

    /// Which client key a credential is, if it counts now. Called on the listener's own thread, so it must read memory
    /// only.
    ///
    /// # Errors
    /// Why it does not.
    fn client(&self, credential: &Credential<'_>) -> Result<Owner, Refusal>;

    /// Counts the requests of `lines` for `who`, the first of which has the number `first_line`, each once however often
    /// it comes. May take its time; never called twice at once.
    ///
    /// # Errors
    /// When they cannot be written down.
    fn import(&self, lines: &[u8], first_line: u64, who: &Actor) -> io::Result<Report>;

    /// Reads the configuration anew for `who` and serves it; gives its version. May take its time; never called twice at
    /// once.
    ///
    /// # Errors
    /// All mistakes of the configuration, which is then not served.
    fn reload(&self, who: &Actor) -> Result<u64, Vec<String>>;
}

/// A reason not to send traffic here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// The part that is not ready.
    pub part: &'static str,
    /// What is the matter with it.
    pub message: String,
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// The address to bind; port 0: any that is free.
    pub address: SocketAddr,
    /// Opens the API.
    pub token: AdminToken,
    /// Closes `/metrics` when set.
    pub metrics_token: Option<Secret>,
    /// Where the socket is made that needs no token, if anywhere.
    pub socket: Option<PathBuf>,
    /// Whose word counts for where a request comes from, and whether it came over TLS.
    pub trusted_proxies: Vec<Network>,
}

/// Where it is served.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) network: TcpListener,
    pub(crate) socket: Option<Socket>,
}

/// The admin listener.
pub struct Admin;

impl Admin {
    /// Binds, then serves on a thread and a runtime of its own until the handle is dropped.
    ///
    /// # Errors
    /// An address that cannot be bound, a socket on which another process listens, an empty metrics token.
    pub fn start(options: AdminOptions, state: Arc<dyn AdminState>) -> io::Result<AdminHandle> {
        Self::start_with(options, None, state, Limits::DEFAULT)
    }

    fn start_with(
        options: AdminOptions,
        open: Option<Listeners>,
        state: Arc<dyn AdminState>,
        limits: Limits,
    ) -> io::Result<AdminHandle> {
        let metrics_token = options.metrics_token.as_ref().map(AdminToken::of).transpose()?;
        let Listeners { network, socket } = match open {
            Some(open) => open,
            None => Listeners::bind(&options)?,
        };
        network.set_nonblocking(true)?;
        let address = network.local_addr()?;
        let runtime = server::runtime()?;
        state.identity().trust(options.token.stamp());
        let shared = Shared::new(state, options.token, metrics_token, options.trusted_proxies, limits);
        let (stop, stopped) = watch::channel(false);
        let doors = Doors { network, socket, shared, stop: stopped };
        let thread = std::thread::Builder::new().name("weir-admin".into()).spawn(|| {
            // As do those that it makes for what is heavy.
            stand_back();
            if let Err(error) = doors.run(runtime) {
                log::error!("the admin listener stopped: {error}");
            }
        })?;
        Ok(AdminHandle { address, stop, thread: Mutex::new(Some(thread)) })
    }
}

/// A listener that is not open yet.
pub(crate) struct Unopened {
    options: AdminOptions,
    state: Arc<dyn AdminState>,
}

impl Unopened {
    pub(crate) fn new(options: AdminOptions, state: Arc<dyn AdminState>) -> Self {
        Self { options, state }
    }

    /// Serves on `listeners`, or else where its options say.
    pub(crate) fn open(self, listeners: Option<Listeners>) -> io::Result<AdminHandle> {
        Admin::start_with(self.options, listeners, self.state, Limits::DEFAULT)
    }
}

impl Listeners {
    fn bind(options: &AdminOptions) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", options.address));
        let network = TcpListener::bind(options.address).map_err(named)?;
        let socket = options.socket.as_deref().map(socket_file::bind).transpose()?;
        Ok(Self { network, socket })
    }
}

/// A listener that serves until this is dropped.
#[derive(Debug)]
pub struct AdminHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AdminHandle {
    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new connections, what is being answered has a few seconds, the socket file is removed. Returns
    /// when that is done. May be called from any thread, and more than once.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            // The state may hold the last handle, and be dropped by the listener's own thread.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the admin listener ended in a panic");
        }
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.shutdown();
    }
}
