//! What clients are held to before any key decides: the fields of `server` that have to do with it.

use std::time::Duration;

use super::mistake::Complaint;
use super::scalar::{self, Parsed, Word};
use super::section::{At, Reader, Section};
use super::time;

/// Below it the heads of the official clients would be refused.
const MIN_HEADER: usize = 4 << 10;
/// Above it a head costs more than the answer: each client could have so much held.
const MAX_HEADER: usize = 1 << 20;

/// `server.header_timeout` and what else clients are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// How long a request's head may take in all.
    pub header_timeout: Duration,
    /// The largest request head, in bytes.
    pub max_header: usize,
    /// How many connections one client address may have; 0: any number.
    pub connections_per_ip: usize,
    /// How many connections there may be; 0: as many as descriptors allow.
    pub max_connections: usize,
    /// How many requests may be under way; 0: as many as descriptors allow.
    pub max_in_flight: usize,
    /// How long a client may be waited for that takes its answer.
    pub write_timeout: Duration,
    /// The bytes a second that a client must move while it is waited for; 0: any.
    pub min_drain_rate: usize,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_header: 64 << 10,
            connections_per_ip: 0,
            max_connections: 0,
            max_in_flight: 0,
            write_timeout: Duration::from_secs(60),
            min_drain_rate: 128,
        }
    }
}

#[derive(Debug)]
pub(super) struct RawEdge {
    header_timeout: Option<At<Duration>>,
    max_header: Option<At<usize>>,
    connections_per_ip: Option<At<usize>>,
    max_connections: Option<At<usize>>,
    max_in_flight: Option<At<usize>>,
    write_timeout: Option<At<Duration>>,
    min_drain_rate: Option<At<usize>>,
}

impl RawEdge {
    /// Reads the fields out of `server`.
    pub(super) fn read(r: &mut Reader<'_>, server: &Section) -> Self {
        Self {
            header_timeout: r.optional_word(server, "header_timeout", time::positive_duration),
            max_header: r.optional_word(server, "max_header", header_size),
            connections_per_ip: r.optional_word(server, "connections_per_ip", scalar::count),
            max_connections: r.optional_word(server, "max_connections", scalar::count),
            max_in_flight: r.optional_word(server, "max_in_flight", scalar::count),
            write_timeout: r.optional_word(server, "write_timeout", time::positive_duration),
            min_drain_rate: r.optional_word(server, "min_drain_rate", rate),
        }
    }

    /// With the defaults filled in.
    pub(super) fn checked(self) -> Edge {
        fn or<T>(written: Option<At<T>>, default: T) -> T {
            written.map_or(default, |written| written.value)
        }
        let default = Edge::default();
        Edge {
            header_timeout: or(self.header_timeout, default.header_timeout),
            max_header: or(self.max_header, default.max_header),
            connections_per_ip: or(self.connections_per_ip, default.connections_per_ip),
            max_connections: or(self.max_connections, default.max_connections),
            max_in_flight: or(self.max_in_flight, default.max_in_flight),
            write_timeout: or(self.write_timeout, default.write_timeout),
            min_drain_rate: or(self.min_drain_rate, default.min_drain_rate),
        }
    }
}

fn header_size(word: Word<'_>) -> Parsed<usize> {
    let size = scalar::size(word)?;
    if (MIN_HEADER..=MAX_HEADER).contains(&size) { Ok(size) } else { Err(word.must_be("from 4KiB to 1MiB")) }
}

/// Bytes a second, none included.
fn rate(word: Word<'_>) -> Result<usize, Complaint> {
    if word.text == "0" { Ok(0) } else { scalar::size(word) }
}
