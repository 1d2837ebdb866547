//! What the console asks, and how it is answered.

use reqwest::StatusCode;

use super::*;

impl Console for Gateway {
    fn run_channel(&self, channel: &str, asked: &RunAsked) -> Result<Trial, Refused> {
        Ok(self.told(json!({ "channel": channel, "model": asked.model, "key": asked.key })))
    }

    fn monitored(&self, _: &crate::admin::console::MonitorAsked) -> crate::admin::console::MonitorPage {
        self.begin();
        crate::admin::console::MonitorPage::default()
    }

    fn runs(
        &self,
        _: &str,
        _: &crate::admin::console::MonitorAsked,
    ) -> Result<crate::admin::console::MonitorPage, Refused> {
        self.begin();
        Ok(crate::admin::console::MonitorPage::default())
    }

    fn monitor_now(&self, channel: &str) -> Result<String, Refused> {
        self.begin();
        Ok(channel.to_owned())
    }

    fn test_proxy(&self, asked: ProxyAsked) -> Result<Trial, Refused> {
        let ProxyAsked { key, operation, model, stream, prompt } = asked;
        Ok(self.told(json!([key.expose(), operation, model, stream, prompt])))
    }

    fn overview(&self) -> Value {
        self.begin();
        json!({ "ready": self.readiness().is_empty() })
    }

    fn config(&self) -> Value {
        self.begin();
        json!({ "version": 7 })
    }

    fn check_config(&self) -> Value {
        self.begin();
        json!({ "valid": true, "mistakes": [] })
    }

    fn drain(&self, channel: &str, is_drained: bool, _: &Actor) -> Result<Value, Refused> {
        self.begin();
        if let Some(Err(refused)) = self.answers.lock().unwrap().pop() {
            return Err(refused);
        }
        if channel != "miniai" {
            return Err(Refused::NotFound(crate::catalog::Kind::Channel));
        }
        Ok(json!({ "name": channel, "state": if is_drained { "draining" } else { "healthy" } }))
    }
}

impl Gateway {
    /// What comes of a trial: nothing as long as the state hangs.
    fn told(&self, trial: Value) -> Trial {
        let (is_held, is_broken) = (self.held.load(Ordering::SeqCst), self.broken.load(Ordering::SeqCst));
        Box::pin(async move {
            if is_held {
                std::future::pending::<()>().await;
            }
            assert!(!is_broken, "a mistake in the state");
            trial
        })
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

#[tokio::test]
async fn what_is_to_be_tried_is_read_or_refused_field_by_field() {
    let bench = Bench::new();
    let run = "/admin/api/channels/miniai/run";
    for (body, expected) in [
        ("", json!({ "channel": "miniai", "model": null, "key": null })),
        (r#"{"model":"m","key":"k"}"#, json!({ "channel": "miniai", "model": "m", "key": "k" })),
    ] {
        assert_eq!(post(&bench, run, body).await, (StatusCode::OK, expected));
    }
    let test = "/admin/api/proxy/test";
    let (status, read) = post(&bench, test, r#"{"key":"sk","operation":"o","model":"m","stream":false}"#).await;
    assert_eq!((status, read), (StatusCode::OK, json!(["sk", "o", "m", false, null])));
    for (path, body, fields) in [
        (run, r#"{"model":1,"modle":"x"}"#, vec!["model", "modle"]),
        (test, "{}", vec!["key", "operation", "model"]),
        (test, r#"{"key":"","operation":"o","model":["sk-canary"],"stream":"yes"}"#, vec!["key", "model", "stream"]),
    ] {
        let (status, answer) = post(&bench, path, body).await;
        let mistakes = answer["error"]["mistakes"].as_array().expect("several");
        let named: Vec<_> = mistakes.iter().map(|mistake| mistake["field"].as_str().unwrap()).collect();
        assert_eq!((status, named), (StatusCode::BAD_REQUEST, fields), "{body}");
        assert!(!answer.to_string().contains("canary"), "{answer}");
    }
}
