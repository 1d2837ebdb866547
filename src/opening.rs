//! Whether the gateway's addresses are open yet. Pingora opens them some time after it was told to
//! run, and tells nobody; whoever sends traffic at the first "ready" must not be refused.
//!
//! Refuses to connect: that would be an error in the log of a listener with TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpSocket;

/// The addresses on which the gateway is to listen.
#[derive(Debug)]
pub(crate) struct Opening {
    addresses: Vec<SocketAddr>,
    all_open: AtomicBool,
}

impl Opening {
    pub(crate) fn new(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        // Which port stands for 0 cannot be known from here.
        Self { addresses: addresses.filter(|address| address.port() != 0).collect(), all_open: AtomicBool::new(false) }
    }

    /// Those that are not open yet. Once all have been, it looks no more.
    pub(crate) fn closed(&self) -> Vec<SocketAddr> {
        if self.all_open.load(Ordering::Acquire) {
            return Vec::new();
        }
        let closed: Vec<SocketAddr> = self.addresses.iter().copied().filter(|address| !is_open(*address)).collect();
        self.all_open.store(closed.is_empty(), Ordering::Release);
        closed
    }
}

/// Whether somebody listens there. A socket that may share an address, and does not listen itself, can
/// be bound to one that nobody listens on; it keeps no one else from listening there.
fn is_open(address: SocketAddr) -> bool {
    let bound = || -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    };
    bound().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A free port of an address that no other test connects from.
    fn free(ip: [u8; 4]) -> SocketAddr {
        let listener = TcpListener::bind(SocketAddr::from((ip, 0))).expect("a free port");
        listener.local_addr().expect("it is bound")
    }

    #[test]
    fn an_address_is_closed_until_someone_listens_there() {
        let (one, other) = (free([127, 0, 7, 1]), free([127, 0, 7, 2]));
        let opening = Opening::new([one, other, SocketAddr::from(([127, 0, 0, 1], 0))].into_iter());
        assert_eq!(opening.closed(), [one, other]);
        let _first = TcpListener::bind(one).expect("looking takes no address");
        assert_eq!(opening.closed(), [other]);
        let second = TcpListener::bind(other).expect("looking takes no address");
        assert_eq!(opening.closed(), []);
        drop(second);
        assert_eq!(opening.closed(), [], "what has been open is not looked at again");
    }

    #[test]
    fn looking_disturbs_no_one_who_is_about_to_listen() {
        let address = free([127, 0, 7, 3]);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of every system");
        socket.bind(address).expect("it was free");
        assert!(!is_open(address));
        let listener = TcpListener::bind(address);
        assert!(listener.is_ok(), "a look that is going on keeps an address: {listener:?}");
        assert!(is_open(address));
    }
}
