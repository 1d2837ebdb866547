//! The commands that need no gateway, and the one that brings its own.

use std::process::{Command, Output};

use weir_filters::key::KeyDigest;

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("the command runs")
}

#[test]
fn a_new_key_is_printed_with_its_digest_and_never_twice() {
    let pairs = [weir(&["key", "new"]), weir(&["key", "new"])].map(|output| {
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        let (key, sha256) = text.trim_end().split_once('\n').expect("two lines");
        let key = key.strip_prefix("key:    ").expect("a key").to_owned();
        (key, sha256.strip_prefix("sha256: ").expect("a digest").to_owned())
    });
    for (key, sha256) in &pairs {
        assert!(key.starts_with("sk-weir-") && key.len() == 56, "{key}");
        assert_eq!(*sha256, KeyDigest::of(key).to_string());
    }
    assert_ne!(pairs[0].0, pairs[1].0);
}

#[test]
fn the_demo_agrees_with_its_mock_on_every_request() {
    let output = weir(&["demo", "--once"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.trim_end().ends_with("requests: gateway and mock agree on every request."), "{text}");
}

#[test]
fn what_is_asked_wrongly_is_exit_code_2() {
    for arguments in [&["colour"][..], &["usage", "--by", "colour"], &["run", "--colour"], &[]] {
        assert_eq!(weir(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_gateway_without_its_file_says_which_and_ends() {
    let output = weir(&["run", "-c", "/nonexistent/weir.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/weir.yaml"));
}

#[test]
fn explain_tells_by_its_exit_code_what_would_become_of_a_request() {
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().join("weir.yaml");
    let text = format!(
        "data_dir: {}\nchannels: [{{ name: c, protocol: openai, base_url: 'http://127.0.0.1:9', models: ['gpt-*'], \
         keys: [{{ name: m, value: sk-canary }}] }}]\nkeys: [{{ name: laptop, sha256: {} }}]\n",
        home.path().join("data").display(),
        KeyDigest::of("wk-canary")
    );
    std::fs::write(&config, text).expect("the configuration is written");
    let config = config.to_str().expect("text");
    let explain = |curl: &[&str]| {
        let output = weir(&[&["explain", "-c", config, "--"], curl].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(!text.contains("canary"), "{text}");
        (output.status.code(), text)
    };
    let url = "http://127.0.0.1:8514/v1/chat/completions";
    let sent = explain(&["curl", url, "-H", "authorization: Bearer wk-canary", "-d", r#"{"model":"gpt-4o"}"#]);
    assert!(sent.0 == Some(0) && sent.1.contains("\ntarget    http://127.0.0.1:9/v1/chat/completions\n"), "{}", sent.1);
    let refused = explain(&["curl", url, "-H", "authorization: Bearer wk-canary-2", "-d", r#"{"model":"gpt-4o"}"#]);
    assert!(refused.0 == Some(1) && refused.1.contains("\nrefused   401 unknown_key: "), "{}", refused.1);
    assert_eq!(explain(&["curl", "--proxy-user", "wk-canary", url]).0, Some(2));
    assert!(!home.path().join("data").exists(), "nothing is made");
}
