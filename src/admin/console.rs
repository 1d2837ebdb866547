//! What the console asks beside objects, counters and records: how the gateway is, and that it tries something out.
//!
//! Owns the questions alone. [`crate::app`] has the answers.

use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

use crate::catalog::Refused;
use crate::changes::Actor;
pub use crate::monitor::{Asked as MonitorAsked, Page as MonitorPage};
pub use crate::trial::{ProxyAsked, RunAsked};

/// Something that is tried out, and what came of it.
pub type Trial = Pin<Box<dyn Future<Output = Value> + Send>>;

/// What is shown and done for people who look after a gateway.
pub trait Console: Send + Sync + 'static {
    /// The overview. May take its time.
    fn overview(&self) -> Value;

    /// The configuration in force, and what its file says now. May take its time.
    fn config(&self) -> Value;

    /// What is wrong with the configuration file, which is not taken. May take its time.
    fn check_config(&self) -> Value;

    /// Has nothing new sent to a channel, or something again; gives its row. Durable and in force when this returns. May
    /// take its time; no two changes at once.
    ///
    /// # Errors
    /// Why not.
    fn drain(&self, channel: &str, is_drained: bool, who: &Actor) -> Result<Value, Refused>;

    /// Asks a channel now. Called on the listener's own thread: what takes time is in what it gives.
    ///
    /// # Errors
    /// Why not.
    fn run_channel(&self, channel: &str, asked: &RunAsked) -> Result<Trial, Refused>;

    /// Asks the gateway itself, as a client does; as [`Console::run_channel`].
    ///
    /// # Errors
    /// Why not.
    fn test_proxy(&self, asked: ProxyAsked) -> Result<Trial, Refused>;

    /// The channels, and how their models answer when they are probed.
    fn monitored(&self, asked: &MonitorAsked) -> MonitorPage;

    /// The runs of a channel, newest first. May take its time.
    ///
    /// # Errors
    /// There is no such channel.
    fn runs(&self, channel: &str, asked: &MonitorAsked) -> Result<MonitorPage, Refused>;

    /// Has all models of a channel asked now; the run's id.
    ///
    /// # Errors
    /// Why not.
    fn monitor_now(&self, channel: &str) -> Result<String, Refused>;
}
