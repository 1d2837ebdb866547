//! The configuration as written: every field typed, nothing filled in, nothing compared.
//!
//! The field names of the file live here and nowhere else. Knows neither defaults nor rules between
//! values (`validate`), and opens no file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use weir_filters::glob::Glob;
use weir_filters::limits::estimate::Estimates;
use weir_filters::network::Network;
use weir_filters::price::PriceRate;
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use super::audit::RawAudit;
#[cfg(test)]
use super::audit::{AUDIT, FILES, HISTORY};
#[cfg(test)]
use super::delivery::{LOKI, NSQ};
use super::edge::RawEdge;
use super::failover::{COOLDOWN, RETRY, RawFailover, RawSticky, STICKY};
use super::limits::{self, RawLimits};
#[cfg(test)]
use super::limits::{BUDGET, ESTIMATES, LIMITS};
use super::mistake::Complaint;
#[cfg(test)]
use super::probe::PROBE;
use super::probe::RawProbe;
use super::scalar::{Parsed, Word};
use super::section::{At, Fields, Reader, Section, subsection};
use super::tree::{Kind, NodeId};
use super::{BaseUrl, Durability, Role, Unpriced, WhenFull, net, prices, scalar, time};

/// A whole file.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) listen: Option<At<Vec<RawListen>>>,
    pub(super) server: RawServer,
    pub(super) admin: RawAdmin,
    pub(super) data_dir: Option<At<PathBuf>>,
    pub(super) headers: RawHeaders,
    pub(super) channels: Option<At<Vec<RawChannel>>>,
    pub(super) routes: Vec<RawRoute>,
    pub(super) users: Vec<RawUser>,
    pub(super) keys: Vec<RawKey>,
    pub(super) ledger: RawLedger,
    pub(super) estimates: Estimates,
    pub(super) sticky: Option<RawSticky>,
    pub(super) prices: Option<At<PathBuf>>,
    pub(super) unpriced: Option<At<Unpriced>>,
    pub(super) audit: RawAudit,
}

#[derive(Debug)]
pub(super) struct RawListen {
    pub(super) address: Option<At<SocketAddr>>,
    pub(super) tls: Option<RawTls>,
}

#[derive(Debug)]
pub(super) struct RawTls {
    pub(super) certificate: Option<At<PathBuf>>,
    pub(super) private_key: Option<At<PathBuf>>,
}

#[derive(Debug)]
pub(super) struct RawServer {
    pub(super) threads: Option<At<usize>>,
    pub(super) max_body: Option<At<usize>>,
    pub(super) grace_period: Option<At<Duration>>,
    pub(super) keepalive_timeout: Option<At<Duration>>,
    pub(super) edge: RawEdge,
    pub(super) upstream_ca: Option<At<PathBuf>>,
}

#[derive(Debug)]
pub(super) struct RawAdmin {
    pub(super) address: Option<At<SocketAddr>>,
    pub(super) token: RawSecret,
    pub(super) metrics_token: RawSecret,
    pub(super) allow_private_upstreams: Option<At<bool>>,
    pub(super) trusted_proxies: Option<At<Vec<At<Network>>>>,
}

/// A secret: itself, or the file that holds it.
#[derive(Debug)]
pub(super) struct RawSecret {
    /// The field of the secret itself; the other one is `…_file`.
    pub(super) field: &'static str,
    /// The mapping that holds both fields.
    pub(super) section: NodeId,
    pub(super) value: Option<At<Secret>>,
    pub(super) file: Option<At<PathBuf>>,
    /// Neither field is there; one that is there but wrong has been reported.
    pub(super) is_absent: bool,
}

#[derive(Debug)]
pub(super) struct RawHeaders {
    pub(super) strip_request: Option<Vec<At<HeaderName>>>,
    pub(super) strip_response: Option<Vec<At<HeaderName>>>,
    pub(super) set_request: Vec<(At<HeaderName>, At<HeaderValue>)>,
}

#[derive(Debug)]
pub(super) struct RawChannel {
    pub(super) name: Option<At<String>>,
    pub(super) protocol: Option<At<Protocol>>,
    pub(super) base_url: Option<At<BaseUrl>>,
    pub(super) keys: Option<At<Vec<RawUpstreamKey>>>,
    pub(super) models: Option<At<Vec<At<Glob>>>>,
    pub(super) model_map: Vec<(At<String>, At<String>)>,
    pub(super) inject_usage: Option<At<bool>>,
    pub(super) timeouts: RawTimeouts,
    pub(super) limits: RawLimits,
    pub(super) failover: RawFailover,
    pub(super) probe: Option<RawProbe>,
}

#[derive(Debug)]
pub(super) struct RawUpstreamKey {
    pub(super) name: Option<At<String>>,
    pub(super) value: RawSecret,
}

#[derive(Debug, Default)]
pub(super) struct RawTimeouts {
    pub(super) connect: Option<At<Duration>>,
    pub(super) first_byte: Option<At<Duration>>,
    pub(super) idle: Option<At<Duration>>,
}

#[derive(Debug)]
pub(super) struct RawRoute {
    pub(super) path: Option<At<String>>,
    pub(super) operation: Option<At<Operation>>,
    pub(super) channels: Option<At<Vec<At<String>>>>,
    pub(super) upstream_path: Option<At<String>>,
    pub(super) cors: Option<RawCors>,
}

#[derive(Debug)]
pub(super) struct RawCors {
    pub(super) origins: Option<At<Vec<At<String>>>>,
}

#[derive(Debug)]
pub(super) struct RawUser {
    pub(super) name: Option<At<String>>,
    pub(super) max_keys: Option<At<usize>>,
    pub(super) limits: RawLimits,
    pub(super) price_rate: Option<At<PriceRate>>,
    pub(super) role: Option<At<Role>>,
}

#[derive(Debug)]
pub(super) struct RawKey {
    pub(super) name: Option<At<String>>,
    pub(super) user: Option<At<String>>,
    pub(super) sha256: Option<At<[u8; 32]>>,
    pub(super) enabled: Option<At<bool>>,
    pub(super) expires: Option<At<SystemTime>>,
    pub(super) protocols: Option<At<Vec<At<Protocol>>>>,
    pub(super) models: Option<At<Vec<At<Glob>>>>,
    pub(super) channels: Option<At<Vec<At<Glob>>>>,
    pub(super) limits: RawLimits,
}

#[derive(Debug)]
pub(super) struct RawLedger {
    pub(super) durability: Option<At<Durability>>,
    pub(super) when_full: Option<At<WhenFull>>,
    pub(super) keep_minutes: Option<At<Duration>>,
    pub(super) keep_hours: Option<At<Duration>>,
}

const ROOT: Fields = Fields {
    known: &[
        "listen",
        "server",
        "admin",
        "data_dir",
        "headers",
        "channels",
        "routes",
        "users",
        "keys",
        "ledger",
        "estimates",
        "sticky",
        "prices",
        "unpriced",
        "audit",
    ],
    later: &[],
};
const LISTEN: Fields = Fields { known: &["address", "tls"], later: &[] };
const TLS: Fields = Fields { known: &["certificate", "private_key"], later: &[] };
const SERVER: Fields = Fields {
    known: &[
        "threads",
        "max_body",
        "grace_period",
        "keepalive_timeout",
        "upstream_ca",
        "header_timeout",
        "max_header",
        "connections_per_ip",
        "max_connections",
        "max_in_flight",
        "write_timeout",
        "min_drain_rate",
    ],
    later: &[],
};
const ADMIN: Fields = Fields {
    known: &[
        "address",
        "token",
        "token_file",
        "metrics_token",
        "metrics_token_file",
        "allow_private_upstreams",
        "trusted_proxies",
    ],
    later: &[],
};
const HEADERS: Fields = Fields { known: &["strip_request", "strip_response", "set_request"], later: &[] };
pub(super) const CHANNEL: Fields = Fields {
    known: &[
        "name",
        "protocol",
        "base_url",
        "keys",
        "models",
        "model_map",
        "inject_usage",
        "timeouts",
        "priority",
        "weight",
        "on_disconnect",
        "max_concurrency",
        "retry",
        "cooldown",
        "limits",
        "probe",
    ],
    later: &[],
};
const UPSTREAM_KEY: Fields = Fields { known: &["name", "value", "value_file"], later: &[] };
const TIMEOUTS: Fields = Fields { known: &["connect", "first_byte", "idle"], later: &[] };
const ROUTE: Fields = Fields { known: &["path", "operation", "channels", "upstream_path", "cors"], later: &[] };
const CORS: Fields = Fields { known: &["origins"], later: &[] };
pub(super) const USER: Fields = Fields { known: &["name", "limits", "price_rate", "max_keys", "role"], later: &[] };
pub(super) const KEY: Fields = Fields {
    known: &["name", "user", "sha256", "enabled", "expires", "protocols", "models", "channels", "limits"],
    later: &[],
};
const LEDGER: Fields = Fields { known: &["durability", "when_full", "keep_minutes", "keep_hours"], later: &[] };

/// The fields of a mapping that an object of the admin API is or has, for the tests that hold its document against them.
#[cfg(test)]
pub(crate) fn fields_of(section: &str) -> &'static [&'static str] {
    let fields = match section {
        "key" => &KEY,
        "user" => &USER,
        "channel" => &CHANNEL,
        "upstream_key" => &UPSTREAM_KEY,
        "timeouts" => &TIMEOUTS,
        "retry" => &RETRY,
        "cooldown" => &COOLDOWN,
        "probe" => &PROBE,
        "limits" => &LIMITS,
        "budget_usd" => &BUDGET,
        "price" => &prices::PRICE,
        "tier" => &prices::TIER,
        _ => panic!("no section {section}"),
    };
    fields.known
}

/// Every kind of mapping, for the tests that hold documents against them.
#[cfg(test)]
pub(super) const ALL_FIELDS: [&Fields; 26] = [
    &ROOT,
    &LISTEN,
    &TLS,
    &SERVER,
    &ADMIN,
    &HEADERS,
    &CHANNEL,
    &UPSTREAM_KEY,
    &TIMEOUTS,
    &ROUTE,
    &CORS,
    &USER,
    &KEY,
    &LIMITS,
    &BUDGET,
    &ESTIMATES,
    &LEDGER,
    &RETRY,
    &COOLDOWN,
    &PROBE,
    &STICKY,
    &AUDIT,
    &FILES,
    &HISTORY,
    &LOKI,
    &NSQ,
];

impl RawConfig {
    /// Reads the whole tree.
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let root = r.section(NodeId::ROOT, &ROOT);
        Self {
            listen: r.optional(&root, "listen").and_then(|at| r.sections(at, &LISTEN, RawListen::read)),
            server: RawServer::read(r, &root),
            admin: RawAdmin::read(r, &root),
            data_dir: r.optional_word(&root, "data_dir", path),
            headers: RawHeaders::read(r, &root),
            channels: r.required(&root, "channels").and_then(|at| r.sections(at, &CHANNEL, RawChannel::read)),
            routes: items(r, &root, "routes", &ROUTE, RawRoute::read),
            users: items(r, &root, "users", &USER, RawUser::read),
            keys: items(r, &root, "keys", &KEY, RawKey::read),
            ledger: RawLedger::read(r, &root),
            prices: r.optional_word(&root, "prices", path),
            unpriced: r.optional_word(&root, "unpriced", prices::unpriced),
            estimates: limits::estimates(r, &root),
            sticky: r.optional(&root, "sticky").map(|at| {
                let s = r.section(at, &STICKY);
                RawSticky::read(r, &s)
            }),
            audit: RawAudit::read(r, &root),
        }
    }
}

impl RawListen {
    fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        let tls = r.optional(s, "tls").map(|at| {
            let s = r.section(at, &TLS);
            RawTls {
                certificate: r.required_word(&s, "certificate", path),
                private_key: r.required_word(&s, "private_key", path),
            }
        });
        Self { address: r.required_word(s, "address", net::address), tls }
    }
}

impl RawServer {
    fn read(r: &mut Reader<'_>, root: &Section) -> Self {
        let s = subsection(r, root, "server", &SERVER);
        Self {
            threads: r.optional_word(&s, "threads", scalar::threads),
            max_body: r.optional_word(&s, "max_body", scalar::size),
            grace_period: r.optional_word(&s, "grace_period", time::duration),
            keepalive_timeout: r.optional_word(&s, "keepalive_timeout", time::positive_duration),
            edge: RawEdge::read(r, &s),
            upstream_ca: r.optional_word(&s, "upstream_ca", path),
        }
    }
}

impl RawAdmin {
    fn read(r: &mut Reader<'_>, root: &Section) -> Self {
        let s = subsection(r, root, "admin", &ADMIN);
        Self {
            address: r.optional_word(&s, "address", net::address),
            token: RawSecret::read(r, &s, "token", "token_file"),
            metrics_token: RawSecret::read(r, &s, "metrics_token", "metrics_token_file"),
            allow_private_upstreams: r.optional_word(&s, "allow_private_upstreams", scalar::boolean),
            // An empty list is one of nobody.
            trusted_proxies: r
                .optional(&s, "trusted_proxies")
                .and_then(|at| r.list(at, |r, item| r.word(item, net::network))),
        }
    }
}

impl RawSecret {
    pub(super) fn read(r: &mut Reader<'_>, s: &Section, field: &'static str, file: &'static str) -> Self {
        let value = s.entry(field).and_then(|at| match r.tree.kind(at) {
            // `token:` with nothing behind it is an empty secret, not one that was left out.
            Kind::Null => Some(At { value: Secret::new(""), at }),
            _ => r.word(at, |word| Ok(Secret::new(word.text))),
        });
        Self {
            field,
            section: s.at,
            value,
            file: r.optional_word(s, file, path),
            is_absent: s.entry(field).is_none() && r.optional(s, file).is_none(),
        }
    }
}

impl RawHeaders {
    fn read(r: &mut Reader<'_>, root: &Section) -> Self {
        let s = subsection(r, root, "headers", &HEADERS);
        // Unlike elsewhere an empty list has one plain meaning here: strip nothing more.
        let mut names = |field| {
            let at = r.optional(&s, field)?;
            Some(r.list(at, |r, item| r.word(item, net::stripped_header))?.value)
        };
        let (strip_request, strip_response) = (names("strip_request"), names("strip_response"));
        let set_request = match r.optional(&s, "set_request") {
            Some(at) => r.pairs(at, net::set_header, net::header_value),
            None => Vec::new(),
        };
        Self { strip_request, strip_response, set_request }
    }
}

impl RawChannel {
    pub(super) fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        let timeouts = subsection(r, s, "timeouts", &TIMEOUTS);
        let retry = subsection(r, s, "retry", &RETRY);
        let cooldown = subsection(r, s, "cooldown", &COOLDOWN);
        Self {
            name: r.required_word(s, "name", scalar::plain_name),
            protocol: r.required_word(s, "protocol", scalar::protocol),
            base_url: r.required_word(s, "base_url", net::base_url),
            keys: r.required(s, "keys").and_then(|at| {
                if r.is_empty_list(at) {
                    r.complain(at, Complaint::new("must not be an empty list"));
                }
                r.sections(at, &UPSTREAM_KEY, RawUpstreamKey::read)
            }),
            models: r.required(s, "models").and_then(|at| r.words(at, scalar::glob)),
            model_map: match r.optional(s, "model_map") {
                Some(at) => r.pairs(at, scalar::model, scalar::model),
                None => Vec::new(),
            },
            inject_usage: r.optional_word(s, "inject_usage", scalar::boolean),
            timeouts: RawTimeouts {
                connect: r.optional_word(&timeouts, "connect", time::positive_duration),
                first_byte: r.optional_word(&timeouts, "first_byte", time::positive_duration),
                idle: r.optional_word(&timeouts, "idle", time::positive_duration),
            },
            limits: RawLimits::read(r, s),
            failover: RawFailover::read(r, s, &retry, &cooldown),
            probe: RawProbe::read(r, s),
        }
    }
}

impl RawUpstreamKey {
    fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            name: r.required_word(s, "name", scalar::plain_name),
            value: RawSecret::read(r, s, "value", "value_file"),
        }
    }
}

impl RawRoute {
    fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            path: r.required_word(s, "path", net::path),
            operation: r.required_word(s, "operation", scalar::operation),
            channels: r.optional_words(s, "channels", scalar::plain_name),
            upstream_path: r.optional_word(s, "upstream_path", net::path),
            cors: r.optional(s, "cors").map(|at| {
                let s = r.section(at, &CORS);
                let origins = r.required(&s, "origins").and_then(|at| r.words(at, net::origin));
                RawCors { origins }
            }),
        }
    }
}

impl RawUser {
    pub(super) fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            name: r.required_word(s, "name", scalar::free_name),
            max_keys: r.optional_word(s, "max_keys", scalar::positive),
            limits: RawLimits::read(r, s),
            price_rate: r.optional_word(s, "price_rate", prices::price_rate),
            role: r.optional_word(s, "role", scalar::role),
        }
    }
}

impl RawKey {
    pub(super) fn read(r: &mut Reader<'_>, s: &Section) -> Self {
        Self {
            name: r.required_word(s, "name", scalar::free_name),
            user: r.optional_word(s, "user", scalar::free_name),
            sha256: r.required_word(s, "sha256", scalar::sha256),
            enabled: r.optional_word(s, "enabled", scalar::boolean),
            expires: r.optional_word(s, "expires", time::time),
            protocols: r.optional_words(s, "protocols", scalar::protocol),
            models: r.optional_words(s, "models", scalar::glob),
            channels: r.optional_words(s, "channels", scalar::glob),
            limits: RawLimits::read(r, s),
        }
    }
}

impl RawLedger {
    fn read(r: &mut Reader<'_>, root: &Section) -> Self {
        let s = subsection(r, root, "ledger", &LEDGER);
        Self {
            durability: r.optional_word(&s, "durability", scalar::durability),
            when_full: r.optional_word(&s, "when_full", scalar::when_full),
            keep_minutes: r.optional_word(&s, "keep_minutes", time::positive_duration),
            keep_hours: r.optional_word(&s, "keep_hours", time::positive_duration),
        }
    }
}

/// A list of mappings that may be empty or left out.
fn items<T>(
    r: &mut Reader<'_>,
    section: &Section,
    name: &str,
    fields: &Fields,
    read: impl Fn(&mut Reader<'_>, &Section) -> T,
) -> Vec<T> {
    let at = r.optional(section, name);
    at.and_then(|at| r.sections(at, fields, read)).map_or_else(Vec::new, |list| list.value)
}

/// A path, not read yet. It is not repeated: a secret may have been written in its place.
pub(super) fn path(word: Word<'_>) -> Parsed<PathBuf> {
    if word.text.is_empty() {
        Err(Complaint::new("must not be empty"))
    } else if word.text.contains(char::is_control) {
        Err(Complaint::new("must be a path without control characters"))
    } else {
        Ok(PathBuf::from(word.text))
    }
}
