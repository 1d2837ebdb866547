//! What happened to each request, told to those who ask later: records, and the sinks that keep them.
//!
//! Owns the way of a record from the thread that served its request to every sink. It refuses to know how a request is
//! served, and nothing here is waited for by one: what has no room is dropped and counted.

mod batch;
mod history;
mod queue;

#[cfg(test)]
pub(crate) use history::StatusFilter;
pub(crate) use history::{DEFAULT_LIMIT, History, MAX_LIMIT, Page, Query};
