//! `POST /admin/api/channels/{name}/run` and `POST /admin/api/proxy/test`: something is tried out now.
//!
//! Owns the bodies, and that what has begun goes on when whoever asked has left: it costs money, and is booked at its
//! end. What is sent it leaves to the state.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use http::Method;
use serde_json::{Map, Value, json};
use weir_filters::secret::Secret;

use super::document::schemas::{of, or_null, text};
use super::table::{Endpoint, Parameter};
use super::{answer, body, catalog, problem};
use crate::admin::console::{ProxyAsked, RunAsked, Trial};
use crate::admin::server::Shared;
use crate::catalog::Refused;
use crate::config::Wrong;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let name = json!({ "type": "string", "minLength": 1, "pattern": "^[^/]+$" });
    let some = |properties: Value, required: &[&str]| json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties });
    let run_fields = json!({ "model": or_null(text()), "key": or_null(text()) });
    let test_fields = json!({
        "key": { "type": "string", "writeOnly": true }, "operation": text(), "model": text(),
        "stream": or_null(json!({ "type": "boolean" })), "prompt": or_null(text()),
    });
    vec![
        Endpoint::admin(Method::POST, "/admin/api/channels/{name}/run", "runChannel", run)
            .about("Asks a channel now, with the smallest streamed request of its protocol.")
            .takes(Parameter::path("name", "The channel's name.", name))
            .may_read(some(run_fields, &[]))
            .gives(200, "How it went.", of("ChannelRun"))
            .refuses(&[problem::INVALID, problem::NOT_FOUND, problem::BUSY])
            .asks(),
        Endpoint::admin(Method::POST, "/admin/api/proxy/test", "testProxy", test)
            .about("Sends one request through the gateway's own address, with a client's key that is kept nowhere.")
            .reads(some(test_fields, &["key", "operation", "model"]))
            .gives(200, "How it went.", of("ProxyTest"))
            .refuses(&[problem::INVALID, problem::BUSY])
            .asks(),
    ]
}

type Body = Result<Bytes, BytesRejection>;

async fn run(State(shared): State<Arc<Shared>>, name: Result<Path<String>, PathRejection>, body: Body) -> Response {
    let Ok(Path(name)) = name else { return answer::not_found().await };
    match body::object(body) {
        Ok(fields) => go(read_run(fields).and_then(|asked| shared.state().run_channel(&name, &asked))).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn test(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    match body::object(body) {
        Ok(fields) => go(read_test(fields).and_then(|asked| shared.state().test_proxy(asked))).await,
        Err(unfit) => unfit.answer(),
    }
}

async fn go(trial: Result<Trial, Refused>) -> Response {
    match trial {
        Ok(trial) => match tokio::spawn(trial).await {
            Ok(told) => answer::ok(&told),
            Err(error) => {
                log::error!("a trial failed: {error}");
                answer::failed()
            }
        },
        Err(refused) => catalog::refused(&refused),
    }
}

/// Takes fields one by one, and notes all that is wrong with them.
struct Fields {
    left: Map<String, Value>,
    wrong: Vec<Wrong>,
}

impl Fields {
    fn take<T>(&mut self, field: &str, what: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.left.remove(field).filter(|value| !value.is_null())?;
        let taken = read(&value);
        if taken.is_none() {
            self.wrong.push(Wrong::new(field, format!("`{field}` must be {what}")));
        }
        taken
    }

    fn text(&mut self, field: &str) -> Option<String> {
        self.take(field, "text", |value| value.as_str().map(str::to_owned))
    }

    fn needed(&mut self, field: &str) -> String {
        let before = self.wrong.len();
        let text = self.text(field);
        if text.as_deref().is_none_or(str::is_empty) && self.wrong.len() == before {
            self.wrong.push(Wrong::new(field, format!("`{field}` is missing")));
        }
        text.unwrap_or_default()
    }

    /// What is left is unknown.
    fn end(mut self, known: &str) -> Result<(), Refused> {
        for field in self.left.keys() {
            self.wrong.push(Wrong::new(field.as_str(), format!("unknown field; there are {known}")));
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Refused::Invalid(self.wrong)) }
    }
}

fn read_run(left: Map<String, Value>) -> Result<RunAsked, Refused> {
    let mut fields = Fields { left, wrong: Vec::new() };
    let asked = RunAsked { model: fields.text("model"), key: fields.text("key") };
    fields.end("`model` and `key`").map(|()| asked)
}

fn read_test(left: Map<String, Value>) -> Result<ProxyAsked, Refused> {
    let mut fields = Fields { left, wrong: Vec::new() };
    let asked = ProxyAsked {
        key: Secret::new(fields.needed("key")),
        operation: fields.needed("operation"),
        model: fields.needed("model"),
        stream: fields.take("stream", "true or false", Value::as_bool),
        prompt: fields.text("prompt"),
    };
    fields.end("`key`, `operation`, `model`, `stream` and `prompt`").map(|()| asked)
}
