//! `GET /admin/api/changes`: who changed what.
//!
//! Owns the meaning of the query string and the form of a page. Knows nothing of where changes are kept.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Method;
use serde_json::json;

use super::document::schemas::{cursor, limit, of, or_null};
use super::parameters::{self, Mistake, Parameters};
use super::table::{Endpoint, Parameter};
use super::{answer, pages};
use crate::admin::server::{Failed, Shared};
use crate::changes::{MAX_LIMIT, Query};

/// Bytes of what is compared: a name has at most 128.
const MAX_WORD: usize = 256;

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::admin(Method::GET, "/admin/api/changes", "listChanges", list)
            .about("Who changed what, and how it was before and after: newest first. What is asked for may lie far back: a page may be short, and yet have a next one.")
            .takes(Parameter::query("limit", "How many at most; 100 if nothing is said.", limit(MAX_LIMIT)))
            .takes(Parameter::query("cursor", "The `next` of the page before.", cursor()))
            .takes(Parameter::query("kind", "Only changes of this kind of thing, such as `key` or `channel`.", word()))
            .takes(Parameter::query("name", "Only changes of what is called so.", word()))
            .gives(200, "A page.", pages::schema(of("Change"), or_null(cursor())))
            .asks(),
    ]
}

fn word() -> serde_json::Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_WORD })
}

async fn list(State(shared): State<Arc<Shared>>, parameters: Parameters) -> Response {
    let query = match parameters::parsed(parameters, parse) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let asked = shared.query(move |state| match state.changes(&query) {
        Ok(page) => pages::answer(&page.rows, page.next),
        Err(e) => {
            log::error!("the record of changes cannot be read: {e}");
            answer::unavailable("the record of changes cannot be read; see the log")
        }
    });
    asked.await.unwrap_or_else(|Failed| answer::failed())
}

fn parse(parameters: &[(String, String)]) -> Result<Query, Mistake> {
    let [limit, cursor, kind, name] = parameters::values(parameters, ["limit", "cursor", "kind", "name"])?;
    Ok(Query {
        limit: parameters::limit(limit, MAX_LIMIT)?.unwrap_or(Query::default().limit),
        cursor: parameters::cursor(cursor)?,
        kind: parameters::word("kind", kind, MAX_WORD)?,
        name: parameters::word("name", name, MAX_WORD)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood() {
        let parse = |parameters: &[(&str, &str)]| {
            let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
            super::parse(&owned)
        };
        assert_eq!(parse(&[]), Ok(Query { kind: None, name: None, limit: 100, cursor: None }));
        let at = "0000000a000000ff";
        let expected =
            Query { kind: Some("key".into()), name: Some("Ä b".into()), limit: 1000, cursor: at.parse().ok() };
        assert!(expected.cursor.is_some());
        assert_eq!(parse(&[("name", "Ä b"), ("kind", "key"), ("limit", "1000"), ("cursor", at)]), Ok(expected));
        for (name, value) in
            [("limit", "1001"), ("cursor", "0000000A000000ff"), ("who", "a"), ("kind", &"k".repeat(257))]
        {
            assert_eq!(parse(&[(name, value)]).unwrap_err().into_parts().0, name);
        }
    }
}
