//! `GET /api/usage/records`: one's own requests.
//!
//! Owns which fields of a record whoever made the request sees. What is not named here is not shown: where a request
//! went, what its upstream said of it, and whatever a record may say one day.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::document::schemas::{cursor, limit, moment, of, or_null};
use super::super::parameters::{self, Mistake};
use super::super::table::{Endpoint, Parameter};
use super::super::{answer, pages, problem, requests};
use super::Asker;
use crate::admin::server::{Failed, Shared};
use crate::audit::{self, MAX_LIMIT, Page};
use crate::catalog::Owner;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let exact = || json!({ "type": "string", "minLength": 1 });
    let status = json!({ "type": "string", "pattern": "^([1-9][0-9]{2}|[1-9]xx|none)$" });
    vec![
        Endpoint::own(Method::GET, "/api/usage/records", "listOwnRequests", list)
            .about("One's own recent requests, newest first.")
            .takes(Parameter::query("key", "Only those of the key with this name.", exact()))
            .takes(Parameter::query("model", "Only those that asked for this model.", exact()))
            .takes(Parameter::query("status", "Only those with this status, this class, or none.", status))
            .takes(Parameter::query("from", "The first moment.", moment()))
            .takes(Parameter::query("to", "The moment after the last.", moment()))
            .takes(Parameter::query("limit", "How many at most; 50 if nothing is said.", limit(MAX_LIMIT)))
            .takes(Parameter::query("cursor", "The `next` of the page before.", cursor()))
            .gives(200, "A page.", pages::schema(of("OwnRecord"), or_null(cursor())))
            .refuses(&[problem::HISTORY_DISABLED])
            .asks(),
    ]
}

async fn list(State(shared): State<Arc<Shared>>, asker: Asker) -> Response {
    let query = match query(&asker.owner, &asker.parameters) {
        Ok(query) => query,
        Err(mistake) => return mistake.answer(),
    };
    let asked = shared.query_own(move |state| match state.requests(&query) {
        Ok(Page { rows, next }) => {
            let rows: Vec<String> = rows.iter().filter_map(|row| trimmed(row)).collect();
            pages::answer(&rows, next)
        }
        Err(error) => requests::refused(&error),
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

fn query(owner: &Owner, parameters: &[(String, String)]) -> Result<audit::Query, Mistake> {
    parameters::values(parameters, ["limit", "cursor", "status", "model", "key", "from", "to"])?;
    let query = requests::parse(parameters)?;
    Ok(match owner {
        Owner::User(name) => audit::Query { user: Some(name.clone()), ..query },
        Owner::Key { id, name, .. } => {
            // By its present name it is found, and by its id it is told from others who had that.
            let key = query.key.clone().or_else(|| Some(name.clone()));
            audit::Query { key, key_id: Some(id.clone()), ..query }
        }
    })
}

/// The fields that are shown, each as it was written.
#[derive(Deserialize, Serialize)]
struct Trimmed<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    time: &'a RawValue,
    #[serde(borrow)]
    key_id: &'a RawValue,
    #[serde(borrow)]
    key_name: &'a RawValue,
    #[serde(borrow)]
    operation: &'a RawValue,
    #[serde(borrow)]
    protocol: &'a RawValue,
    #[serde(borrow)]
    model_requested: &'a RawValue,
    #[serde(borrow)]
    stream: &'a RawValue,
    #[serde(borrow)]
    status: &'a RawValue,
    #[serde(borrow)]
    outcome: &'a RawValue,
    #[serde(borrow)]
    error: &'a RawValue,
    #[serde(borrow)]
    events: &'a RawValue,
    #[serde(borrow)]
    request_bytes: &'a RawValue,
    #[serde(borrow)]
    response_bytes: &'a RawValue,
    #[serde(borrow)]
    input_tokens: &'a RawValue,
    #[serde(borrow)]
    output_tokens: &'a RawValue,
    #[serde(borrow)]
    cache_read_tokens: &'a RawValue,
    #[serde(borrow)]
    cache_write_tokens: &'a RawValue,
    #[serde(borrow)]
    reasoning_tokens: &'a RawValue,
    #[serde(borrow)]
    usage_source: &'a RawValue,
    #[serde(borrow)]
    cost_nano_usd: &'a RawValue,
    #[serde(borrow)]
    duration_ms: &'a RawValue,
    #[serde(borrow)]
    ttft_ms: &'a RawValue,
    #[serde(borrow)]
    client_ip: &'a RawValue,
    #[serde(borrow)]
    user_agent: &'a RawValue,
    #[serde(borrow)]
    traceparent: &'a RawValue,
}

/// Their names.
pub(in crate::admin::api) const OWN_RECORD_FIELDS: [&str; 26] = [
    "id",
    "time",
    "key_id",
    "key_name",
    "operation",
    "protocol",
    "model_requested",
    "stream",
    "status",
    "outcome",
    "error",
    "events",
    "request_bytes",
    "response_bytes",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_source",
    "cost_nano_usd",
    "duration_ms",
    "ttft_ms",
    "client_ip",
    "user_agent",
    "traceparent",
];

/// `None`: the line is no record.
fn trimmed(row: &str) -> Option<String> {
    let trimmed: Trimmed<'_> = serde_json::from_str(row).ok()?;
    serde_json::to_string(&trimmed).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_record_says_what_was_asked_and_nothing_of_where_it_went() {
        let shown = json!({
            "id": "0".repeat(32), "time": "2026-11-30T19:20:04.123Z", "key_id": "k1", "key_name": "laptop",
            "operation": "openai.chat", "protocol": "openai", "model_requested": "gpt-4o", "stream": true, "status": 200,
            "outcome": "ok", "error": null, "events": 3, "request_bytes": 9, "response_bytes": 8, "input_tokens": 7,
            "output_tokens": 6, "cache_read_tokens": 5, "cache_write_tokens": 4, "reasoning_tokens": 3,
            "usage_source": "upstream", "cost_nano_usd": 2, "duration_ms": 1.5, "ttft_ms": null,
            "client_ip": "127.0.0.1", "user_agent": "a \"b\"", "traceparent": null,
        });
        let mut record = shown.clone();
        for hidden in [
            "node",
            "user",
            "route",
            "channel",
            "channel_key",
            "model_upstream",
            "model_reported",
            "attempts",
            "usage_raw",
            "overhead_us",
            "request_headers",
            "request_body",
            "response_headers",
            "response_body",
            "new",
        ] {
            record[hidden] = json!([{ "x": "canary" }]);
        }
        let trimmed = trimmed(&record.to_string()).expect("a record");
        assert_eq!(serde_json::from_str::<Value>(&trimmed).expect("JSON"), shown);
        assert!(super::trimmed("{}").is_none() && super::trimmed("x").is_none());
    }

    #[test]
    fn whoever_asks_gets_their_own_whatever_they_ask_for() {
        let parameters = [("key".to_owned(), "other".to_owned()), ("limit".to_owned(), "3".to_owned())];
        let own = query(&Owner::User("alice".into()), &parameters).expect("a question");
        assert_eq!(
            (own.user.as_deref(), own.key.as_deref(), own.key_id, own.limit),
            (Some("alice"), Some("other"), None, 3)
        );
        let key = Owner::Key { id: "k1".into(), name: "laptop".into(), user: Some("alice".into()) };
        let own = query(&key, &parameters).expect("a question");
        assert_eq!((own.user, own.key.as_deref(), own.key_id.as_deref()), (None, Some("other"), Some("k1")));
        assert_eq!(query(&key, &[]).expect("a question").key.as_deref(), Some("laptop"));
        for name in ["user", "channel", "key_id", "x"] {
            let refused = query(&key, &[(name.to_owned(), "a".to_owned())]).expect_err("it is no parameter");
            assert_eq!(refused.into_parts().0, name);
        }
    }
}
