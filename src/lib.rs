//! Weir, a metering reverse proxy for LLM APIs.

pub mod admin;
pub mod config;
pub mod ledger;
pub mod metrics;
