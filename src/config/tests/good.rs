use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use weir_filters::address::Reach;
use weir_filters::glob::Glob;
use weir_filters::health::Cooldown;
use weir_filters::limits::estimate::Estimates;
use weir_filters::limits::{Budget, Limits};
use weir_filters::monitor::Cap;
use weir_filters::price::NanoUsd;
use weir_filters::price::PriceRate;
use weir_filters::protocol::Protocol;
use weir_filters::retry::{Failure, Retries};
use weir_filters::route::Operation;
use weir_filters::secret::Secret;

use super::super::{
    Admin, BaseUrl, Channel, Cors, Durability, Edge, Failover, Headers, Key, Ledger, Listen, OnDisconnect, Probe, Role,
    Route, Server, Sticky, Timeouts, Tls, UpstreamKey, User, WhenFull,
};
use super::{CHANNEL, DIGEST, good};

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = good(CHANNEL);
    let names = |names: [&'static str; 3]| names.map(HeaderName::from_static).to_vec();
    assert_eq!(config.listen, [Listen { address: ([0, 0, 0, 0], 8514).into(), tls: None }]);
    assert_eq!(
        config.server,
        Server {
            threads: 6,
            max_body: 33_554_432,
            grace_period: Duration::from_secs(300),
            keepalive_timeout: Duration::from_secs(75),
            edge: Edge {
                header_timeout: Duration::from_secs(10),
                max_header: 65_536,
                connections_per_ip: 0,
                max_connections: 0,
                max_in_flight: 0,
                write_timeout: Duration::from_secs(60),
                min_drain_rate: 128,
            },
            upstream_ca: None,
        }
    );
    assert_eq!(
        config.admin,
        Admin {
            address: ([127, 0, 0, 1], 8515).into(),
            token: None,
            metrics_token: None,
            allow_private_upstreams: false,
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        }
    );
    assert_eq!(config.data_dir.to_str(), Some("data"));
    assert_eq!(
        config.headers,
        Headers {
            strip_request: names(["x-forwarded-for", "x-real-ip", "cookie"]),
            strip_response: names(["server", "x-powered-by", "set-cookie"]),
            set_request: vec![],
        }
    );
    assert_eq!(
        config.channels,
        [Channel {
            name: "miniai".into(),
            protocol: Protocol::OpenAi,
            base_url: BaseUrl { tls: false, host: "127.0.0.1".into(), port: 9001, path: String::new() },
            reach: Reach::Declared,
            keys: vec![UpstreamKey { name: "main".into(), value: Secret::new("sk-canary-upstream") }],
            models: vec![Glob::new("gpt-*")],
            model_map: [].into(),
            inject_usage: true,
            timeouts: Timeouts {
                connect: Duration::from_secs(3),
                first_byte: Duration::from_secs(120),
                idle: Duration::from_secs(300),
            },
            limits: Limits::default(),
            failover: Failover {
                priority: 0,
                weight: 1,
                on_disconnect: OnDisconnect::Drain,
                max_concurrency: 0,
                retries: Retries {
                    attempts: 2,
                    within: Duration::from_secs(300),
                    on: [Failure::Connect, Failure::Timeout]
                        .into_iter()
                        .chain([429, 500, 502, 503, 504, 529].map(Failure::Status))
                        .collect(),
                },
                cooldown: Cooldown { failures: 3, time: Duration::from_secs(30) },
            },
            probe: None,
        }]
    );
    assert_eq!((config.routes, config.users, config.keys), (vec![], vec![], vec![]));
    assert_eq!(config.sticky, None);
    assert_eq!(
        config.ledger,
        Ledger {
            durability: Durability::Relaxed,
            when_full: WhenFull::Serve,
            keep_minutes: Duration::from_secs(172_800),
            keep_hours: Duration::from_secs(3_024_000),
        }
    );
}

#[test]
fn what_is_written_is_what_is_meant() {
    let config = good(&format!(
        r#"
listen:
  - address: "[::1]:8600"
    tls: {{ certificate: cert.pem, private_key: key.pem }}
  - {{ address: 127.0.0.1:0 }}
  - {{ address: 127.0.0.1:0 }}
server:
  threads: 2
  max_body: 1MiB
  grace_period: 0s
  keepalive_timeout: 1m30s
  header_timeout: 5s
  max_header: 8KiB
  connections_per_ip: 100
  max_connections: 5000
  max_in_flight: 2000
  write_timeout: 20s
  min_drain_rate: 0
  upstream_ca: /etc/cert.pem
admin: {{ address: 127.0.0.1:9000, token_file: secret, metrics_token: scrape, allow_private_upstreams: true, trusted_proxies: [10.0.0.0/8, 192.0.2.1] }}
data_dir: /var/lib/weir
headers:
  strip_request: []
  strip_response: [Via]
  set_request: {{ X-Edge: one, x-number: 1 }}
channels:
  - name: claude
    protocol: anthropic
    base_url: https://[::1]/prefix/
    keys:
      - {{ name: a, value: s3cret }}
      - {{ name: b, value_file: secret }}
    models: [claude-*, 4]
    model_map: {{ claude-x: "claude-3", 4: 5 }}
    timeouts: {{ connect: 1s, first_byte: 2s, idle: 3s }}
    priority: 2
    weight: 30
    on_disconnect: abort
    max_concurrency: 40
    retry: {{ attempts: 4, within: 5s, on: [timeout, 418] }}
    cooldown: {{ failures: 6, for: 7s }}
    probe:
      every: 30m
      models: [claude-x]
      prompt: Say yes.
      max_tokens: 8
      timeout: 9s
      tokens_per_day: 1000
      usd_per_day: "0.25"
      pause_on_traffic: false
routes:
  - path: /proxy/chat
    operation: anthropic.messages
    channels: [claude]
    upstream_path: /v1/messages
    cors: {{ origins: ["https://A.example"] }}
users: [{{ name: Älice B }}]
keys:
  - name: laptop
    user: Älice B
    sha256: {digest}
    enabled: false
    expires: 2027-01-01T00:00:00Z
    protocols: [anthropic]
    models: [claude-*]
    channels: [cl*, claude]
ledger: {{ durability: strict, when_full: refuse, keep_minutes: 2h, keep_hours: 7d }}
"#,
        digest = DIGEST.to_uppercase()
    ));
    assert_eq!(
        config.listen[0],
        Listen {
            address: "[::1]:8600".parse().unwrap(),
            tls: Some(Tls { certificate: "etc/cert.pem".into(), private_key: "etc/key.pem".into() }),
        }
    );
    assert_eq!(config.listen.len(), 3);
    assert_eq!(
        config.server,
        Server {
            threads: 2,
            max_body: 1_048_576,
            grace_period: Duration::ZERO,
            keepalive_timeout: Duration::from_secs(90),
            edge: Edge {
                header_timeout: Duration::from_secs(5),
                max_header: 8_192,
                connections_per_ip: 100,
                max_connections: 5_000,
                max_in_flight: 2_000,
                write_timeout: Duration::from_secs(20),
                min_drain_rate: 0,
            },
            upstream_ca: Some("/etc/cert.pem".into()),
        }
    );
    assert_eq!(
        config.admin,
        Admin {
            address: ([127, 0, 0, 1], 9000).into(),
            token: Some(Secret::new("canary-secret")),
            metrics_token: Some(Secret::new("scrape")),
            allow_private_upstreams: true,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1".parse().unwrap()],
        }
    );
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/weir"), "it is not under the file's folder");
    assert_eq!(
        config.headers,
        Headers {
            strip_request: vec![],
            strip_response: vec![http::header::VIA],
            set_request: vec![
                (HeaderName::from_static("x-edge"), HeaderValue::from_static("one")),
                (HeaderName::from_static("x-number"), HeaderValue::from_static("1")),
            ],
        }
    );
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(
        config.channels,
        [Channel {
            name: "claude".into(),
            protocol: Protocol::Anthropic,
            base_url: BaseUrl { tls: true, host: "::1".into(), port: 443, path: "/prefix".into() },
            reach: Reach::Declared,
            keys: vec![
                UpstreamKey { name: "a".into(), value: Secret::new("s3cret") },
                UpstreamKey { name: "b".into(), value: Secret::new("canary-secret") },
            ],
            models: vec![Glob::new("claude-*"), Glob::new("4")],
            model_map: [pair("claude-x", "claude-3"), pair("4", "5")].into(),
            inject_usage: false,
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                first_byte: Duration::from_secs(2),
                idle: Duration::from_secs(3),
            },
            limits: Limits::default(),
            failover: Failover {
                priority: 2,
                weight: 30,
                on_disconnect: OnDisconnect::Abort,
                max_concurrency: 40,
                retries: Retries {
                    attempts: 4,
                    within: Duration::from_secs(5),
                    on: vec![Failure::Timeout, Failure::Status(418)],
                },
                cooldown: Cooldown { failures: 6, time: Duration::from_secs(7) },
            },
            probe: Some(Probe {
                every: Duration::from_secs(1800),
                models: vec!["claude-x".into()],
                prompt: "Say yes.".into(),
                max_tokens: 8,
                timeout: Duration::from_secs(9),
                cap: Cap { tokens: Some(1000), nano_usd: Some(250_000_000) },
                pause_on_traffic: false,
            }),
        }]
    );
    assert_eq!(
        config.routes,
        [Route {
            path: "/proxy/chat".into(),
            operation: Operation::AnthropicMessages,
            channels: vec!["claude".into()],
            upstream_path: Some("/v1/messages".into()),
            cors: Some(Cors { origins: vec!["https://a.example".into()] }),
        }]
    );
    assert_eq!(
        config.users,
        [User {
            name: "Älice B".into(),
            limits: Limits::default(),
            price_rate: PriceRate::default(),
            max_keys: 10,
            role: Role::User,
            password: None,
        }]
    );
    let mut sha256 = [0; 32];
    for (at, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&DIGEST[at * 2..at * 2 + 2], 16).unwrap();
    }
    assert_eq!(
        config.keys,
        [Key {
            identity: None,
            name: "laptop".into(),
            user: Some("Älice B".into()),
            sha256,
            enabled: false,
            expires: Some(UNIX_EPOCH + Duration::from_secs(1_798_761_600)),
            protocols: vec![Protocol::Anthropic],
            models: vec![Glob::new("claude-*")],
            channels: vec![Glob::new("cl*"), Glob::new("claude")],
            limits: Limits::default(),
        }]
    );
    assert_eq!(
        config.ledger,
        Ledger {
            durability: Durability::Strict,
            when_full: WhenFull::Refuse,
            keep_minutes: Duration::from_secs(7200),
            keep_hours: Duration::from_secs(604_800),
        }
    );
}

#[test]
fn no_proxy_at_all_may_be_trusted() {
    assert_eq!(good(&format!("{CHANNEL}admin: {{ trusted_proxies: [] }}\n")).admin.trusted_proxies, []);
}

#[test]
fn limits_are_of_keys_users_and_channels_and_money_is_exact() {
    let config = good(&format!(
        "{CHANNEL}    limits: {{ concurrency: 7, budget_usd: {{ total: \"0.000000001\" }} }}
users: [{{ name: alice, limits: {{ budget_usd: {{ month: 100 }} }} }}]
keys:
  - name: laptop
    sha256: {DIGEST}
    limits: {{ rpm: 60, tpm: 100000, concurrency: 10, budget_usd: {{ day: \"5\", month: 12.50, total: \"1000\" }} }}
estimates: {{ output_tokens: 100 }}
"
    ));
    let usd = |nano| Some(NanoUsd(nano));
    let budget = Budget { total: usd(1), ..Budget::default() };
    assert_eq!(config.channels[0].limits, Limits { concurrency: Some(7), budget, ..Limits::default() });
    let budget = Budget { month: usd(100_000_000_000), ..Budget::default() };
    assert_eq!(config.users[0].limits, Limits { budget, ..Limits::default() });
    let budget = Budget { day: usd(5_000_000_000), month: usd(12_500_000_000), total: usd(1_000_000_000_000) };
    let limits = Limits { rpm: Some(60), tpm: Some(100_000), concurrency: Some(10), budget };
    assert_eq!(config.keys[0].limits, limits);
    assert_eq!(config.estimates, Estimates { bytes_per_token: 3, output_tokens: 100 });
}

#[test]
fn variables_stand_anywhere_and_cannot_change_the_documents_shape() {
    let config = good(&format!(
        "{CHANNEL}    model_map: {{ gpt-a: ${{UNSET:-b}}, gpt-$$x: $$y }}
headers: {{ set_request: {{ x-a: ${{UNSET:-{{ b: [c], 'd' # e}}, x-b: \"${{UNSET:-1}}\" }} }}
admin: {{ address: 127.0.0.1:${{PORT}}, token: ${{EMPTY}} }}
listen: [ address: ${{UNSET:-127.0.0.1}}:${{UNSET:-80}} ]
users: [ {{ name: ${{INJECT}} }} ]
keys: [ {{ name: \"${{EMPTY:-a: b}}\", sha256: ${{DIGEST}}, enabled: ${{UNSET:-false}} }} ] # ${{
"
    ));
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(config.channels[0].model_map, [pair("gpt-a", "b"), pair("gpt-$x", "$y")].into());
    assert_eq!(config.headers.set_request[0].1, "{ b: [c], 'd' # e");
    assert_eq!(config.headers.set_request[1].1, "1");
    assert_eq!(config.admin.address, ([127, 0, 0, 1], 9002).into());
    assert_eq!(config.admin.token, None, "an empty token stands for one that is made");
    assert_eq!(config.listen[0].address, ([127, 0, 0, 1], 80).into());
    assert_eq!(
        config.users,
        [User {
            name: "a, evil: [b }".into(),
            limits: Limits::default(),
            price_rate: PriceRate::default(),
            max_keys: 10,
            role: Role::User,
            password: None,
        }]
    );
    assert_eq!(config.keys[0].name, "a: b");
    assert!(!config.keys[0].enabled);
}

#[test]
fn a_digest_that_yaml_takes_for_a_number_is_read_as_written() {
    for digest in ["0".repeat(64), "1".repeat(64), format!("{}e{}", "1".repeat(31), "2".repeat(32))] {
        let config = good(&format!("{CHANNEL}keys: [{{ name: a, sha256: {digest} }}]\n"));
        let hex: String = config.keys[0].sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, digest);
    }
}

#[test]
fn anchors_stand_for_what_they_name() {
    let config = good(&format!(
        "{CHANNEL}    timeouts: &t {{ idle: 7s }}
  - {{ name: b, protocol: gemini, base_url: http://b, keys: [{{ name: k, value: v }}], models: [g], timeouts: *t }}
"
    ));
    assert_eq!(config.channels[1].timeouts.idle, Duration::from_secs(7));
}

#[test]
fn nothing_written_behind_a_field_is_as_good_as_no_field() {
    let config = good(&format!("server:\nlisten: ~\nheaders: {{ set_request: }}\nkeys:\nusers: null\n{CHANNEL}"));
    assert_eq!(config.listen.len(), 1);
    assert!(config.keys.is_empty());
    assert!(good("channels: []").channels.is_empty());
}

#[test]
fn secrets_are_not_in_debug_output() {
    let config = good(&format!(
        "{CHANNEL}admin: {{ token: canary-1, metrics_token_file: secret }}\nheaders: {{ set_request: {{ x-a: canary-2 }} }}\n"
    ));
    let debug = format!("{config:?}");
    assert!(debug.contains("miniai"), "{debug}");
    assert!(!debug.contains("canary"), "{debug}");
}

#[test]
fn conversations_stay_where_they_are_if_that_is_asked_for() {
    for (written, expected) in [
        ("sticky: {}", Sticky { header: None, ttl: Duration::from_secs(600) }),
        (
            "sticky: { header: X-Conversation-Id, ttl: 1h }",
            Sticky { header: Some(HeaderName::from_static("x-conversation-id")), ttl: Duration::from_secs(3600) },
        ),
    ] {
        assert_eq!(good(&format!("{CHANNEL}{written}")).sticky, Some(expected), "{written}");
    }
}

#[test]
fn the_time_of_all_attempts_follows_the_time_of_one() {
    let config = good(&format!("{CHANNEL}    timeouts: {{ first_byte: 10m }}"));
    assert_eq!(config.channels[0].failover.retries.within, Duration::from_secs(1260));
}
