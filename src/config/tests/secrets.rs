use super::{CHANNEL, appended, good, wrong};

#[test]
fn secrets_are_given_once_and_are_never_empty() {
    let key = |fields: &str| {
        format!("  - {{ name: b, protocol: openai, base_url: http://h, models: [a], keys: [{{ name: k{fields} }}] }}")
    };
    for (fields, expected) in [
        ("", "7:74: `value` or `value_file` is missing"),
        (", value: ", "7:93: `value` must not be empty"),
        (", value: ''", "7:92: `value` must not be empty"),
        (", value: ${EMPTY}", "7:92: `value` must not be empty"),
        (", value: ${EMPTY:-}", "7:92: `value` must not be empty"),
        (", value: '  '", "7:92: `value` must not be empty"),
        (", value: ' canary'", "7:92: `value` must have no spaces around it"),
        (", value: \"canary\\ncanary\"", "7:92: `value` must be printable ASCII, to travel in a header"),
        (", value: canäry", "7:92: `value` must be printable ASCII, to travel in a header"),
        (", value: [canary]", "7:92: `value` must be a single value, not a list"),
        (", value: canary, value_file: secret", "7:112: `value` and `value_file` are both given; keep one of them"),
        (", value_file: secret, value: canary", "7:112: `value` and `value_file` are both given; keep one of them"),
        (", value_file: empty", "7:97: `value_file` must not be empty"),
        (", value_file: canary", "7:97: `value_file` names a file which does not exist"),
        (", value_file: binary", "7:97: `value_file` names a file which is not text"),
        (", value_file: locked", "7:97: `value_file` names a file which cannot be read: permission denied"),
    ] {
        let got = wrong(&format!("{CHANNEL}{}\n", key(fields)));
        assert_eq!(got, [expected], "{fields}");
        assert!(!got[0].contains("canary"), "{fields}");
    }
    appended(&[
        ("admin: { metrics_token: ${EMPTY} }", &["7:25: `metrics_token` must not be empty"]),
        ("admin: { token_file: empty }", &["7:22: `token_file` must not be empty"]),
        ("admin: { token_file: two-lines }", &["7:22: `token_file` must be printable ASCII, to travel in a header"]),
        (
            "admin: { token: a, token_file: secret }",
            &["7:32: `token` and `token_file` are both given; keep one of them"],
        ),
    ]);
    assert_eq!(good(&format!("{CHANNEL}admin: {{ token: }}\n")).admin.token, None);
}

#[test]
fn certificates_are_files_that_hold_what_they_should() {
    appended(&[
        (
            "listen: [{ address: 127.0.0.1:1, tls: { certificate: none.pem, private_key: cert.pem } }]",
            &[
                "7:54: `certificate` names a file which does not exist",
                "7:77: `private_key` names a file without a PEM private key; it holds a PEM certificate",
            ],
        ),
        (
            "listen: [{ address: 127.0.0.1:1, tls: { certificate: cut.pem } }]",
            &["7:39: `private_key` is missing", "7:54: `certificate` names a file without a PEM certificate"],
        ),
        ("server: { upstream_ca: binary }", &["7:24: `upstream_ca` names a file which is not text"]),
    ]);
}
