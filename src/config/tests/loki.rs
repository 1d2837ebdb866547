use std::time::Duration;

use weir_filters::secret::Secret;

use super::super::{BaseUrl, Delivery, Login, Loki, LokiFormat};
use super::{CHANNEL, appended, good};

fn loki(fields: &str) -> Loki {
    let config = good(&format!("{CHANNEL}audit: {{ loki: {{ {fields} }} }}\n"));
    config.audit.loki.expect("a Loki")
}

#[test]
fn without_a_section_there_is_no_loki_and_an_address_is_enough_for_one() {
    assert_eq!(good(CHANNEL).audit.loki, None);
    let expected = Loki {
        url: BaseUrl { tls: false, host: "127.0.0.1".to_owned(), port: 3100, path: String::new() },
        labels: Vec::new(),
        format: LokiFormat::Protobuf,
        gzip: true,
        tenant: None,
        login: None,
        delivery: Delivery { batch: 1 << 20, batch_wait: Duration::from_secs(1), timeout: Duration::from_secs(10) },
        spool: 256 << 20,
    };
    assert_eq!(loki("url: http://127.0.0.1:3100"), expected);
}

#[test]
fn every_field_is_read() {
    let fields = "url: https://logs.example.com/loki-eu, labels: { env: edge, _zone: 'eu 1' }, format: json, gzip: false, \
                  tenant: team-a, username: '42', password_file: secret, batch: 4MiB, batch_wait: 250ms, timeout: 3s, \
                  spool: 0";
    let expected = Loki {
        url: BaseUrl { tls: true, host: "logs.example.com".to_owned(), port: 443, path: "/loki-eu".to_owned() },
        labels: vec![("env".to_owned(), "edge".to_owned()), ("_zone".to_owned(), "eu 1".to_owned())],
        format: LokiFormat::Json,
        gzip: false,
        tenant: Some("team-a".to_owned()),
        login: Some(Login::Basic { username: "42".to_owned(), password: Secret::new("canary-secret") }),
        delivery: Delivery { batch: 4 << 20, batch_wait: Duration::from_millis(250), timeout: Duration::from_secs(3) },
        spool: 0,
    };
    assert_eq!(loki(fields), expected);
    let by_token = loki("url: http://h, token: ${SECRET}, gzip: false");
    assert_eq!(by_token.login, Some(Login::Bearer(Secret::new("canary"))));
    assert!(!format!("{by_token:?}").contains("canary"));
}

#[test]
fn each_mistake_says_where_it_is_and_what_is_right() {
    let cases = [
        ("labels: { a: b }", "7:16: `url` is missing"),
        ("url: loki:3100", r#"7:23: `url` must begin with http:// or https://; did you mean "https://loki:3100"?"#),
        ("url: http://h, labels: { service: a }", "7:43: `service` is a label that Weir sets itself"),
        ("url: http://h, labels: { status: a }", "7:43: `status` is a label that Weir sets itself"),
        (
            "url: http://h, labels: { 1a: b }",
            "7:43: `1a` is no label's name: letters, digits and `_`, at most 64, no digit and no `__` first",
        ),
        (
            "url: http://h, labels: { __a: b }",
            "7:43: `__a` is no label's name: letters, digits and `_`, at most 64, no digit and no `__` first",
        ),
        (
            "url: http://h, labels: { a-b: c }",
            "7:43: `a-b` is no label's name: letters, digits and `_`, at most 64, no digit and no `__` first",
        ),
        ("url: http://h, labels: { a: '' }", "7:46: `a` must be a label's value of 1 to 256 bytes, and is empty"),
        (
            "url: http://h, labels: { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1, k: 1 }",
            "7:103: `k` must be among 10 labels at most",
        ),
        (
            "url: http://h, format: protobuff",
            r#"7:41: `format` must be one of protobuf, json, not `protobuff`; did you mean "protobuf"?"#,
        ),
        (
            "url: http://h, gzip: true",
            "7:39: `gzip` has no effect: protobuf is always compressed by snappy; write `format: json`, or leave it out",
        ),
        (
            "url: http://h, format: protobuf, gzip: true",
            "7:57: `gzip` has no effect: protobuf is always compressed by snappy; write `format: json`, or leave it out",
        ),
        (
            "url: http://h, tenant: 'a b'",
            "7:41: `tenant` must be a name of letters, digits and `. _ - @ : +`, at most 128 bytes, not `a b`",
        ),
        ("url: http://h, username: a", "7:16: `password` or `password_file` is missing"),
        ("url: http://h, password: canary", "7:16: `password` needs `username`"),
        (
            "url: http://h, username: a, password: canary, token: canary",
            "7:43: `username` and `token` are both given; keep one of them",
        ),
        ("url: http://h, token: ''", "7:40: `token` must not be empty"),
        ("url: http://h, batch: 5MiB", "7:40: `batch` must be from 1KiB to 4MiB, not `5MiB`"),
        ("url: http://h, batch: 1", "7:40: `batch` must be from 1KiB to 4MiB, not `1`"),
        ("url: http://h, batch_wait: 0s", "7:45: `batch_wait` must be longer than nothing, not `0s`"),
        (
            "url: http://h, timeout: 10",
            r#"7:42: `timeout` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `10`; did you mean "10s"?"#,
        ),
        (
            "url: http://h, spool: none",
            "7:40: `spool` must be a size such as 64KiB, 32MiB, 1GB or a number of bytes, not `none`",
        ),
        ("url: http://h, retries: 3", "7:33: unknown field `retries`"),
    ];
    for (fields, expected) in cases {
        appended(&[(&format!("audit: {{ loki: {{ {fields} }} }}"), &[expected])]);
    }
}
