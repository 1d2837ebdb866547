//! Weir, a metering reverse proxy for LLM APIs.

pub mod admin;
pub mod channels;
pub mod config;
pub mod demo;
pub mod ledger;
pub mod leg;
pub mod metrics;
