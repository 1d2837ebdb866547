//! The upstream leg: HTTP/1.1 to an upstream.
//!
//! Owns the connections to upstreams: their pool, the head and body that are written, the head and
//! body that are read, and every lie that an upstream can tell about them. It refuses to know what
//! the bytes mean: models, tokens and keys are other rooms' business.
//!
//! Pingora's own HTTP/1 leg reads a request body from the client again at each attempt, through a
//! retry buffer of 64 KiB; a body that has been read to learn its model is larger than that, and
//! would hang. It also writes head and body apart, spawns a task a request to watch its pool, and
//! reaches the proxy through four channels. Here an exchange is polled by the task that serves the
//! client: nothing is sent between tasks, and what was read is written on at once.

mod connector;
mod exchange;
mod pool;

#[cfg(test)]
mod tests;

pub use connector::Leg;
pub(crate) use connector::Origin;
pub(crate) use exchange::{Exchange, Step, Upload};
