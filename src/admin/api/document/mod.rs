//! The OpenAPI document, made from the table of endpoints.
//!
//! Owns the document's form. What there is to be said stands in the table and in the schemas. A test holds real answers
//! of every endpoint against it. <https://spec.openapis.org/oas/v3.1.1.html>

mod monitor;
mod objects;
pub(super) mod schemas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use self::schemas::of;
use super::table::{API, Access, Answer, Endpoint, Parameter, Place};
use super::{answer, problem};
use crate::admin::server::Shared;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::admin(Method::GET, "/admin/api/openapi.json", "openapi", show).about("This document.").gives(
        200,
        "An OpenAPI 3.1 document.",
        json!({ "type": "object", "required": ["openapi", "paths"] }),
    )]
}

async fn show(_: State<Arc<Shared>>) -> Response {
    // It is the same as long as the program is.
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document(&super::table()).to_string());
    answer::with(StatusCode::OK, "application/json", text.clone())
}

/// The document of these endpoints.
pub(super) fn document(table: &[Endpoint]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for row in table {
        let operations = paths.entry(row.path).or_default();
        operations.insert(row.method.as_str().to_ascii_lowercase(), operation(row));
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Weir's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keys, users, channels and prices, what was used and what happened. Absent is null or an \
                            empty list. Every error has a code that stays the same and a message for people.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The admin token." },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "weir_session",
                    "description": "What `/admin/api/login` sets. Changes need the header `x-weir-csrf` beside it.",
                },
                "clientKey": { "type": "http", "scheme": "bearer", "description": "A key, as on the data plane." },
                "metricsToken": {
                    "type": "http", "scheme": "bearer", "description": "`admin.metrics_token`, if there is one.",
                },
            },
        },
    })
}

fn operation(row: &Endpoint) -> Value {
    let mut operation = json!({
        "operationId": row.id,
        "summary": row.summary,
        "tags": [tag(row.path)],
        "security": match row.access {
            Access::Open => json!([]),
            Access::Metrics => json!([{}, { "metricsToken": [] }]),
            Access::Admin => json!([{ "token": [] }, { "session": [] }]),
            // Signing in is what makes a session.
            Access::Person if row.path.ends_with("/login") => json!([]),
            Access::Person => json!([{ "session": [] }]),
            Access::Own => json!([{ "session": [] }, { "clientKey": [] }]),
        },
        "parameters": row.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses(row),
    });
    if let Some(body) = &row.body {
        let content = BTreeMap::from([(body.content_type, json!({ "schema": body.schema }))]);
        operation["requestBody"] = json!({ "required": body.is_required, "content": content });
    }
    operation
}

/// The first word of the path, below the API's own.
fn tag(path: &str) -> &str {
    path.strip_prefix(API).unwrap_or(path).trim_start_matches('/').split(['/', '.']).next().unwrap_or_default()
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { name, place, is_required, about, schema } = parameter;
    let place = match place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    json!({ "name": name, "in": place, "required": is_required, "description": about, "schema": schema })
}

fn responses(row: &Endpoint) -> BTreeMap<String, Value> {
    let mut responses: BTreeMap<String, Value> =
        row.answers.iter().map(|answer| (answer.status.to_string(), response(answer))).collect();
    let mut problems: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for problem in &row.problems {
        problems.entry(problem.status).or_default().push(problem);
    }
    for (status, problems) in problems {
        let about: Vec<String> =
            problems.iter().map(|problem| format!("`{}`: {}.", problem.code, problem.when)).collect();
        let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
        let code = json!({ "properties": { "error": { "properties": { "code": { "enum": codes } } } } });
        let mut response = json!({
            "description": about.join(" "),
            "content": { "application/json": { "schema": { "allOf": [of("Error"), code] } } },
        });
        if status == problem::UNAUTHORIZED.status {
            let header = json!({ "required": true, "schema": { "type": "string" }, "description": "How to come in." });
            response["headers"] = json!({ "WWW-Authenticate": header });
        }
        assert!(responses.insert(status.to_string(), response).is_none(), "{}: {status} is said twice", row.id);
    }
    responses
}

fn response(answer: &Answer) -> Value {
    let mut response = json!({ "description": answer.about });
    if let Some((content_type, schema)) = &answer.content {
        response["content"] = json!(BTreeMap::from([(content_type, json!({ "schema": schema }))]));
    }
    if answer.has_etag {
        let about = "What it is now, for `If-Match`.";
        response["headers"] = json!({ "ETag": { "required": true, "schema": schemas::etag(), "description": about } });
    }
    response
}
