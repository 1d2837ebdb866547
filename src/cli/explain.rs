//! `weir explain`: what would become of a request, without sending it.
//!
//! Owns the reading of curl's arguments and the account as people read it. The decisions are the proxy's.

use std::process::ExitCode;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use serde_json::Value;

use crate::accounts::Accounts;
use crate::catalog::{Catalog, show};
use crate::channels::{Channel, Registry};
use crate::config::Config;
use crate::control::now_ms;
use crate::metrics::Metrics;
use crate::proxy::{Asked, Explanation, Snapshot};

use super::{fail, load};

/// What was asked wrongly.
const USAGE: u8 = 2;

/// Flags of curl's without a value that change nothing here.
const IDLE: [&str; 13] =
    ["-s", "-S", "-sS", "-v", "-i", "-k", "-N", "-L", "-f", "--silent", "--no-buffer", "--compressed", "--verbose"];

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: super::Source,
    /// The request, as curl is told it: `weir explain -- curl http://127.0.0.1:8514/v1/models -H 'x-api-key: …'`
    #[arg(last = true, required = true, value_name = "CURL")]
    curl: Vec<String>,
}

/// Exit code 0: it would be sent. 1: it would be refused. 2: it cannot be told.
pub(super) fn explain(arguments: &Arguments) -> ExitCode {
    let asked = match read(&arguments.curl) {
        Ok(asked) => asked,
        Err(message) => {
            eprintln!("weir: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let Ok(config) = load(&arguments.source.config) else { return ExitCode::from(USAGE) };
    let merged = Catalog::open(&config.data_dir).and_then(|catalog| catalog.merge(&config));
    let config = match merged {
        Ok(config) => config,
        Err(e) => {
            fail(format_args!("{e}"));
            return ExitCode::from(USAGE);
        }
    };
    let snapshot = Snapshot::new(1, &config, &Metrics::new(), &Accounts::new(), &Registry::default(), None);
    let explanation = snapshot.explain(&asked, now_ms());
    print!("{}", told(&asked, &explanation, &config));
    ExitCode::from(u8::from(explanation.refusal.is_some()))
}

/// Reads curl's arguments, with or without its name before them. Messages repeat no value: it may be a secret.
fn read(arguments: &[String]) -> Result<Asked, String> {
    let mut arguments = arguments.iter().map(String::as_str).peekable();
    arguments.next_if_eq(&"curl");
    let (mut method, mut url, mut headers, mut body) = (None, None, HeaderMap::new(), None::<Vec<u8>>);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument {
            "-X" | "--request" => {
                let name = value()?;
                method = Some(Method::from_bytes(name.as_bytes()).map_err(|_| format!("{argument}: no method"))?);
            }
            "-H" | "--header" => {
                let (name, value) = header(value()?).ok_or_else(|| format!("{argument}: no header line"))?;
                headers.append(name, value);
            }
            "-d" | "--data" | "--data-ascii" | "--data-raw" | "--data-binary" | "--json" => {
                let data = data(argument, value()?)?;
                let body = body.get_or_insert_default();
                if !body.is_empty() && argument != "--json" {
                    body.push(b'&');
                }
                body.extend_from_slice(&data);
                let content_type =
                    if argument == "--json" { "application/json" } else { "application/x-www-form-urlencoded" };
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
            }
            "--url" => url = Some(value()?),
            idle if IDLE.contains(&idle) => {}
            flag if flag.starts_with('-') => return Err(format!("{} is not understood here", flag_alone(flag))),
            other if url.is_none() => url = Some(other),
            _ => return Err("there are two URLs".to_owned()),
        }
    }
    let uri: Uri = url.ok_or("there is no URL")?.parse().map_err(|_| "the URL cannot be read")?;
    let default = if body.is_some() { Method::POST } else { Method::GET };
    Ok(Asked { method: method.unwrap_or(default), uri, headers, body: body.unwrap_or_default() })
}

/// `--flag` of `--flag=value`.
fn flag_alone(flag: &str) -> &str {
    flag.split_once('=').map_or(flag, |(flag, _)| flag)
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
}

/// What curl would send for `text`: itself, or the file after an `@`. Only `--data-binary` keeps its line ends.
fn data(flag: &str, text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('@') {
        Some(file) if flag != "--data-raw" => {
            let mut bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
            if !matches!(flag, "--data-binary" | "--json") {
                bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
            }
            Ok(bytes)
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// The account, a line each.
fn told(asked: &Asked, explanation: &Explanation, config: &Config) -> String {
    let Explanation { route, key, model, channels, upstream, refusal } = explanation;
    let mut lines: Vec<(&str, String)> = vec![("request", format!("{} {}", asked.method, asked.uri.path()))];
    if let Some((name, operation)) = route {
        lines.push(("route", format!("{name}, {operation}")));
    }
    if let Some(key) = key {
        let user = if key.user.is_empty() { "no user".to_owned() } else { format!("of {}", key.user) };
        lines.push(("key", format!("{} ({}), {user}", key.name, key.id)));
        let of_key = config.keys.iter().find(|configured| configured.id() == *key.id);
        let of_user = config.users.iter().find(|configured| *configured.name == *key.user);
        let limits = [
            of_key.map(|key| ("of the key", Value::from(show::key(key)))),
            of_user.map(|user| ("of the user", Value::from(show::user(user)))),
        ];
        for (whose, shown) in limits.into_iter().flatten() {
            let limits = limits_of(&shown["limits"]);
            if !limits.is_empty() {
                lines.push(("limits", format!("{whose}: {limits}")));
            }
        }
    }
    if let Some(model) = model {
        let mapped = upstream.as_ref().and_then(|upstream| upstream.model.as_ref());
        let mapped = mapped.map_or_else(String::new, |mapped| format!(", asked for as {mapped}"));
        lines.push(("model", format!("{model}{mapped}")));
    }
    if !channels.is_empty() {
        lines.push(("channels", channels.iter().map(channel).collect::<Vec<_>>().join(", ")));
    }
    if let (Some(upstream), Some(first)) = (upstream, channels.first()) {
        let shown = Value::from(show::channel(first.config()));
        let base = shown["base_url"].as_str().unwrap_or_default().strip_suffix(&*first.config().base_url.path);
        lines.push(("target", format!("{}{}", base.unwrap_or_default(), upstream.target)));
        let removed: Vec<&str> = upstream.removed.iter().map(HeaderName::as_str).collect();
        if !removed.is_empty() {
            lines.push(("removed", removed.join(", ")));
        }
        for (name, value) in &upstream.set {
            let value = value.as_ref().map_or("•••", |value| value.to_str().unwrap_or("•••"));
            lines.push(("set", format!("{name}: {value}")));
        }
        if upstream.asks_for_usage {
            lines.push(("body", "stream_options.include_usage is set, and the report is kept from the client".into()));
        }
    }
    lines.push(match refusal {
        Some(refusal) => ("refused", format!("{} {}: {}", refusal.status(), refusal.reason(), refusal.message())),
        None if upstream.is_some() => ("result", "it would be sent".to_owned()),
        None => ("result", "Weir would answer it".to_owned()),
    });
    lines.iter().map(|(what, text)| format!("{what:<9} {text}\n")).collect()
}

fn channel(channel: &Arc<Channel>) -> String {
    let failover = &channel.config().failover;
    format!("{} (priority {}, weight {})", channel.name(), failover.priority, failover.weight)
}

/// Those that there are, by name.
fn limits_of(limits: &Value) -> String {
    let mut told = Vec::new();
    for (name, value) in limits.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(budgets) => {
                let set = budgets.iter().filter_map(|(period, usd)| Some((period, usd.as_str()?)));
                told.extend(set.map(|(period, usd)| format!("{usd} USD a {period}").replace("a total", "in total")));
            }
            count => told.push(format!("{name} {count}")),
        }
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = "
channels:
  - { name: second, protocol: openai, base_url: 'https://two.example', models: ['gpt-*'], priority: 1, keys: [{ name: m, value: sk-canary }] }
  - { name: first, protocol: openai, base_url: 'http://127.0.0.1:9001/v2', models: ['gpt-*'], model_map: { gpt-4o: large }, keys: [{ name: m, value: sk-canary }] }
  - { name: other, protocol: openai, base_url: 'http://h', models: ['o3'], keys: [{ name: m, value: sk-canary }] }
headers: { set_request: { x-edge: canary-value } }
users: [{ name: alice, limits: { budget_usd: { day: '5', total: '100' } } }]
keys:
  - { name: laptop, user: alice, sha256: SHA, models: ['gpt-*', o3], channels: [first, second], limits: { rpm: 60 } }
";

    fn curl(text: &str) -> Result<Asked, String> {
        read(&text.split('|').map(|part| part.trim().to_owned()).collect::<Vec<_>>())
    }

    fn explained(text: &str) -> (String, bool) {
        let sha256 = weir_filters::key::KeyDigest::of("wk-canary").to_string();
        let config = crate::config::parse(&CONFIG.replace("SHA", &sha256), Path::new("weir.yaml"), &|_| None);
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let snapshot = Snapshot::new(1, &config, &Metrics::new(), &Accounts::new(), &Registry::default(), None);
        let asked = curl(text).unwrap();
        let explanation = snapshot.explain(&asked, 1_800_000_000_000);
        let text = told(&asked, &explanation, &config);
        assert!(!text.contains("canary"), "{text}");
        (text, explanation.refusal.is_some())
    }

    #[test]
    fn a_request_that_would_be_sent_is_told_from_route_to_headers() {
        let (text, refused) = explained(
            "curl | http://w/v1/chat/completions?a=1&key=wk-canary | -H | authorization: Bearer wk-canary | -H | cookie: c | \
             -H | x-kept: 1 | -d | {\"model\":\"gpt-4o\",\"stream\":true}",
        );
        let id = weir_filters::key::KeyDigest::of("wk-canary").key_id();
        let expected = format!(
            "request   POST /v1/chat/completions
route     /v1/chat/completions, openai.chat
key       laptop ({id}), of alice
limits    of the key: rpm 60
limits    of the user: 5 USD a day, 100 USD in total
model     gpt-4o, asked for as large
channels  first (priority 0, weight 1), second (priority 1, weight 1)
target    http://127.0.0.1:9001/v2/v1/chat/completions?a=1
removed   cookie
set       host: 127.0.0.1:9001
set       accept-encoding: identity
set       x-edge: •••
set       authorization: •••
body      stream_options.include_usage is set, and the report is kept from the client
result    it would be sent
"
        );
        assert_eq!((text, refused), (expected, false));
    }

    #[test]
    fn a_refusal_is_told_with_all_that_was_known_before_it() {
        let ends = |text: &str| {
            let (text, refused) = explained(text);
            assert!(refused, "{text}");
            let words: Vec<String> = text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
            (words.join(" "), text.lines().last().unwrap().split(':').next().unwrap().to_owned())
        };
        for (text, words, end) in [
            ("http://w/nothing", "request refused", "refused   404 not_found"),
            ("http://w/v1/models", "request route refused", "refused   401 missing_key"),
            ("http://w/v1/chat/completions", "request refused", "refused   405 method_not_allowed"),
            ("http://w/v1/models | -H | x-api-key: wk-canary-2", "request route refused", "refused   401 unknown_key"),
            (
                "http://w/v1/chat/completions?key=wk-canary | -d | {}",
                "request route key limits limits refused",
                "refused   400 model_missing",
            ),
            (
                "http://w/v1/chat/completions?key=wk-canary | -d | {\"model\":\"gpt\",\"model\":\"x\"}",
                "request route key limits limits refused",
                "refused   400 bad_body",
            ),
            (
                "http://w/v1/chat/completions?key=wk-canary | -d | {\"model\":\"claude\"}",
                "request route key limits limits model refused",
                "refused   403 model_not_permitted",
            ),
            (
                "http://w/v1/chat/completions?key=wk-canary | -d | {\"model\":\"o3\"}",
                "request route key limits limits model refused",
                "refused   403 channel_not_permitted",
            ),
        ] {
            assert_eq!(ends(text), (words.to_owned(), end.to_owned()), "{text}");
        }
        let (text, refused) = explained("http://w/v1/models | -H | x-api-key: wk-canary");
        assert!(!refused && text.ends_with("result    Weir would answer it\n"), "{text}");
    }

    #[test]
    fn what_is_no_curl_is_said_without_a_value() {
        for (text, expected) in [
            ("curl", "there is no URL"),
            ("curl | http://w/ | http://x/", "there are two URLs"),
            ("curl | http://w/ | -H", "-H needs a value"),
            ("curl | http://w/ | -H | canary", "-H: no header line"),
            ("curl | http://w/ | --oauth2-bearer=canary", "--oauth2-bearer is not understood here"),
            ("curl | http://w/ | -X | ca nary", "-X: no method"),
            ("curl | http://w /", "the URL cannot be read"),
        ] {
            assert_eq!(curl(text).err().as_deref(), Some(expected), "{text}");
        }
        let asked = curl("curl | -sS | http://w/v1/x | --json | {} | -X | PUT").unwrap();
        assert_eq!(
            (asked.method, &asked.body[..], &asked.headers[CONTENT_TYPE]),
            (Method::PUT, &b"{}"[..], &"application/json".parse::<HeaderValue>().unwrap())
        );
    }
}
