//! Where a channel may lead: what is made over the admin API reaches public addresses only, and nobody is led on.

use serde_json::{Value, json};

use crate::support::{Gateway, Upstream, answer, eventually, gateway, openai, upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

async fn ok() -> Upstream {
    upstream([answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#)]).await
}

fn channel(base_url: &str) -> Value {
    json!({
        "name": "made", "protocol": "openai", "base_url": base_url, "models": ["gpt-*"],
        "keys": [{ "name": "main", "value": "sk-made" }],
    })
}

async fn ask(gateway: &Gateway) -> u16 {
    gateway.post(CHAT).key("alice").body(BODY).send().await.status
}

#[tokio::test]
async fn an_address_that_is_not_public_is_refused_as_soon_as_it_is_given() {
    let inside = ok().await;
    let port = inside.address().port();
    let gateway = gateway().key("alice").with("admin.allow_private_upstreams", false).start().await;
    let setting =
        "over the API only public addresses may be given, unless the file sets `admin.allow_private_upstreams`";
    for (host, class) in [
        ("127.0.0.1", "a loopback address"),
        ("127.9.9.9", "a loopback address"),
        ("[::1]", "a loopback address"),
        ("[::ffff:127.0.0.1]", "a loopback address"),
        ("[64:ff9b::7f00:1]", "a loopback address"),
        ("[2002:7f00:1::]", "a loopback address"),
        ("0.0.0.0", "an unspecified address"),
        ("[::]", "an unspecified address"),
        ("10.0.0.1", "a private address"),
        ("[fd00::1]", "a private address"),
        ("100.64.0.1", "a carrier's shared address"),
        ("224.0.0.1", "a multicast address"),
        ("203.0.113.1", "a reserved address"),
    ] {
        let refused = gateway.api("channels").post(&channel(&format!("http://{host}:{port}"))).await.refused(400);
        assert_eq!(refused, ("invalid".into(), format!("`base_url` leads to {class}: {setting}")), "{host}");
    }
    for host in ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "[::ffff:169.254.169.254]"] {
        let refused = gateway.api("channels").post(&channel(&format!("http://{host}:{port}"))).await.refused(400);
        let message = "`base_url` leads to a metadata or link-local address, which no channel may";
        assert_eq!(refused, ("invalid".into(), message.into()), "{host}");
    }
    for host in ["0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "127.1", "127.0.0.1."] {
        let (code, message) =
            gateway.api("channels").post(&channel(&format!("http://{host}:{port}"))).await.refused(400);
        assert!(message.contains("four plain decimal numbers"), "{host}: {code} {message}");
    }
    gateway.api("channels").post(&channel("https://api.example.com")).await.expect(201);
    let moved = json!({ "base_url": format!("http://127.0.0.1:{port}"), "keys": [{ "name": "main", "value": "sk" }] });
    let (_, message) = gateway.api("channels/made").patch(&moved).await.refused(400);
    assert!(message.starts_with("`base_url` leads to a loopback address"), "{message}");
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to_and_another_channel_serves() {
    let (inside, declared) = (ok().await, ok().await);
    let gateway = gateway()
        .channel(openai(declared.address()).with("priority", 1))
        .key("alice")
        .with("admin.allow_private_upstreams", false)
        .start()
        .await;
    let url = format!("http://localhost:{}", inside.address().port());
    gateway.api("channels").post(&channel(&url)).await.expect(201);
    assert_eq!(ask(&gateway).await, 200);
    assert_eq!((inside.connections(), declared.heads()), (0, 1));
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("weir_channel_addresses_refused_total{channel=\"made\"} 1\n"), "{metrics}");
    assert!(gateway.stderr().contains("the name localhost leads to a loopback address"), "{}", gateway.stderr());
}

#[tokio::test]
async fn the_setting_takes_effect_at_a_reload_both_ways() {
    let inside = ok().await;
    let mut gateway = gateway().key("alice").with("admin.allow_private_upstreams", false).start().await;
    let url = format!("http://localhost:{}", inside.address().port());
    gateway.api("channels").post(&channel(&url)).await.expect(201);
    for (allowed, status, connections) in [(false, 502, 0), (true, 200, 1), (false, 502, 1)] {
        gateway.rewrite(|config| config["admin"]["allow_private_upstreams"] = json!(allowed));
        gateway.api("reload").post(&json!({})).await.expect(200);
        // The channel may cool down from what it was refused before.
        let what = format!("{status} after a reload");
        eventually(&what, async || (ask(&gateway).await == status).then_some(())).await;
        assert_eq!(inside.connections(), connections, "allowed: {allowed}");
    }
    assert!(!gateway.stderr().contains("a change of admin takes effect at the next start"), "{}", gateway.stderr());
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let elsewhere = ok().await;
    let location = format!("http://{}/v1/chat/completions", elsewhere.address());
    for status in [301, 302, 303, 307, 308] {
        let headers = [("location", location.as_str()), ("content-type", "text/plain"), ("x-kept", "1")];
        let upstream = upstream([answer(status, &headers, "moved")]).await;
        let gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
        let answer = gateway.post(CHAT).key("alice").body(BODY).send().await;
        let seen = (answer.status, answer.header("location"), answer.header("x-kept"), answer.text());
        assert_eq!(seen, (status, location.as_str(), "1", "moved".to_owned()));
        assert_eq!((upstream.heads(), elsewhere.connections()), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_declared_channel_that_leads_to_metadata_is_a_mistake_with_its_line() {
    let upstream = ok().await;
    let mut gateway = gateway().channel(openai(upstream.address())).key("alice").start().await;
    for (url, mistake) in [
        ("http://169.254.169.254/latest", "`base_url` leads to a metadata or link-local address, which no channel may"),
        ("http://0xa9fea9fe/latest", "`base_url` must be a URL whose address is four plain decimal numbers"),
    ] {
        gateway.rewrite(|config| config["channels"][0]["base_url"] = json!(url));
        let output = gateway.command(&["check"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("weir.yaml:") && said.contains(mistake), "{said}");
    }
}
