//! The client's side of HTTP/1.1: connections, request heads and bodies, and the bytes of answers.
//!
//! Owns what a client may send and when it is late, keep-alive, pipelining and the framing of what it
//! gets. It refuses to know what a request is for: each one becomes a custom session of
//! Pingora's for whoever serves it. HTTP/2 is left to Pingora.
//!
//! Pingora's own HTTP/1 session builds a second map of header names, keeps 64 KiB for reads, writes
//! through a buffer of 1,460 bytes and waits for a slow head without a limit in all; a session of a
//! stream costs ten times what it holds. Here a waiting connection holds no buffer at all.

mod answer;
mod app;
mod census;
mod client;
mod listen;
mod output;
mod patience;
mod rewound;
mod seats;
mod session;
mod terms;

#[cfg(test)]
mod tests;

pub use app::{Front, Serve};
pub use census::Census;
pub use client::Client;
pub(crate) use client::STALL;
pub use listen::Listening;
pub(crate) use patience::Patience;
pub use terms::{Terms, Turned};
