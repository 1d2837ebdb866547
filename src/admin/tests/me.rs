//! What is asked of whom, for those who ask for their own.

use super::*;

async fn get(bench: &Bench, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = bench.http.get(format!("http://{}/api/{path}", bench.handle.address()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_client_key_counts_in_every_form_and_asks_for_itself_alone() {
    let bench = Bench::new();
    let forms = [
        ("usage/stats?by=key", Some(("authorization", "Bearer sk-alice"))),
        ("usage/stats?by=key", Some(("x-api-key", "sk-alice"))),
        ("usage/stats?by=key", Some(("x-goog-api-key", "sk-alice"))),
        ("usage/stats?by=key&key=sk-alice", None),
    ];
    for (path, header) in forms {
        bench.gateway.asked.lock().unwrap().take();
        let said = get(&bench, path, header.as_slice()).await;
        let row = &said.1["rows"][0];
        assert_eq!((said.0, &row["key"], &row["requests"]), (200, &json!("alice-laptop"), &json!(3)), "{header:?}");
        let asked = bench.gateway.asked.lock().unwrap().take().expect("a question");
        assert_eq!((asked.by, asked.key_id.as_deref(), asked.user), (By::Key, Some("k1"), None));
    }
    let records = get(&bench, "usage/records?key=renamed", &[("x-api-key", "sk-alice")]).await;
    assert_eq!(records, (200, json!({ "rows": [], "next": null })));
    let wanted = bench.gateway.wanted.lock().unwrap().take().expect("a question");
    assert_eq!((wanted.key.as_deref(), wanted.key_id.as_deref()), (Some("renamed"), Some("k1")));
}

#[tokio::test]
async fn whose_key_does_not_count_is_told_so_and_reaches_nobody() {
    let bench = Bench::new();
    for (headers, status, message) in [
        (&[][..], 401, "a client key is needed, or a session"),
        (&[("x-api-key", "sk-unknown")], 401, "this is no client key"),
        (&[("authorization", "Bearer weir-admin-test")], 401, "this is no client key"),
        (&[("authorization", "Basic x")], 401, "this is no client key"),
        (&[("x-api-key", "sk-disabled")], 403, "this key is disabled"),
        (&[("x-api-key", "sk-expired")], 403, "this key has expired"),
        (
            &[("x-api-key", "sk-alice"), ("x-goog-api-key", "sk-other")],
            400,
            "two client keys are presented that differ",
        ),
    ] {
        for path in ["usage/summary", "usage/daily", "usage/stats?by=model", "usage/records", "usage/models", "keys"] {
            let (found, said) = get(&bench, path, headers).await;
            assert_eq!((found, &said["error"]["message"]), (status, &json!(message)), "{path} {headers:?}");
        }
    }
    assert!(bench.gateway.commands.lock().unwrap().is_empty() && bench.gateway.asked.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_wrong_parameter_is_named_and_nobody_can_ask_for_another() {
    let bench = Bench::new();
    let key = [("x-api-key", "sk-alice")];
    for (path, parameter) in [
        ("usage/stats", "by"),
        ("usage/stats?by=user", "by"),
        ("usage/stats?by=channel", "by"),
        ("usage/stats?by=model&user=bob", "user"),
        ("usage/daily?from=noon", "from"),
        ("usage/daily?from=2&to=1", "to"),
        ("usage/monthly?step=day", "step"),
        ("usage/summary?user=bob", "user"),
        ("usage/models?user=bob", "user"),
        ("usage/records?user=bob", "user"),
        ("usage/records?channel=openai", "channel"),
        ("usage/records?limit=0", "limit"),
        ("keys?user=bob", "user"),
    ] {
        let (status, said) = get(&bench, path, &key).await;
        assert_eq!((status, &said["error"]["parameter"]), (400, &json!(parameter)), "{path}");
    }
    for (method, path) in [("POST", "keys"), ("PATCH", "keys/1"), ("DELETE", "keys/1"), ("POST", "keys/1/rotate")] {
        let url = format!("http://{}/api/{path}", bench.handle.address());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let response = bench.http.request(method, url).header("x-api-key", "sk-alice").body("{}").send().await.unwrap();
        assert_eq!(response.status().as_u16(), 403, "{path}: a key makes no keys");
    }
    assert!(bench.gateway.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_asks_for_their_own_takes_no_place_of_administrators() {
    let bench = Bench::new();
    bench.gateway.held.store(true, Ordering::SeqCst);
    let url = |path: &str| format!("http://{}{path}", bench.handle.address());
    let own: Vec<_> = (0..4)
        .map(|_| tokio::spawn(bench.http.get(url("/api/usage/stats?by=key")).header("x-api-key", "sk-alice").send()))
        .collect();
    bench.until_running(1).await;
    let others: Vec<_> = (0..2)
        .map(|_| tokio::spawn(bench.http.get(url("/admin/api/usage?by=key")).bearer_auth(TOKEN).send()))
        .collect();
    bench.until_running(3).await;
    bench.gateway.held.store(false, Ordering::SeqCst);
    for asked in own.into_iter().chain(others) {
        assert_eq!(asked.await.unwrap().unwrap().status().as_u16(), 200);
    }
    assert_eq!(bench.gateway.most_running.load(Ordering::SeqCst), 3, "of their own one at a time");
}

#[tokio::test]
async fn who_has_their_own_summed_too_often_is_told_when_to_ask_again() {
    let bench = Bench::new();
    let url = format!("http://{}/api/usage/stats?by=key", bench.handle.address());
    let mut response = None;
    for _ in 0..200 {
        let asked = bench.http.get(&url).header("x-api-key", "sk-alice").send().await.unwrap();
        if asked.status().as_u16() != 200 {
            response = Some(asked);
            break;
        }
    }
    let response = response.expect("it comes to an end");
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, Some("1")));
    let said: Value = response.json().await.unwrap();
    assert_eq!(said, json!({ "error": { "code": "throttled", "message": "too many questions; ask again in 1 s" } }));
    assert_eq!(get(&bench, "usage/records", &[("x-api-key", "sk-alice")]).await.0, 200, "that sums nothing");
}
