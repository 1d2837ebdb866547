//! `weir demo`: everything on this machine, in a directory that goes when it ends.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch};
use tokio::sync::Notify;

use crate::app::Gateway;
use crate::demo::mock::{Mock, MockOptions};
use crate::demo::once::{self, MeteredRow};
use crate::demo::{self, ClientKey, live};
use crate::ledger::Ledger;

use super::fail;

/// How long the gateway may take to listen.
const START: Duration = Duration::from_secs(10);
/// How often the live table looks at the ledger.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where a free port is looked for, and how many have been.
const PORTS: Range<usize> = 12_000..32_000;
static NEXT_PORT: AtomicUsize = AtomicUsize::new(0);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Send a request of every operation, compare what was metered with what the mock reported, and end
    #[arg(long)]
    once: bool,
    /// Where clients connect [default: 127.0.0.1:8514; with --once a free port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin listener is [default: 127.0.0.1:8515; with --once a free port]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

pub(super) fn demo(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => fail(format_args!("{e}")),
    }
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let once = arguments.once;
    let address = |given: Option<SocketAddr>, usual| match given {
        Some(address) => free(address),
        // A proof runs beside whatever holds the well-known ports; a demo for people has them in its lines.
        None if once => free(SocketAddr::from(([127, 0, 0, 1], 0))),
        None => free(usual),
    };
    let (listen, admin) = (address(arguments.listen, demo::LISTEN)?, address(arguments.admin, demo::ADMIN)?);
    let directory = tempfile::Builder::new().prefix("weir-demo-").tempdir()?;
    let (client_key, upstream_key) = (ClientKey::draw()?, demo::upstream_key()?);
    let mock = Mock::start(MockOptions { upstream_key: upstream_key.clone() })?;
    let config =
        demo::config(mock.address(), &upstream_key, client_key.sha256, directory.path().to_owned(), listen, admin);

    let gateway = Gateway::open(&config)?;
    let ledger = gateway.ledger().clone();
    let (admin, token) = gateway.admin(&config, None)?;
    let (stop, stopped) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    let watch = stop.clone();
    let serving = {
        let stopped = stopped.clone();
        std::thread::Builder::new().name("gateway".into()).spawn(move || {
            let served = gateway.serve(&config, Box::new(watch));
            stopped.store(true, Ordering::Release);
            served.map_err(|e| e.to_string())
        })?
    };
    let mut out = io::stdout();
    let agreed = match await_listener(listen, &stopped) {
        false => Ok(false),
        true if once => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let metered = || rows(&ledger);
            let agreed = runtime.block_on(once::run(listen, client_key.key.expose(), &mock, metered, &mut out));
            stop.now();
            agreed
        }
        true => {
            let token = token.as_ref().map_or("", |token| token.expose());
            writeln!(out, "Weir on http://{listen}, admin on http://{}", admin.address())?;
            writeln!(out, "mock provider on http://{}, its key {}", mock.address(), upstream_key.expose())?;
            writeln!(out, "client key   {}\nadmin token  {token}", client_key.key.expose())?;
            let program = std::env::current_exe().map_or_else(|_| "weir".into(), |path| path.display().to_string());
            writeln!(out, "requests as they end: {program} tail --data-dir {}\n", directory.path().display())?;
            live::print_curl_lines(listen, client_key.key.expose(), &mut out)?;
            writeln!(out, "\nWhat is metered (Ctrl-C ends the demo):")?;
            watch_table(&ledger, &stopped, &mut out)
        }
    };
    let served = serving.join().map_err(|_| "the gateway's thread panicked")?;
    admin.shutdown();
    served?;
    Ok(agreed?)
}

fn watch_table(ledger: &Ledger, stopped: &AtomicBool, out: &mut impl Write) -> io::Result<bool> {
    let mut table = live::LiveTable::new(io::stdout().is_terminal());
    while !stopped.load(Ordering::Acquire) {
        table.draw(&rows(ledger), out)?;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}

/// The ledger's figures by operation and model. The demo's routes each have one operation, but for
/// Gemini's chat, whose settlements say which.
fn rows(ledger: &Ledger) -> Vec<MeteredRow> {
    let mut rows: BTreeMap<_, MeteredRow> = BTreeMap::new();
    for total in ledger.operation_totals() {
        let row = rows.entry((total.operation, total.model.clone())).or_insert_with(|| MeteredRow {
            operation: total.operation,
            model: total.model.clone(),
            requests: 0,
            events: 0,
            input: 0,
            output: 0,
            cache_read: 0,
            cache_write: 0,
            reasoning: 0,
        });
        let counters = &total.counters;
        row.requests += counters.requests;
        row.events += counters.events;
        row.input += counters.input_tokens();
        row.output += counters.output;
        row.cache_read += counters.cache_read;
        row.cache_write += counters.cache_write_tokens();
        row.reasoning += counters.reasoning;
    }
    rows.into_values().collect()
}

/// The address if nobody listens there; with port 0 one that is free. Without the look a listener of
/// someone else's would be taken for the gateway, and be told the keys.
fn free(address: SocketAddr) -> Result<SocketAddr, String> {
    let look = |address| TcpListener::bind(address).and_then(|listener| listener.local_addr());
    if address.port() != 0 {
        return look(address).map_err(|e| format!("{address}: {e}; --listen and --admin take other addresses"));
    }
    // Below the ports that the system gives to connections: one of those could be gone before it is used.
    let first = process::id() as usize * 31 + NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    (0..PORTS.len())
        .filter_map(|i| u16::try_from(PORTS.start + (first + i) % PORTS.len()).ok())
        .find_map(|port| look(SocketAddr::new(address.ip(), port)).ok())
        .ok_or_else(|| format!("{}: no port is free", address.ip()))
}

fn await_listener(address: SocketAddr, stopped: &AtomicBool) -> bool {
    let start = Instant::now();
    while start.elapsed() < START && !stopped.load(Ordering::Acquire) {
        if std::net::TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Ends the gateway at a signal, or when the proof is done.
#[derive(Clone, Default)]
struct Stop(Arc<Notify>);

impl Stop {
    fn now(&self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        tokio::select! {
            () = self.0.notified() => ShutdownSignal::FastShutdown,
            _ = UnixShutdownSignalWatch.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_no_place_for_a_demo() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = other.local_addr().expect("it is bound");
        let refused = free(taken).expect_err("someone listens there");
        assert!(refused.starts_with(&taken.to_string()), "{refused}");
        drop(other);
        assert_eq!(free(taken), Ok(taken));
        assert_ne!(free(SocketAddr::from(([127, 0, 0, 1], 0))).map(|address| address.port()), Ok(0));
    }
}
