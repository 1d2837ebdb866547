//! What each path answers.

use std::os::unix::fs::PermissionsExt;

use reqwest::StatusCode;

use super::*;
use crate::ledger::Step;
use crate::metrics::AuthFailure;

#[tokio::test]
async fn healthz_is_ok_without_a_token() {
    let response = Bench::new().ask(Method::GET, "/healthz", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(header(&response, "content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
    assert_eq!(response.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn readyz_names_what_is_not_ready() {
    let bench = Bench::new();
    assert_eq!(bench.get("/readyz", None).await, (200, r#"{"ready":true,"reasons":[]}"#.into()));
    let reason = NotReady { part: "store", message: "is being rebuilt".into() };
    bench.gateway.not_ready.lock().unwrap().push(reason);
    let body = r#"{"ready":false,"reasons":[{"message":"is being rebuilt","part":"store"}]}"#;
    assert_eq!(bench.get("/readyz", None).await, (503, body.into()));
}

#[tokio::test]
async fn metrics_are_open_without_a_metrics_token() {
    let bench = Bench::new();
    bench.gateway.metrics.auth_failure(AuthFailure::Missing);
    let response = bench.ask(Method::GET, "/metrics", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text().await.unwrap();
    assert_eq!(text.matches("\nweir_auth_failures_total{reason=\"missing\"} 1\n").count(), 1);
}

#[tokio::test]
async fn a_metrics_token_closes_metrics_at_the_network_only() {
    let bench = Bench::with(Gateway::new(), Some("scrape"), Limits::DEFAULT);
    let body = r#"{"error":{"code":"unauthorized","message":"the metrics token is needed, as Authorization: Bearer"}}"#;
    for token in [None, Some("wrong"), Some(TOKEN)] {
        assert_eq!(bench.get("/metrics", token).await, (401, body.into()), "{token:?}");
    }
    assert_eq!(bench.get("/metrics", Some("scrape")).await.0, 200);
    assert_eq!(bench.client().get("/metrics").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn the_api_needs_the_token_even_for_paths_that_are_not_there() {
    let bench = Bench::new();
    let body = r#"{"error":{"code":"unauthorized","message":"the admin token is needed, as Authorization: Bearer, or a session"}}"#;
    for path in ["/admin/api/usage?by=key", "/admin/api/reload", "/admin/api/nothing"] {
        for token in [None, Some(""), Some("wrong"), Some("weir-admin-tes")] {
            let response = bench.ask(Method::GET, path, token).await;
            assert_eq!(header(&response, "www-authenticate"), Some(r#"Bearer realm="weir""#));
            assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (401, body.into()), "{path}");
        }
    }
    assert_eq!(*bench.gateway.asked.lock().unwrap(), None, "nobody without the token reaches the state");
}

#[tokio::test]
async fn usage_asks_the_state_what_the_query_says() {
    let bench = Bench::new();
    let path = "/admin/api/usage?by=key&from=2025-12-02T01:00:00%2B01:00&to=1764720000&step=hour";
    let shown = |body: &str| -> Value {
        let body: Value = serde_json::from_str(body).unwrap();
        let rows = |of: &str| -> Value {
            body[of].as_array().unwrap().iter().map(|row| json!([row["key"], row["requests"]])).collect()
        };
        json!({ "rows": rows("rows"), "rest": rows("rest"), "values": body["values"] })
    };
    let (status, body) = bench.get(path, Some(TOKEN)).await;
    let all = json!({ "rows": [["alice-laptop", 3], ["bob", 2], ["carol", 1]], "rest": [], "values": 3 });
    assert_eq!((status, shown(&body)), (200, all));
    let (status, body) = bench.get("/admin/api/usage?by=key&top=1", Some(TOKEN)).await;
    let most = json!({ "rows": [["alice-laptop", 3]], "rest": [[null, 3]], "values": 3 });
    assert_eq!((status, shown(&body)), (200, most));
    bench.get(path, Some(TOKEN)).await;
    let (from, to) = (Some(1_764_633_600_000), Some(1_764_720_000_000));
    let expected = UsageQuery { by: By::Key, from, to, step: Some(Step::Hour), ..UsageQuery::default() };
    assert_eq!(*bench.gateway.asked.lock().unwrap(), Some(expected));
    assert_eq!(
        bench.get("/admin/api/usage?by=route", Some(TOKEN)).await,
        (200, r#"{"rest":[],"rows":[],"values":0}"#.into())
    );
}

#[tokio::test]
async fn a_wrong_query_is_answered_with_its_parameter() {
    let bench = Bench::new();
    for (query, parameter, message) in [
        ("", "by", "must be one of key, user, model, channel, route, day"),
        ("?by=price", "by", "must be one of key, user, model, channel, route, day"),
        ("?by=key&step=week", "step", "must be one of minute, hour, day, month"),
        ("?by=key&from=now", "from", "must be a time such as 2026-11-21T08:00:00Z, or seconds since 1970"),
        ("?by=key&%3Cb%3E=1", "<b>", "unknown parameter; there are by, from, to, step, top, key_id and user"),
        ("?by=day", "step", "rows are days already"),
        (
            "?by=channel&step=hour",
            "step",
            "there are more than 100000 rows; give a later `from`, a coarser `step`, or `top` for the dearest",
        ),
        (
            "?by=channel",
            "top",
            "there are more than 100000 rows; give a later `from`, a coarser `step`, or `top` for the dearest",
        ),
    ] {
        let (status, body) = bench.get(&format!("/admin/api/usage{query}"), Some(TOKEN)).await;
        let message = format!("{parameter}: {message}");
        let expected = json!({ "error": { "code": "bad_request", "message": message, "parameter": parameter } });
        assert_eq!((status, body), (400, expected.to_string()), "{query}");
    }
}

#[tokio::test]
async fn what_the_state_cannot_answer_is_an_error_and_the_listener_lives() {
    let bench = Bench::new();
    let body = r#"{"error":{"code":"unavailable","message":"the store is being rebuilt"}}"#;
    assert_eq!(bench.get("/admin/api/usage?by=user", Some(TOKEN)).await, (503, body.into()));
    let body = r#"{"error":{"code":"failed","message":"the gateway failed to answer; see its log"}}"#;
    assert_eq!(bench.get("/admin/api/usage?by=model", Some(TOKEN)).await, (500, body.into()));
    assert_eq!(bench.get("/healthz", None).await, (200, "ok".into()));
}

#[tokio::test]
async fn reload_tells_the_version_or_all_mistakes() {
    let bench = Bench::new();
    let response = bench.ask(Method::POST, "/admin/api/reload", Some(TOKEN)).await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, r#"{"version":7}"#.into()));
    *bench.gateway.reload.lock().unwrap() = Err(vec!["weir.yaml:3:1: unknown field".into(), "second".into()]);
    let response = bench.ask(Method::POST, "/admin/api/reload", Some(TOKEN)).await;
    let message = "the configuration was not taken; the one before it is still served";
    let mistakes = ["weir.yaml:3:1: unknown field", "second"];
    let expected = json!({ "error": { "code": "invalid", "message": message, "mistakes": mistakes } });
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (422, expected.to_string()));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let bench = Bench::new();
    let url = format!("http://{}/admin/api/reload", bench.handle.address());
    for (size, status) in [(64 * 1024, 200), (64 * 1024 + 1, 413)] {
        let response = bench.http.post(&url).bearer_auth(TOKEN).body(vec![b'x'; size]).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{size} bytes");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow() {
    let bench = Bench::new();
    for (method, path, allow) in [
        (Method::POST, "/healthz", "GET,HEAD"),
        (Method::PUT, "/readyz", "GET,HEAD"),
        (Method::DELETE, "/metrics", "GET,HEAD"),
        (Method::POST, "/admin/api/usage", "GET,HEAD"),
        (Method::GET, "/admin/api/reload", "POST"),
    ] {
        let response = bench.ask(method, path, Some(TOKEN)).await;
        assert_eq!(header(&response, "allow"), Some(allow), "{path}");
        let body = r#"{"error":{"code":"method_not_allowed","message":"this path does not take this method"}}"#;
        assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (405, body.into()), "{path}");
    }
}

#[tokio::test]
async fn any_other_path_is_404() {
    let bench = Bench::new();
    let body = r#"{"error":{"code":"not_found","message":"there is nothing at this path"}}"#;
    for path in ["/admin/api/confg", "/healthz/", "/v1/models", "/admin/%61pi/usage", "//metrics"] {
        assert_eq!(bench.get(path, Some(TOKEN)).await, (404, body.into()), "{path}");
    }
}

#[tokio::test]
async fn the_socket_needs_no_token_and_is_its_owners_alone() {
    let bench = Bench::new();
    let file = std::fs::symlink_metadata(bench.home.path().join(SOCKET)).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let answer = bench.client().get("/admin/api/usage?by=key").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json().unwrap()["rows"][0]["requests"].clone()), (200, json!(3)));
    let answer = bench.client().post("/admin/api/reload").await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &br#"{"version":7}"#[..]));
    let answer = bench.client().get("/admin/api/nothing").await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
}
