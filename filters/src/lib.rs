//! The decisions of Weir: bytes in, decisions out.
//!
//! Nothing here does IO, reads a clock, draws a random number or knows Pingora. Whoever calls
//! passes bytes, headers and times, and gets values back.
//!
//! # The life of one request
//! A path becomes a [`route`], headers and query become a [`credential`], and the two make an
//! [`key::Admitted`] or a [`refusal::Refusal`] in the caller's own [`protocol`]. The body is read by
//! [`request`], which finds the model wherever it stands and edits without touching another byte;
//! [`headers`] decides what of the head goes on, [`target`] where to. Of the answer, the content type
//! picks a [`meter`]: it undoes a compression on a copy ([`decode`]), finds events ([`sse`]) and
//! reads the [`usage`] of each provider. What Weir itself asked for is removed again ([`cut`]).
//!
//! Which of several upstreams is asked is a matter of [`balance`] and [`health`], and of the conversation
//! that a request belongs to ([`sticky`]); [`retry`] says whether another is asked after a failure, and
//! [`boundary`] whether a stream that breaks off can still be told so. How far an upstream's host may lead is
//! said by [`address`].
//!
//! What is recorded of a request is put together by [`record`], as JSON that [`json`] writes, or as a line of an
//! [`access`] log: [`body`] turns what was kept of a body into text, a stream into what the model wrote, and [`mask`]
//! takes the secrets out of it. What other gateways, or Weir itself, wrote down of requests is read by [`import`].
//!
//! Who else is to have a record gets it as an [`ai_event`], or as messages of [`nsq`]; what could not be sent is sent
//! again after a wait ([`backoff`]).
//!
//! Whether something is still what somebody has seen who wants to change it is said by [`etag`].
//! People who sign in at the admin listener are held to a pace ([`throttle`]); what their browser says of a request is
//! read by [`browser`].
//! What of all this a person should look at first is judged by [`attention`]; what a small request that somebody tries an
//! upstream with is worth, by [`probe`].

#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod ai_event;
pub mod attention;
pub mod backoff;
pub mod balance;
pub mod body;
pub mod boundary;
pub mod browser;
pub mod calendar;
pub mod credential;
pub mod cut;
pub mod decimal;
pub mod decode;
pub mod etag;
pub mod glob;
pub mod headers;
pub mod health;
pub mod import;
pub mod json;
pub mod key;
pub mod limits;
pub mod loki;
pub mod mask;
pub mod meter;
pub mod models;
pub mod moment;
pub mod monitor;
pub mod network;
pub mod nsq;
pub mod outcome;
pub mod price;
pub mod probe;
pub mod protocol;
pub mod record;
pub mod refusal;
pub mod request;
pub mod retry;
pub mod route;
pub mod secret;
mod sketch;
pub mod sse;
mod stencil;
pub mod sticky;
mod tally;
pub mod target;
mod text;
pub mod throttle;
pub mod usage;
mod walk;
