//! The configuration as the data plane uses it: tables made, labels resolved.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_filters::credential::Credential;
use weir_filters::headers::HeaderPolicy;
use weir_filters::key::{KeyDigest, KeyEntry, KeyPolicy, KeyTable};
use weir_filters::limits::estimate::Estimates;
use weir_filters::limits::{Account, Subject};
use weir_filters::price::{PriceRate, PriceTable, Tariff};
use weir_filters::protocol::Protocol;
use weir_filters::refusal::Refusal;
use weir_filters::route::{ConfiguredRoute, CorsPolicy, RouteTable};

use crate::accounts::Accounts;
use crate::audit::{Caps, node_name};
use crate::channels::{Channel, Channels, Registry};
use crate::config::{self, Config, Durability, Identity, Unpriced, WhenFull};
use crate::descriptors;
use crate::front::{STALL, Terms};
use crate::ledger::LedgerId;
use crate::metrics::{GaugeGuard, Handles, Metrics};

/// One version of the configuration. Immutable: a reload makes another one.
pub struct Snapshot {
    pub(super) version: u64,
    pub(super) routes: RouteTable,
    pub(super) route_names: Vec<Arc<str>>,
    pub(super) keys: KeyTable,
    pub(super) headers: HeaderPolicy,
    pub(super) channels: Channels,
    pub(super) sticky: Option<config::Sticky>,
    /// The models of each channel that a metric may name, sorted.
    pub(super) models: Vec<Vec<Box<str>>>,
    pub(super) handles: Handles,
    pub(super) max_body: usize,
    pub(crate) terms: Terms,
    pub(super) max_in_flight: usize,
    pub(super) durability: Durability,
    pub(super) when_full: WhenFull,
    pub(super) estimates: Estimates,
    /// What may be used of each channel, by its index.
    pub(super) rooms: Vec<Option<Arc<Account>>>,
    /// Who ends in a later one may belong to accounts that this snapshot does not know.
    pub(super) accounts_epoch: u64,
    pub(super) prices: Option<Arc<PriceTable>>,
    /// The places of the prices of `models`: most requests are for one that is named.
    pub(super) priced_models: Vec<Vec<Option<usize>>>,
    pub(super) unpriced: Unpriced,
    pub(super) audit: Recorded,
}

/// What is recorded of requests.
pub(super) struct Recorded {
    /// What this gateway is called.
    pub(super) node: Box<str>,
    pub(super) headers: bool,
    /// How much of bodies; `None`: nothing.
    pub(super) caps: Option<Caps>,
    pub(super) access_log: bool,
}

impl Snapshot {
    /// Makes the tables of `config`. The limits are those of `accounts`, the states of channels those that
    /// `registry` knows. What is recorded names the `ledger`.
    pub fn new(
        version: u64,
        config: &Config,
        metrics: &Metrics,
        accounts: &Accounts,
        registry: &Registry,
        ledger: Option<LedgerId>,
    ) -> Self {
        let routes = RouteTable::new(config.routes.iter().map(configured_route).collect());
        let route_names: Vec<Arc<str>> = routes.names().into_iter().map(Arc::from).collect();
        let channels = Channels::new(&config.channels, registry);
        let rooms = channels.iter().map(|channel| accounts.find(Subject::Channel, channel.name())).collect();
        let models: Vec<Vec<Box<str>>> = channels
            .iter()
            .map(|channel| channel.named_models().map(Box::from).collect::<BTreeSet<_>>().into_iter().collect())
            .collect();
        let handles = {
            let routes: Vec<&str> = route_names.iter().map(|name| &**name).collect();
            let models: Vec<Vec<&str>> = models.iter().map(|m| m.iter().map(|name| &**name).collect()).collect();
            let channels: Vec<(&str, &[&str])> =
                channels.iter().zip(&models).map(|(channel, models)| (&**channel.name(), &models[..])).collect();
            metrics.resolve(&routes, &channels)
        };
        let place = |channel: &Channel, model: &str| {
            config.prices.as_ref()?.place_of(channel.maps(model).unwrap_or(model), model)
        };
        let priced_models = channels
            .iter()
            .zip(&models)
            .map(|(channel, models)| models.iter().map(|model| place(channel, model)).collect())
            .collect();
        let rates: HashMap<&str, PriceRate> = config.users.iter().map(|user| (&*user.name, user.price_rate)).collect();
        let rate_of =
            |key: &config::Key| key.user.as_deref().and_then(|user| rates.get(user)).copied().unwrap_or_default();
        Self {
            version,
            routes,
            route_names,
            keys: KeyTable::new(config.keys.iter().map(|key| key_entry(key, accounts).at_rate(rate_of(key))).collect()),
            headers: HeaderPolicy {
                strip_request: config.headers.strip_request.clone(),
                strip_response: config.headers.strip_response.clone(),
                set_request: config.headers.set_request.clone(),
            },
            channels,
            sticky: config.sticky.clone(),
            models,
            handles,
            max_body: config.server.max_body,
            terms: terms(&config.server),
            max_in_flight: or_share(config.server.edge.max_in_flight, &config.server),
            durability: config.ledger.durability,
            when_full: config.ledger.when_full,
            prices: config.prices.clone(),
            priced_models,
            unpriced: config.unpriced,
            estimates: config.estimates,
            rooms,
            accounts_epoch: accounts.epoch(),
            audit: Recorded {
                node: node_name(config.audit.node.as_deref(), ledger).into(),
                headers: config.audit.headers,
                caps: Caps::of(&config.audit),
                access_log: config.audit.access_log.is_some(),
            },
        }
    }

    /// Its number: the first is 1, each reload adds one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The channels.
    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Every key, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Arc<KeyEntry>> {
        self.keys.iter()
    }

    /// Whether a key may be used at a time, in milliseconds since 1970.
    pub(crate) fn is_usable(&self, key: &KeyEntry, now_ms: u64) -> bool {
        key.policy.enabled && key.policy.expires_ms.is_none_or(|expires| expires > now_ms)
    }

    /// What may be used of a channel, if it has limits.
    pub(crate) fn room_of(&self, channel: &Channel) -> Option<&Arc<Account>> {
        self.rooms.get(channel.index())?.as_ref()
    }

    /// One more request that a channel serves, until the guard is dropped.
    pub(crate) fn enter(&self, channel: &Channel) -> GaugeGuard {
        self.handles.channel(channel.index()).enter()
    }

    /// What upstreams get of a client's header lines, and beside them.
    pub(crate) fn headers_of_policy(&self, client: &HeaderMap, put: impl FnMut(&HeaderName, &HeaderValue)) {
        self.headers.request(client, put);
    }

    /// How many requests a channel serves.
    pub(crate) fn in_flight(&self, channel: &Channel) -> u64 {
        self.handles.channel(channel.index()).in_flight()
    }

    /// Puts the health of the channels into their gauges.
    pub(crate) fn show_health(&self, now: Instant) {
        for channel in self.channels.iter() {
            self.handles.channel(channel.index()).show_health(channel.is_up(now), channel.keys_cooling(now));
        }
    }

    /// Whose credential it is, if it counts now.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn holder(&self, credential: &Credential<'_>, now_ms: u64) -> Result<Arc<KeyEntry>, Refusal> {
        self.keys.identify(credential, now_ms).cloned().map_err(|(refusal, _)| refusal)
    }

    /// Every model that a channel names and that is `permitted` of it, with its price at the channel that is asked for
    /// it first.
    pub(crate) fn offered(&self, permitted: impl Fn(Protocol, &str, &str) -> bool) -> BTreeMap<String, Option<Tariff>> {
        let mut channels: Vec<&Arc<Channel>> = self.channels.iter().collect();
        channels.sort_by_key(|channel| channel.config().failover.priority);
        let mut offered = BTreeMap::new();
        for channel in channels {
            let config = channel.config();
            let models = self.models[channel.index()].iter();
            for model in models.filter(|model| permitted(config.protocol, model, &config.name)) {
                let price = || self.price(channel, model).map(|price| price.tariff().clone());
                offered.entry(String::from(&**model)).or_insert_with(price);
            }
        }
        offered
    }

    /// The place of a model among those that `channel` names.
    pub(super) fn model_label(&self, channel: usize, model: &str) -> Option<usize> {
        self.models[channel].binary_search_by(|name| (**name).cmp(model)).ok()
    }

    /// The models that `permitted` lets through of those that the channels of `protocol` name or that answered probes
    /// there, with the channel that comes first for each, sorted. Where probes say that a model fails it is not listed: it
    /// is missing if they say so everywhere.
    pub(super) fn listed_models(
        &self,
        protocol: Protocol,
        permitted: impl Fn(&str, &str) -> bool,
    ) -> BTreeMap<Cow<'_, str>, &Arc<str>> {
        let mut listed = BTreeMap::new();
        for (channel, models) in self.channels.iter().zip(&self.models) {
            if channel.config().protocol != protocol {
                continue;
            }
            let named = models.iter().filter(|model| !channel.is_failing(model)).map(|model| Cow::Borrowed(&**model));
            let passing = channel.passing().into_iter().map(|model| Cow::Owned(String::from(&*model)));
            for model in named.chain(passing).filter(|model| permitted(model, channel.name())) {
                listed.entry(model).or_insert_with(|| channel.name());
            }
        }
        listed
    }
}

fn terms(server: &config::Server) -> Terms {
    let edge = &server.edge;
    Terms {
        idle: server.keepalive_timeout,
        head: edge.header_timeout,
        max_head: edge.max_header,
        body: STALL,
        write: edge.write_timeout,
        min_rate: edge.min_drain_rate as u64,
        connections: or_share(edge.max_connections, server),
        connections_of_one: edge.connections_per_ip,
    }
}

/// What is written, or what there are descriptors for.
fn or_share(written: usize, server: &config::Server) -> usize {
    if written > 0 { written } else { descriptors::for_each_side(server.threads) }
}

fn configured_route(route: &config::Route) -> ConfiguredRoute {
    ConfiguredRoute {
        path: route.path.clone(),
        operation: route.operation,
        channels: route.channels.clone(),
        upstream_path: route.upstream_path.clone(),
        cors: route.cors.as_ref().map(|cors| CorsPolicy { origins: cors.origins.clone() }),
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn key_entry(key: &config::Key, accounts: &Accounts) -> KeyEntry {
    let expires_ms = key.expires.map(unix_ms);
    let entry = KeyEntry::new(
        KeyDigest(key.sha256),
        key.name.as_str(),
        key.user.as_deref().unwrap_or(""),
        KeyPolicy {
            enabled: key.enabled,
            expires_ms,
            protocols: key.protocols.clone(),
            models: key.models.clone(),
            channels: key.channels.clone(),
        },
    );
    let entry = match &key.identity {
        None => entry,
        Some(Identity { id, previous: None, .. }) => entry.with_id(id),
        Some(Identity { id, previous: Some(previous), .. }) => {
            entry.with_id(id).with_previous(KeyDigest(previous.sha256), unix_ms(previous.until))
        }
    };
    let of_key = accounts.find(Subject::Key, &entry.id);
    let of_user = accounts.find(Subject::User, &entry.user);
    entry.with_accounts(of_key, of_user)
}

#[cfg(test)]
mod tests;
