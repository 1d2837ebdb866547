//! The configuration's page: what is in force, what the file says now, and no secret in either.

use serde_json::{Value, json};

use crate::support::{Gateway, gateway, openai};

const CANARIES: [&str; 5] =
    ["canary-upstream-1", "canary-admin-2", "canary-metrics-3", "canary-header-4", "canary-loki-5"];

async fn page(gateway: &Gateway) -> Value {
    gateway.api("config").get().await
}

async fn check(gateway: &Gateway) -> Value {
    gateway.api("config/check").post(&json!({})).await.expect(200)
}

async fn started() -> Gateway {
    gateway().channel(openai(([127, 0, 0, 1], 1).into())).key("alice").start().await
}

fn state(page: &Value) -> &str {
    page["file"]["state"].as_str().expect("a word")
}

#[tokio::test]
async fn the_file_is_the_same_then_changed_then_wrong_then_gone() {
    let mut gateway = started().await;
    let first = page(&gateway).await;
    assert_eq!((state(&first), &first["version"], &first["last_reload"]), ("same", &json!(1), &Value::Null));
    assert_eq!(first["path"], gateway.config_file().display().to_string());
    assert_eq!(
        (&first["running"]["channels"][0]["name"], &first["running"]["counts"]["keys"]),
        (&json!("openai"), &json!(1))
    );
    assert_eq!(first["running"]["server"]["grace_period"], "1s");
    assert_eq!(check(&gateway).await, json!({ "valid": true, "mistakes": [] }));

    gateway.rewrite(|config| config["server"]["grace_period"] = json!("2s"));
    let changed = page(&gateway).await;
    assert_eq!((state(&changed), &changed["running"]["server"]["grace_period"]), ("changed", &json!("1s")));
    assert_ne!(changed["file"]["text"], first["file"]["text"]);
    gateway.api("reload").post(&json!({})).await.expect(200);
    let taken = page(&gateway).await;
    assert_eq!((state(&taken), &taken["version"], &taken["last_reload"]["ok"]), ("same", &json!(2), &json!(true)));
    assert_eq!(taken["running"]["server"]["grace_period"], "2s");
    assert_eq!(taken["file"]["text"], changed["file"]["text"]);
    assert_eq!(page(&gateway).await["file"], taken["file"], "it is the same at every look");
    assert!(taken["loaded_at"].as_str() >= first["loaded_at"].as_str());

    gateway.write_text("listen:\n  - address: 127.0.0.1:1\nchannels: []\nserver:\n  max_body: lots\n");
    let wrong = page(&gateway).await;
    assert_eq!((state(&wrong), &wrong["last_reload"]["ok"]), ("invalid", &json!(true)), "nobody has reloaded it");
    let mistake = &wrong["file"]["mistakes"][0];
    assert_eq!(
        (&mistake["line"], &mistake["column"], &mistake["field"]),
        (&json!(5), &json!(13), &json!("server.max_body"))
    );
    assert_eq!(check(&gateway).await, json!({ "valid": false, "mistakes": wrong["file"]["mistakes"] }));
    gateway.api("reload").post(&json!({})).await.refused(422);
    let refused = page(&gateway).await;
    assert_eq!((&refused["version"], &refused["last_reload"]["ok"]), (&json!(2), &json!(false)));
    assert_eq!(refused["last_reload"]["mistakes"], wrong["file"]["mistakes"]);
    assert_eq!(refused["running"], taken["running"], "the last good configuration stays");

    std::fs::remove_file(gateway.config_file()).expect("the file was there");
    let gone = page(&gateway).await;
    assert_eq!((state(&gone), &gone["file"]["text"]), ("missing", &Value::Null));
    assert_eq!(check(&gateway).await["valid"], false);
}

#[tokio::test]
async fn a_file_that_the_configuration_names_counts_too() {
    let gateway = gateway()
        .channel(openai(([127, 0, 0, 1], 1).into()).with("keys", json!([{ "name": "main", "value_file": "secret" }])))
        .file("secret", "canary-file-6\n")
        .start()
        .await;
    assert_eq!(state(&page(&gateway).await), "same");
    let secret = gateway.config_file().with_file_name("secret");
    std::fs::write(&secret, "canary-file-7\n").expect("a file");
    let changed = page(&gateway).await;
    assert_eq!(state(&changed), "changed");
    assert!(!changed.to_string().contains("canary"), "{changed}");
    std::fs::remove_file(secret).expect("the file was there");
    assert_eq!(state(&page(&gateway).await), "invalid");
}

#[tokio::test]
async fn what_was_made_over_the_api_is_running_and_must_go_with_the_file() {
    let mut gateway = started().await;
    gateway.api("users").post(&json!({ "name": "carol" })).await.expect(201);
    gateway.api("keys").post(&json!({ "name": "made", "user": "user-of-alice" })).await.expect(201);
    let made = page(&gateway).await;
    assert_eq!((state(&made), &made["running"]["counts"]), ("same", &json!({ "channels": 1, "users": 2, "keys": 2 })));
    gateway.rewrite(|config| {
        config["users"] = json!([]);
        config["keys"] = json!([]);
    });
    let misfit = page(&gateway).await;
    assert_eq!(state(&misfit), "invalid");
    let mistake = &misfit["file"]["mistakes"][0];
    assert_eq!((&mistake["file"], &mistake["line"]), (&Value::Null, &Value::Null));
    assert!(mistake["message"].as_str().is_some_and(|message| message.contains("`made`")), "{mistake}");
}

#[tokio::test]
async fn no_secret_is_on_the_page_however_the_file_is_broken() {
    let loki = json!({ "url": "http://127.0.0.1:1", "username": "weir", "password": CANARIES[4] });
    let mut gateway = gateway()
        .channel(openai(([127, 0, 0, 1], 1).into()).presents(CANARIES[0]))
        .key("alice")
        .environment("SECRET_CANARY", CANARIES[2])
        .with("admin.metrics_token", "${SECRET_CANARY}")
        .with("headers", json!({ "set_request": { "x-internal": CANARIES[3] } }))
        .with("audit", json!({ "loki": loki }))
        .start()
        .await;
    let sha256 = |gateway: &mut Gateway| {
        let mut found = String::new();
        gateway.rewrite(|config| found = config["keys"][0]["sha256"].as_str().expect("a digest").to_owned());
        found
    };
    let digest = sha256(&mut gateway);
    let clean = async |gateway: &Gateway, what: &str| {
        let (shown, checked) = (page(gateway).await.to_string(), check(gateway).await.to_string());
        for canary in CANARIES.iter().copied().chain([crate::support::ADMIN_TOKEN, &*digest]) {
            assert!(!shown.contains(canary) && !checked.contains(canary), "{what}: {canary} in {shown} or {checked}");
        }
        assert!(shown.contains("(masked)"), "{what}: {shown}");
    };
    clean(&gateway, "as it runs").await;
    let text = std::fs::read_to_string(gateway.config_file()).expect("the file");
    let text = text.replace("${SECRET_CANARY}", CANARIES[1]);
    for (from, to) in [
        ("\"value\"", "\"vlaue\""),
        ("\"token\"", "\"tokn\""),
        ("\"keys\": [", "\"keys\": ["),
        ("\"channels\"", "\"channels"),
        ("\"password\": ", "\"password\" "),
        ("}", ""),
        ("\"", ""),
        ("{", "{ # "),
        ("\"openai\"", "\"openai"),
        ("\n", "\r\n"),
    ] {
        gateway.write_text(&text.replacen(from, to, 1));
        clean(&gateway, &format!("{from} for {to}")).await;
        gateway.write_text(&text.replace(from, to));
        clean(&gateway, &format!("every {from} for {to}")).await;
    }
    let comment = format!("# the old token: {}\n# value: {}\n{text}", CANARIES[1], CANARIES[0]);
    gateway.write_text(&comment);
    clean(&gateway, "in a comment").await;
    assert!(!gateway.stderr().contains("canary-"), "{}", gateway.stderr());
}
