//! The side of the process that goes: who may take its sockets, and when it has been replaced.
//!
//! At most one upgrade is under way. Until the new process has said that it serves, everything can still fail, and
//! then nothing has changed.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UnixListener as AsyncUnix;
use tokio::sync::watch;

use crate::sockets::Sockets;

use super::child::{self, LOOK_EVERY, Successor};
use super::wire::{Ask, Line, Say};
use super::{VERSION, WITHIN};

/// How long a caller may take to say what it wants.
const QUESTION: Duration = Duration::from_secs(10);

/// How long a process that nobody here has started may keep the sockets without serving.
const TAKER: Duration = Duration::from_secs(600);

/// Callers at once: an upgrade has two, the command and the new process.
const MAX_CALLERS: usize = 8;

/// How long answers that are under way have when this process ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long `accept` rests when it fails, as it does while descriptors are short.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The gateway whose sockets are handed over.
pub(crate) trait Owner: Send + Sync {
    /// A new process reads what is in the data directory: nothing there may be changed any more.
    fn freeze(&self);
    /// It did not come to it.
    fn thaw(&self);
    /// The process `pid` serves now: this one is to accept nothing any more, and to end with its last stream.
    fn leave(&self, pid: u32);
}

/// Hands over sockets to whoever asks for them.
#[derive(Clone)]
pub(crate) struct Giver(Arc<Giving>);

struct Giving {
    sockets: Arc<Sockets>,
    successor: Successor,
    owner: Box<dyn Owner>,
    stage: Mutex<Stage>,
    callers: AtomicUsize,
    /// Whether nothing is to be given any more.
    over: watch::Sender<bool>,
}

/// How far an upgrade is.
#[derive(Debug)]
enum Stage {
    /// There is none.
    Idle,
    /// A new process is to be started.
    Starting,
    /// This child may take the sockets.
    Awaiting(u32),
    /// This process has the sockets and does not serve yet.
    Taken,
    /// It could not serve.
    Failed(String),
    /// It serves.
    Left(u32),
}

/// Somebody who is being answered.
struct Caller(Arc<Giving>);

impl Giver {
    pub(crate) fn new(sockets: Arc<Sockets>, successor: Successor, owner: Box<dyn Owner>) -> Self {
        let (stage, callers, over) = (Mutex::new(Stage::Idle), AtomicUsize::new(0), watch::Sender::new(false));
        Self(Arc::new(Giving { sockets, successor, owner, stage, callers, over }))
    }

    /// Answers whoever connects to `listener`, on a thread of its own.
    pub(crate) fn listen(&self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let giving = self.0.clone();
        let serve = move || {
            let served = runtime.block_on(async {
                let mut over = giving.over.subscribe();
                let listener = AsyncUnix::from_std(listener)?;
                tokio::select! {
                    _ = over.wait_for(|over| *over) => {}
                    () = giving.accept(&listener) => {}
                }
                Ok::<(), io::Error>(())
            });
            if let Err(e) = served {
                log::error!("no upgrade will be possible: {e}");
            }
        };
        std::thread::Builder::new().name("weir-upgrade".into()).spawn(serve).map(drop)
    }

    /// Starts another process of the same program in this one's place, as SIGQUIT asks for.
    pub(crate) fn upgrade_self(&self) {
        let Some(caller) = Caller::enter(&self.0) else {
            return log::error!("no upgrade: too many are asked for");
        };
        let run = move || {
            let giving = &caller.0;
            let tell = |what: &str| log::info!("upgrade: {what}");
            match giving.upgrade(&giving.successor.own, Instant::now() + WITHIN, tell) {
                Ok(pid) => log::info!("upgrade: process {pid} serves now"),
                Err(why) => log::error!("no upgrade: {why}"),
            }
        };
        if let Err(e) = std::thread::Builder::new().name("weir-upgrade".into()).spawn(run) {
            log::error!("no upgrade: {e}");
        }
    }

    /// Gives nothing any more, ends a process that was started and does not serve, and lets those who are being
    /// answered hear it.
    pub(crate) fn finish(&self) {
        self.0.over.send_replace(true);
        {
            let mut stage = self.0.stage();
            if !matches!(&*stage, Stage::Left(_) | Stage::Failed(_)) {
                *stage = Stage::Failed("the gateway was stopped".to_owned());
            }
        }
        let until = Instant::now() + GOODBYE;
        while self.0.callers.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Giving {
    async fn accept(self: &Arc<Self>, listener: &AsyncUnix) {
        loop {
            let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(e) => {
                    log::warn!("the socket for upgrades cannot accept: {e}");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            // One that is too much is not answered.
            let Some(caller) = Caller::enter(self) else { continue };
            let answer = move || caller.answer(stream);
            if let Err(e) = std::thread::Builder::new().name("weir-upgrade".into()).spawn(answer) {
                log::warn!("a call for an upgrade cannot be answered: {e}");
            }
        }
    }

    /// Puts another process in this one's place, and gives its number.
    fn upgrade(&self, binary: &Path, deadline: Instant, mut tell: impl FnMut(&str)) -> Result<u32, String> {
        self.begin(Stage::Starting)?;
        let outcome = (|| {
            tell(&format!("{} checks {}", binary.display(), self.successor.config.display()));
            self.successor.check(binary, deadline)?;
            let mut child = self.start(binary)?;
            tell(&format!("process {} is started", child.id()));
            self.await_child(&mut child, deadline)
        })();
        if outcome.is_err() {
            *self.stage() = Stage::Idle;
        }
        outcome
    }

    fn begin(&self, begun: Stage) -> Result<(), String> {
        let mut stage = self.stage();
        match &*stage {
            Stage::Idle => {}
            Stage::Left(pid) => return Err(format!("process {pid} serves already")),
            Stage::Failed(why) => return Err(why.clone()),
            Stage::Starting | Stage::Awaiting(_) | Stage::Taken => {
                return Err("an upgrade is under way".to_owned());
            }
        }
        *stage = begun;
        Ok(())
    }

    /// Under the lock, so that the child is known before it can ask for anything.
    fn start(&self, binary: &Path) -> Result<std::process::Child, String> {
        let mut stage = self.stage();
        if let Stage::Failed(why) = &*stage {
            return Err(why.clone());
        }
        let child = self.successor.start(binary);
        let child = child.map_err(|e| format!("{} cannot be started: {e}", binary.display()))?;
        *stage = Stage::Awaiting(child.id());
        Ok(child)
    }

    fn await_child(&self, child: &mut std::process::Child, deadline: Instant) -> Result<u32, String> {
        loop {
            let status = child.try_wait().map_err(|e| format!("the new process cannot be watched: {e}"))?;
            let mut stage = self.stage();
            let why = match (&*stage, status) {
                (Stage::Left(pid), _) => return Ok(*pid),
                (Stage::Failed(why), _) => why.clone(),
                (_, Some(status)) => {
                    format!("the new process ended before it served: {status}; its log may say why")
                }
                (_, None) if Instant::now() >= deadline => "the new process did not serve in time".to_owned(),
                (_, None) => {
                    drop(stage);
                    std::thread::sleep(LOOK_EVERY);
                    continue;
                }
            };
            // From here on it is told no, should it serve after all.
            *stage = Stage::Failed(why.clone());
            drop(stage);
            if status.is_none() {
                child::end(child);
            }
            return Err(why);
        }
    }

    /// Gives the sockets to the process at the other side of `line`, and waits until it serves.
    fn give(&self, line: &mut Line) -> Result<(), String> {
        let pid = line.peer().map_err(|e| format!("it cannot be told who asks: {e}"))?;
        let is_child = {
            let mut stage = self.stage();
            let is_child = matches!(&*stage, Stage::Awaiting(child) if *child == pid);
            match &*stage {
                Stage::Idle => {}
                Stage::Awaiting(_) if is_child => {}
                Stage::Left(pid) => return Err(format!("process {pid} serves already")),
                _ => return Err("an upgrade is under way".to_owned()),
            }
            *stage = Stage::Taken;
            is_child
        };
        self.owner.freeze();
        let gave = self.give_to(line, pid);
        if let Err(why) = &gave {
            self.owner.thaw();
            let mut stage = self.stage();
            if matches!(&*stage, Stage::Taken) {
                // Whoever waits for the child reads it there.
                *stage = if is_child { Stage::Failed(why.clone()) } else { Stage::Idle };
            }
        }
        gave
    }

    fn give_to(&self, line: &mut Line, pid: u32) -> Result<(), String> {
        let broken = |e: io::Error| format!("the new process does not go on: {e}");
        let all = self.sockets.all().map_err(|e| format!("the sockets cannot be given: {e}"))?;
        let (names, sockets): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        line.send_with(&Say::Sockets { names }, &sockets).map_err(broken)?;
        drop(sockets);
        match line.receive(Instant::now() + TAKER).map_err(broken)? {
            Say::Serving => {}
            Say::Failed { why } => return Err(format!("the new process cannot serve: {why}")),
            other => return Err(format!("the new process said {other:?}")),
        }
        {
            // Between this word and the stage nobody else may decide that it took too long.
            let mut stage = self.stage();
            if !matches!(&*stage, Stage::Taken) {
                return Err("it took too long".to_owned());
            }
            line.send(&Say::Leaving).map_err(broken)?;
            *stage = Stage::Left(pid);
        }
        self.over.send_replace(true);
        log::info!("process {pid} serves now; this one ends with its last stream");
        self.owner.leave(pid);
        Ok(())
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    fn enter(giving: &Arc<Giving>) -> Option<Self> {
        let room = |n| (n < MAX_CALLERS).then_some(n + 1);
        let entered = giving.callers.fetch_update(Ordering::AcqRel, Ordering::Relaxed, room);
        entered.is_ok().then(|| Self(giving.clone()))
    }

    fn answer(self, stream: UnixStream) {
        if let Err(e) = self.converse(stream) {
            log::warn!("a call for an upgrade broke off: {e}");
        }
    }

    fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let mut line = Line::new(stream)?;
        let answer = match line.receive(Instant::now() + QUESTION)? {
            Ask::Take { version: VERSION } => self.0.give(&mut line).map(|()| None),
            Ask::Take { version } => {
                Err(format!("this gateway speaks version {VERSION} of upgrades, and not {version}"))
            }
            Ask::Upgrade { binary, within_ms } => {
                let deadline = Instant::now() + Duration::from_millis(within_ms).min(TAKER);
                // If whoever asked is gone, the log has it.
                let tell = |what: &str| {
                    log::info!("upgrade: {what}");
                    let _ = line.send(&Say::Step { what: what.to_owned() });
                };
                self.0.upgrade(&binary, deadline, tell).map(Some)
            }
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(pid)) => line.send(&Say::Done { pid }),
            Err(why) => {
                log::error!("no upgrade: {why}");
                line.send(&Say::Failed { why })
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::AcqRel);
    }
}
