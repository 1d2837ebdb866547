//! `weir doctor`: what it finds of a gateway that is well, and of each thing that is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{
    ADMIN_TOKEN, Authority, Gateway, UPSTREAM_KEY, Upstream, answer, gateway, mock, openai, secret_of, upstream,
};

fn only_for_its_owner(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// The exit code and all findings. Nothing that is printed may hold a secret.
fn doctor(gateway: &Gateway) -> (i32, Vec<Value>) {
    let json = gateway.command(&["doctor", "--json"]);
    let lines = gateway.command(&["doctor"]);
    for Output { stdout, stderr, .. } in [&json, &lines] {
        let text = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        for secret in [UPSTREAM_KEY, ADMIN_TOKEN, &secret_of("alice")] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(json.status.code(), lines.status.code());
    let said: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let findings = said["findings"].as_array().expect("findings").clone();
    let problems = findings.iter().filter(|finding| finding["level"] == "problem").count();
    assert_eq!(said["problems"], problems);
    let told = String::from_utf8(lines.stdout).expect("text");
    assert!(told.ends_with(&format!("{problems} problems, {} warnings\n", said["warnings"])), "{told}");
    (json.status.code().expect("an exit"), findings)
}

/// Level and text of what was found of `what`.
fn of<'f>(findings: &'f [Value], what: &str) -> Vec<(&'f str, &'f str)> {
    let found = findings.iter().filter(|finding| finding["what"] == what);
    found.map(|f| (f["level"].as_str().expect("a level"), f["found"].as_str().expect("text"))).collect()
}

#[tokio::test]
async fn a_gateway_that_is_well_has_no_problems_running_or_not() {
    let mock = mock();
    let mut gateway = gateway().channel(openai(mock.address())).key("alice").start().await;
    only_for_its_owner(&gateway.config_file());
    let body = json!({"model": "gpt-4o", "messages": []});
    assert_eq!(gateway.post("/v1/chat/completions").key("alice").json(&body).send().await.status, 200);
    gateway.used("key", "alice", 1).await;
    let (code, findings) = doctor(&gateway);
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(of(&findings, "gateway"), [("ok", "it runs with version 1 of its configuration")]);
    assert!(of(&findings, "ledger")[0].1.starts_with("nothing lost, nothing damaged, "), "{findings:#?}");
    assert_eq!(of(&findings, "store"), [("ok", "it takes writes")]);
    assert!(of(&findings, "descriptors")[0].1.ends_with(" in use by the gateway"));
    assert_eq!(of(&findings, "channel openai")[0].0, "ok");
    for what in ["data_dir", "secrets", "disk latency"] {
        assert_ne!(of(&findings, what)[0].0, "problem", "{findings:#?}");
    }
    assert_eq!(of(&findings, "clock").len() + of(&findings, "disk").len(), 2);

    gateway.stop().await;
    let (code, findings) = doctor(&gateway);
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(of(&findings, "gateway"), [("warning", "none runs with this data_dir")]);
    assert_eq!(of(&findings, "ledger"), [("ok", "it can be read, and nothing is damaged")]);
    assert_eq!(of(&findings, "store"), [("ok", "it opens, with the totals of 1 records")]);
    assert_eq!(of(&findings, "addresses"), [("ok", "all 2 can be listened on")]);
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = openai(gone).named("nowhere").with("base_url", "http://no-such-host.invalid");
    let mut gateway = gateway().channel(openai(gone)).channel(nowhere).key("alice").start().await;
    gateway.stop().await;
    fs::set_permissions(gateway.data_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(gateway.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_dir_all(gateway.data_dir().join("store")).unwrap();
    fs::write(gateway.data_dir().join("store"), "no store").unwrap();
    let (code, findings) = doctor(&gateway);
    assert_eq!(code, 1);
    for (what, level, part) in [
        ("channel openai", "problem", "refused"),
        ("channel nowhere", "problem", "no-such-host.invalid:80: "),
        ("data_dir", "problem", "has mode 0777"),
        ("secrets", "problem", "weir.yaml holds some and has mode 0644"),
        ("store", "warning", ""),
    ] {
        let found = of(&findings, what);
        assert!(found.len() == 1 && found[0].0 == level && found[0].1.contains(part), "{what}: {findings:#?}");
    }
    let advised =
        findings.iter().filter(|finding| finding["level"] != "ok").all(|finding| finding["advice"].is_string());
    assert!(advised, "{findings:#?}");

    gateway.write_text("listen: [{ address: nowhere }]\ncolour: red\n");
    let (code, findings) = doctor(&gateway);
    assert_eq!((code, of(&findings, "configuration").len()), (1, findings.len()));
    assert!(findings.len() >= 2, "{findings:#?}");
}

async fn behind_tls(authority: &Authority, trusted: bool) -> (i32, Vec<Value>) {
    let upstream = Upstream::over_tls([answer(200, &[], "{}")], authority.acceptor()).await;
    let channel =
        openai(upstream.address()).with("base_url", format!("https://localhost:{}", upstream.address().port()));
    let builder = gateway().channel(channel).key("alice").file("theirs.pem", &authority.pem);
    let builder = if trusted { builder.with("server.upstream_ca", "theirs.pem") } else { builder };
    let gateway = builder.start().await;
    only_for_its_owner(&gateway.config_file());
    // The command is a process that waits for this one.
    tokio::task::spawn_blocking(move || doctor(&gateway)).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_tried_with_the_authorities_of_the_configuration() {
    let authority = Authority::new();
    let (code, findings) = behind_tls(&authority, true).await;
    let found = of(&findings, "channel openai");
    assert!(code == 0 && found[0].0 == "ok" && found[0].1.contains("certificate until "), "{findings:#?}");
    let (code, findings) = behind_tls(&authority, false).await;
    let found = of(&findings, "channel openai");
    assert!(code == 1 && found[0].0 == "problem" && found[0].1.contains("TLS fails"), "{findings:#?}");
}

#[tokio::test]
async fn an_address_that_somebody_has_and_a_certificate_that_clients_see_are_looked_at() {
    let upstream = upstream([answer(200, &[], "{}")]).await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").tls(Authority::new()).start().await;
    gateway.stop().await;
    let config: Value = serde_json::from_slice(&fs::read(gateway.config_file()).unwrap()).unwrap();
    let address = config["listen"][0]["address"].as_str().unwrap();
    let _somebody = std::net::TcpListener::bind(address).unwrap();
    let (code, findings) = doctor(&gateway);
    assert_eq!(code, 1);
    let taken = of(&findings, "addresses");
    assert!(taken.len() == 1 && taken[0].0 == "problem" && taken[0].1.starts_with(address), "{findings:#?}");
    let certificate = of(&findings, "certificate");
    assert!(certificate[0].0 == "ok" && certificate[0].1.contains("server.pem until "), "{findings:#?}");
}
