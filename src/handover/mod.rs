//! The change of processes under a gateway that goes on: a binary upgrade.
//!
//! ```text
//! weir upgrade ──upgrade──► old process ──check, start──► new process (run --upgrade)
//!                               │ ◄────────── take ────────────┤
//!                               ├──── its sockets (SCM_RIGHTS) ─►│ opens its ledger, makes its tables
//!                               │ ◄───────── serving ───────────┤ accepts beside the old one
//!                               ├────────── leaving ───────────►│ opens the admin listener
//!   ◄──────── done ────────────┤ drains, ends
//! ```
//!
//! The old process stops accepting only once the new one says that it serves: whatever goes wrong before, it has
//! never stopped. All is said in lines of JSON over a socket file in the data directory that only its owner may
//! open. Owns what is said and in which order; refuses to know what a gateway is, and how it drains.

mod child;
mod give;
mod take;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use child::Successor;
pub(crate) use give::{Giver, Owner};
pub(crate) use take::{AskError, Taken, ask_for_upgrade};

use std::time::Duration;

/// The name of the socket in the data directory.
pub(crate) const SOCKET: &str = "upgrade.sock";

/// The version of what is said. A process that is asked in another one refuses.
const VERSION: u32 = 1;

/// How long a new process may take until it serves, unless something else is said: it reads the journal of the
/// last seconds first.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
