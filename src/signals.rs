//! Signals: heard from before the first client is served, so that none is lost and none ends the process by
//! itself.
//!
//! Owns which signal means what: SIGHUP reloads, SIGTERM lets streams end, SIGINT ends at once, SIGQUIT hands over.

use std::io;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};

/// Signals that wait to be looked at: whoever sends more at once means no more by them.
const WAITING: usize = 16;

/// Those that end the process, in their order.
pub(crate) struct Signals(Mutex<mpsc::Receiver<ShutdownSignal>>);

/// Listens from now on. What a hangup asks for may take its time: it has a thread of its own, and neither a stream nor
/// another signal waits for it.
pub(crate) fn hear(mut on_hangup: impl FnMut() + Send + 'static) -> io::Result<Signals> {
    let (runtime, [mut hangup]) = listen([SignalKind::hangup()])?;
    let reload = move || {
        runtime.block_on(async {
            while hangup.recv().await.is_some() {
                on_hangup()
            }
        })
    };
    std::thread::Builder::new().name("reload".into()).spawn(reload)?;

    let ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
    let (runtime, [mut terminate, mut interrupt, mut quit]) = listen(ends)?;
    let (sender, heard) = mpsc::channel(WAITING);
    let forward = move || {
        runtime.block_on(async {
            loop {
                let told = tokio::select! {
                    Some(()) = terminate.recv() => ShutdownSignal::GracefulTerminate,
                    Some(()) = interrupt.recv() => ShutdownSignal::FastShutdown,
                    Some(()) = quit.recv() => ShutdownSignal::GracefulUpgrade,
                    else => return,
                };
                // Nobody listens any more, or enough has been said.
                let _ = sender.try_send(told);
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(forward)?;
    Ok(Signals(Mutex::new(heard)))
}

/// A runtime for one thread, in which these signals are heard already.
fn listen<const N: usize>(kinds: [SignalKind; N]) -> io::Result<(Runtime, [Signal; N])> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let heard: Vec<Signal> = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
    drop(within);
    let heard = heard.try_into().map_err(|_| io::Error::other("not as many signals as were asked for"))?;
    Ok((runtime, heard))
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        match self.0.lock().await.recv().await {
            Some(signal) => signal,
            // Its thread is gone, and with it all that could come.
            None => std::future::pending().await,
        }
    }
}
