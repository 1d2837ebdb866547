//! Weir, a metering reverse proxy for LLM APIs.

pub mod config;
pub mod demo;
pub mod ledger;
