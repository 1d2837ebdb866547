//! The channels: which one serves a request, how it is reached, and how it fares.
//!
//! Owns a channel and the addresses of its host; `choice` owns all of them and which one serves a request,
//! `state` what outlives a configuration, `verdicts` what probes say of its models, `hold` the leave to ask one.
//! It refuses to know HTTP: what is sent there, and which answer is a failure, is the proxy's business.

mod choice;
mod hold;
mod index;
mod resolve;
mod state;
mod sticky;
mod told;
mod verdicts;
mod vitals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use weir_filters::balance;
use weir_filters::credential::upstream_header;
use weir_filters::headers::Echo;
use weir_filters::health::{Condition, Standing};

use crate::config;
use crate::leg::Origin;

pub(crate) use resolve::NoAddress;
use resolve::Resolver;
use state::State;

pub use choice::{Channels, Choice, NoChannel, Wish};
pub use hold::Hold;
pub use state::Registry;
pub use sticky::Sticky;

/// A channel of a running gateway.
#[derive(Debug)]
pub struct Channel {
    config: config::Channel,
    name: Arc<str>,
    host_header: HeaderValue,
    host: Arc<str>,
    credentials: Vec<Option<(HeaderName, HeaderValue)>>,
    echoes: Vec<Echo>,
    state: Arc<State>,
    resolver: Resolver,
    index: usize,
}

impl Channel {
    fn new(index: usize, config: config::Channel, state: Arc<State>) -> Self {
        let url = &config.base_url;
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let default_port = if url.tls { 443 } else { 80 };
        let authority = if url.port == default_port { host } else { format!("{host}:{}", url.port) };
        Self {
            name: config.name.as_str().into(),
            host_header: HeaderValue::from_str(&authority).unwrap_or_else(|_| HeaderValue::from_static("")),
            host: url.host.as_str().into(),
            echoes: config.keys.iter().map(|key| Echo::of(&key.value)).collect(),
            credentials: config.keys.iter().map(|key| upstream_header(config.protocol, &key.value).ok()).collect(),
            state,
            resolver: Resolver::new(&url.host, url.port, config.reach),
            config,
            index,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its place in the configuration: the index of its metric handles.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its configuration.
    pub fn config(&self) -> &config::Channel {
        &self.config
    }

    /// The value of the `Host` header for it.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Whether it can be asked: it has a place free, is admitted by `admits`, and neither it nor all of its
    /// keys cool down.
    fn standing(&self, now: Instant, admits: impl Fn(&Self) -> bool) -> balance::Standing {
        if self.is_drained() || !self.state.has_place(self.config.failover.max_concurrency) || !admits(self) {
            return balance::Standing::Full;
        }
        match (self.state.health.standing(now), self.soonest_key(now)) {
            (Standing::Ready, Standing::Ready) => balance::Standing::Ready,
            (Standing::Cooling { until }, Standing::Ready) | (Standing::Ready, Standing::Cooling { until }) => {
                balance::Standing::Cooling { until }
            }
            (Standing::Cooling { until: a }, Standing::Cooling { until: b }) => {
                balance::Standing::Cooling { until: a.max(b) }
            }
        }
    }

    /// The standing of the key that can be asked first.
    fn soonest_key(&self, now: Instant) -> Standing {
        let mut soonest: Option<Instant> = None;
        for key in &self.state.key_health {
            match key.standing(now) {
                Standing::Ready => return Standing::Ready,
                Standing::Cooling { until } => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        soonest.map_or(Standing::Ready, |until| Standing::Cooling { until })
    }

    /// Whether requests are sent to it, so far as its health goes.
    pub fn is_up(&self, now: Instant) -> bool {
        let is_ready = |standing| standing == Standing::Ready;
        is_ready(self.state.health.standing(now)) && is_ready(self.soonest_key(now))
    }

    /// How many of its keys cool down.
    pub fn keys_cooling(&self, now: Instant) -> usize {
        self.state.key_health.iter().filter(|key| key.standing(now) != Standing::Ready).count()
    }

    /// Whether nothing new is sent to it, because somebody takes it out of service.
    pub fn is_drained(&self) -> bool {
        self.state.is_drained()
    }

    /// How it fares: its own health, and that of the best of its keys.
    pub fn condition(&self, now: Instant) -> Condition {
        let keys = self.state.key_health.iter().map(|key| key.condition(now));
        let of_keys = keys.reduce(Condition::or).unwrap_or(Condition::Healthy);
        self.state.health.condition(now).and(of_keys)
    }

    /// How the key at a place fares.
    pub fn key_condition(&self, place: usize, now: Instant) -> Condition {
        self.state.key_health[place].condition(now)
    }

    /// The key at a place.
    pub fn key(&self, place: usize) -> &config::UpstreamKey {
        &self.config.keys[place]
    }

    /// The header that carries the key at a place; `None` if the key cannot be in one.
    pub fn credential(&self, place: usize) -> Option<&(HeaderName, HeaderValue)> {
        self.credentials.get(place)?.as_ref()
    }

    /// What finds the key at a place in an answer.
    pub fn echo(&self, place: usize) -> &Echo {
        &self.echoes[place]
    }

    /// Where its connections lead. Names are looked up anew every half minute; what they stand for is checked,
    /// and it is that address which is connected to.
    pub(crate) async fn origin(&self) -> Result<Origin, NoAddress> {
        let address = self.resolver.address().await?;
        Ok(Origin { address, host: self.host.clone(), tls: self.config.base_url.tls })
    }

    /// Says that the address that was given last cannot be reached, so that another one is given next.
    pub fn is_unreachable(&self, address: SocketAddr) {
        self.resolver.avoid(address);
    }

    /// What the upstream is asked for when the client asks for `model`, if that is something else.
    pub fn maps(&self, model: &str) -> Option<&str> {
        self.config.model_map.get(model).map(String::as_str).filter(|mapped| *mapped != model)
    }

    /// Whether it is asked for `model`.
    fn serves(&self, model: &str) -> bool {
        self.config.models.iter().any(|glob| glob.matches(model)) || self.config.model_map.contains_key(model)
    }

    /// The models that it names one by one: only these can be a metric's label, or be listed without a probe.
    pub fn named_models(&self) -> impl Iterator<Item = &str> {
        let literal = self.config.models.iter().filter(|glob| glob.is_literal()).map(weir_filters::glob::Glob::as_str);
        literal.chain(self.config.model_map.keys().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_filters::address::Reach;
    use weir_filters::glob::Glob;
    use weir_filters::limits::Limits;
    use weir_filters::protocol::Protocol;
    use weir_filters::secret::Secret;

    pub(super) fn channel(name: &str, protocol: Protocol, models: &[&str]) -> config::Channel {
        config::Channel {
            name: name.into(),
            protocol,
            base_url: config::BaseUrl { tls: false, host: "127.0.0.1".into(), port: 9001, path: String::new() },
            reach: Reach::Declared,
            keys: ["a", "b"].map(|k| config::UpstreamKey { name: k.into(), value: Secret::new(k) }).into(),
            models: models.iter().map(|m| Glob::new(*m)).collect(),
            model_map: [("gpt-4o".to_owned(), "large".to_owned())].into(),
            inject_usage: false,
            timeouts: config::Timeouts {
                connect: std::time::Duration::from_secs(1),
                first_byte: std::time::Duration::from_secs(1),
                idle: std::time::Duration::from_secs(1),
            },
            limits: Limits::default(),
            failover: config::Failover::default(),
            probe: None,
        }
    }

    pub(super) fn made(config: config::Channel) -> Channel {
        let state = Registry::default().states(&[&config]).remove(0);
        Channel::new(0, config, state)
    }

    #[test]
    fn a_mapped_model_is_asked_for_under_its_other_name() {
        let first = made(channel("first", Protocol::OpenAi, &["*"]));
        assert_eq!((first.maps("gpt-4o"), first.maps("o1-mini")), (Some("large"), None));
    }

    #[test]
    fn the_host_header_has_a_port_only_where_it_is_not_the_schemes_own() {
        for (tls, host, port, expected) in [
            (true, "api.example.com", 443, "api.example.com"),
            (true, "api.example.com", 8443, "api.example.com:8443"),
            (false, "::1", 80, "[::1]"),
            (false, "::1", 9001, "[::1]:9001"),
        ] {
            let mut config = channel("x", Protocol::OpenAi, &["*"]);
            config.base_url = config::BaseUrl { tls, host: host.into(), port, path: String::new() };
            assert_eq!(made(config).host_header(), expected);
        }
    }
}
