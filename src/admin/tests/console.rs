//! What the console asks, and how it is answered.

use reqwest::StatusCode;

use super::*;

impl Console for Gateway {
    fn overview(&self) -> Value {
        json!({ "ready": self.readiness().is_empty() })
    }

    fn config(&self) -> Value {
        json!({ "version": 7 })
    }

    fn check_config(&self) -> Value {
        json!({ "valid": true, "mistakes": [] })
    }

    fn drain(&self, channel: &str, is_drained: bool) -> Result<Value, Refused> {
        if channel != "miniai" {
            return Err(Refused::NotFound(crate::catalog::Kind::Channel));
        }
        Ok(json!({ "name": channel, "state": if is_drained { "draining" } else { "healthy" } }))
    }
}

async fn post(bench: &Bench, path: &str, body: &str) -> (StatusCode, Value) {
    let url = format!("http://{}{path}", bench.handle.address());
    let asked = bench.http.post(url).bearer_auth(TOKEN).body(body.to_owned()).send().await.unwrap();
    (asked.status(), serde_json::from_str(&asked.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_channel_is_drained_and_put_back_by_one_word() {
    let bench = Bench::new();
    let path = "/admin/api/channels/miniai/drain";
    for (body, state) in [(r#"{"drain":true}"#, "draining"), (r#"{"drain":false}"#, "healthy")] {
        assert_eq!(post(&bench, path, body).await, (StatusCode::OK, json!({ "name": "miniai", "state": state })));
    }
    for (body, message) in [
        ("", "`drain` must be true or false"),
        (r#"{"drain":"yes"}"#, "`drain` must be true or false"),
        (r#"{"drain":true,"for":"1h"}"#, "unknown field; there is `drain`"),
        ("[]", "the body must be a JSON object"),
    ] {
        let (status, answer) = post(&bench, path, body).await;
        assert_eq!((status, &answer["error"]["message"]), (StatusCode::BAD_REQUEST, &json!(message)), "{body}");
    }
    assert_eq!(post(&bench, "/admin/api/channels/x/drain", r#"{"drain":true}"#).await.0, StatusCode::NOT_FOUND);
    assert_eq!(bench.ask(Method::POST, path, None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(bench.ask(Method::GET, path, Some(TOKEN)).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_pages_of_a_gateway_are_behind_the_token() {
    let bench = Bench::new();
    for (method, path, shown) in [
        (Method::GET, "/admin/api/overview", r#"{"ready":true}"#),
        (Method::GET, "/admin/api/config", r#"{"version":7}"#),
        (Method::POST, "/admin/api/config/check", r#"{"valid":true,"mistakes":[]}"#),
    ] {
        let answer = bench.ask(method.clone(), path, Some(TOKEN)).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        let expected: Value = serde_json::from_str(shown).unwrap();
        assert_eq!((status, serde_json::from_str::<Value>(&text).unwrap()), (StatusCode::OK, expected), "{path}");
        assert_eq!(bench.ask(method, path, None).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}
