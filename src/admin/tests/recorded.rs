//! The record of changes over HTTP.

use super::*;

#[tokio::test]
async fn a_page_of_changes_is_what_was_asked_for() {
    let bench = Bench::new();
    let row = r#"{"id":"0000000100000000","who":"token"}"#.to_owned();
    let next = "0000000100000000".parse().ok();
    *bench.gateway.changes.lock().unwrap() = Some(changes::Page { rows: vec![row.clone()], next });
    let path = "/admin/api/changes?kind=key&name=a%20b&limit=1&cursor=0000000200000010";
    let body = format!(r#"{{"rows":[{row}],"next":"0000000100000000"}}"#);
    assert_eq!(bench.get(path, Some(TOKEN)).await, (200, body));
    let wanted = changes::Query {
        kind: Some("key".into()),
        name: Some("a b".into()),
        limit: 1,
        cursor: "0000000200000010".parse().ok(),
    };
    assert_eq!(*bench.gateway.changes_wanted.lock().unwrap(), Some(wanted));
    *bench.gateway.changes.lock().unwrap() = None;
    let (status, body) = bench.get("/admin/api/changes", Some(TOKEN)).await;
    assert_eq!((status, body.contains("unavailable"), body.contains("broken")), (503, true, false), "{body}");
}
