//! The only place where all parts meet.

mod state;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};

use arc_swap::ArcSwap;
use pingora_core::apps::HttpServerOptions;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignalWatch};
use pingora_proxy::HttpProxy;
use weir_filters::secret::Secret;

use crate::accounts::Accounts;
use crate::admin::{self, AdminHandle, AdminOptions, AdminToken, Unopened};
use crate::audit::Audit;
use crate::catalog::{Catalog, CatalogError};
use crate::changes::{Actor, Changes};
use crate::channels::{Registry, Sticky};
use crate::config::Config;
use crate::control::{Control, limited, now_ms};
use crate::front::{Front, Listening};
use crate::identity::Identity;
use crate::import::Words;
use crate::ledger::{Ledger, LedgerError, LedgerOptions, WhenLocked};
use crate::leg::Leg;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::opening::Opening;
use crate::overview::Overview;
use crate::proxy::{Drains, InFlight, Shared, Snapshot, Weir};
use crate::sockets::{Clients, Inherited};
use crate::stop::{Ending, Life, Stop, stoppable};
use crate::trial::Trials;

use self::state::State;

/// Idle connections to upstreams are kept by the leg itself; Pingora's own pool stays empty.
const NO_POOL: usize = 1;
/// How much of a stream's answer waits for a client of HTTP/2 that does not read: what one read of an upstream
/// brings. A client can grant any window and then read nothing, on a hundred streams of each connection.
const H2_SEND_BUFFER: usize = 64 * 1024;

/// Why a gateway does not start. Each message names what and where.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory or the ledger in it cannot be used.
    #[error("{directory}: {source}", directory = directory.display())]
    Ledger {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: LedgerError,
    },
    /// The data directory cannot be made.
    #[error("{path}: {source}", path = path.display())]
    DataDir {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was made over the admin API cannot be read, or does not go with the configuration.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {message}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        message: String,
    },
    /// The sockets of the listeners cannot be used.
    #[error("the listening sockets: {source}")]
    Sockets {
        /// Why.
        source: io::Error,
    },
    /// The admin listener cannot be opened.
    #[error("the admin listener on {address}: {source}")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A gateway: ledger, metrics and the configuration in force.
///
/// # In another Pingora server
/// ```
/// use pingora_core::server::{Server, configuration::Opt};
/// use std::path::Path;
///
/// let directory = tempfile::tempdir()?;
/// let text = format!(
///     "data_dir: {}
/// listen: [{{ address: 127.0.0.1:0 }}]
/// channels:
///   - name: openai
///     protocol: openai
///     base_url: https://api.openai.com
///     keys: [{{ name: main, value: sk-upstream }}]
///     models: ['gpt-*']
/// ",
///     directory.path().display()
/// );
/// let config = weir::config::parse(&text, Path::new("weir.yaml"), &|_| None)?;
///
/// let mut server = Server::new(None::<Opt>)?;
/// server.bootstrap();
/// let gateway = weir::Gateway::open(&config)?;
/// server.add_service(gateway.service(&server.configuration, &config)?);
/// // server.run_forever() serves until it is told to stop; `gateway` is dropped after that.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Gateway {
    shared: Arc<Shared>,
    control: Arc<Control>,
    changes: Arc<Changes>,
    identity: Arc<Identity>,
    monitor: Arc<Monitor>,
    is_replaced: Arc<AtomicBool>,
}

impl Gateway {
    /// Opens the ledger in `data_dir` and makes the tables of `config` and of what was made over the admin API.
    ///
    /// # Errors
    /// When the data directory cannot be made or another gateway uses it, or when something in it cannot be read.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        Self::open_when(config, WhenLocked::Refuse)
    }

    /// The same beside a gateway that still runs, if `when_locked` allows it.
    pub(crate) fn open_when(config: &Config, when_locked: WhenLocked) -> Result<Self, StartError> {
        let path = config.data_dir.clone();
        // Who used what is nobody else's business.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let failed = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        made.map_err(failed)?;
        let ledger = Ledger::open(LedgerOptions {
            directory: path.clone(),
            shards: config.server.threads,
            durability: config.ledger.durability,
            keep_minutes: config.ledger.keep_minutes,
            keep_hours: config.ledger.keep_hours,
            when_locked,
        })
        .map_err(|source| StartError::Ledger { directory: path, source })?;
        let catalog = Catalog::open(&config.data_dir)?;
        let merged = catalog.merge(config)?;
        let metrics = Arc::new(Metrics::new());
        let (ledger, accounts) = (Arc::new(ledger), Arc::new(Accounts::new()));
        accounts.apply(&limited(&merged), &ledger, now_ms());
        let audit = Audit::start(config.server.threads, &config.data_dir).map_err(failed)?;
        audit.apply(config);
        let registry = Registry::default();
        catalog.drained().for_each(|name| registry.drain(name, true));
        let snapshot = Snapshot::new(1, &merged, &metrics, &accounts, &registry, Some(ledger.id()));
        metrics.set_config_version(1);
        metrics.set_last_reload_success(true);
        let mut connector = ConnectorOptions::new(NO_POOL);
        connector.ca_file = config.server.upstream_ca.as_ref().map(|path| path.to_string_lossy().into_owned());
        let shared = Arc::new(Shared {
            live: ArcSwap::from_pointee(snapshot),
            ledger,
            metrics,
            audit: Arc::new(audit),
            accounts,
            leg: Leg::new(Some(connector)),
            registry,
            conversations: Sticky::default(),
            drains: Arc::default(),
            in_flight: InFlight::default(),
            census: Arc::default(),
        });
        let changes = Arc::new(Changes::open(&config.data_dir));
        let identity = Arc::new(Identity::open(&config.data_dir).map_err(failed)?);
        let control = Control::new(shared.clone(), identity.clone(), config.clone(), catalog, &merged, changes.clone());
        let control = Arc::new(control);
        let monitor = Arc::new(Monitor::new(shared.clone(), &config.data_dir));
        Ok(Self { shared, control, changes, identity, monitor, is_replaced: Arc::default() })
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// The proxy as a Pingora service that listens where `config` says.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn service(
        &self,
        server: &Arc<ServerConf>,
        config: &Config,
    ) -> Result<Listening<Weir, HttpProxy<Weir>>, StartError> {
        let mut options = HttpServerOptions::default();
        // Whoever begins with HTTP/2's preface is handed on, and must be understood.
        options.h2c = true;
        options.h2_idle_timeout = Some(config.server.keepalive_timeout);
        let plugin = Weir::new(self.shared.clone());
        let mut proxy = HttpProxy::new(plugin.clone(), server.clone());
        proxy.server_options = Some(options);
        let mut http2 = default_h2_options();
        http2
            .max_header_list_size(u32::try_from(config.server.edge.max_header).unwrap_or(u32::MAX))
            .max_send_buffer_size(H2_SEND_BUFFER);
        proxy.h2_options = Some(http2);
        proxy.handle_init_modules();
        let shared = self.shared.clone();
        let census = shared.census.clone();
        let front =
            Front::new(plugin, proxy, census, move || shared.live.load().terms).unhurried_by(self.is_replaced.clone());
        let mut service = Listening::new(front);
        for listen in &config.listen {
            let Some(tls) = &listen.tls else {
                service.add_plain(listen.address);
                continue;
            };
            let (certificate, key) = (tls.certificate.to_string_lossy(), tls.private_key.to_string_lossy());
            let mut settings = TlsSettings::intermediate(&certificate, &key)
                .map_err(|e| StartError::Listen { address: listen.address, message: e.to_string() })?;
            settings.enable_h2();
            service.add_tls(listen.address, settings);
        }
        Ok(service)
    }

    /// Starts the admin listener. Gives the admin token if one had to be made.
    ///
    /// # Errors
    /// When its address or its socket is taken.
    pub fn admin(
        &self,
        config: &Config,
        reloader: Option<Reloader>,
    ) -> Result<(AdminHandle, Option<Secret>), StartError> {
        let (door, made) = self.admin_door(config, reloader)?;
        let opened = door.open(None);
        Ok((opened.map_err(|source| StartError::Admin { address: config.admin.address, source })?, made))
    }

    /// All that [`Gateway::admin`] needs, made and not yet opened.
    ///
    /// # Errors
    /// When the token cannot be read or made.
    pub(crate) fn admin_door(
        &self,
        config: &Config,
        reloader: Option<Reloader>,
    ) -> Result<(Unopened, Option<Secret>), StartError> {
        let address = config.admin.address;
        let failed = |source| StartError::Admin { address, source };
        let (token, made) = AdminToken::open(config.admin.token.as_ref(), &config.data_dir).map_err(failed)?;
        let options = AdminOptions {
            address,
            token,
            metrics_token: config.admin.metrics_token.clone(),
            socket: Some(config.data_dir.join(admin::SOCKET)),
            trusted_proxies: config.admin.trusted_proxies.clone(),
        };
        let opening = Opening::new(config.listen.iter().map(|listen| listen.address));
        let (shared, control, changes) = (self.shared.clone(), self.control.clone(), self.changes.clone());
        let trials = Trials::new(shared.clone(), config.listen.clone());
        let overview = Overview::new(shared.clone(), config.data_dir.clone());
        let (identity, words, monitor) = (self.identity.clone(), Words::default(), self.monitor.clone());
        let state = State { shared, control, changes, identity, reloader, opening, words, overview, trials, monitor };
        let state = Arc::new(state);
        Ok((Unopened::new(options, state), made))
    }

    /// To be set once another process serves: clients that are here need not hurry then.
    pub(crate) fn is_replaced(&self) -> &Arc<AtomicBool> {
        &self.is_replaced
    }

    /// Answers that are read for nobody.
    pub(crate) fn drains(&self) -> &Arc<Drains> {
        &self.shared.drains
    }

    /// Records of requests.
    pub(crate) fn audit(&self) -> &Arc<Audit> {
        &self.shared.audit
    }

    /// What probes the channels.
    pub(crate) fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// What changes the configuration in force.
    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// What makes a reload of `path` take effect here.
    pub fn reloader(&self, path: &Path) -> Reloader {
        Reloader { control: self.control.clone(), path: path.to_owned() }
    }

    /// Serves until `signals` say so, then settles what is still open and closes the ledger.
    ///
    /// # Errors
    /// When a listener cannot be opened.
    pub fn serve(self, config: &Config, signals: Box<dyn ShutdownSignalWatch + Send + Sync>) -> Result<(), StartError> {
        let clients = Clients::open(config, &mut Inherited::default())?;
        let sockets = clients.table().map_err(|source| StartError::Sockets { source })?;
        // Nobody waits for it to be up.
        let (up, _) = mpsc::channel();
        let ending = Box::new(Alone { clients, drains: self.drains().clone() });
        self.serve_through(config, Life { sockets, up, signals, stop: Stop::default(), ending })
    }

    /// The same as a part of `life`.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(crate) fn serve_through(self, config: &Config, life: Life) -> Result<(), StartError> {
        let mut server = Server::new_with_opt_and_conf(None, server_conf(config));
        server.bootstrap();
        let service = self.service(&server.configuration, config)?;
        let (service, signals) = stoppable(service, life, config.server.grace_period);
        server.add_service(service);
        server.run(RunArgs { shutdown_signal: Box::new(signals) });
        self.shared.ledger.close();
        self.shared.audit.close();
        Ok(())
    }
}

/// A gateway without a life of its own: nobody comes after it.
struct Alone {
    clients: Clients,
    drains: Arc<Drains>,
}

impl Ending for Alone {
    fn begins(&self) {
        self.clients.close();
    }

    fn is_busy(&self) -> bool {
        !self.drains.is_empty()
    }

    fn hand_over(&self) {
        log::warn!("there is no process that could follow this one");
    }
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        // A connection stays on the thread that took it: its upstream's connection, its timers and its
        // journal shard are there too, and no thread wakes another.
        work_stealing: false,
        // Pingora is only ever told to stop at once, when all streams have ended (see `stop`), and sockets are handed
        // over by `handover`.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// Reads a configuration file anew and puts it in force, all or nothing.
#[derive(Clone)]
pub struct Reloader {
    control: Arc<Control>,
    path: PathBuf,
}

impl Reloader {
    /// Puts the file in force, because `who` wants it, and gives its version.
    ///
    /// # Errors
    /// All mistakes of the file; the configuration that was in force stays.
    pub fn reload(&self, who: &Actor) -> Result<u64, Vec<String>> {
        self.control.reload(who, &self.path)
    }
}
