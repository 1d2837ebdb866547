use std::fs;
use std::path::{Path, PathBuf};

use super::super::raw::ALL_FIELDS;
use super::super::{check, load, parse};
use super::{CHANNEL, DIGEST};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

#[test]
fn every_configuration_in_conf_is_valid() {
    let mut loaded = Vec::new();
    for entry in fs::read_dir(conf()).unwrap() {
        let path = entry.unwrap().path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
        if !is_yaml || !fs::read_to_string(&path).unwrap().contains("\nchannels:") {
            continue;
        }
        // As a user would have them set: the smallest file has no defaults for these two.
        let env = |name: &str| match name {
            "OPENAI_API_KEY" => Some("set".to_owned()),
            "WEIR_KEY_SHA256" => Some(DIGEST.to_owned()),
            _ => None,
        };
        let config = load(&path, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(!config.channels.is_empty() && !config.keys.is_empty(), "{}", path.display());
        loaded.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    loaded.sort();
    assert_eq!(loaded, ["minimal.yaml", "weir.yaml"]);
}

#[test]
fn the_annotated_file_is_valid_without_any_variable_and_says_the_defaults() {
    let annotated = load(&conf().join("weir.yaml"), &|_| None).unwrap_or_else(|m| panic!("{m}"));
    let bare = super::good(CHANNEL);
    assert_eq!(annotated.listen, bare.listen);
    assert_eq!(annotated.admin, bare.admin);
    assert_eq!(annotated.data_dir, bare.data_dir);
    assert_eq!(annotated.headers, bare.headers);
    assert_eq!(annotated.ledger, bare.ledger);
    assert_eq!(annotated.server.max_body, bare.server.max_body);
    assert_eq!(annotated.server.keepalive_timeout, bare.server.keepalive_timeout);
    assert_eq!(annotated.server.grace_period, bare.server.grace_period);
    assert_eq!(annotated.channels[0].timeouts, bare.channels[0].timeouts);
    assert_eq!(annotated.channels[0].inject_usage, bare.channels[0].inject_usage);
}

#[test]
fn the_annotated_file_names_every_field() {
    let text = fs::read_to_string(conf().join("weir.yaml")).unwrap();
    for field in ALL_FIELDS.iter().flat_map(|fields| fields.known) {
        let named = text.contains(&format!(" {field}:")) || text.contains(&format!("\n{field}:"));
        assert!(named, "conf/weir.yaml does not name `{field}`");
    }
}

#[test]
fn secrets_and_certificates_are_looked_for_from_the_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "from a file\n").unwrap();
    fs::write(folder.path().join("ca.pem"), super::pem("CERTIFICATE")).unwrap();
    let text = format!("{CHANNEL}admin: {{ token_file: secret }}\nserver: {{ upstream_ca: ca.pem }}\n");
    let config = parse(&text, &folder.path().join("weir.yaml"), &super::env).unwrap();
    assert_eq!(config.admin.token.unwrap().expose(), "from a file");
    assert_eq!(config.server.upstream_ca, Some(folder.path().join("ca.pem")));
}

#[test]
fn a_check_reports_and_has_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    let name = path.display();

    let checked = check(&path, &super::env);
    assert_eq!(checked.report, format!("{name}:1:1: cannot be read: No such file or directory (os error 2)\n"));
    assert_eq!(checked.exit_code, 2);

    fs::write(&path, format!("{CHANNEL}keys: [{{ name: a, sha256: {DIGEST} }}]\n")).unwrap();
    let checked = check(&path, &super::env);
    assert_eq!(checked.report, format!("{name}: valid: 1 channel, 1 key, 0 users, 0 routes, 1 listener\n"));
    assert_eq!(checked.exit_code, 0);

    fs::write(&path, format!("{CHANNEL}key: []\nuser: []\n")).unwrap();
    let checked = check(&path, &super::env);
    assert_eq!(
        checked.report,
        format!(
            "{name}:7:1: unknown field `key`; did you mean \"keys\"?\n\
             {name}:8:1: unknown field `user`; did you mean \"users\"?\n"
        )
    );
    assert_eq!(checked.exit_code, 1);

    fs::write(&path, b"channels: []\n# caf\xe9\n").unwrap();
    let checked = check(&path, &super::env);
    assert_eq!(checked.report, format!("{name}:2:6: not valid UTF-8\n"));
    assert_eq!(checked.exit_code, 1);
}
