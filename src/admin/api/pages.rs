//! A page of rows that are JSON already: `{"rows":[…],"next":…}`.

use std::fmt::Display;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer;

/// Rows as they were written, and where the next page begins.
pub(super) fn answer(rows: &[String], next: Option<impl Display>) -> Response {
    answer::with(StatusCode::OK, "application/json", write(rows, next))
}

/// What such a page is.
pub(super) fn schema(row: Value, next: Value) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["rows", "next"],
        "properties": { "rows": { "type": "array", "items": row }, "next": next },
    })
}

fn write(rows: &[String], next: Option<impl Display>) -> String {
    let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    let size: usize = rows.iter().map(|row| row.len() + 1).sum();
    let mut body = String::with_capacity(size + next.len() + 32);
    body.push_str("{\"rows\":[");
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(row);
    }
    body.push_str("],\"next\":");
    body.push_str(&next);
    body.push('}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_passed_on_as_they_are() {
        let rows = [r#"{ "a" : 1.0 }"#, "{}"].map(str::to_owned);
        assert_eq!(write(&rows, Some("0a")), r#"{"rows":[{ "a" : 1.0 },{}],"next":"0a"}"#);
        assert_eq!(write(&[], None::<&str>), r#"{"rows":[],"next":null}"#);
    }
}
