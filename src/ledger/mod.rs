//! What survives a restart: an append-only journal, which is the truth, and sled, which is a view of it.

mod record;

pub use record::{Outcome, Settlement};
