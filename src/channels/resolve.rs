//! Addresses of a channel's host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

/// How long a looked-up address is used. Providers move their names within minutes, not seconds.
const FRESH: Duration = Duration::from_secs(30);
/// How long a look-up may take before the last known address is used instead.
const LOOKUP: Duration = Duration::from_secs(5);

/// Looks a host name up and remembers what it was told.
#[derive(Debug)]
pub(super) struct Resolver {
    host: Box<str>,
    port: u16,
    literal: Option<SocketAddr>,
    known: ArcSwapOption<Known>,
    /// Held while `known` is reordered, so that two requests do not undo each other.
    reordering: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Self { host: host.into(), port, literal, known: ArcSwapOption::empty(), reordering: Mutex::new(()) }
    }

    /// The address to use now.
    pub(super) async fn address(&self) -> io::Result<SocketAddr> {
        if let Some(literal) = self.literal {
            return Ok(literal);
        }
        let known = self.known.load_full();
        if let Some(known) = &known {
            let fresh = known.until > Instant::now();
            if let (true, Some(first)) = (fresh, known.addresses.first()) {
                return Ok(*first);
            }
        }
        match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((&*self.host, self.port))).await {
            Ok(Ok(found)) => {
                let addresses: Vec<_> = found.collect();
                let first = addresses.first().copied();
                self.known.store(Some(Arc::new(Known { addresses, until: Instant::now() + FRESH })));
                first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
            }
            // A name server that fails must not take the channel away: the last address may still do.
            failed => known.and_then(|known| known.addresses.first().copied()).ok_or_else(|| match failed {
                Ok(Err(e)) => e,
                _ => io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    /// Puts an address that cannot be reached behind the others.
    pub(super) fn avoid(&self, address: SocketAddr) {
        let _one = self.reordering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known.load_full()
            && known.addresses.first() == Some(&address)
        {
            let mut addresses = known.addresses.clone();
            addresses.rotate_left(1);
            self.known.store(Some(Arc::new(Known { addresses, until: known.until })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_literal_address_needs_no_look_up() {
        assert_eq!(Resolver::new("127.0.0.1", 80).address().await.unwrap(), "127.0.0.1:80".parse().unwrap());
        assert_eq!(Resolver::new("::1", 80).address().await.unwrap(), "[::1]:80".parse().unwrap());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_remembered() {
        let resolver = Resolver::new("localhost", 80);
        let address = resolver.address().await.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(resolver.known.load().as_ref().unwrap().addresses[0], address);
    }

    #[tokio::test]
    async fn an_unreachable_address_gives_way_to_the_next() {
        let resolver = Resolver::new("two.example", 80);
        let (a, b) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let until = Instant::now() + FRESH;
        resolver.known.store(Some(Arc::new(Known { addresses: vec![a, b], until })));
        assert_eq!(resolver.address().await.unwrap(), a);
        resolver.avoid(a);
        assert_eq!(resolver.address().await.unwrap(), b);
        resolver.avoid(a);
        assert_eq!(resolver.address().await.unwrap(), b, "only the one in use can be avoided");
    }
}
