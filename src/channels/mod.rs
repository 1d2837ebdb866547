//! The channels: which one serves a request, and how it is reached.
//!
//! Owns the choice of a channel, the turn of its keys and the addresses of its host. It refuses to
//! know HTTP: what is sent there is the proxy's business.

mod resolve;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue};
use weir_filters::credential::upstream_header;
use weir_filters::headers::Echo;
use weir_filters::protocol::Protocol;

use crate::config;
use crate::leg::Origin;

use resolve::Resolver;

/// A channel of a running gateway.
#[derive(Debug)]
pub struct Channel {
    config: config::Channel,
    name: Arc<str>,
    host_header: HeaderValue,
    host: Arc<str>,
    credentials: Vec<Option<(HeaderName, HeaderValue)>>,
    echoes: Vec<Echo>,
    next_key: AtomicUsize,
    resolver: Resolver,
    index: usize,
}

impl Channel {
    fn new(index: usize, config: config::Channel) -> Self {
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
            next_key: AtomicUsize::new(0),
            resolver: Resolver::new(&url.host, url.port),
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

    /// The place of the key whose turn it is.
    pub fn next_key(&self) -> usize {
        self.next_key.fetch_add(1, Ordering::Relaxed) % self.config.keys.len()
    }

    /// The key at a place that [`Channel::next_key`] gave.
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

    /// Where its connections lead. Names are looked up anew every half minute.
    pub(crate) async fn origin(&self) -> std::io::Result<Origin> {
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

    /// Whether it serves `model`: by a glob, or because it maps it.
    pub fn serves(&self, model: &str) -> bool {
        self.config.models.iter().any(|glob| glob.matches(model)) || self.config.model_map.contains_key(model)
    }

    /// The models that it names one by one: only these can be listed, or be a metric's label.
    pub fn named_models(&self) -> impl Iterator<Item = &str> {
        let literal = self.config.models.iter().filter(|glob| glob.is_literal()).map(weir_filters::glob::Glob::as_str);
        literal.chain(self.config.model_map.keys().map(String::as_str))
    }
}

/// Why no channel serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChannel {
    /// No channel that the route and the dialect allow serves the model.
    Unserved,
    /// One does, but the key may not use it.
    NotPermitted,
}

/// All channels, in the order in which they are tried.
#[derive(Default)]
pub struct Channels(Vec<Arc<Channel>>);

impl Channels {
    /// Takes them as configured.
    pub fn new(channels: &[config::Channel]) -> Self {
        Self(channels.iter().enumerate().map(|(i, c)| Arc::new(Channel::new(i, c.clone()))).collect())
    }

    /// The first channel of `protocol` that serves `model` (any, if there is none), that the route
    /// names (`among`; empty: all) and that the key permits.
    pub fn choose(
        &self,
        protocol: Protocol,
        model: Option<&str>,
        among: &[String],
        permits: impl Fn(&str) -> bool,
    ) -> Result<&Arc<Channel>, NoChannel> {
        let mut refusal = NoChannel::Unserved;
        for channel in &self.0 {
            let routed = among.is_empty() || among.iter().any(|name| **name == *channel.name);
            let speaks = channel.config.protocol == protocol;
            if !routed || !speaks || !model.is_none_or(|model| channel.serves(model)) {
                continue;
            }
            if permits(&channel.name) {
                return Ok(channel);
            }
            refusal = NoChannel::NotPermitted;
        }
        Err(refusal)
    }

    /// Every channel.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.0.iter()
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|c| &c.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_filters::glob::Glob;
    use weir_filters::secret::Secret;

    fn channel(name: &str, protocol: Protocol, models: &[&str]) -> config::Channel {
        config::Channel {
            name: name.into(),
            protocol,
            base_url: config::BaseUrl { tls: false, host: "127.0.0.1".into(), port: 9001, path: String::new() },
            keys: ["a", "b"].map(|k| config::UpstreamKey { name: k.into(), value: Secret::new(k) }).into(),
            models: models.iter().map(|m| Glob::new(*m)).collect(),
            model_map: [("gpt-4o".to_owned(), "large".to_owned())].into(),
            inject_usage: false,
            timeouts: config::Timeouts {
                connect: std::time::Duration::from_secs(1),
                first_byte: std::time::Duration::from_secs(1),
                idle: std::time::Duration::from_secs(1),
            },
        }
    }

    fn channels() -> Channels {
        Channels::new(&[
            channel("first", Protocol::OpenAi, &["o1-*"]),
            channel("second", Protocol::OpenAi, &["o1-mini", "o3"]),
            channel("claude", Protocol::Anthropic, &["*"]),
        ])
    }

    fn chosen(model: Option<&str>, among: &[&str], permitted: &str) -> Result<String, NoChannel> {
        let among: Vec<_> = among.iter().map(|&n| n.to_owned()).collect();
        channels()
            .choose(Protocol::OpenAi, model, &among, |name| permitted == "*" || name == permitted)
            .map(|c| c.name.to_string())
    }

    #[test]
    fn the_first_channel_that_serves_the_model_is_chosen() {
        assert_eq!(chosen(Some("o1-mini"), &[], "*"), Ok("first".into()));
        assert_eq!(chosen(Some("o3"), &[], "*"), Ok("second".into()));
        assert_eq!(chosen(Some("gpt-4o"), &[], "*"), Ok("first".into()), "a mapped model is served");
        assert_eq!(chosen(None, &[], "*"), Ok("first".into()));
        assert_eq!(chosen(Some("O3"), &[], "*"), Err(NoChannel::Unserved));
        assert_eq!(chosen(Some("claude-x"), &[], "*"), Err(NoChannel::Unserved), "another dialect");
    }

    #[test]
    fn route_and_key_narrow_the_choice() {
        assert_eq!(chosen(Some("o1-mini"), &["second"], "*"), Ok("second".into()));
        assert_eq!(chosen(Some("o1-mini"), &[], "second"), Ok("second".into()));
        assert_eq!(chosen(Some("o3"), &[], "first"), Err(NoChannel::NotPermitted));
        assert_eq!(chosen(Some("o3"), &["first"], "*"), Err(NoChannel::Unserved));
    }

    #[test]
    fn keys_take_turns() {
        let channels = channels();
        let first = channels.iter().next().unwrap();
        let turns: Vec<_> = (0..4).map(|_| first.key(first.next_key()).name.as_str()).collect();
        assert_eq!(turns, ["a", "b", "a", "b"]);
    }

    #[test]
    fn a_mapped_model_is_asked_for_under_its_other_name() {
        let channels = channels();
        let first = channels.iter().next().unwrap();
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
            assert_eq!(Channel::new(0, config).host_header(), expected);
        }
    }
}
