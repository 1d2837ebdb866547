//! The demo: a mock of the providers, requests of every operation, and the comparison of what Weir
//! metered with what the mock says it reported.
//!
//! Refuses to know how the gateway is started and where its figures are kept: it is given an address,
//! a key and a way to read the figures.

pub mod cases;
pub mod curl;
pub mod live;
pub mod mock;
pub mod once;
#[cfg(test)]
mod relay;
mod send;
mod setup;
mod table;

pub use crate::draw::ClientKey;
pub use setup::{ADMIN, LISTEN, config, upstream_key};
