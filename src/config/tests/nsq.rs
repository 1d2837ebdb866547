//! `audit.nsq`

use std::time::Duration;

use weir_filters::secret::Secret;

use super::{CHANNEL, appended, good, wrong};
use crate::config::{BaseUrl, Delivery, Nsq, NsqFormat};

fn nsq(text: &str) -> Nsq {
    good(&format!("{CHANNEL}audit:\n  nsq: {text}\n")).audit.nsq.expect("one is written")
}

#[test]
fn an_nsqd_needs_an_address_and_a_topic() {
    let delivery = Delivery { batch: 1 << 20, batch_wait: Duration::from_secs(1), timeout: Duration::from_secs(10) };
    assert_eq!(
        nsq("{ url: \"http://127.0.0.1:4151\", topic: weir_ai_event }"),
        Nsq {
            url: BaseUrl { tls: false, host: "127.0.0.1".into(), port: 4151, path: String::new() },
            topic: "weir_ai_event".into(),
            format: NsqFormat::Record,
            token: None,
            delivery,
        }
    );
    assert_eq!(good(CHANNEL).audit.nsq, None);
}

#[test]
fn all_of_it_can_be_said() {
    let written = "{ url: \"https://mq.example:8443/nsq/\", topic: \"apipark_ai_event#ephemeral\", format: ai_event, \
                   token_file: secret, batch: 4MiB, batch_wait: 50ms, timeout: 2s }";
    assert_eq!(
        nsq(written),
        Nsq {
            url: BaseUrl { tls: true, host: "mq.example".into(), port: 8443, path: "/nsq".into() },
            topic: "apipark_ai_event#ephemeral".into(),
            format: NsqFormat::AiEvent,
            token: Some(Secret::new("canary-secret")),
            delivery: Delivery {
                batch: 4 << 20,
                batch_wait: Duration::from_millis(50),
                timeout: Duration::from_secs(2),
            },
        }
    );
    for topic in ["t", "a.b-c_D9", &"x".repeat(64), &format!("{}#ephemeral", "x".repeat(54))] {
        assert_eq!(nsq(&format!("{{ url: \"http://a\", topic: \"{topic}\" }}")).topic, topic);
    }
}

#[test]
fn every_mistake_is_named_where_it_stands() {
    appended(&[
        ("audit: { nsq: {} }", &["7:15: `url` is missing", "7:15: `topic` is missing"]),
        (
            "audit: { nsq: { url: nsqd, topic: t } }",
            &["7:22: `url` must begin with http:// or https://; did you mean \"https://nsqd\"?"],
        ),
        (
            "audit: { nsq: { url: \"http://a:99999\", topic: t } }",
            &["7:22: `url` must be a URL with a port from 1 to 65535, not `http://a:99999`"],
        ),
        ("audit: { nsq: { url: \"http://a/?topic=t\", topic: t } }", &["7:22: `url` must have no query"]),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, format: ai_evnt } }",
            &["7:52: `format` must be one of record, ai_event, not `ai_evnt`; did you mean \"ai_event\"?"],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, batch: 1023, batch_wait: 0s, timeout: 10 } }",
            &[
                "7:51: `batch` must be from 1KiB to 4MiB, not `1023`",
                "7:69: `batch_wait` must be longer than nothing, not `0s`",
                "7:82: `timeout` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `10`; did you mean \"10s\"?",
            ],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, batch: 5MiB } }",
            &["7:51: `batch` must be from 1KiB to 4MiB, not `5MiB`"],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, token: a, token_file: secret } }",
            &["7:66: `token` and `token_file` are both given; keep one of them"],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, token: \"canary\\nb\" } }",
            &["7:51: `token` must be printable ASCII, to travel in a header"],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, token_file: missing } }",
            &["7:56: `token_file` names a file which does not exist"],
        ),
        (
            "audit: { nsq: { url: \"http://a\", topic: t, topics: t, spool: 1MiB } }",
            &["7:44: unknown field `topics`; did you mean \"topic\"?", "7:55: unknown field `spool`"],
        ),
        (
            "audit: { nsq: \"http://a\" }",
            &[
                "7:15: `nsq` must be a mapping, not a single value",
                "7:15: `url` is missing",
                "7:15: `topic` is missing",
            ],
        ),
    ]);
}

#[test]
fn a_topic_has_a_name_that_nsqd_takes() {
    let (long, long_ephemeral) = ("x".repeat(65), format!("{}#ephemeral", "x".repeat(55)));
    for name in [&*long, &*long_ephemeral, "a b", "#ephemeral", "a#b", "a/b", "ü", ""] {
        let found = wrong(&format!("{CHANNEL}audit: {{ nsq: {{ url: \"http://a\", topic: \"{name}\" }} }}\n"));
        let expected = "7:41: `topic` must be a topic's name: letters, digits, `.`, `_` and `-`, at most 64";
        assert!(found.len() == 1 && found[0].starts_with(expected), "{name}: {found:?}");
    }
}
