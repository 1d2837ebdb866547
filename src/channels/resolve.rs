//! Addresses of a channel's host: looked up, checked, and given to whoever connects.
//!
//! Owns that no address is given which the channel may not reach, whatever a name server says and however often it
//! changes its mind. Which those are is decided in [`weir_filters::address`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use weir_filters::address::{Class, Reach};

/// How long a looked-up address is used. Providers move their names within minutes, not seconds.
const FRESH: Duration = Duration::from_secs(30);
/// How long a look-up may take before the last known address is used instead.
const LOOKUP: Duration = Duration::from_secs(5);

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAddress {
    /// The name could not be looked up.
    #[error("looking the upstream's name up: {0}")]
    Unknown(io::Error),
    /// There are addresses, and the channel may have none of them.
    #[error("the upstream's name leads to {0}, which this channel may not reach")]
    Forbidden(Class),
}

/// Looks a host name up and remembers what it was told.
#[derive(Debug)]
pub(super) struct Resolver {
    host: Box<str>,
    port: u16,
    reach: Reach,
    literal: Option<SocketAddr>,
    known: ArcSwapOption<Known>,
    /// Held while `known` is reordered, so that two requests do not undo each other.
    reordering: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    /// Those that may be reached.
    addresses: Vec<SocketAddr>,
    /// One that may not, if there was any.
    forbidden: Option<Class>,
    until: Instant,
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16, reach: Reach) -> Self {
        let literal = host.parse::<IpAddr>().ok();
        if let Some(class) = literal.map(Class::of).filter(|class| !reach.permits(*class)) {
            log::warn!("{host} is {class}: a channel leads there that may not, and is not asked");
        }
        Self {
            host: host.into(),
            port,
            reach,
            literal: literal.map(|ip| SocketAddr::new(ip, port)),
            known: ArcSwapOption::empty(),
            reordering: Mutex::new(()),
        }
    }

    /// The address to use now. No other may be connected to.
    pub(super) async fn address(&self) -> Result<SocketAddr, NoAddress> {
        if let Some(known) = self.recall(Instant::now()) {
            return known;
        }
        let found = match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((&*self.host, self.port))).await {
            Ok(found) => found.map(Iterator::collect),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        self.learn(found, Instant::now())
    }

    /// What needs no look-up.
    fn recall(&self, now: Instant) -> Option<Result<SocketAddr, NoAddress>> {
        if let Some(literal) = self.literal {
            let class = Class::of(literal.ip());
            return Some(if self.reach.permits(class) { Ok(literal) } else { Err(NoAddress::Forbidden(class)) });
        }
        let known = self.known.load();
        let known = known.as_ref().filter(|known| known.until > now)?;
        match (known.addresses.first(), known.forbidden) {
            (Some(first), _) => Some(Ok(*first)),
            (None, Some(class)) => Some(Err(NoAddress::Forbidden(class))),
            (None, None) => None,
        }
    }

    /// Takes in what a name server has answered; what may not be reached is left out.
    fn learn(&self, found: io::Result<Vec<SocketAddr>>, now: Instant) -> Result<SocketAddr, NoAddress> {
        let mut addresses = match found {
            Ok(found) => found,
            // A name server that fails must not take the channel away: the last address may still do.
            Err(e) => {
                let known = self.known.load();
                let last = known.as_ref().and_then(|known| known.addresses.first());
                return last.copied().ok_or(NoAddress::Unknown(e));
            }
        };
        let mut forbidden = None;
        addresses.retain(|address| {
            let class = Class::of(address.ip());
            let permitted = self.reach.permits(class);
            if !permitted {
                forbidden = Some(class);
            }
            permitted
        });
        if let Some(class) = forbidden {
            log::warn!("the name {} leads to {class}, which its channel may not reach", self.host);
        }
        let first = addresses.first().copied();
        self.known.store(Some(Arc::new(Known { addresses, forbidden, until: now + FRESH })));
        first.ok_or_else(|| match forbidden {
            Some(class) => NoAddress::Forbidden(class),
            None => NoAddress::Unknown(io::Error::new(io::ErrorKind::NotFound, "the host has no address")),
        })
    }

    /// Puts an address that cannot be reached behind the others.
    pub(super) fn avoid(&self, address: SocketAddr) {
        let _one = self.reordering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.known.load_full()
            && known.addresses.first() == Some(&address)
        {
            let mut addresses = known.addresses.clone();
            addresses.rotate_left(1);
            self.known.store(Some(Arc::new(Known { addresses, forbidden: known.forbidden, until: known.until })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the public network.
    const PUBLIC: [&str; 3] = ["93.184.216.34:80", "1.1.1.1:80", "[2606:4700::1]:80"];
    const FORBIDDEN: [&str; 6] =
        ["127.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80"];

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn said(answer: Result<SocketAddr, NoAddress>) -> String {
        match answer {
            Ok(address) => address.to_string(),
            Err(NoAddress::Forbidden(class)) => class.to_string(),
            Err(NoAddress::Unknown(_)) => "nothing".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_literal_address_needs_no_look_up() {
        for (host, address) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")] {
            assert_eq!(said(Resolver::new(host, 80, Reach::Declared).address().await), address);
            assert_eq!(said(Resolver::new(host, 80, Reach::Public).address().await), "a loopback address");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_remembered() {
        let resolver = Resolver::new("localhost", 80, Reach::Declared);
        let address = resolver.address().await.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(resolver.known.load().as_ref().unwrap().addresses[0], address);
        assert_eq!(said(Resolver::new("localhost", 80, Reach::Public).address().await), "a loopback address");
    }

    #[test]
    fn an_unreachable_address_gives_way_to_the_next() {
        let resolver = Resolver::new("two.example", 80, Reach::Declared);
        let now = Instant::now();
        let found = addresses(&["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(said(resolver.learn(Ok(found.clone()), now)), "10.0.0.1:80");
        resolver.avoid(found[0]);
        assert_eq!(said(resolver.recall(now).unwrap()), "10.0.0.2:80");
        resolver.avoid(found[0]);
        assert_eq!(said(resolver.recall(now).unwrap()), "10.0.0.2:80", "only the one in use can be avoided");
    }

    #[test]
    fn a_name_that_moves_to_a_forbidden_address_leads_nowhere() {
        let resolver = Resolver::new("rebinding.example", 80, Reach::Public);
        let now = Instant::now();
        assert_eq!(said(resolver.learn(Ok(addresses(&PUBLIC[..1])), now)), PUBLIC[0]);
        assert_eq!(
            said(resolver.recall(now + FRESH / 2).unwrap()),
            PUBLIC[0],
            "no second look-up between two requests"
        );
        let later = now + FRESH;
        assert!(resolver.recall(later).is_none());
        assert_eq!(said(resolver.learn(Ok(addresses(&["127.0.0.1:80"])), later)), "a loopback address");
        assert_eq!(said(resolver.recall(later).unwrap()), "a loopback address", "nor is the old address used");
        let failed = resolver.learn(Err(io::ErrorKind::TimedOut.into()), later + FRESH);
        assert_eq!(said(failed), "nothing", "a forbidden address is no last known one");
        assert_eq!(said(resolver.learn(Ok(addresses(&PUBLIC[1..])), later + FRESH)), PUBLIC[1], "it may move back");
    }

    #[test]
    fn of_several_addresses_only_those_that_may_be_reached_are_used() {
        let resolver = Resolver::new("mixed.example", 80, Reach::Public);
        let now = Instant::now();
        let mixed = [FORBIDDEN[0], PUBLIC[0], FORBIDDEN[1], PUBLIC[1]];
        assert_eq!(said(resolver.learn(Ok(addresses(&mixed)), now)), PUBLIC[0]);
        for expected in [PUBLIC[1], PUBLIC[0], PUBLIC[1]] {
            resolver.avoid(resolver.recall(now).unwrap().unwrap());
            assert_eq!(said(resolver.recall(now).unwrap()), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_name_server_says_no_forbidden_address_is_given(
            answers in proptest::collection::vec(
                proptest::option::weighted(0.8, proptest::collection::vec(0_usize..9, 0..4)), 1..20,
            ),
        ) {
            let resolver = Resolver::new("any.example", 80, Reach::Public);
            let known: Vec<&str> = PUBLIC.iter().chain(&FORBIDDEN).copied().collect();
            let mut now = Instant::now();
            for answer in answers {
                let found = answer.map(|places| places.iter().map(|at| known[*at].parse().unwrap()).collect());
                let found = found.ok_or_else(|| io::ErrorKind::TimedOut.into());
                for given in [Some(resolver.learn(found, now)), resolver.recall(now)].into_iter().flatten() {
                    if let Ok(address) = given {
                        proptest::prop_assert!(PUBLIC.contains(&&*address.to_string()), "{}", address);
                        resolver.avoid(address);
                    }
                }
                now += FRESH;
            }
        }
    }
}
