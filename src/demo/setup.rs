//! The demo's configuration: every protocol, all upstreams being the mock.
//!
//! Knows nothing of how a gateway is started with it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use weir_filters::address::Reach;
use weir_filters::glob::Glob;
use weir_filters::limits::Limits;
use weir_filters::limits::estimate::Estimates;
use weir_filters::price::{PriceRate, PriceTable};
use weir_filters::protocol::Protocol;
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use crate::config::{
    Admin, Audit, BaseUrl, Channel, Config, Durability, Edge, Failover, Headers, Key, Ledger, Listen, PriceFile, Role,
    Route, Server, Timeouts, Unpriced, UpstreamKey, User, WhenFull, parse_prices,
};
use crate::draw;

/// Where the gateway of `weir demo` listens.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8514);
/// Where its admin listener is.
pub const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8515);

/// The path of the demo's own route to an OpenAI-shaped upstream at another path.
pub(super) const MINIAI_ROUTE: &str = "/proxy/miniai/v2/chat/completions";
/// The path of the demo's route to Ollama.
pub(super) const OLLAMA_ROUTE: &str = "/ollama/api/chat";

/// Draws the key that the demo's channels present to the mock.
///
/// # Errors
/// When the system gives no random bytes.
pub fn upstream_key() -> io::Result<Secret> {
    draw::secret("sk-upstream-")
}

/// The configuration of `weir demo`: six channels, all of them the mock at `mock`, one user with one key.
pub fn config(
    mock: SocketAddr,
    upstream_key: &Secret,
    client_key_sha256: [u8; 32],
    data_dir: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
) -> Config {
    let channel = |name: &str, protocol, models: &[&str]| Channel {
        name: name.to_owned(),
        protocol,
        base_url: BaseUrl { tls: false, host: mock.ip().to_string(), port: mock.port(), path: String::new() },
        reach: Reach::Declared,
        keys: vec![UpstreamKey { name: "demo".to_owned(), value: upstream_key.clone() }],
        models: models.iter().map(|model| Glob::new(*model)).collect(),
        model_map: BTreeMap::new(),
        inject_usage: name != "mistral",
        timeouts: Timeouts {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(300),
        },
        limits: Limits::default(),
        failover: Failover::default(),
        probe: None,
    };
    let route = |path: &str, operation, channel: &str, upstream_path: &str| Route {
        path: path.to_owned(),
        operation,
        channels: vec![channel.to_owned()],
        upstream_path: Some(upstream_path.to_owned()),
        cors: None,
    };
    Config {
        read_from: crate::config::Fingerprint::default(),
        listen: vec![Listen { address: listen, tls: None }],
        server: Server {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_body: 32 << 20,
            grace_period: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(60),
            edge: Edge::default(),
            upstream_ca: None,
        },
        admin: Admin {
            address: admin,
            token: None,
            metrics_token: None,
            allow_private_upstreams: false,
            trusted_proxies: crate::config::loopback(),
        },
        data_dir,
        headers: Headers {
            strip_request: ["x-forwarded-for", "x-real-ip", "cookie"].map(HeaderName::from_static).to_vec(),
            strip_response: ["server", "x-powered-by", "set-cookie"].map(HeaderName::from_static).to_vec(),
            set_request: Vec::new(),
        },
        channels: vec![
            channel("openai", Protocol::OpenAi, &OPENAI_MODELS),
            channel("mistral", Protocol::OpenAi, &["mistral-large", "mistral-*"]),
            channel("anthropic", Protocol::Anthropic, &["claude-sonnet-4-5", "claude-*"]),
            channel("gemini", Protocol::Gemini, &["gemini-2.5-flash", "gemini-*"]),
            channel("miniai", Protocol::OpenAi, &["miniai-large", "miniai-*"]),
            channel("ollama", Protocol::OpenAi, &["llama3.2", "llama*"]),
        ],
        routes: vec![
            route(MINIAI_ROUTE, Operation::OpenAiChat, "miniai", "/miniai/v2/chat/completions"),
            route(OLLAMA_ROUTE, Operation::OllamaChat, "ollama", "/api/chat"),
        ],
        users: vec![User {
            name: "demo".to_owned(),
            limits: Limits::default(),
            price_rate: PriceRate::default(),
            max_keys: 10,
            role: Role::User,
            password: None,
        }],
        keys: vec![Key {
            name: "demo".to_owned(),
            user: Some("demo".to_owned()),
            sha256: client_key_sha256,
            enabled: true,
            expires: None,
            protocols: Vec::new(),
            models: Vec::new(),
            channels: Vec::new(),
            limits: Limits::default(),
            identity: None,
        }],
        estimates: Estimates::default(),
        prices: Some(Arc::new(prices())),
        unpriced: Unpriced::Allow,
        audit: Audit::default(),
        ledger: Ledger {
            durability: Durability::Relaxed,
            when_full: WhenFull::Serve,
            keep_minutes: Duration::from_secs(2 * 24 * 3600),
            keep_hours: Duration::from_secs(90 * 24 * 3600),
        },
        sticky: None,
    }
}

/// The examples of conf/prices.yaml: what the demo's requests would cost.
fn prices() -> PriceTable {
    let file = Path::new("conf/prices.yaml");
    let read = parse_prices(include_str!("../../conf/prices.yaml"), file, &|_| None);
    read.map_or_else(|mistakes| panic!("the examples of prices: {mistakes}"), PriceFile::into_table)
}

/// What the channel `openai` serves: OpenAI's models and the compatible providers' whose habits the mock shows.
const OPENAI_MODELS: [&str; 15] = [
    "gpt-4o-mini",
    "gpt-5-mini",
    "gpt-*",
    "o1*",
    "o3*",
    "o4*",
    "text-embedding-*",
    "omni-moderation-*",
    "whisper-*",
    "deepseek-*",
    "kimi-*",
    "grok-*",
    "openrouter/*",
    "azure-*",
    "vllm-*",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cases::{ServedBy, cases};

    fn demo() -> Config {
        let secret = Secret::new("up");
        config("127.0.0.1:9".parse().expect("an address"), &secret, [7; 32], PathBuf::from("d"), LISTEN, ADMIN)
    }

    #[test]
    fn every_case_has_exactly_one_channel() {
        let config = demo();
        for case in cases() {
            let serving: Vec<&str> = config
                .channels
                .iter()
                .filter(|channel| channel.models.iter().any(|glob| glob.matches(case.model)))
                .map(|channel| channel.name.as_str())
                .collect();
            let named = !case.model.is_empty() && case.served_by == ServedBy::Upstream;
            assert_eq!(serving.len(), usize::from(named), "{} is served by {serving:?}", case.path);
        }
    }

    #[test]
    fn what_the_demo_asks_of_known_models_has_a_price() {
        let table = prices();
        for model in ["gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash"] {
            assert!(table.price(model).is_some(), "{model}");
        }
    }

    #[test]
    fn only_mistral_is_not_made_to_report() {
        let config = demo();
        let without: Vec<&str> = config.channels.iter().filter(|c| !c.inject_usage).map(|c| c.name.as_str()).collect();
        assert_eq!(without, ["mistral"]);
    }
}
