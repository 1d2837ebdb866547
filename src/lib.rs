//! Weir, a metering reverse proxy for LLM APIs.

pub mod admin;
mod app;
pub mod channels;
pub mod cli;
pub mod config;
pub mod demo;
pub mod ledger;
pub mod leg;
pub mod metrics;
pub mod proxy;

pub use app::{Gateway, Reloader, StartError};
