//! Probes of channels: when the next is due, what a row of them says of a model, and what they may cost.
//!
//! Owns these decisions. It refuses to know how a probe is made, and takes times as arguments.

mod cap;
mod schedule;
mod series;
mod standing;

pub use cap::{Cap, Spent, most_tokens};
pub use schedule::Schedule;
pub use series::{Point, Series, Summary};
pub use standing::{Change, RunState, Standing, Streak};
