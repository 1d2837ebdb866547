//! What clients are held to, and why they are turned away.
//!
//! Owns the words. Refuses to know where the figures come from and who counts what is turned away.

use std::time::Duration;

/// What a connection's client is held to. Read anew for each request, so that a reload reaches
/// connections that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it may wait before its next request.
    pub idle: Duration,
    /// How long a head may take in all. That of a connection's first request begins with the connection.
    pub head: Duration,
    /// The largest head, in bytes.
    pub max_head: usize,
    /// How long it may be waited for that sends its request's body.
    pub body: Duration,
    /// How long it may be waited for that takes its answer.
    pub write: Duration,
    /// How many bytes a second give back the time that was spent on waiting; 0: each byte gives back all.
    pub min_rate: u64,
    /// How many connections there may be in all.
    pub connections: usize,
    /// How many of one client address; 0: any number.
    pub connections_of_one: usize,
}

/// Why a client was turned away, or cut off, before or beside what any key decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// There are as many connections as there may be.
    Connections,
    /// Its address has as many.
    ConnectionsOfOne,
    /// It did not finish its TLS handshake, or not in time.
    Handshake,
    /// Its request's head was not whole in time.
    LateHead,
    /// Its request's head is too large.
    LargeHead,
    /// Its request's head is none, or can be understood in two ways.
    BadHead,
    /// It stopped sending its request's body, or sent it too slowly.
    LateBody,
    /// It did not take its answer, or too slowly.
    SlowReader,
    /// As many requests are under way as there may be.
    Overload,
}

impl Turned {
    /// Every reason, in the order of its declaration.
    pub const ALL: [Turned; 9] = [
        Turned::Connections,
        Turned::ConnectionsOfOne,
        Turned::Handshake,
        Turned::LateHead,
        Turned::LargeHead,
        Turned::BadHead,
        Turned::LateBody,
        Turned::SlowReader,
        Turned::Overload,
    ];

    /// The value of the label `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Turned::Connections => "connections",
            Turned::ConnectionsOfOne => "connections_per_ip",
            Turned::Handshake => "handshake",
            Turned::LateHead => "late_head",
            Turned::LargeHead => "large_head",
            Turned::BadHead => "bad_head",
            Turned::LateBody => "late_body",
            Turned::SlowReader => "slow_reader",
            Turned::Overload => "overload",
        }
    }
}
