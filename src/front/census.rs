//! How many connections there are, in all and of each client address.
//!
//! Owns the counting. It is touched when a connection comes and when it ends, never in between, and
//! refuses to know what is done with one that is too many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::terms::{Terms, Turned};

/// Shards of the count by address: a burst of connections from everywhere is accepted by several loops
/// and ended by every thread.
const SHARDS: usize = 16;

/// The connections that there are.
#[derive(Debug, Default)]
pub struct Census {
    all: AtomicUsize,
    /// Holds an entry only for addresses that have a connection: it is bounded by their number.
    homes: [Mutex<HashMap<Home, usize, ahash::RandomState>>; SHARDS],
    hasher: ahash::RandomState,
}

/// Whose connection it is. Of IPv6, providers give whole networks of 64 bits to each customer, who can
/// use any address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Home {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

/// A connection that has been counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    census: Arc<Census>,
    home: Option<Home>,
}

impl Census {
    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Counts a connection from `address`, if the terms have room for it. Those that came while
    /// addresses were not counted do not count towards their cap.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, terms: &Terms) -> Result<Counted, Turned> {
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        let mut counted = Counted { census: self.clone(), home: None };
        if before >= terms.connections {
            return Err(Turned::Connections);
        }
        let Some(home) = address.filter(|_| terms.connections_of_one > 0).map(Home::of) else { return Ok(counted) };
        let mut shard = self.shard(home);
        let connections = shard.entry(home).or_insert(0);
        if *connections >= terms.connections_of_one {
            return Err(Turned::ConnectionsOfOne);
        }
        *connections += 1;
        counted.home = Some(home);
        Ok(counted)
    }

    fn shard(&self, home: Home) -> MutexGuard<'_, HashMap<Home, usize, ahash::RandomState>> {
        let shard = self.hasher.hash_one(home) % SHARDS as u64;
        self.homes[usize::try_from(shard).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    fn of(address: IpAddr) -> Self {
        // A socket that takes both kinds shows IPv4 as a part of IPv6.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [first, second, third, fourth, ..] = address.segments();
                Self::V6([first, second, third, fourth])
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.census.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(home) = self.home {
            let mut shard = self.census.shard(home);
            match shard.get_mut(&home) {
                Some(connections) if *connections > 1 => *connections -= 1,
                _ => drop(shard.remove(&home)),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// Room for so many connections, and so many of one address.
    pub(in crate::front) fn room(connections: usize, connections_of_one: usize) -> Terms {
        let second = Duration::from_secs(1);
        let max_head = 64 * 1024;
        let (idle, head, body, write) = (second, second, second, second);
        Terms { idle, head, max_head, body, write, min_rate: 0, connections, connections_of_one }
    }

    fn enter(census: &Arc<Census>, address: &str, terms: &Terms) -> Result<Counted, Turned> {
        census.enter(Some(address.parse().unwrap()), terms)
    }

    fn homes(census: &Census) -> usize {
        census.homes.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn no_more_come_in_than_there_may_be_and_whoever_leaves_makes_room() {
        let (census, terms) = (Arc::new(Census::default()), room(2, 0));
        let first = enter(&census, "10.0.0.1", &terms).unwrap();
        let _second = enter(&census, "10.0.0.1", &terms).unwrap();
        assert_eq!(enter(&census, "10.0.0.2", &terms).err(), Some(Turned::Connections));
        assert_eq!(census.connections(), 2, "who was turned away does not count");
        drop(first);
        assert!(enter(&census, "10.0.0.2", &terms).is_ok());
        assert_eq!(homes(&census), 0, "addresses are not counted without a cap");
    }

    #[test]
    fn an_address_has_its_own_number() {
        let (census, terms) = (Arc::new(Census::default()), room(100, 2));
        let mut held: Vec<_> = (0..2).map(|_| enter(&census, "10.0.0.1", &terms).unwrap()).collect();
        assert_eq!(enter(&census, "10.0.0.1", &terms).err(), Some(Turned::ConnectionsOfOne));
        assert_eq!(enter(&census, "::ffff:10.0.0.1", &terms).err(), Some(Turned::ConnectionsOfOne));
        held.push(enter(&census, "10.0.0.2", &terms).unwrap());
        assert_eq!((census.connections(), homes(&census)), (3, 2));
        held.remove(0);
        held.push(enter(&census, "10.0.0.1", &terms).unwrap());
        held.clear();
        assert_eq!((census.connections(), homes(&census)), (0, 0), "nothing is kept of who has left");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let (census, terms) = (Arc::new(Census::default()), room(100, 1));
        let _held = enter(&census, "2001:db8:0:1::1", &terms).unwrap();
        assert_eq!(enter(&census, "2001:db8:0:1:ffff::9", &terms).err(), Some(Turned::ConnectionsOfOne));
        assert!(enter(&census, "2001:db8:0:2::1", &terms).is_ok());
    }

    #[test]
    fn a_cap_that_comes_later_does_not_count_those_before() {
        let census = Arc::new(Census::default());
        let before = enter(&census, "10.0.0.1", &room(100, 0)).unwrap();
        let after = enter(&census, "10.0.0.1", &room(100, 1)).unwrap();
        drop(before);
        assert_eq!(enter(&census, "10.0.0.1", &room(100, 1)).err(), Some(Turned::ConnectionsOfOne));
        drop(after);
        assert_eq!((census.connections(), homes(&census)), (0, 0));
    }

    #[test]
    fn many_threads_leave_nothing_behind() {
        let (census, terms) = (Arc::new(Census::default()), room(1_000, 5));
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let (census, terms) = (&census, &terms);
                scope.spawn(move || {
                    for round in 0..2_000_u32 {
                        let address = IpAddr::V4(Ipv4Addr::new(10, 0, thread % 2, u8::try_from(round % 3).unwrap()));
                        drop(census.enter(Some(address), terms));
                    }
                });
            }
        });
        assert_eq!((census.connections(), homes(&census)), (0, 0));
    }
}
