//! The life of `weir run`: from its first socket to its last stream, and on to the process that follows it.
//!
//! Owns the order in which the parts of a process begin and end, alone, under systemd, or in the place of another
//! one. Refuses to know what any of them does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use crate::admin::{AdminHandle, Unopened};
use crate::app::{Gateway, Reloader, StartError};
use crate::audit::Audit;
use crate::changes::Actor;
use crate::config::Config;
use crate::control::Control;
use crate::handover::{AskError, Giver, Owner, Successor, Taken};
use crate::ledger::{Ledger, WhenLocked};
use crate::loopback;
use crate::monitor::Monitor;
use crate::proxy::Drains;
use crate::signals;
use crate::sockets::{Inherited, Sockets};
use crate::stop::{Ending, Life, Stop};
use crate::systemd::{self, Notify};

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifeError {
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The one before it does not make room.
    #[error("no upgrade: {0}")]
    Upgrade(#[from] AskError),
    /// The system gives no thread or no signals, or does not say where the program is.
    #[error("the system does not give what a gateway needs: {0}")]
    System(#[source] std::io::Error),
    /// It was to serve and does not.
    #[error("{0}")]
    NotUp(String),
}

/// Runs the gateway of the file `path` until it is told to stop, or another process has taken its place. With
/// `upgrade` it takes the place of the one that runs.
pub(crate) fn run(path: &Path, config: &Config, upgrade: bool) -> Result<(), LifeError> {
    if !upgrade {
        return serve(path, config, None, Inherited::default());
    }
    let (taken, inherited) = Taken::from(&config.data_dir)?;
    serve(path, config, Some(taken), inherited)
}

/// What a process is, to all that can end it.
struct Process {
    ledger: Arc<Ledger>,
    audit: Arc<Audit>,
    drains: Arc<Drains>,
    control: Arc<Control>,
    monitor: Arc<Monitor>,
    sockets: Arc<Sockets>,
    admin: Mutex<Option<AdminHandle>>,
    stop: Stop,
    notify: Notify,
    /// Whether it accepts nobody any more.
    is_ending: AtomicBool,
    /// Whether another process has taken its place.
    is_replaced: Arc<AtomicBool>,
    /// Why it had to end.
    failure: Mutex<Option<LifeError>>,
}

/// What is to be done once clients are served.
struct Arrival {
    process: Arc<Process>,
    giver: Giver,
    config: Config,
    /// The admin listener is opened then: whoever asks it hears of a gateway that serves.
    door: Unopened,
    /// The one before.
    replaces: Option<Taken>,
}

fn serve(path: &Path, config: &Config, taken: Option<Taken>, mut inherited: Inherited) -> Result<(), LifeError> {
    let environment = |name: &str| std::env::var_os(name);
    if taken.is_none() {
        let strangers;
        (inherited, strangers) = Inherited::by_address(systemd::listeners(&environment), config);
        for address in strangers {
            log::warn!("systemd listens on {address}, and no listener of the configuration does: it is closed");
        }
    }
    let (gateway, reloader, process, giver, door) = match make(path, config, inherited, taken.is_some(), &environment) {
        Ok(made) => made,
        Err(e) => {
            if let Some(taken) = taken {
                taken.failed(e.to_string());
            }
            return Err(e);
        }
    };
    let signals = signals::hear(move || {
        // What was refused has been logged, and the last good configuration stays.
        let _ = reloader.reload(&Actor::Signal);
    });
    let signals = Box::new(signals.map_err(LifeError::System)?);
    let (up, is_up) = mpsc::channel();
    let arrival =
        Arrival { process: process.clone(), giver: giver.clone(), config: config.clone(), door, replaces: taken };
    let waits = std::thread::Builder::new().name("weir-arrival".into()).spawn(move || arrival.wait(&is_up));
    waits.map_err(LifeError::System)?;
    let life = Life {
        sockets: process.sockets.clients().table().map_err(LifeError::System)?,
        up,
        signals,
        stop: process.stop.clone(),
        ending: Box::new(Ends { process: process.clone(), giver: giver.clone() }),
    };
    gateway.serve_through(config, life)?;
    giver.finish();
    if let Some(admin) = process.admin().take() {
        admin.shutdown();
    }
    let failure = process.failure().take();
    failure.map_or(Ok(()), Err)
}

type Made = (Gateway, Reloader, Arc<Process>, Giver, Unopened);

/// Everything that can fail before anybody is served.
fn make(
    path: &Path,
    config: &Config,
    inherited: Inherited,
    beside_another: bool,
    environment: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Made, LifeError> {
    let gateway = Gateway::open_when(config, if beside_another { WhenLocked::Wait } else { WhenLocked::Refuse })?;
    let sockets = Arc::new(Sockets::open(config, inherited)?);
    let reloader = gateway.reloader(path);
    let (door, token) = gateway.admin_door(config, Some(reloader.clone()))?;
    if let Some(token) = token {
        // Shown once and kept only as a hash: this line is the only chance to note it down.
        println!("admin token, shown this once: {}", token.expose());
    }
    let process = Arc::new(Process {
        ledger: gateway.ledger().clone(),
        audit: gateway.audit().clone(),
        drains: gateway.drains().clone(),
        control: gateway.control().clone(),
        monitor: gateway.monitor().clone(),
        sockets: sockets.clone(),
        admin: Mutex::default(),
        stop: Stop::default(),
        notify: Notify::new(environment),
        is_ending: AtomicBool::new(false),
        is_replaced: gateway.is_replaced().clone(),
        failure: Mutex::default(),
    });
    let successor = Successor::of_this_process(path, &config.data_dir).map_err(LifeError::System)?;
    let giver = Giver::new(sockets, successor, Box::new(process.clone()));
    Ok((gateway, reloader, process, giver, door))
}

impl Arrival {
    /// Waits until clients are served, and makes it known.
    fn wait(self, is_up: &mpsc::Receiver<()>) {
        let process = self.process.clone();
        if is_up.recv().is_err() {
            if !process.is_ending.load(Ordering::Acquire) {
                process.fail(LifeError::NotUp("the listeners could not be served, see the log".to_owned()));
            }
            return;
        }
        if let Err(e) = self.arrive() {
            process.fail(e);
        }
    }

    fn arrive(self) -> Result<(), LifeError> {
        let Self { process, giver, config, door, replaces } = self;
        let replaces = replaces.map(Taken::serving).transpose()?.is_some();
        match process.sockets.admin().and_then(|listeners| door.open(Some(listeners))) {
            Ok(admin) => *process.admin() = Some(admin),
            // The one before does not serve any more: half of a gateway is better than none.
            Err(e) if replaces => log::error!("the admin listener is not served: {e}"),
            Err(source) => return Err(StartError::Admin { address: config.admin.address, source }.into()),
        }
        process.announce(&config);
        match process.sockets.upgrade().and_then(|listener| giver.listen(listener)) {
            Ok(()) => {}
            Err(e) => log::error!("no upgrade will be possible: {e}"),
        }
        // It waits by itself for what the one before has under way.
        process.monitor.start();
        process.notify.ready();
        if let Some(every) = systemd::watchdog(&|name| std::env::var_os(name))
            && let Some(listen) = config.listen.first()
        {
            let (watched, notify) = (process.clone(), process.notify.clone());
            let is_over = move || watched.is_ending.load(Ordering::Acquire);
            if let Err(e) = loopback::feed(listen.clone(), every, notify, is_over) {
                log::error!("the watchdog is not fed: {e}");
            }
        }
        Ok(())
    }
}

/// What the end of the service means to its process.
struct Ends {
    process: Arc<Process>,
    giver: Giver,
}

impl Ending for Ends {
    fn begins(&self) {
        let process = &self.process;
        process.is_ending.store(true, Ordering::Release);
        process.monitor.stop();
        if !process.is_replaced.load(Ordering::Acquire) {
            process.notify.stopping();
        }
        process.sockets.clients().close();
    }

    fn is_busy(&self) -> bool {
        // What is read for nobody is counted, and need not be estimated; a probe's end is written down.
        !self.process.drains.is_empty() || self.process.monitor.is_busy()
    }

    fn hand_over(&self) {
        self.giver.upgrade_self();
    }
}

impl Process {
    fn announce(&self, config: &Config) {
        for listen in &config.listen {
            let scheme = if listen.tls.is_some() { "https" } else { "http" };
            println!("gateway on {scheme}://{}", listen.address);
        }
        if let Some(admin) = &*self.admin() {
            println!("admin on http://{}", admin.address());
        }
    }

    fn fail(&self, why: LifeError) {
        log::error!("{why}");
        self.failure().get_or_insert(why);
        self.stop.now();
    }

    fn admin(&self) -> MutexGuard<'_, Option<AdminHandle>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<LifeError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for Arc<Process> {
    fn freeze(&self) {
        self.control.freeze();
    }

    fn thaw(&self) {
        self.control.thaw();
    }

    fn leave(&self, pid: u32) {
        self.is_replaced.store(true, Ordering::Release);
        self.monitor.stop();
        self.ledger.stand_aside();
        self.audit.stand_aside();
        self.notify.succeeded_by(pid);
        self.stop.drain();
        self.sockets.leave();
        if let Some(admin) = self.admin().take() {
            admin.shutdown();
        }
    }
}
