//! Weir, a metering reverse proxy for LLM APIs.

pub mod config;
pub mod ledger;
pub mod metrics;
