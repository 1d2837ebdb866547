//! What the document says of a gateway that breaks, is too slow, full or on its way out.

use super::*;

/// Every operation that may be refused so: its method, a path, a body, and the schema of that refusal.
fn refused_with(document: &Value, code: &str) -> Vec<(Method, String, &'static str, Value)> {
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // What is for whoever has signed in is asked beside sessions.
            if operation["security"].as_array().is_some_and(|ways| ways.iter().any(|way| way["session"].is_array()))
                && !operation["security"].as_array().is_some_and(|ways| ways.iter().any(|way| way["token"].is_array()))
                || path == "/admin/api/login"
            {
                continue;
            }
            for (_, response) in operation["responses"].as_object().unwrap() {
                let schema = &response["content"]["application/json"]["schema"];
                let codes = schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"].as_array();
                if codes.is_some_and(|codes| codes.contains(&code.into())) {
                    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                    let path = path.replace("{id}", &"0".repeat(32)).replace("{name}", "a");
                    let path = if path.ends_with("/usage") { format!("{path}?by=channel") } else { path };
                    let body = match path.rsplit('/').next().unwrap() {
                        "order" => "[]",
                        "drain" => r#"{"drain":true}"#,
                        "test" => r#"{"key":"k","operation":"openai.chat","model":"m"}"#,
                        _ => "{}",
                    };
                    found.push((method, path, body, schema.clone()));
                }
            }
        }
    }
    found
}

impl Bench {
    async fn document(&self) -> Value {
        serde_json::from_str(&self.get("/admin/api/openapi.json", Some(TOKEN)).await.1).unwrap()
    }

    /// Asks, and holds the answer against the document.
    async fn is_refused(
        &self,
        document: &Value,
        (method, path, body, schema): (Method, String, &'static str, Value),
        expected: (u16, &str),
    ) {
        let url = format!("http://{}{path}", self.handle.address());
        let response = self.http.request(method.clone(), url).bearer_auth(TOKEN).body(body).send().await.unwrap();
        let (status, said): (u16, Value) = (response.status().as_u16(), response.json().await.unwrap());
        assert_eq!((status, said["error"]["code"].as_str()), (expected.0, Some(expected.1)), "{method} {path}");
        let mut whole = schema;
        whole["components"] = document["components"].clone();
        jsonschema::validate(&whole, &said).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
    }
}

#[tokio::test]
async fn whatever_asks_a_state_that_breaks_or_hangs_is_answered_as_documented() {
    let limits = Limits { request: Duration::from_millis(30), ..Limits::DEFAULT };
    let bench = Bench::with(Gateway::new(), None, limits);
    let document = bench.document().await;
    bench.gateway.held.store(true, Ordering::SeqCst);
    bench.gateway.stuck.store(true, Ordering::SeqCst);
    let slow = refused_with(&document, "unavailable");
    assert!(slow.len() >= 20, "{}", slow.len());
    for case in slow.into_iter().filter(|(_, path, ..)| !path.ends_with("/events")) {
        bench.is_refused(&document, case, (503, "unavailable")).await;
    }
    bench.gateway.held.store(false, Ordering::SeqCst);
    bench.gateway.stuck.store(false, Ordering::SeqCst);
    let bench = Bench::new();
    bench.gateway.broken.store(true, Ordering::SeqCst);
    let broken = refused_with(&document, "failed");
    assert!(broken.len() >= 20, "{}", broken.len());
    for case in broken {
        bench.is_refused(&document, case, (500, "failed")).await;
    }
}

#[tokio::test]
async fn changes_that_find_no_room_or_no_gateway_are_refused_as_documented() {
    let bench = Bench::new();
    let document = bench.document().await;
    for code in ["full", "upgrading"] {
        let cases = refused_with(&document, code);
        assert!(cases.len() >= 8, "{code}: {}", cases.len());
        for case in cases {
            bench.gateway.answers.lock().unwrap().push(Err(Refused::Conflict { code, message: "why".into() }));
            bench.is_refused(&document, case, (409, code)).await;
        }
    }
}

#[tokio::test]
async fn who_would_follow_as_one_too_many_is_refused_as_documented() {
    let bench = Bench::new();
    let document = bench.document().await;
    let _followers: Vec<_> = std::iter::from_fn(|| bench.gateway.live.follow(&Filter::default(), None)).collect();
    let cases = refused_with(&document, "unavailable");
    let case = cases.into_iter().find(|(_, path, ..)| path.ends_with("/events")).unwrap();
    bench.is_refused(&document, case, (503, "unavailable")).await;
}

#[tokio::test]
async fn the_document_is_open_to_whoever_may_use_the_api() {
    let bench = Bench::new();
    assert_eq!(bench.get("/admin/api/openapi.json", None).await.0, 401);
    let answer = bench.client().get("/admin/api/openapi.json").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json().unwrap()["openapi"].clone()), (200, json!("3.1.1")));
    let not_ready = NotReady { part: "listen", message: "is not open yet".into() };
    bench.gateway.not_ready.lock().unwrap().push(not_ready);
    let (status, said) = bench.get("/readyz", None).await;
    let document = bench.document().await;
    let mut schema =
        document["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    jsonschema::validate(&schema, &serde_json::from_str(&said).unwrap()).unwrap();
    assert_eq!(status, 503);
}
