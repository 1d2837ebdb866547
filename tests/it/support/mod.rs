//! The harness: a gateway process, upstreams and clients, in words that make tests read as sentences.

mod api;
mod by_model;
mod client;
mod config;
mod document;
mod events;
mod gateway;
#[allow(dead_code, reason = "the tests of the sink itself use more of it")]
pub(crate) mod loki;
pub(crate) mod people;
mod raw;
mod records;
mod tls;
mod upstream;
mod wire;

use std::time::Duration;

use sha2::{Digest, Sha256};
pub(crate) use weir::demo::mock::Mock;
use weir::demo::mock::MockOptions;
use weir_filters::secret::Secret;

pub(crate) use by_model::{ByModel, Reply};
pub(crate) use client::{Answer, Http, Streamed};
pub(crate) use config::{Channel, anthropic, gemini, key_named, openai, secret_of};
pub(crate) use document::{Document, Operation};
pub(crate) use events::{Event, Events};
pub(crate) use gateway::{ADMIN_TOKEN, Gateway, GatewayBuilder, gateway};
pub(crate) use raw::{Raw, RawAnswer};
pub(crate) use records::Schema;
pub(crate) use tls::Authority;
pub(crate) use upstream::{Gate, Received, Script, Upstream, answer, chunked, raw_answer, upstream, upstream_at};

/// The upstream key of every channel that is not given another one.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-it-5d0c1b7e";

/// How long anything that is not about time may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The providers in this process.
pub(crate) fn mock() -> Mock {
    Mock::start(MockOptions { upstream_key: Secret::new(UPSTREAM_KEY) }).expect("the mock starts")
}

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes.as_ref()).into()
}

/// How many, for a test whose full count is the scorecard's.
pub(crate) fn many(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
