//! The recent records over HTTP.

use super::*;
use crate::audit::{Page, StatusFilter};

const CURSOR: &str = "01000000000000000100000002018c";

fn record(id: u128) -> String {
    // Spaces and a number's form are the record's own.
    format!(r#"{{ "id":"{id:032x}", "duration_ms":1.50 }}"#)
}

#[tokio::test]
async fn a_page_has_the_records_as_they_were_written_and_where_the_next_one_begins() {
    let bench = Bench::new();
    let page = Page { rows: vec![record(2), record(1)], next: CURSOR.parse().ok() };
    *bench.gateway.records.lock().unwrap() = Ok(page);
    let path = "/admin/api/requests?user=a+b%26c&status=none&limit=2";
    let body = format!(r#"{{"rows":[{},{}],"next":"{CURSOR}"}}"#, record(2), record(1));
    assert_eq!(bench.get(path, Some(TOKEN)).await, (200, body));
    let user = Some("a b&c".to_owned());
    let expected = audit::Query { user, status: Some(StatusFilter::None), limit: 2, ..audit::Query::default() };
    assert_eq!(*bench.gateway.wanted.lock().unwrap(), Some(expected));
    let response = bench.ask(Method::GET, &format!("/admin/api/requests?cursor={CURSOR}"), Some(TOKEN)).await;
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(bench.gateway.wanted.lock().unwrap().as_ref().unwrap().cursor, CURSOR.parse().ok());
}

#[tokio::test]
async fn nothing_found_is_an_empty_page() {
    let bench = Bench::new();
    assert_eq!(bench.get("/admin/api/requests", Some(TOKEN)).await, (200, r#"{"rows":[],"next":null}"#.into()));
}

#[tokio::test]
async fn a_mistake_is_answered_with_its_parameter_and_nobody_is_asked() {
    let bench = Bench::new();
    for (query, parameter, message) in [
        ("limit=1001", "limit", "must be a number from 1 to 1000"),
        ("cursor=x", "cursor", "must be the `next` of an answer, as it was"),
        ("key=a&key=b", "key", "given more than once"),
        ("channel=", "channel", "is empty; leave it out to ask for all"),
    ] {
        let (status, body) = bench.get(&format!("/admin/api/requests?{query}"), Some(TOKEN)).await;
        let message = format!("{parameter}: {message}");
        let expected = json!({ "error": { "code": "bad_request", "message": message, "parameter": parameter } });
        assert_eq!((status, body), (400, expected.to_string()), "{query}");
    }
    assert_eq!(*bench.gateway.wanted.lock().unwrap(), None);
}

#[tokio::test]
async fn one_record_is_found_by_its_id() {
    let bench = Bench::new();
    *bench.gateway.records.lock().unwrap() = Ok(Page { rows: vec![record(0xAB)], next: None });
    let path = |id: &str| format!("/admin/api/requests/{id}");
    assert_eq!(bench.get(&path(&format!("{:032X}", 0xAB)), Some(TOKEN)).await, (200, record(0xAB)));
    let (status, body) = bench.get(&path(&format!("{:032x}", 0xAC)), Some(TOKEN)).await;
    let message = "there is no record of this request, or none any more";
    let expected = json!({ "error": { "code": "not_found", "message": message } });
    assert_eq!((status, body), (404, expected.to_string()));
    for id in ["ab", "%ff", "..."] {
        assert_eq!(bench.get(&path(id), Some(TOKEN)).await.0, 400, "{id}");
    }
}

#[tokio::test]
async fn without_a_history_the_setting_is_named() {
    let bench = Bench::new();
    *bench.gateway.records.lock().unwrap() = Err(RequestsError::Disabled);
    let message = "no records are kept here; set audit.history.enabled: true";
    let expected = json!({ "error": { "code": "history_disabled", "message": message } }).to_string();
    for path in ["/admin/api/requests", &format!("/admin/api/requests/{:032x}", 1)] {
        assert_eq!(bench.get(path, Some(TOKEN)).await, (409, expected.clone()), "{path}");
    }
    let error = RequestsError::Unavailable("the index is being made anew".into());
    *bench.gateway.records.lock().unwrap() = Err(error);
    let body = r#"{"error":{"code":"unavailable","message":"the index is being made anew"}}"#;
    assert_eq!(bench.get("/admin/api/requests", Some(TOKEN)).await, (503, body.into()));
}

#[tokio::test]
async fn records_need_the_token() {
    let bench = Bench::new();
    for path in ["/admin/api/requests", "/admin/api/requests/1"] {
        assert_eq!(bench.get(path, None).await.0, 401, "{path}");
    }
}
