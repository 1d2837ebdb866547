use std::path::Path;

use http::{Method, Uri};
use weir_filters::monitor::Standing::{self, Failing, Passing};

use super::*;
use crate::proxy::Asked;

const CONFIG: &str = "
channels:
  - { name: named, protocol: openai, base_url: 'https://one.example', models: [gpt-5, o3], keys: [{ name: m, value: k }] }
  - { name: mapped, protocol: openai, base_url: 'https://two.example', models: [o3, gpt-4o], model_map: { gpt-4o: large }, priority: 1, keys: [{ name: m, value: k }] }
  - { name: open, protocol: openai, base_url: 'https://three.example', models: ['gpt-*', 'o*'], priority: 2, keys: [{ name: m, value: k }] }
  - { name: claude, protocol: anthropic, base_url: 'https://four.example', models: ['claude-*'], keys: [{ name: m, value: k }] }
  - { name: google, protocol: gemini, base_url: 'https://five.example', models: [gemini-pro], keys: [{ name: m, value: k }] }
keys: [{ name: laptop, sha256: SHA }]
";

fn snapshot() -> Snapshot {
    let text = CONFIG.replace("SHA", &KeyDigest::of("wk-1").to_string());
    let config =
        config::parse(&text, Path::new("weir.yaml"), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Snapshot::new(1, &config, &Metrics::new(), &Accounts::new(), &Registry::default(), None)
}

fn say(snapshot: &Snapshot, channel: &str, model: &str, standing: Standing) {
    snapshot.channels().iter().find(|known| **known.name() == *channel).unwrap().restore(model, standing);
}

/// `model@channel`, of all that is listed.
fn listed(snapshot: &Snapshot, protocol: Protocol, permitted: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let listed = snapshot.listed_models(protocol, permitted);
    listed.iter().map(|(model, channel)| format!("{model}@{channel}")).collect()
}

fn everything(_: &str, _: &str) -> bool {
    true
}

#[test]
fn without_probes_what_is_named_is_listed() {
    let snapshot = snapshot();
    assert_eq!(listed(&snapshot, Protocol::OpenAi, everything), ["gpt-4o@mapped", "gpt-5@named", "o3@named"]);
    assert_eq!(listed(&snapshot, Protocol::Anthropic, everything), [""; 0]);
    assert_eq!(listed(&snapshot, Protocol::Gemini, everything), ["gemini-pro@google"]);
}

#[test]
fn a_model_is_missing_only_if_it_fails_wherever_it_is_named_and_the_key_may_go() {
    let snapshot = snapshot();
    say(&snapshot, "named", "o3", Failing);
    assert_eq!(listed(&snapshot, Protocol::OpenAi, everything), ["gpt-4o@mapped", "gpt-5@named", "o3@mapped"]);
    let not_mapped = |_: &str, channel: &str| channel != "mapped";
    assert_eq!(listed(&snapshot, Protocol::OpenAi, not_mapped), ["gpt-5@named"], "the other one is not the key's");
    say(&snapshot, "mapped", "o3", Failing);
    say(&snapshot, "mapped", "gpt-4o", Failing);
    assert_eq!(listed(&snapshot, Protocol::OpenAi, everything), ["gpt-5@named"]);
    say(&snapshot, "open", "o3", Passing);
    assert_eq!(listed(&snapshot, Protocol::OpenAi, everything), ["gpt-5@named", "o3@open"], "a pattern serves it");
    say(&snapshot, "google", "gemini-pro", Failing);
    assert_eq!(listed(&snapshot, Protocol::Gemini, everything), [""; 0]);
    say(&snapshot, "google", "gemini-pro", Passing);
    assert_eq!(listed(&snapshot, Protocol::Gemini, everything), ["gemini-pro@google"]);
}

#[test]
fn a_model_that_only_matches_a_pattern_is_listed_while_it_answers_probes() {
    let snapshot = snapshot();
    for model in ["claude-opus", "claude-haiku"] {
        say(&snapshot, "claude", model, Passing);
    }
    assert_eq!(listed(&snapshot, Protocol::Anthropic, everything), ["claude-haiku@claude", "claude-opus@claude"]);
    let haiku = |model: &str, _: &str| model == "claude-haiku";
    assert_eq!(listed(&snapshot, Protocol::Anthropic, haiku), ["claude-haiku@claude"], "what the key may use");
    say(&snapshot, "claude", "claude-opus", Failing);
    assert_eq!(listed(&snapshot, Protocol::Anthropic, everything), ["claude-haiku@claude"]);
    say(&snapshot, "open", "gpt-5", Passing);
    say(&snapshot, "open", "claude-x", Passing);
    let openai = ["gpt-4o@mapped", "gpt-5@named", "o3@named"];
    assert_eq!(listed(&snapshot, Protocol::OpenAi, everything), openai, "whoever names it comes first");
}

#[test]
fn the_account_of_a_request_has_channels_in_the_order_in_which_they_are_asked() {
    let snapshot = snapshot();
    let explained = || {
        let asked = Asked {
            method: Method::POST,
            uri: Uri::from_static("/v1/chat/completions?key=wk-1"),
            headers: HeaderMap::new(),
            body: br#"{"model":"gpt-4o"}"#.to_vec(),
        };
        let told = snapshot.explain(&asked, 1_800_000_000_000);
        let upstream = told.upstream.unwrap();
        let host = upstream.set.iter().find(|(name, _)| *name == http::header::HOST).and_then(|(_, host)| host.clone());
        let order: Vec<String> = told.channels.iter().map(|channel| channel.name().to_string()).collect();
        (order.join(" "), host.unwrap().to_str().unwrap().to_owned(), upstream.model)
    };
    let mapped = ("mapped open".into(), "two.example".into(), Some("large".into()));
    assert_eq!(explained(), mapped);
    say(&snapshot, "mapped", "gpt-4o", Failing);
    assert_eq!(explained(), ("open mapped".into(), "three.example".into(), None));
    say(&snapshot, "open", "gpt-4o", Failing);
    assert_eq!(explained(), mapped, "there is none that does better");
}
