//! Stopping: as soon as the last stream has ended, or at once, and in the right order.
//!
//! Pingora waits out its whole grace period, however idle it is. Here the service is told first, whoever serves a
//! client is waited for, and then Pingora is told to stop at once. Owns when that is; refuses to know what is
//! served.
//!
//! Without work stealing a service's accept loop and its socket may belong to the runtimes of different
//! threads. When Pingora takes these down for a fast stop, without telling the loop, the socket fails for
//! ever and the loop asks it again without a pause, on a thread whose end is waited for. So the loops are
//! ended first.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::watch;

/// How long the end of the accept loops is waited for. They end at once unless the machine is stuck.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks whether anything is left that serves no client and yet has something to do.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the end of a service means to the rest of its process.
pub(crate) trait Ending: Send + Sync {
    /// It begins: nobody new may come in.
    fn begins(&self);
    /// Whether there is something to be done for no client any more, that is worth waiting for.
    fn is_busy(&self) -> bool;
    /// Somebody asked for another process to take this one's place.
    fn hand_over(&self);
}

/// Stops a service from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<Asked>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    Drain,
    Now,
}

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(Asked::Nothing))
    }
}

impl Stop {
    /// As soon as all streams have ended.
    pub(crate) fn drain(&self) {
        self.ask(Asked::Drain);
    }

    /// At once.
    pub(crate) fn now(&self) {
        self.ask(Asked::Now);
    }

    fn ask(&self, asked: Asked) {
        self.0.send_if_modified(|before| {
            let more = asked > *before;
            *before = asked.max(*before);
            more
        });
    }
}

/// How a service lives and ends.
pub(crate) struct Life {
    /// Where it listens.
    pub(crate) sockets: ListenFds,
    /// Is sent to once it serves; hung up if it cannot.
    pub(crate) up: mpsc::Sender<()>,
    /// Signals from outside.
    pub(crate) signals: Box<dyn ShutdownSignalWatch + Send + Sync>,
    /// From inside.
    pub(crate) stop: Stop,
    /// How long streams may take to end.
    pub(crate) grace: Duration,
    /// Who else has to know.
    pub(crate) ending: Box<dyn Ending>,
}

/// A service that is waited for.
pub(crate) struct Stoppable<S> {
    service: S,
    sockets: ListenFds,
    /// Whoever serves a client holds a copy of it.
    serving: Option<ShutdownWatch>,
    up: Option<mpsc::Sender<()>>,
    ended: watch::Sender<bool>,
}

/// What Pingora hears: one signal, when all is done.
pub(crate) struct Signals {
    outside: Box<dyn ShutdownSignalWatch + Send + Sync>,
    stop: Stop,
    serving: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    grace: Duration,
    ending: Box<dyn Ending>,
}

/// Ties `service` to what stops it.
pub(crate) fn stoppable<S>(service: S, life: Life) -> (Stoppable<S>, Signals) {
    let Life { sockets, up, signals, stop, grace, ending } = life;
    let (serving, watch) = watch::channel(false);
    let (ended, has_ended) = watch::channel(false);
    let service = Stoppable { service, sockets, serving: Some(watch), up: Some(up), ended };
    (service, Signals { outside: signals, stop, serving, ended: has_ended, grace, ending })
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut asked = self.stop.0.subscribe();
        loop {
            let how = tokio::select! {
                signal = self.outside.recv() => match signal {
                    ShutdownSignal::FastShutdown => Asked::Now,
                    ShutdownSignal::GracefulTerminate => Asked::Drain,
                    ShutdownSignal::GracefulUpgrade => {
                        self.ending.hand_over();
                        continue;
                    }
                },
                asked = told(&mut asked) => asked,
            };
            self.ending.begins();
            if how == Asked::Drain {
                self.drain().await;
            }
            break;
        }
        self.serving.send_replace(true);
        let mut ended = self.ended.clone();
        // Whoever does not end in time is taken down all the same.
        let _ = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await;
        ShutdownSignal::FastShutdown
    }
}

/// What is asked for, once it is.
async fn told(asked: &mut watch::Receiver<Asked>) -> Asked {
    let told = asked.wait_for(|asked| *asked != Asked::Nothing).await.map(|asked| *asked);
    match told {
        Ok(asked) => asked,
        // Nobody is left who could ask.
        Err(_) => std::future::pending().await,
    }
}

impl Signals {
    /// Ends what is idle, and waits for the rest until the time is over or somebody is impatient.
    async fn drain(&self) {
        log::info!("stopping: nobody new is served, and open streams have up to {:?} to end", self.grace);
        self.serving.send_replace(true);
        let empty = async {
            self.serving.closed().await;
            while self.ending.is_busy() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = empty => log::info!("all streams have ended"),
            () = tokio::time::sleep(self.grace) => log::warn!("streams are cut that did not end in time"),
            () = self.impatience() => log::warn!("streams are cut, as was asked for"),
        }
    }

    async fn impatience(&self) {
        let mut asked = self.stop.0.subscribe();
        let outside = async { while !matches!(self.outside.recv().await, ShutdownSignal::FastShutdown) {} };
        tokio::select! {
            () = outside => {}
            _ = asked.wait_for(|asked| *asked == Asked::Now) => {}
        }
    }
}

#[async_trait]
impl<S: Service> Service for Stoppable<S> {
    async fn start_service(&mut self, _fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        // Pingora's own word comes when the runtimes are about to go; this service is told before.
        let serving = self.serving.take().unwrap_or(shutdown);
        let mut service = pin!(self.service.start_service(Some(self.sockets.clone()), serving, listeners_per_fd));
        // Its sockets listen already; what could fail without waiting has failed, or not, when it first waits.
        let ended = poll_fn(|cx| Poll::Ready(service.as_mut().poll(cx).is_ready())).await;
        if !ended {
            if let Some(up) = self.up.take() {
                // Nobody may want to know.
                let _ = up.send(());
            }
            service.await;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::server::Fds;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Mutex;
    use tokio::time::{Instant, sleep, timeout};

    #[derive(Default)]
    struct Seen {
        begun: AtomicUsize,
        handed: AtomicUsize,
        busy: AtomicUsize,
    }

    impl Ending for Arc<Seen> {
        fn begins(&self) {
            self.begun.fetch_add(1, Ordering::Relaxed);
        }

        fn is_busy(&self) -> bool {
            self.busy.load(Ordering::Relaxed) > 0
        }

        fn hand_over(&self) {
            self.handed.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Sent(Mutex<tokio::sync::mpsc::UnboundedReceiver<ShutdownSignal>>);

    #[async_trait]
    impl ShutdownSignalWatch for Sent {
        async fn recv(&self) -> ShutdownSignal {
            match self.0.lock().await.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            }
        }
    }

    /// A service with one client, who leaves when told.
    struct Serves(Arc<tokio::sync::Notify>);

    #[async_trait]
    impl Service for Serves {
        async fn start_service(&mut self, _fds: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
            let (client, leaves) = (shutdown.clone(), self.0.clone());
            tokio::spawn(async move {
                leaves.notified().await;
                drop(client);
            });
            let _ = shutdown.wait_for(|stopping| *stopping).await;
        }

        fn name(&self) -> &'static str {
            "test"
        }
    }

    struct Scene {
        seen: Arc<Seen>,
        leaves: Arc<tokio::sync::Notify>,
        send: tokio::sync::mpsc::UnboundedSender<ShutdownSignal>,
        stop: Stop,
        up: mpsc::Receiver<()>,
        over: tokio::task::JoinHandle<ShutdownSignal>,
    }

    fn serve(grace: Duration) -> Scene {
        let (seen, leaves, stop) = (Arc::<Seen>::default(), Arc::<tokio::sync::Notify>::default(), Stop::default());
        let (send, sent) = tokio::sync::mpsc::unbounded_channel();
        let (up_sender, up) = mpsc::channel();
        let life = Life {
            sockets: ListenFds::new(Fds::new().into()),
            up: up_sender,
            signals: Box::new(Sent(Mutex::new(sent))),
            stop: stop.clone(),
            grace,
            ending: Box::new(seen.clone()),
        };
        let (mut service, signals) = stoppable(Serves(leaves.clone()), life);
        let (pingoras, watch) = watch::channel(false);
        tokio::spawn(async move {
            service.start_service(None, watch, 1).await;
            drop(pingoras);
        });
        let over = tokio::spawn(async move { signals.recv().await });
        Scene { seen, leaves, send, stop, up, over }
    }

    const LONG: Duration = Duration::from_secs(60);
    /// Enough for what happens at once.
    const SHORT: Duration = Duration::from_millis(150);

    #[tokio::test]
    async fn a_stop_takes_as_long_as_the_last_client() {
        let mut scene = serve(LONG);
        sleep(SHORT).await;
        scene.send.send(ShutdownSignal::GracefulTerminate).unwrap();
        assert!(timeout(SHORT, &mut scene.over).await.is_err(), "a client is there");
        assert_eq!((scene.seen.begun.load(Ordering::Relaxed), scene.up.try_recv()), (1, Ok(())));
        scene.seen.busy.store(1, Ordering::Relaxed);
        scene.leaves.notify_one();
        assert!(timeout(SHORT, &mut scene.over).await.is_err(), "something is to be done");
        scene.seen.busy.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        assert!(matches!(scene.over.await, Ok(ShutdownSignal::FastShutdown)));
        assert!(begun.elapsed() <= PATIENCE);
    }

    #[tokio::test]
    async fn grace_has_an_end_and_so_has_patience() {
        let scene = serve(SHORT * 2);
        sleep(SHORT).await;
        scene.stop.drain();
        let begun = Instant::now();
        assert!(scene.over.await.is_ok());
        assert!(begun.elapsed() >= SHORT * 2 && begun.elapsed() < LONG / 2);
        let mut scene = serve(LONG);
        sleep(SHORT).await;
        scene.send.send(ShutdownSignal::GracefulTerminate).unwrap();
        scene.send.send(ShutdownSignal::GracefulTerminate).unwrap();
        assert!(timeout(SHORT, &mut scene.over).await.is_err(), "twice is no more than once");
        scene.send.send(ShutdownSignal::FastShutdown).unwrap();
        assert!(timeout(PATIENCE * 2, scene.over).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_for_a_successor_stops_nobody() {
        let mut scene = serve(LONG);
        sleep(SHORT).await;
        scene.send.send(ShutdownSignal::GracefulUpgrade).unwrap();
        assert!(timeout(SHORT, &mut scene.over).await.is_err());
        assert_eq!((scene.seen.handed.load(Ordering::Relaxed), scene.seen.begun.load(Ordering::Relaxed)), (1, 0));
        scene.stop.now();
        assert!(timeout(PATIENCE * 2, scene.over).await.is_ok());
    }
}
