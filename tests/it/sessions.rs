//! People who sign in at the real gateway: what lets them in, what ends it, and what survives.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, Gateway, eventually, gateway};

const PASSWORD: &str = "correct horse";

async fn with_alice() -> Gateway {
    let gateway = gateway().with("users", json!([{ "name": "declared" }])).start().await;
    gateway.api("users").post(&json!({ "name": "alice", "password": PASSWORD })).await.expect(201);
    gateway
}

/// A command that reads `input`.
fn command(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .arg("-c")
        .arg(gateway.config_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it is read");
    child.wait_with_output().expect("it ends")
}

#[tokio::test]
async fn a_session_survives_kill_9_a_restart_and_an_upgrade_and_ends_when_it_is_told_to() {
    let mut gateway = with_alice().await;
    let alice = gateway.browser("alice", PASSWORD).await;
    gateway.kill();
    gateway.start().await;
    let session = alice.get(&gateway, "/admin/api/session").await;
    assert_eq!(
        (&session["role"], &session["user"], &session["csrf"]),
        (&json!("user"), &json!("alice"), &json!(alice.csrf))
    );
    let output = gateway.upgrade(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("the end of the first process", async || gateway.exit_status()).await;
    assert_eq!(alice.status(&gateway).await, 200);
    let after = gateway.browser("alice", PASSWORD).await;
    let (status, _) = alice.change(&gateway, "POST", "/admin/api/logout", &json!({})).await;
    assert_eq!((status, alice.status(&gateway).await), (204, 401));
    gateway.kill();
    gateway.start().await;
    assert_eq!((alice.status(&gateway).await, after.status(&gateway).await), (401, 200), "what has ended stays so");

    let file = gateway.data_dir().join("sessions.json");
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("text");
    let token = after.cookie.strip_prefix("weir_session=").expect("a token");
    assert!(text.contains("alice") && !text.contains(token) && !text.contains(&after.csrf), "{text}");
}

#[tokio::test]
async fn another_password_another_role_and_a_removal_end_the_sessions_of_a_user() {
    let mut gateway = with_alice().await;
    let [one, other] = [gateway.browser("alice", PASSWORD).await, gateway.browser("alice", PASSWORD).await];
    let change = async |old: &str, new: &str| {
        one.change(&gateway, "POST", "/admin/api/password", &json!({ "old": old, "new": new })).await
    };
    let (status, said) = change("wrong", "another horse").await;
    assert_eq!((status, &said["error"]["code"]), (403, &json!("wrong_password")));
    let (status, said) = change(PASSWORD, "short").await;
    let message = "`new` must have at least 10 characters";
    let expected = json!({ "error": { "code": "invalid", "field": "new", "message": message } });
    assert_eq!((status, said), (400, expected));
    assert_eq!(change(PASSWORD, "another horse").await.0, 204);
    assert_eq!((one.status(&gateway).await, other.status(&gateway).await), (200, 401));
    let old = gateway.login(&json!({ "username": "alice", "password": PASSWORD })).await;
    assert_eq!((old.status, &old.json()["error"]["code"]), (401, &json!("unauthorized")));
    gateway.kill();
    gateway.start().await;
    assert_eq!((one.status(&gateway).await, other.status(&gateway).await), (200, 401));

    gateway.api("users/alice").patch(&json!({ "role": "admin" })).await.expect(200);
    assert_eq!(one.status(&gateway).await, 401, "another role");
    let root = gateway.browser("alice", "another horse").await;
    assert_eq!(root.get(&gateway, "/admin/api/users").await["rows"][1]["has_password"], true);
    gateway.api("users/alice").patch(&json!({ "role": "user" })).await.expect(200);
    assert_eq!((one.status(&gateway).await, root.status(&gateway).await), (401, 401), "nor does the first come back");
    let again = gateway.browser("alice", "another horse").await;
    gateway.api("users/alice").patch(&json!({ "max_keys": 3 })).await.expect(200);
    assert_eq!(again.status(&gateway).await, 200, "what has nothing to do with it ends nothing");
    gateway.api("users/alice").delete().await.expect(204);
    gateway.api("users").post(&json!({ "name": "alice", "password": "another horse" })).await.expect(201);
    assert_eq!(again.status(&gateway).await, 401, "somebody else of that name");
    gateway.api("users/alice").patch(&json!({ "password": null })).await.expect(200);
    assert_eq!(gateway.login(&json!({ "username": "alice", "password": "another horse" })).await.status, 401);
}

#[tokio::test]
async fn a_password_that_an_administrator_sets_meanwhile_is_not_overridden_by_who_has_the_one_before() {
    let gateway = with_alice().await;
    let thief = gateway.browser("alice", PASSWORD).await;
    // Changes are made one at a time, and each of these takes a hash: the thief's own waits for all of them.
    let others = (0..4).map(async |n| {
        let body = json!({ "name": format!("other-{n}"), "password": PASSWORD });
        gateway.api("users").post(&body).await.expect(201);
    });
    let reset = async { gateway.api("users/alice").patch(&json!({ "password": "another horse" })).await.expect(200) };
    let stolen = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let passwords = json!({ "old": PASSWORD, "new": "the thief's horse" });
        thief.change(&gateway, "POST", "/admin/api/password", &passwords).await
    };
    let (_, _, (status, said)) = futures::join!(futures::future::join_all(others), reset, stolen);
    assert_eq!((status, &said["error"]["code"]), (403, &json!("wrong_password")));
    assert_eq!(thief.status(&gateway).await, 401);
    gateway.browser("alice", "another horse").await;
}

#[tokio::test]
async fn a_password_is_never_shown_and_never_kept() {
    let gateway = gateway().environment("WEIR_LOG", "debug").start().await;
    let canary = "canary-Passw0rd-81f2";
    let mut seen = String::new();
    let made = gateway.api("users").post(&json!({ "name": "alice", "password": canary, "role": "admin" })).await;
    seen += &made.expect(201).to_string();
    for (given, message) in [
        (json!({ "password": "short" }), "`password` must have at least 10 characters"),
        (json!({ "password": "alicealice", "name": "alice" }), ""),
        (json!({ "password": [canary] }), "`password` must be text"),
        (json!({ "password": canary, "max_kyes": 1 }), "unknown field `max_kyes`; did you mean \"max_keys\"?"),
        (json!({ "password_hash": canary }), "`password_hash` is set by Weir and cannot be given; give `password`"),
        (json!({ "role": canary }), "`role` must be one of admin, user, not `canary-Passw0rd-81f2`"),
    ] {
        let said = gateway.api("users/alice").patch(&given).await;
        if !message.is_empty() {
            assert_eq!(said.answer.json()["error"]["message"], message, "{given}");
        }
        if given.get("role").is_none() {
            seen += &said.answer.text();
        }
    }
    gateway.api("users/alice").patch(&json!({ "password": canary })).await.expect(200);
    let root = gateway.browser("alice", canary).await;
    for path in ["/admin/api/session", "/admin/api/users", "/admin/api/users/alice", "/admin/api/keys", "/api/keys"] {
        seen += &root.get(&gateway, path).await.to_string();
    }
    gateway.login(&json!({ "username": canary, "password": "wrong" })).await;
    seen += &gateway.stderr();
    for name in ["sessions.json", "catalog/users.json"] {
        seen += &std::fs::read_to_string(gateway.data_dir().join(name)).expect("a file");
    }
    let users = std::fs::metadata(gateway.data_dir().join("catalog/users.json")).expect("a file");
    assert_eq!(users.permissions().mode() & 0o777, 0o600);
    assert!(seen.contains("\"has_password\":true") && seen.contains("$argon2id$v=19$m=19456,t=2,p=1$"));
    let token = root.cookie.strip_prefix("weir_session=").expect("a token");
    assert!(!seen.contains(canary) && !seen.contains(token), "a secret is in what was said or written");
    let answers = root.get(&gateway, "/admin/api/users").await.to_string();
    assert!(!answers.contains("argon2") && !answers.contains("password_hash"), "{answers}");
}

#[tokio::test]
async fn a_declared_user_is_given_a_password_by_command_and_by_the_api() {
    let mut gateway = with_alice().await;
    let patched =
        gateway.api("users/declared").patch(&json!({ "password": PASSWORD, "role": "admin" })).await.expect(200);
    assert_eq!(
        (&patched["origin"], &patched["role"], &patched["has_password"]),
        (&json!("file"), &json!("admin"), &json!(true))
    );
    let root = gateway.browser("declared", PASSWORD).await;
    assert_eq!(root.ask(&gateway, "GET", "/admin/api/keys").send().await.status, 200);
    for given in [json!({ "max_keys": 1 }), json!({ "password": PASSWORD, "price_rate": "2" })] {
        assert_eq!(gateway.api("users/declared").patch(&given).await.refused(409).0, "declared", "{given}");
    }
    let output = command(&gateway, &["user", "password", "declared"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let made = text.lines().find_map(|line| line.strip_prefix("password, shown this once: ")).expect("a password");
    assert_eq!((made.len(), root.status(&gateway).await), (23, 401));
    let root = gateway.browser("declared", made).await;
    let reload = async |gateway: &Gateway| gateway.admin("POST", "/admin/api/reload").send().await.status;
    assert_eq!((reload(&gateway).await, root.status(&gateway).await), (200, 200));
    let users = json!([{ "name": "declared", "max_keys": 5 }]);
    gateway.rewrite(|config| config["users"] = json!([]));
    assert_eq!((reload(&gateway).await, root.status(&gateway).await), (200, 401), "who is not declared any more");
    gateway.rewrite(|config| config["users"] = users);
    assert_eq!((reload(&gateway).await, root.status(&gateway).await), (200, 401));
    gateway.browser("declared", made).await;
}

#[tokio::test]
async fn the_command_makes_users_who_can_sign_in() {
    let gateway = with_alice().await;
    let output = command(&gateway, &["user", "add", "Bob B", "--role", "admin"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("the administrator Bob B can sign in\npassword, shown this once: "), "{text}");
    let password = text.lines().last().and_then(|line| line.strip_prefix("password, shown this once: "));
    let root = gateway.browser("Bob B", password.expect("a password")).await;
    assert_eq!(root.get(&gateway, "/admin/api/session").await["role"], "admin");
    let output = command(&gateway, &["user", "add", "carol", "--password-stdin"], "a longer password\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the user carol can sign in\n");
    let carol = gateway.browser("carol", "a longer password").await;
    assert_eq!(carol.ask(&gateway, "GET", "/admin/api/keys").send().await.status, 403);
    for (arguments, input, code, said) in [
        (&["user", "add", "dave", "--password-stdin"][..], "short\n", 1, "`password` must have at least 10 characters"),
        (&["user", "add", "alice"], "", 1, "there is a user `alice` already"),
        (&["user", "password", "nobody"], "", 1, "there is no such user"),
        (&["user", "add", "eve", "--role", "root"], "", 2, "invalid value 'root'"),
    ] {
        let output = command(&gateway, arguments, input);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.contains(said)), (Some(code), true), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "no password is shown that nobody has");
    }
}

#[tokio::test]
async fn who_guesses_is_held_and_nobody_else_is() {
    let gateway = with_alice().await;
    gateway.api("users").post(&json!({ "name": "bob", "password": PASSWORD })).await.expect(201);
    // Where alice has signed in before, she is not locked out by others.
    let from = |address: &str, password: &str| {
        let request = gateway.admin_request("POST", "/admin/api/login").header("x-forwarded-for", address);
        request.json(&json!({ "username": "alice", "password": password })).send()
    };
    assert_eq!(from("203.0.113.1", PASSWORD).await.status, 200);
    let mut statuses = Vec::new();
    for n in 0..13 {
        statuses.push(from(&format!("198.51.100.{n}"), "guessed").await.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses[10..].contains(&429), "{statuses:?}");
    let held = from("198.51.100.99", PASSWORD).await;
    assert_eq!((held.status, &held.json()["error"]["code"]), (429, &json!("throttled")));
    assert!(held.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=15).contains(&seconds)));
    assert_eq!(from("203.0.113.1", PASSWORD).await.status, 200);
    gateway.browser("bob", PASSWORD).await;
    let mut last = 0;
    for n in 0..40 {
        let guess = json!({ "token": format!("weir-admin-{n}") });
        let request = gateway.admin_request("POST", "/admin/api/login").header("x-forwarded-for", "192.0.2.7");
        last = request.json(&guess).send().await.status;
    }
    assert_eq!(last, 429, "an address that guesses the token");
    assert_eq!(gateway.login(&json!({ "token": ADMIN_TOKEN })).await.status, 200);
}

#[tokio::test]
async fn another_admin_token_ends_what_began_with_the_one_before() {
    let mut gateway = gateway().start().await;
    let answer = gateway.login(&json!({ "token": ADMIN_TOKEN })).await;
    assert_eq!((answer.status, &answer.json()["user"]), (200, &Value::Null));
    let cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    let status = async |gateway: &Gateway| {
        gateway.admin_request("GET", "/admin/api/keys").header("cookie", &cookie).send().await.status
    };
    assert_eq!(status(&gateway).await, 200);
    gateway.stop().await;
    gateway.start().await;
    assert_eq!(status(&gateway).await, 200);
    gateway.rewrite(|config| config["admin"]["token"] = json!("another-token-5511"));
    gateway.stop().await;
    gateway.start().await;
    assert_eq!(status(&gateway).await, 401);
}
