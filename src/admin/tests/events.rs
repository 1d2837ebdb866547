//! What may be sent to be imported, and what is answered.

use super::*;

const PATH: &str = "/admin/api/events/import";

impl Bench {
    async fn import(&self, query: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let url = format!("http://{}{PATH}{query}", self.handle.address());
        let response = self.http.post(url).bearer_auth(TOKEN).body(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn lines_are_passed_on_with_the_number_of_the_first() {
    let bench = Bench::new();
    let report = json!({
        "lines": 2, "imported": 1, "known": 1, "skipped": 0, "statuses": {"seen": 0, "applied": 0, "unread": 0},
        "unread": 0, "errors": [],
    });
    let large = "x".repeat(200_000);
    assert_eq!(bench.import("", "a\nb").await, (200, report.clone()));
    assert_eq!(bench.import("?first_line=4711", large.clone()).await, (200, report.clone()));
    let answer = bench.client().post_body(&format!("{PATH}?first_line=3"), "c".into()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json().unwrap()), (200, report));
    let expected = [(b"a\nb".to_vec(), 1), (large.into_bytes(), 4711), (b"c".to_vec(), 3)];
    assert_eq!(*bench.gateway.imports.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_cannot_be_taken_is_said_and_not_passed_on() {
    let bench = Bench::new();
    for (query, message) in [
        ("?first_line=0", "first_line: must be the number of the first line, from 1"),
        ("?first_line=x", "first_line: must be the number of the first line, from 1"),
        ("?first_line=99999999999", "first_line: must be the number of the first line, from 1"),
        ("?line=1", "line: unknown parameter; there is first_line"),
        ("?first_line=1&first_line=2", "first_line: given more than once, or beside another"),
    ] {
        let (status, body) = bench.import(query, "a").await;
        assert_eq!((status, body["error"]["message"].as_str()), (400, Some(message)), "{query}");
    }
    let (status, body) = bench.import("", &b"\x1f\x8b\x08"[..]).await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("bad_request")));
    let (status, body) = bench.import("", vec![b'x'; (64 << 20) + 1]).await;
    assert_eq!((status, body["error"]["code"].as_str()), (413, Some("too_large")));
    assert_eq!(bench.gateway.imports.lock().unwrap().len(), 0);
    let (status, body) = bench.import("", "full").await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("unavailable")));
    assert_eq!(bench.ask(Method::POST, PATH, None).await.status().as_u16(), 401);
    assert_eq!(bench.ask(Method::GET, PATH, Some(TOKEN)).await.status().as_u16(), 405);
}
