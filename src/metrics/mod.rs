//! Every metric family, declared once.
//!
//! Owns names, labels, buckets and the counting of a finished request. It refuses to know where figures come
//! from, who asks for them, and any label value that is not a name of the configuration or a constant of the
//! program: no key, user, address, path or model of a client's choosing becomes a series.
//!
//! Counters are atomics that all cores share. A request touches them once, when it has ended, and never while
//! bytes pass; splitting them by core is possible behind [`Metrics::observe`] if that ever shows in a profile.

mod declared;
mod edge;
mod family;
mod handles;
mod histogram;
mod ledger;
mod limits;
mod probes;
mod sinks;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use self::family::{Declaration, Family, MAX_SERIES, OTHER, Series};
pub use self::handles::{ChannelHandles, Handles, Observation, RouteHandles};
pub use self::sums::Buckets;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a credential was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// None was presented.
    Missing,
    /// No key has this digest.
    Unknown,
    /// Two that differ were presented.
    Conflict,
    /// The key is disabled.
    Disabled,
    /// The key has expired.
    Expired,
    /// The key may not use this protocol, model or channel.
    NotPermitted,
}

impl AuthFailure {
    /// Every reason.
    pub const ALL: [AuthFailure; 6] = [
        AuthFailure::Missing,
        AuthFailure::Unknown,
        AuthFailure::Conflict,
        AuthFailure::Disabled,
        AuthFailure::Expired,
        AuthFailure::NotPermitted,
    ];

    /// The value of the label `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            AuthFailure::Missing => "missing",
            AuthFailure::Unknown => "unknown",
            AuthFailure::Conflict => "conflict",
            AuthFailure::Disabled => "disabled",
            AuthFailure::Expired => "expired",
            AuthFailure::NotPermitted => "not_permitted",
        }
    }
}

/// What begins to cool down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cooled {
    /// A channel.
    Channel,
    /// One of its keys.
    Key,
}

impl Cooled {
    /// The value of the label `what`.
    pub const fn name(self) -> &'static str {
        match self {
            Cooled::Channel => "channel",
            Cooled::Key => "key",
        }
    }
}

/// What became of an answer whose client had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// It was read to its end.
    Complete,
    /// The upstream broke off, or it took too long.
    Cut,
    /// Too many were being read.
    Refused,
}

impl Drained {
    /// Every result.
    pub const ALL: [Drained; 3] = [Drained::Complete, Drained::Cut, Drained::Refused];

    /// The value of the label `result`.
    pub const fn name(self) -> &'static str {
        match self {
            Drained::Complete => "complete",
            Drained::Cut => "cut",
            Drained::Refused => "refused",
        }
    }
}

/// All metrics of the process, on a registry of their own.
pub struct Metrics {
    registry: Registry,
    families: declared::Families,
    sources: handles::Sources,
    auth_failures: [IntCounter; AuthFailure::ALL.len()],
    aborted_by_client: IntCounter,
    aborted_by_upstream: IntCounter,
    limits: limits::LimitMetrics,
    edge: edge::EdgeMetrics,
    ledger: ledger::LedgerMetrics,
    sinks: sinks::SinkMetrics,
    probes: probes::ProbeMetrics,
    streams_active: IntGauge,
    drains_active: IntGauge,
    drains: [IntCounter; Drained::ALL.len()],
    journal_bytes: IntGauge,
    fold_lag: IntGauge,
    store_up: IntGauge,
    append_errors: IntCounter,
    unpriced: IntCounter,
    config_version: IntGauge,
    last_reload_success: IntGauge,
}

impl Metrics {
    /// Declares every family. Those whose labels are all constants start at zero, so that a rate over them
    /// sees their first step; the rest appear with the first request that concerns them.
    pub fn new() -> Self {
        // Nothing here depends on input: a mistake in a name would fail every test of this module.
        Self::declare().expect("the metrics are declared once and well formed")
    }

    fn declare() -> prometheus::Result<Self> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let declare = Declare::new(registry.clone())?;
        let families = declared::Families::declare(&declare)?;

        let build = Opts::new("weir_build_info", "Always 1; the label tells the version that runs.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;

        Ok(Self {
            sources: handles::Sources::new(&families.usage_source),
            auth_failures: AuthFailure::ALL.map(|reason| families.auth_failures.child(&[], &[reason.name()])),
            aborted_by_client: families.streams_aborted.child(&[], &["client"]),
            aborted_by_upstream: families.streams_aborted.child(&[], &["upstream"]),
            limits: limits::LimitMetrics::declare(&declare)?,
            edge: edge::EdgeMetrics::declare(&declare)?,
            ledger: ledger::LedgerMetrics::declare(&declare)?,
            sinks: sinks::SinkMetrics::declare(&declare)?,
            probes: probes::ProbeMetrics::declare(&declare)?,
            drains_active: declare
                .gauge("weir_drains_active", "Answers that are read although their client has left.")?,
            drains: Drained::ALL.map(|result| families.drains.child(&[], &[result.name()])),
            streams_active: declare.gauge("weir_streams_active", "Streams that are being answered.")?,
            journal_bytes: declare.gauge("weir_ledger_journal_bytes", "Bytes of the ledger's journal on disk.")?,
            fold_lag: declare
                .gauge("weir_ledger_fold_lag_records", "Records of the journal that the totals do not hold yet.")?,
            store_up: declare.gauge("weir_store_up", "1 if the ledger's store takes writes, else 0.")?,
            append_errors: declare
                .counter("weir_ledger_append_errors_total", "Settlements that could not be appended to the journal.")?,
            unpriced: declare.counter(
                "weir_unpriced_requests_total",
                "Requests that would have cost something, had their model a price.",
            )?,
            config_version: declare.gauge(
                "weir_config_version",
                "Number of the configuration that is served; each successful reload adds one.",
            )?,
            last_reload_success: declare
                .gauge("weir_config_last_reload_success", "1 if the last reload was accepted, else 0.")?,
            registry,
            families,
        })
    }

    /// The series of a snapshot: its routes and its channels, each channel with the models it names (literal
    /// models and `model_map` keys, not globs). Positions in these lists are what [`Observation`] refers to.
    ///
    /// A channel that is in no list any more is neither up nor down from now on.
    pub fn resolve(&self, routes: &[&str], channels: &[(&str, &[&str])]) -> Handles {
        let names: HashSet<&str> = channels.iter().map(|(name, _)| *name).collect();
        for gauges in [&self.families.up, &self.families.keys_cooling] {
            gauges.retain(|values| names.contains(&*values[0]) || &*values[0] == OTHER);
        }
        Handles::new(&self.families, routes, channels)
    }

    /// Counts a request that has ended, all of it.
    pub fn observe(&self, handles: &Handles, observation: &Observation) {
        handles.observe(self, observation);
    }

    /// Counts a credential that was not accepted.
    pub fn auth_failure(&self, reason: AuthFailure) {
        self.auth_failures[reason as usize].inc();
    }

    /// One more stream, until the guard is dropped.
    pub fn stream(&self) -> GaugeGuard {
        GaugeGuard::new(&self.streams_active)
    }

    /// One more answer that is read for nobody, until the guard is dropped.
    pub fn drain(&self) -> GaugeGuard {
        GaugeGuard::new(&self.drains_active)
    }

    /// Counts an answer whose client had left.
    pub fn drained(&self, result: Drained) {
        self.drains[result as usize].inc();
    }

    /// The journal's size on disk, in bytes.
    pub fn set_journal_bytes(&self, bytes: u64) {
        self.journal_bytes.set(saturate(bytes));
    }

    /// How many records the store is behind the journal.
    pub fn set_fold_lag_records(&self, records: u64) {
        self.fold_lag.set(saturate(records));
    }

    /// Whether the store takes writes.
    pub fn set_store_up(&self, up: bool) {
        self.store_up.set(up.into());
    }

    /// How many settlements the journal did not take at once, since the start. It never falls.
    pub fn set_ledger_append_errors(&self, errors: u64) {
        self.append_errors.inc_by(errors.saturating_sub(self.append_errors.get()));
    }

    /// The configuration that is served from now on.
    pub fn set_config_version(&self, version: u64) {
        self.config_version.set(saturate(version));
    }

    /// Whether the last reload was accepted.
    pub fn set_last_reload_success(&self, success: bool) {
        self.last_reload_success.set(success.into());
    }

    /// Everything, in the text format of Prometheus, ordered by name and label values.
    pub fn encode(&self) -> String {
        // It fails only for a family without a name or without series; gathering leaves those out.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// One of a gauge, given back on drop.
#[must_use = "the gauge goes down when the guard is dropped"]
#[derive(Debug)]
pub struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Declares families on a registry, each with its counter of refused series.
struct Declare {
    registry: Registry,
    dropped: IntCounterVec,
}

impl Declare {
    fn new(registry: Registry) -> prometheus::Result<Self> {
        let dropped = Opts::new(
            "weir_metric_series_dropped_total",
            "Times that a family was full and a new series was counted under `other`.",
        );
        let dropped = IntCounterVec::new(dropped, &["family"])?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self { registry, dropped })
    }

    fn family<M: Series>(&self, declaration: Declaration) -> prometheus::Result<Family<M>> {
        let dropped = self.dropped.get_metric_with_label_values(&[declaration.name])?;
        let family = Family::new(declaration, MAX_SERIES, dropped)?;
        self.register(family)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

/// Gauges are signed; what does not fit is shown as the largest.
fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
