//! Weir, a metering reverse proxy for LLM APIs, as a plugin for Cloudflare's Pingora.
//!
//! [`Gateway`] is where to begin: it opens the ledger, makes the tables of a configuration and gives
//! a Pingora service that can be added to any server. The decisions are in the crate
//! [`weir_filters`]; here is what needs IO, a clock or Pingora. `ARCHITECTURE.md` is the map.

pub mod accounts;
pub mod admin;
mod app;
mod audit;
pub mod catalog;
pub mod changes;
pub mod channels;
pub mod cli;
mod clock;
pub mod config;
mod control;
pub mod demo;
mod descriptors;
pub mod doctor;
mod draw;
pub mod front;
mod handover;
mod http1;
mod identity;
pub mod import;
pub mod ledger;
pub mod leg;
mod life;
mod loopback;
pub mod metrics;
mod monitor;
mod opening;
mod overview;
pub mod proxy;
mod signals;
mod socket_file;
mod sockets;
mod stop;
mod store;
mod systemd;
mod trial;

pub use app::{Gateway, Reloader, StartError};
