//! Where clients come in: the listening sockets, and the loop that accepts.
//!
//! Pingora's loop makes a task with room for a TLS handshake for each connection, on any thread, and
//! keeps its socket's events on its own. Connections without TLS are accepted here instead; those with
//! TLS, by Pingora.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::listeners::ListenerConfig;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use pingora_core::services::listening::Service as TlsService;
use pingora_runtime::current_handle;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketFlags, accept_with, listen, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

use super::app::{Front, Serve};
use super::seats::Seats;

/// How many connections may wait to be accepted: as many as the kernel allows, which cuts it to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// How many connections are accepted before those that have been are served.
const BATCH: usize = 32;
/// How long the loop waits when nothing can be accepted, because the process has no descriptor left or
/// no memory: others have to end first.
const CALM: Duration = Duration::from_millis(100);
/// How long until an address that is taken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A Pingora service: a [`Front`] and the addresses where it listens.
pub struct Listening<S, P> {
    front: Front<S, P>,
    plain: Vec<SocketAddr>,
    tls: Option<TlsService<Front<S, P>>>,
}

impl<S, P> Listening<S, P>
where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    pub(crate) fn new(front: Front<S, P>) -> Self {
        Self { front, plain: Vec::new(), tls: None }
    }

    pub(crate) fn add_plain(&mut self, address: SocketAddr) {
        self.plain.push(address);
    }

    pub(crate) fn add_tls(&mut self, listener: ListenerConfig) {
        let front = &self.front;
        let tls = self.tls.get_or_insert_with(|| TlsService::new("weir".to_owned(), front.clone()));
        tls.add_listener(listener);
    }
}

#[async_trait]
impl<S, P> Service for Listening<S, P>
where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        let seats = Arc::new(Seats::default());
        let plain = self.plain.iter().map(|&address| {
            let (front, seats, fds) = (self.front.clone(), seats.clone(), fds.clone());
            current_handle().spawn(accept(address, fds, front, seats, shutdown.clone()))
        });
        let plain: Vec<_> = plain.collect();
        if let Some(tls) = &mut self.tls {
            tls.start_service(fds, shutdown, listeners_per_fd).await;
        }
        for each in plain {
            if let Err(e) = each.await {
                log::error!("an accept loop broke off: {e}");
            }
        }
        ServerApp::cleanup(&self.front).await;
    }

    fn name(&self) -> &'static str {
        "weir"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        let tls = self.tls.as_ref().and_then(Service::listen_addresses).unwrap_or_default();
        Some(self.plain.iter().map(ToString::to_string).chain(tls).collect())
    }
}

/// Accepts at `address` until the service is stopped.
async fn accept<S, P>(
    address: SocketAddr,
    fds: Option<ListenFds>,
    front: Front<S, P>,
    seats: Arc<Seats>,
    mut shutdown: ShutdownWatch,
) where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    let mut complained = false;
    let listener = loop {
        match open(address, fds.as_ref()).and_then(watch) {
            Ok(listener) => break listener,
            Err(e) => {
                if !std::mem::replace(&mut complained, true) {
                    log::error!("cannot listen on {address}: {e}; it is tried every second");
                }
                tokio::select! {
                    () = tokio::time::sleep(TRY_AGAIN) => {}
                    _ = shutdown.wait_for(|stopping| *stopping) => return,
                }
            }
        }
    };
    loop {
        let ready = tokio::select! {
            ready = listener.readable() => ready,
            _ = shutdown.wait_for(|stopping| *stopping) => return,
        };
        let Ok(mut ready) = ready else { return };
        for _ in 0..BATCH {
            match accept_with(listener.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    if let Err(socket) = seats.give(TcpStream::from(socket)) {
                        let (front, seats) = (front.clone(), seats.clone());
                        current_handle().spawn(clock::keep(front.sit(seats, socket, shutdown.clone())));
                    }
                }
                Err(Errno::WOULDBLOCK) => {
                    ready.clear_ready();
                    break;
                }
                // The client has left already, or is kept out.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                Err(e) => {
                    log::error!("connections to {address} have to wait: {e}");
                    tokio::time::sleep(CALM).await;
                    break;
                }
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
    }
}

/// The listening socket for `address`: the one that a process before this one handed over, or a new one.
fn open(address: SocketAddr, fds: Option<&ListenFds>) -> io::Result<TcpListener> {
    let name = address.to_string();
    let handed = fds.and_then(|fds| fds.lock().get(&name).copied());
    if let Some(fd) = handed {
        // SAFETY: the table has descriptors that were received for this process to own and stay open. It is
        // owned only once it can be used: what was closed after a failure must not be asked for again.
        prepare(unsafe { BorrowedFd::borrow_raw(fd) })?;
        // SAFETY: as above, and each address is opened once.
        return Ok(unsafe { TcpListener::from_raw_fd(fd) });
    }
    let listener = TcpListener::bind(address)?;
    prepare(listener.as_fd())?;
    if let Some(fds) = fds {
        fds.lock().add(name, listener.as_raw_fd());
    }
    Ok(listener)
}

fn prepare(listener: BorrowedFd<'_>) -> io::Result<()> {
    listen(listener, BACKLOG)?;
    ioctl_fionbio(listener, true)?;
    // Linux gives it to each connection that is accepted here.
    sockopt::set_tcp_nodelay(listener, true)?;
    Ok(())
}

fn watch(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a listener owns its descriptor and keeps it for as long as it lives, and nothing here
    // takes the listener out again.
    unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::server::Fds;

    #[test]
    fn a_connection_that_is_accepted_sends_without_delay() {
        let listener = open(SocketAddr::from(([127, 0, 0, 1], 0)), None).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).unwrap();
        assert!(TcpStream::from(socket).nodelay().unwrap());
    }

    #[test]
    fn a_socket_that_was_handed_over_is_used() {
        let fds = ListenFds::new(Fds::new().into());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = open(address, Some(&fds)).unwrap();
        let fd = *fds.lock().get("127.0.0.1:0").unwrap();
        assert_eq!(fd, first.as_raw_fd());
        // Handed over: the number is the same in the table, and somebody else owns it.
        let known = first.local_addr().unwrap();
        std::mem::forget(first);
        assert_eq!(open(address, Some(&fds)).unwrap().local_addr().unwrap(), known);
    }
}
