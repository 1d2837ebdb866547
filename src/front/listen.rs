//! Where clients come in: the listening sockets, and the loop that accepts.
//!
//! Pingora's loop makes a task with room for a TLS handshake for each connection, on any thread, keeps
//! its socket's events on its own, waits a minute for a handshake and knows no bound of connections. So
//! connections are accepted and counted here, before anything is read; the handshake is Pingora's.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::HttpServerApp;
use pingora_core::listeners::tls::{Acceptor, TlsSettings};
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use pingora_runtime::current_handle;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with, listen, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

use super::app::{Front, Serve};
use super::seats::{Arrival, Seats};

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
    doors: Vec<Door>,
}

/// An address, and what encrypts the connections to it.
#[derive(Clone)]
struct Door {
    address: SocketAddr,
    tls: Option<Arc<Acceptor>>,
}

impl<S, P> Listening<S, P>
where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    pub(crate) fn new(front: Front<S, P>) -> Self {
        Self { front, doors: Vec::new() }
    }

    pub(crate) fn add_plain(&mut self, address: SocketAddr) {
        self.doors.push(Door { address, tls: None });
    }

    /// The certificate and its key have been looked at when the configuration was read.
    pub(crate) fn add_tls(&mut self, address: SocketAddr, settings: TlsSettings) {
        let mut tls = settings.build();
        let mut config = tls.acceptor.config().as_ref().clone();
        // All of them are good; scanners hold it against a server that lets each client have the weakest.
        config.ignore_client_order = true;
        tls.acceptor = Arc::new(config).into();
        self.doors.push(Door { address, tls: Some(Arc::new(tls)) });
    }
}

#[async_trait]
impl<S, P> Service for Listening<S, P>
where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, _listeners_per_fd: usize) {
        let seats = Arc::new(Seats::default());
        let loops = self.doors.iter().map(|door| {
            let (front, seats, fds) = (self.front.clone(), seats.clone(), fds.clone());
            current_handle().spawn(accept(door.clone(), fds, front, seats, shutdown.clone()))
        });
        let loops: Vec<_> = loops.collect();
        for each in loops {
            if let Err(e) = each.await {
                log::error!("an accept loop broke off: {e}");
            }
        }
        self.front.cleanup().await;
    }

    fn name(&self) -> &'static str {
        "weir"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(self.doors.iter().map(|door| door.address.to_string()).collect())
    }
}

/// Accepts at `door` until the service is stopped.
async fn accept<S, P>(
    door: Door,
    fds: Option<ListenFds>,
    front: Front<S, P>,
    seats: Arc<Seats>,
    mut shutdown: ShutdownWatch,
) where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    let address = door.address;
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
            match acceptfrom_with(listener.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                // Who is too many sees a close.
                Ok((socket, from)) => {
                    let from = address_of(from);
                    if let Some(counted) = front.admit(from) {
                        let arrival = Arrival { socket: socket.into(), from, counted };
                        serve(arrival, &front, door.tls.as_ref(), &seats, &shutdown);
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

/// Has a connection served, by a task that is free or a new one. One that is to be encrypted gets a new one: what
/// that costs is nothing beside the handshake.
fn serve<S, P>(
    arrival: Arrival,
    front: &Front<S, P>,
    tls: Option<&Arc<Acceptor>>,
    seats: &Arc<Seats>,
    shutdown: &ShutdownWatch,
) where
    S: Serve + Clone,
    P: HttpServerApp + Send + Sync + 'static,
{
    if let Some(acceptor) = tls {
        let task = front.clone().encrypted(acceptor.clone(), arrival, shutdown.clone());
        current_handle().spawn(clock::keep(task));
    } else if let Err(arrival) = seats.give(arrival) {
        current_handle().spawn(clock::keep(front.clone().sit(seats.clone(), arrival, shutdown.clone())));
    }
}

fn address_of(from: Option<SocketAddrAny>) -> Option<IpAddr> {
    SocketAddr::try_from(from?).ok().map(|address| address.ip())
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
    use std::net::TcpStream;

    use pingora_core::server::Fds;

    use super::*;

    #[test]
    fn a_connection_that_is_accepted_sends_without_delay() {
        let listener = open(SocketAddr::from(([127, 0, 0, 1], 0)), None).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, from) = acceptfrom_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).unwrap();
        assert!(TcpStream::from(socket).nodelay().unwrap());
        assert_eq!(address_of(from), Some(IpAddr::from([127, 0, 0, 1])));
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
