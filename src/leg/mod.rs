//! The upstream leg: HTTP/1.1 to an upstream, behind Pingora's phases.
//!
//! Owns the connections to upstreams: their pool, the head and body that are written, the head and
//! body that are read, and every lie that an upstream can tell about them. It refuses to know what
//! the bytes mean: models, tokens and keys are other rooms' business.
//!
//! Pingora's own HTTP/1 leg reads a request body from the client again at each attempt, through a
//! retry buffer of 64 KiB; a body that has been read to learn its model is larger than that, and
//! would hang. Here a body travels with the request head (see [`Payload`]): it is written behind the
//! head in one go, may be of any size, chunked or not, and can be sent again.

mod body;
mod connector;
mod head;
mod pool;
mod session;
mod wire;

#[cfg(test)]
mod tests;

pub use connector::{IDLE_TIMEOUT, Leg, mark};
pub use session::{LegSession, Payload};
