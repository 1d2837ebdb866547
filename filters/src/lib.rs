//! The decisions of Weir: bytes in, decisions out.
//!
//! Nothing here does IO, reads a clock, draws a random number or knows Pingora. Whoever calls
//! passes bytes, headers and times, and gets values back.

#![forbid(unsafe_code)]

pub mod credential;
pub mod glob;
pub mod headers;
pub mod key;
pub mod models;
pub mod cut;
pub mod decode;
pub mod glob;
pub mod meter;
pub mod price;
pub mod protocol;
pub mod request;
pub mod refusal;
pub mod route;
pub mod secret;
pub mod target;
pub mod sse;
mod tally;
mod text;
pub mod usage;
mod walk;
