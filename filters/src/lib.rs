//! The decisions of Weir: bytes in, decisions out.
//!
//! Nothing here does IO, reads a clock, draws a random number or knows Pingora. Whoever calls
//! passes bytes, headers and times, and gets values back.

#![forbid(unsafe_code)]

pub mod cut;
pub mod decode;
pub mod glob;
pub mod meter;
pub mod price;
pub mod protocol;
pub mod route;
pub mod secret;
pub mod sse;
mod tally;
mod text;
pub mod usage;
mod walk;
