//! The configuration as meant: every value checked, every default filled in.
//!
//! Knows nothing of YAML (that is `raw`), of the rules between values (`validate`), or of who uses it.

mod audit;
mod check;
mod delivery;
mod edge;
mod expand;
mod failover;
mod files;
mod limits;
mod load;
mod mistake;
mod net;
mod object;
mod prices;
mod probe;
mod raw;
mod redact;
pub(crate) mod reserved;
mod scalar;
mod section;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod validate;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use weir_filters::address::{Class, Reach};
use weir_filters::glob::Glob;
use weir_filters::key::KeyDigest;
use weir_filters::limits::Limits;
use weir_filters::limits::estimate::Estimates;
use weir_filters::network::Network;
use weir_filters::price::{PriceRate, PriceTable};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

pub use audit::{Audit, Bodies, Files, FullDisk, History};
pub use check::{Checked, check};
pub use delivery::{Delivery, Login, Loki, LokiFormat, Nsq, NsqFormat};
pub use edge::Edge;
pub use failover::{Failover, OnDisconnect, Sticky};
pub use load::{FileText, Fingerprint, Sources, fuzz_entry, load, load_telling, parse, parse_with};
pub use mistake::{Mistake, Mistakes};
pub use object::{Written, Wrong, read_channel, read_duration, read_key, read_prices, read_sha256, read_user};
pub use prices::{PriceFile, is_importable, parse_prices};
pub use probe::Probe;
#[cfg(test)]
pub(crate) use raw::fields_of;
pub use redact::redacted;
pub(crate) use validate::loopback;

/// All of a configuration file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. At least one.
    pub listen: Vec<Listen>,
    /// The data plane's own settings.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// Where journal, store and admin socket live.
    pub data_dir: PathBuf,
    /// The header policy.
    pub headers: Headers,
    /// Upstreams, in file order. Names are unique.
    pub channels: Vec<Channel>,
    /// Routes beside the built-in ones. Paths are unique.
    pub routes: Vec<Route>,
    /// Users. Names are unique.
    pub users: Vec<User>,
    /// Client keys. Names and digests are unique.
    pub keys: Vec<Key>,
    /// The ledger's settings.
    pub ledger: Ledger,
    /// How it is estimated what a request may use.
    pub estimates: Estimates,
    /// Whether conversations stay at their channel.
    pub sticky: Option<Sticky>,
    /// What models cost; `None`: nothing is priced.
    pub prices: Option<Arc<PriceTable>>,
    /// What becomes of a request whose model has no price.
    pub unpriced: Unpriced,
    /// What is recorded of requests, and where the records go.
    pub audit: Audit,
    /// The files that all this was read from.
    pub read_from: Fingerprint,
}

/// A listener of the data plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The address to bind.
    pub address: SocketAddr,
    /// TLS, with HTTP/2 by ALPN; without it plain HTTP/1.1 and h2c.
    pub tls: Option<Tls>,
}

/// A certificate chain and its key, both PEM files that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
}

/// `server:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; one per core when the file says 0.
    pub threads: usize,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// How long a stop waits for open streams.
    pub grace_period: Duration,
    /// How long an idle client connection is kept.
    pub keepalive_timeout: Duration,
    /// What else clients are held to.
    pub edge: Edge,
    /// A PEM bundle of authorities that upstream certificates are checked against, instead of the system's.
    pub upstream_ca: Option<PathBuf>,
}

/// `admin:`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The address to bind.
    pub address: SocketAddr,
    /// The admin token; `None`: one is made at first start.
    pub token: Option<Secret>,
    /// Closes `/metrics` when set.
    pub metrics_token: Option<Secret>,
    /// Whether channels that are made over the API may lead into private networks.
    pub allow_private_upstreams: bool,
    /// Whose word counts for where a request comes from, and whether it came over TLS.
    pub trusted_proxies: Vec<Network>,
}

/// `headers:`, beside the credentials, which are always stripped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// Removed from what the upstream gets.
    pub strip_request: Vec<HeaderName>,
    /// Removed from what the client gets.
    pub strip_response: Vec<HeaderName>,
    /// Set on what the upstream gets.
    pub set_request: Vec<(HeaderName, HeaderValue)>,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// The dialect it speaks.
    pub protocol: Protocol,
    /// Where it is.
    pub base_url: BaseUrl,
    /// How far its host may lead; it depends on who made it.
    pub reach: Reach,
    /// Its keys; at least one.
    pub keys: Vec<UpstreamKey>,
    /// The models it serves.
    pub models: Vec<Glob>,
    /// What the upstream is asked for instead: client's model → upstream's model.
    pub model_map: BTreeMap<String, String>,
    /// Whether a stream may be made to report its usage.
    pub inject_usage: bool,
    /// Peer timeouts.
    pub timeouts: Timeouts,
    /// What may be used of it, by all clients together.
    pub limits: Limits,
    /// How it shares requests with others, and stands in for them.
    pub failover: Failover,
    /// How it is probed; `None`: it is not.
    pub probe: Option<Probe>,
}

/// A base URL, taken apart. `path` is a prefix without a trailing slash, often empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// A host name or an address (IPv6 without its brackets).
    pub host: String,
    /// The port, filled in from the scheme if not written.
    pub port: u16,
    /// The path prefix.
    pub path: String,
}

impl BaseUrl {
    /// What its host is for, if that is an address; a name is looked up when it is needed.
    pub fn class(&self) -> Option<Class> {
        self.host.parse::<IpAddr>().ok().map(Class::of)
    }
}

/// One of a channel's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamKey {
    /// What records and metrics call it.
    pub name: String,
    /// The key itself.
    pub value: Secret,
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request's end to the answer's head.
    pub first_byte: Duration,
    /// Between two reads of an answer, and for a write.
    pub idle: Duration,
}

/// A configured route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The exact, canonical path.
    pub path: String,
    /// What it asks for.
    pub operation: Operation,
    /// The channels that may serve it, by name; empty: all.
    pub channels: Vec<String>,
    /// The path asked of the upstream, instead of the operation's own.
    pub upstream_path: Option<String>,
    /// Browsers' cross-origin access, if given.
    pub cors: Option<Cors>,
}

/// Cross-origin access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Allowed origins; `*` alone allows all.
    pub origins: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// What all of the user's keys together may use.
    pub limits: Limits,
    /// How many keys the user may have; at least 1.
    pub max_keys: usize,
    /// What the user's requests are multiplied by. It is never shown to users.
    pub price_rate: PriceRate,
    /// What the user may do over the admin API.
    pub role: Role,
    /// The argon2id hash of the user's password, as a PHC string; `None`: nobody can sign in as this user. Only the
    /// admin API sets it.
    pub password: Option<Secret>,
}

/// What a user who has signed in may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// See their own usage, and keep their own keys.
    #[default]
    User,
}

impl Role {
    /// Every one.
    pub const ALL: [Role; 2] = [Role::Admin, Role::User];

    /// The name in the configuration and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::User => "user",
        }
    }
}

/// A client key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its user's name.
    pub user: Option<String>,
    /// The SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Whether it may be used.
    pub enabled: bool,
    /// From when on it may not.
    pub expires: Option<SystemTime>,
    /// The dialects it may use; empty: all.
    pub protocols: Vec<Protocol>,
    /// The models it may use; empty: all.
    pub models: Vec<Glob>,
    /// The channels it may use; empty: all.
    pub channels: Vec<Glob>,
    /// What it may use.
    pub limits: Limits,
    /// What a key has that was made over the admin API; `None`: the file declares it.
    pub identity: Option<Identity>,
}

/// What stays of a key when its secret changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What records, metrics and logs call it.
    pub id: String,
    /// The secret before the present one, while it still counts.
    pub previous: Option<Previous>,
    /// What an administrator has granted, where the key's user has changed it since.
    pub granted: Granted,
}

/// What an administrator lets a key's user choose of. `None`: what the key has is what was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Whether the user may enable the key.
    pub enabled: Option<bool>,
    /// The latest end that the user may give it; `Some(None)`: any, and none at all.
    pub expires: Option<Option<SystemTime>>,
}

/// A secret that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// From when on it does not count.
    pub until: SystemTime,
}

impl Admin {
    /// How far channels may lead that are made over the API.
    pub fn reach(&self) -> Reach {
        if self.allow_private_upstreams { Reach::Declared } else { Reach::Public }
    }
}

impl Key {
    /// What records, metrics and logs call it.
    pub fn id(&self) -> String {
        match &self.identity {
            Some(identity) => identity.id.clone(),
            None => KeyDigest(self.sha256).key_id(),
        }
    }
}

/// `ledger:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Whether an answer waits for its record to reach the disk.
    pub durability: Durability,
    /// What becomes of requests with a budget while the journal takes no record.
    pub when_full: WhenFull,
    /// How long minute counters are kept.
    pub keep_minutes: Duration,
    /// How long hour counters are kept.
    pub keep_hours: Duration,
}

/// When a record counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the kernel has it: it survives kill -9, and power loss but for the last sync interval.
    #[default]
    Relaxed,
    /// Once the disk has it: the answer's last chunk waits for that.
    Strict,
}

/// What becomes of a request with a budget while what it may cost cannot be written down, because the disk is full or
/// broken. Requests without a budget are always served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is served. What it may cost is kept in memory; a gateway that is killed then gives that money out again.
    #[default]
    Serve,
    /// It is refused with 503.
    Refuse,
}

/// What becomes of a request whose model has no price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpriced {
    /// It is served, counted and flagged; it costs nothing.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}
