//! HTTP/1.1 on the wire, as both sides of the gateway need it.
//!
//! Owns where a message's head and body end (RFC 9112) and when something is late. It refuses to know
//! who is at the other end: that is [`front`](crate::front) for clients and [`leg`](crate::leg) for
//! upstreams.

mod alarm;
mod body;
mod lines;
mod map;
mod plain;
mod request;
mod response;
mod scratch;
mod write;

pub(crate) use alarm::Alarm;
pub(crate) use body::{BodyReader, Framing};
pub(crate) use lines::Lines;
pub(crate) use map::give_back;
pub(crate) use plain::Plain;
pub(crate) use request::{Request, RequestError, take_request};
pub(crate) use response::{Response, take_response};
pub(crate) use scratch::poll_read;
pub(crate) use write::{put_chunk_size, put_length, put_line};
