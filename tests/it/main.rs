//! The gateway as its users meet it: the real command, a written configuration, real sockets.
//!
//! One module a feature. `support` is the harness; it knows nothing of what is tested.

mod support;

mod admin;
mod bodies;
mod canary;
mod crash;
mod credentials;
mod edges;
mod editing;
mod faults;
mod keep_alive;
mod ledger;
mod models;
mod routes;
mod streams;
mod strict;
mod tls;
