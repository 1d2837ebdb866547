//! From the configuration as written to the one as meant: defaults, rules between values, and the
//! files that values name.
//!
//! Knows nothing of YAML or of how a single value is spelt.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use weir_filters::address::Reach;
use weir_filters::network::Network;
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;

use super::failover::RawSticky;
use super::files::Pem;
use super::load::Sources;
use super::mistake::{Complaint, Report};
use super::raw::{
    RawAdmin, RawChannel, RawConfig, RawHeaders, RawKey, RawLedger, RawListen, RawRoute, RawServer, RawTls,
    RawUpstreamKey, RawUser,
};
use super::reserved;
use super::section::{At, Reader};
use super::tree::NodeId;
use super::{
    Admin, Channel, Config, Cors, Headers, Key, Ledger, Listen, Route, Server, Timeouts, Tls, UpstreamKey, User,
};

const DEFAULT_ADDRESS: ([u8; 4], u16) = ([0, 0, 0, 0], 8514);
const DEFAULT_ADMIN_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8515);
const DEFAULT_DATA_DIR: &str = "data";
const DEFAULT_MAX_BODY: usize = 32 << 20;
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(300);
const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(75);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(120);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_MAX_KEYS: usize = 10;
const DEFAULT_KEEP_MINUTES: Duration = Duration::from_secs(2 * 86_400);
const DEFAULT_KEEP_HOURS: Duration = Duration::from_secs(35 * 86_400);
const DEFAULT_STRIP_REQUEST: [&str; 3] = ["x-forwarded-for", "x-real-ip", "cookie"];
const DEFAULT_STRIP_RESPONSE: [&str; 3] = ["server", "x-powered-by", "set-cookie"];

/// Checks everything, reports all that is wrong, and gives the configuration if nothing ever was.
pub(super) fn validate(
    raw: RawConfig,
    folder: &Path,
    sources: &Sources<'_>,
    reader: &mut Reader<'_>,
) -> Option<Config> {
    let mut check = Check { folder, sources, r: reader };
    check.addresses(raw.listen.as_ref(), raw.admin.address.as_ref());
    check.names(&raw);
    check.key_counts(&raw);
    let channels = raw.channels.as_ref().map(|channels| channels.value.as_slice());
    for route in &raw.routes {
        check.route_rules(route, channels);
    }
    let users: HashSet<&str> =
        raw.users.iter().filter_map(|user| user.name.as_ref()).map(|name| name.value.as_str()).collect();
    for key in &raw.keys {
        check.key_rules(key, channels, &users);
    }
    let config = Config {
        listen: check.listen(raw.listen),
        server: check.server(raw.server),
        admin: check.admin(raw.admin),
        data_dir: raw.data_dir.map_or_else(|| PathBuf::from(DEFAULT_DATA_DIR), |dir| dir.value),
        headers: headers(raw.headers),
        channels: raw
            .channels
            .map_or_else(Vec::new, |channels| channels.value)
            .into_iter()
            .filter_map(|channel| check.channel(channel))
            .collect(),
        routes: raw.routes.into_iter().filter_map(route).collect(),
        users: raw.users.into_iter().filter_map(user).collect(),
        keys: raw.keys.into_iter().filter_map(key).collect(),
        ledger: check.ledger(&raw.ledger),
        prices: check.prices(raw.prices.as_ref()),
        unpriced: check.unpriced(raw.unpriced.as_ref(), raw.prices.is_some()),
        estimates: raw.estimates,
        sticky: raw.sticky.map(RawSticky::checked),
        audit: check.audit(raw.audit),
        read_from: super::Fingerprint::default(),
    };
    check.r.report.is_empty().then_some(config)
}

/// The addresses of this machine to itself.
pub(crate) fn loopback() -> Vec<Network> {
    let networks = [Network::new([127, 0, 0, 0].into(), 8), Network::new(Ipv6Addr::LOCALHOST.into(), 128)];
    networks.into_iter().flatten().collect()
}

/// What the rules need at hand.
pub(super) struct Check<'a, 'r> {
    /// What relative paths start from.
    pub(super) folder: &'a Path,
    pub(super) sources: &'a Sources<'a>,
    pub(super) r: &'a mut Reader<'r>,
}

impl Check<'_, '_> {
    fn report(&mut self) -> &mut Report {
        self.r.report
    }

    /// Two listeners cannot have one port of one address; an unspecified address has them all.
    fn addresses(&mut self, listen: Option<&At<Vec<RawListen>>>, admin: Option<&At<SocketAddr>>) {
        let declared = listen.iter().flat_map(|list| &list.value).filter_map(|l| l.address.as_ref());
        let mut seen: Vec<&At<SocketAddr>> = Vec::new();
        for address in declared.chain(admin) {
            let first = seen.iter().find(|first| overlap(first.value, address.value));
            if let Some(first) = first {
                let message = format!("the address {} is listened on twice", address.value);
                self.report().add_repeated(address.at, first.at, message);
            }
            seen.push(address);
        }
        let default = SocketAddr::from(DEFAULT_ADDRESS);
        if let (None, Some(admin)) = (listen, admin)
            && overlap(default, admin.value)
        {
            let message = format!("`address` is taken by the default of `listen`, {default}");
            self.report().add(admin.at, Complaint::new(message));
        }
        let default = SocketAddr::from(DEFAULT_ADMIN_ADDRESS);
        if let (None, Some(first)) = (admin, seen.iter().find(|seen| overlap(seen.value, default))) {
            let message = format!("`address` is taken by the default of `admin.address`, {default}");
            let complaint = Complaint::new(message).suggest("write `admin.address` too");
            self.report().add(first.at, complaint);
        }
    }

    /// Names stand for one thing each, and a digest for one key.
    fn names(&mut self, raw: &RawConfig) {
        let channels = raw.channels.iter().flat_map(|list| &list.value);
        self.unique("the channel", channels.clone().filter_map(|c| c.name.as_ref()));
        for channel in channels {
            self.upstream_key_names(channel);
        }
        let users = raw.users.iter().filter_map(|user| user.name.as_ref());
        self.reserved(users, reserved::user);
        self.reserved(
            raw.channels.iter().flat_map(|list| &list.value).filter_map(|c| c.name.as_ref()),
            reserved::channel,
        );
        self.unique("the route", raw.routes.iter().filter_map(|route| route.path.as_ref()));
        self.unique("the user", raw.users.iter().filter_map(|user| user.name.as_ref()));
        self.unique("the key", raw.keys.iter().filter_map(|key| key.name.as_ref()));
        let mut seen = HashMap::new();
        for digest in raw.keys.iter().filter_map(|key| key.sha256.as_ref()) {
            let first = *seen.entry(digest.value).or_insert(digest.at);
            if first != digest.at {
                let message = "this SHA-256 is another key's too".to_owned();
                self.report().add_repeated(digest.at, first, message);
            }
        }
    }

    /// The names of a channel's keys stand for one each.
    pub(super) fn upstream_key_names(&mut self, channel: &RawChannel) {
        let keys = channel.keys.iter().flat_map(|list| &list.value);
        self.unique("the upstream key", keys.filter_map(|key| key.name.as_ref()));
    }

    /// Nobody has more keys than their user may have.
    fn key_counts(&mut self, raw: &RawConfig) {
        let mut left: HashMap<&str, (usize, usize)> = HashMap::new();
        for user in &raw.users {
            if let Some(name) = &user.name {
                left.insert(&name.value, (max_keys(user), max_keys(user)));
            }
        }
        for user in raw.keys.iter().filter_map(|key| key.user.as_ref()) {
            match left.get_mut(user.value.as_str()) {
                Some((0, most)) => {
                    let message = format!("names a user who may have {most} keys and has more");
                    self.r.complain(user.at, Complaint::new(message).suggest("raise the user's `max_keys`"));
                }
                Some((left, _)) => *left -= 1,
                None => {}
            }
        }
    }

    fn reserved<'n>(
        &mut self,
        names: impl Iterator<Item = &'n At<String>>,
        complaint: impl Fn(&str) -> Option<String>,
    ) {
        for name in names {
            if let Some(complaint) = complaint(&name.value) {
                self.r.complain(name.at, Complaint::new(complaint));
            }
        }
    }

    fn unique<'n, T>(&mut self, what: &str, names: impl IntoIterator<Item = &'n At<T>>)
    where
        T: Eq + Hash + 'n,
    {
        let mut seen: HashMap<&T, NodeId> = HashMap::new();
        for name in names {
            let first = *seen.entry(&name.value).or_insert(name.at);
            if first != name.at {
                let shown = self.r.tree.shown(name.at).unwrap_or("…");
                let message = format!("{what} `{shown}` is declared twice");
                self.report().add_repeated(name.at, first, message);
            }
        }
    }

    fn route_rules(&mut self, route: &RawRoute, channels: Option<&[RawChannel]>) {
        let operation = route.operation.as_ref().map(|operation| operation.value);
        if operation == Some(Operation::Models) {
            let fields =
                [route.channels.as_ref().map(|list| list.at), route.upstream_path.as_ref().map(|path| path.at)];
            for at in fields.into_iter().flatten() {
                let complaint = Complaint::new("has no effect: Weir answers `models` itself");
                self.r.complain(at, complaint);
            }
        }
        if let Some(origins) = route.cors.as_ref().and_then(|cors| cors.origins.as_ref())
            && let Some(all) = origins.value.iter().find(|origin| origin.value == "*")
            && origins.value.len() > 1
        {
            self.r.complain(all.at, Complaint::new("allows every origin, so it must stand alone"));
        }
        let (Some(named), Some(channels)) = (&route.channels, channels) else {
            return;
        };
        for name in &named.value {
            let channel = channels.iter().find(|c| c.name.as_ref().is_some_and(|n| n.value == name.value));
            let Some(channel) = channel else {
                self.unknown("channel", name.at, &name.value, names_of(channels));
                continue;
            };
            if let (Some(operation), Some(protocol)) = (operation, &channel.protocol)
                && operation != Operation::Models
                && operation.protocol() != protocol.value
            {
                let complaint = Complaint::new(format!(
                    "names a channel that speaks {}, but {operation} is asked in {}",
                    protocol.value,
                    operation.protocol()
                ));
                self.r.complain(name.at, complaint);
            }
        }
    }

    fn key_rules(&mut self, key: &RawKey, channels: Option<&[RawChannel]>, users: &HashSet<&str>) {
        if let Some(user) = &key.user
            && !users.contains(user.value.as_str())
        {
            self.unknown("user", user.at, &user.value, users.iter().copied());
        }
        let (Some(globs), Some(channels)) = (&key.channels, channels) else {
            return;
        };
        for glob in globs.value.iter().filter(|glob| glob.value.is_literal()) {
            if !names_of(channels).any(|name| name == glob.value.as_str()) {
                self.unknown("channel", glob.at, glob.value.as_str(), names_of(channels));
            }
        }
    }

    fn unknown<'n>(&mut self, what: &str, at: NodeId, name: &str, known: impl Iterator<Item = &'n str>) {
        let complaint = match self.r.tree.shown(at) {
            Some(shown) => Complaint::new(format!("unknown {what} `{shown}`")).suggest_nearest(name, known),
            None => Complaint::new(format!("unknown {what}")),
        };
        self.report().add(at, complaint);
    }

    fn listen(&mut self, raw: Option<At<Vec<RawListen>>>) -> Vec<Listen> {
        let Some(raw) = raw else {
            return vec![Listen { address: SocketAddr::from(DEFAULT_ADDRESS), tls: None }];
        };
        if raw.value.is_empty() {
            self.r.complain(raw.at, Complaint::new("must not be an empty list"));
        }
        let listener = |raw: RawListen| {
            let tls = raw.tls.map(|tls| self.tls(&tls));
            Some(Listen { address: raw.address?.value, tls: tls.flatten() })
        };
        raw.value.into_iter().filter_map(listener).collect()
    }

    fn tls(&mut self, raw: &RawTls) -> Option<Tls> {
        let certificate = self.pem(raw.certificate.as_ref(), Pem::Certificate);
        let private_key = self.pem(raw.private_key.as_ref(), Pem::PrivateKey);
        Some(Tls { certificate: certificate?, private_key: private_key? })
    }

    fn server(&mut self, raw: RawServer) -> Server {
        let threads = or(raw.threads, 0);
        Server {
            threads: if threads == 0 { self.sources.cores.max(1) } else { threads },
            max_body: or(raw.max_body, DEFAULT_MAX_BODY),
            grace_period: or(raw.grace_period, DEFAULT_GRACE_PERIOD),
            keepalive_timeout: or(raw.keepalive_timeout, DEFAULT_KEEPALIVE_TIMEOUT),
            edge: raw.edge.checked(),
            upstream_ca: self.pem(raw.upstream_ca.as_ref(), Pem::Certificate),
        }
    }

    fn admin(&mut self, raw: RawAdmin) -> Admin {
        // The one secret that may be empty: it stands for "make one at first start".
        let is_empty = raw.token.value.as_ref().is_some_and(|token| token.value.is_empty());
        let made_later = raw.token.is_absent || (is_empty && raw.token.file.is_none());
        let closed = !raw.metrics_token.is_absent;
        Admin {
            address: or(raw.address, SocketAddr::from(DEFAULT_ADMIN_ADDRESS)),
            token: if made_later { None } else { self.secret(raw.token) },
            metrics_token: if closed { self.secret(raw.metrics_token) } else { None },
            allow_private_upstreams: or(raw.allow_private_upstreams, false),
            trusted_proxies: raw.trusted_proxies.map_or_else(loopback, values),
        }
    }

    pub(super) fn channel(&mut self, raw: RawChannel) -> Option<Channel> {
        let globs = raw.models.as_ref().map(|models| models.value.as_slice()).unwrap_or_default();
        for (model, _) in &raw.model_map {
            let complaint = if model.value.contains('*') {
                Complaint::new("is looked up as an exact name and must hold no `*`")
            } else if !globs.is_empty() && !globs.iter().any(|glob| glob.value.matches(&model.value)) {
                Complaint::new("is never asked for: no glob in `models` matches it")
            } else {
                continue;
            };
            self.r.complain(model.at, complaint);
        }
        if let Some(url) = &raw.base_url
            && let Some(class) = url.value.class().filter(|class| !Reach::Declared.permits(*class))
        {
            self.r.complain(url.at, Complaint::new(format!("leads to {class}, which no channel may")));
        }
        let protocol = raw.protocol.map(|protocol| protocol.value);
        if let (Some(inject), Some(protocol)) = (&raw.inject_usage, protocol)
            && inject.value
            && protocol != Protocol::OpenAi
        {
            let message = format!("has no effect: {protocol} reports usage unasked");
            self.r.complain(inject.at, Complaint::new(message));
        }
        let keys: Option<Vec<UpstreamKey>> =
            raw.keys.map(|keys| keys.value.into_iter().filter_map(|key| self.upstream_key(key)).collect());
        let timeouts = Timeouts {
            connect: or(raw.timeouts.connect, DEFAULT_CONNECT_TIMEOUT),
            first_byte: or(raw.timeouts.first_byte, DEFAULT_FIRST_BYTE_TIMEOUT),
            idle: or(raw.timeouts.idle, DEFAULT_IDLE_TIMEOUT),
        };
        let failover = raw.failover.check(timeouts.first_byte, self.r);
        let serves = |model: &str| {
            raw.model_map.iter().any(|(from, _)| from.value == model)
                || globs.is_empty()
                || globs.iter().any(|glob| glob.value.matches(model))
        };
        let probe = raw.probe.and_then(|probe| probe.check(self.r, serves));
        Some(Channel {
            name: raw.name?.value,
            protocol: protocol?,
            base_url: raw.base_url?.value,
            reach: Reach::Declared,
            keys: keys?,
            limits: raw.limits.limits(),
            models: values(raw.models?),
            model_map: raw.model_map.into_iter().map(|(from, to)| (from.value, to.value)).collect(),
            inject_usage: or(raw.inject_usage, protocol? == Protocol::OpenAi),
            timeouts,
            failover,
            probe,
        })
    }

    fn upstream_key(&mut self, raw: RawUpstreamKey) -> Option<UpstreamKey> {
        let value = self.secret(raw.value);
        Some(UpstreamKey { name: raw.name?.value, value: value? })
    }

    fn ledger(&mut self, raw: &RawLedger) -> Ledger {
        let ledger = Ledger {
            durability: raw.durability.as_ref().map_or_else(Default::default, |d| d.value),
            when_full: raw.when_full.as_ref().map_or_else(Default::default, |w| w.value),
            keep_minutes: raw.keep_minutes.as_ref().map_or(DEFAULT_KEEP_MINUTES, |d| d.value),
            keep_hours: raw.keep_hours.as_ref().map_or(DEFAULT_KEEP_HOURS, |d| d.value),
        };
        // A gap between the minutes and the hours would be a gap in every report.
        if ledger.keep_hours < ledger.keep_minutes
            && let Some(at) = [&raw.keep_hours, &raw.keep_minutes].into_iter().flatten().map(|d| d.at).max()
        {
            let message = "`keep_hours` must not be shorter than `keep_minutes`";
            self.report().add(at, Complaint::new(message));
        }
        ledger
    }
}

fn headers(raw: RawHeaders) -> Headers {
    let names = |written: Option<Vec<At<HeaderName>>>, default: [&'static str; 3]| match written {
        Some(names) => names.into_iter().map(|name| name.value).collect(),
        None => default.map(HeaderName::from_static).to_vec(),
    };
    Headers {
        strip_request: names(raw.strip_request, DEFAULT_STRIP_REQUEST),
        strip_response: names(raw.strip_response, DEFAULT_STRIP_RESPONSE),
        set_request: raw
            .set_request
            .into_iter()
            .map(|(name, value)| {
                // Whatever prints a header map leaves the value out.
                let mut value: HeaderValue = value.value;
                value.set_sensitive(true);
                (name.value, value)
            })
            .collect(),
    }
}

fn route(raw: RawRoute) -> Option<Route> {
    Some(Route {
        path: raw.path?.value,
        operation: raw.operation?.value,
        channels: raw.channels.map_or_else(Vec::new, values),
        upstream_path: raw.upstream_path.map(|path| path.value),
        cors: raw.cors.and_then(|cors| cors.origins).map(|origins| Cors { origins: values(origins) }),
    })
}

pub(super) fn user(raw: RawUser) -> Option<User> {
    let max_keys = max_keys(&raw);
    Some(User {
        limits: raw.limits.limits(),
        name: raw.name?.value,
        price_rate: raw.price_rate.map(|rate| rate.value).unwrap_or_default(),
        max_keys,
        role: raw.role.map(|role| role.value).unwrap_or_default(),
        password: None,
    })
}

fn max_keys(raw: &RawUser) -> usize {
    raw.max_keys.as_ref().map_or(DEFAULT_MAX_KEYS, |most| most.value)
}

pub(super) fn key(raw: RawKey) -> Option<Key> {
    Some(Key {
        limits: raw.limits.limits(),
        identity: None,
        name: raw.name?.value,
        user: raw.user.map(|user| user.value),
        sha256: raw.sha256?.value,
        enabled: or(raw.enabled, true),
        expires: raw.expires.map(|time| time.value),
        protocols: raw.protocols.map_or_else(Vec::new, values),
        models: raw.models.map_or_else(Vec::new, values),
        channels: raw.channels.map_or_else(Vec::new, values),
    })
}

fn or<T>(written: Option<At<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

fn values<T>(list: At<Vec<At<T>>>) -> Vec<T> {
    list.value.into_iter().map(|item| item.value).collect()
}

fn names_of(channels: &[RawChannel]) -> impl Iterator<Item = &str> {
    channels.iter().filter_map(|channel| channel.name.as_ref()).map(|name| name.value.as_str())
}

/// Whether both cannot be bound. Port 0 is a new port each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_host
}
