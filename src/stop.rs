//! Stopping at once, in the right order.
//!
//! Without work stealing a service's accept loop and its socket may belong to the runtimes of different
//! threads. When Pingora takes these down for a fast stop, without telling the loop, the socket fails for
//! ever and the loop asks it again without a pause, on a thread whose end is waited for. So the loops are
//! ended first.

use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::watch;

/// How long the end of the accept loops is waited for. They end at once unless the machine is stuck.
const PATIENCE: Duration = Duration::from_secs(1);

/// A service whose accept loops can be ended before its runtimes are.
pub(crate) struct Stoppable<S> {
    service: S,
    stop: watch::Receiver<bool>,
    ended: watch::Sender<bool>,
}

/// The signals of `inner`; before a fast stop the accept loops are ended.
pub(crate) struct LoopsFirst {
    inner: Box<dyn ShutdownSignalWatch + Send + Sync>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

/// Ties `service` to the signals that stop it.
pub(crate) fn stoppable<S>(
    service: S,
    inner: Box<dyn ShutdownSignalWatch + Send + Sync>,
) -> (Stoppable<S>, LoopsFirst) {
    let (stop, stopped) = watch::channel(false);
    let (ended, has_ended) = watch::channel(false);
    (Stoppable { service, stop: stopped, ended }, LoopsFirst { inner, stop, ended: has_ended })
}

#[async_trait]
impl ShutdownSignalWatch for LoopsFirst {
    async fn recv(&self) -> ShutdownSignal {
        let signal = self.inner.recv().await;
        if matches!(signal, ShutdownSignal::FastShutdown) {
            self.stop.send_replace(true);
            let mut ended = self.ended.clone();
            // Whoever does not end in time is taken down all the same.
            let _ = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await;
        }
        signal
    }
}

#[async_trait]
impl<S: Service> Service for Stoppable<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, mut shutdown: ShutdownWatch, listeners_per_fd: usize) {
        let (either, watch) = watch::channel(false);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = shutdown.wait_for(|stopping| *stopping) => {}
                _ = stop.wait_for(|stopping| *stopping) => {}
            }
            either.send_replace(true);
        });
        self.service.start_service(fds, watch, listeners_per_fd).await;
        self.ended.send_replace(true);
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}
