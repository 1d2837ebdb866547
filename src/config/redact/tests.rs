use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    redacted(text, &[])
}

#[test]
fn the_shipped_files_lose_their_secrets_and_nothing_else() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/weir.yaml")).unwrap();
    let (before, after): (Vec<_>, Vec<_>) =
        (text.lines().collect(), shown(&text).lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(before.len(), after.len());
    let changed: Vec<&str> =
        before.iter().zip(&after).filter(|(before, after)| *before != after).map(|(_, after)| after.trim()).collect();
    assert_eq!(
        changed,
        [
            "- { name: main, value: ${OPENAI_API_KEY:-(masked)} }",
            "keys: [{ name: main, value: ${ANTHROPIC_API_KEY:-(masked)} }]",
            "keys: [{ name: main, value: ${GEMINI_API_KEY:-(masked)} }]",
            "sha256: ${WEIR_KEY_SHA256:-(masked)}",
            "#   # password: (masked)",
            "#   # token: (masked)                         # Authorization: Bearer, for a proxy in front of it; or token_file",
        ]
    );
}

#[test]
fn what_is_shown_is_what_stands_under_a_field_without_secrets() {
    for (text, expected) in [
        ("channels:\n  - name: a\n    weight: 3\n", "channels:\n  - name: a\n    weight: 3\n"),
        ("keys: [{ name: a, value: CANARY }]", "keys: [{ name: a, value: (masked) }]"),
        ("keys:\n  - value: 'CAN''ARY'\n    name: \"a\"", "keys:\n  - value: '(masked)'\n    name: \"a\""),
        ("vlaue: CANARY", "vlaue: (masked)"),
        ("admin:\n  token: |\n    CANARY\n    more\n  address: x", "admin:\n  token: |\n    (masked)\n  address: x"),
        ("token:\n  CANARY\n", "token:\n  (masked)\n"),
        ("- CANARY", "- (masked)"),
        (
            "{\"admin\":{\"token\":\"CANARY\",\"address\":\"a:1\"}}",
            "{\"admin\":{\"token\":\"(masked)\",\"address\":\"a:1\"}}",
        ),
        ("token: ${T}", "token: ${T}"),
        ("token: ${T:-CANARY}", "token: ${T:-(masked)}"),
        ("token: ${T}CANARY", "token: (masked)"),
        ("token: &a CANARY", "token: (masked)"),
        ("base_url: http://u:CANARY@h/p?key=CANARY", "base_url: http://(masked)@h/p?(masked)"),
        ("model_map: { a-1: b-2 }", "model_map: { a-1: b-2 }"),
        ("headers:\n  set_request:\n    x-a: CANARY\n", "headers:\n  set_request:\n    x-a: (masked)\n"),
        ("set_request: { x-a: CANARY }", "set_request: { x-a: (masked) }"),
        ("name: sk-CANARY-1", "name: (masked)"),
        ("models: [\"gpt-*\", o3]  # all of them", "models: [\"gpt-*\", o3]  # all of them"),
        ("# token: CANARY here", "# token: (masked) here"),
        ("# value:  CANARY", "# value:  (masked)"),
        ("# once it was sk-CANARY-9, see /run/secrets/a-1", "# once it was (masked) see /run/secrets/a-1"),
        ("# abcdefgh12345678CANARY", "# (masked)"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn what_makes_no_sense_shows_no_value() {
    for text in [
        "name: \"a\nkeys: [{ name: b, value: \"CANARY\" }]\n",
        "name: 'a\ntoken: 'CANARY'\n",
        "name: \"a\" CANARY",
        "name: \"a\"CANARY",
        "name: \"CANARY",
        "models: [a, b\nkeys:\n  - CANARY\n  - { value: CANARY }\n",
        "models: [a, b]]\nname: CANARY",
        "CANARY",
        "CANARY: x",
        "\"CANARY\": x",
        "token:CANARY",
        "token : CANARY",
        "token: >-\n  CANARY\n  CANARY",
        "token:\n\n   CANARY\n   and CANARY",
        "- - CANARY",
        "? CANARY\n: CANARY",
        "name: a\nCANARY",
        "{name: a, CANARY}",
        "channels:\n  - CANARY\n",
        "channels: [CANARY]",
        "{channels: [CANARY]}",
        "channels:\n  - name: a\n  - CANARY",
        "admin: {token: CANARY, metrics_token: \"CANARY\"}",
        "\ttoken: CANARY",
        "token: [CANARY, {a: CANARY}]",
        "value: {name: {x: CANARY}}",
    ] {
        let shown = shown(text);
        assert!(!shown.contains("CANARY"), "{text:?} is shown as {shown:?}");
    }
}

#[test]
fn a_secret_that_is_known_is_nowhere() {
    let known = [Secret::new("hunter22"), Secret::new("short")];
    assert_eq!(redacted("name: hunter22 # hunter22, a short one", &known), "name: (masked) # (masked), a short one");
}

proptest! {
    #[test]
    fn any_text_is_read_to_its_end(text in "[a-z:#{}\\[\\]\"' \n|>$&*,-]{0,60}") {
        let _ = shown(&text);
    }

    #[test]
    fn any_bytes_are(text in any::<String>()) {
        let _ = shown(&text);
    }

    #[test]
    fn a_secret_is_masked_however_its_file_is_broken(cut in 0..220_usize, at in 0..220_usize, put in "[\"'\\[\\]{}:,\n -]{0,3}") {
        let text = "admin: { token: CANARY }\nchannels:\n  - name: a\n    keys: [{ name: main, value: \"CANARY\" }]\n    \
                    models: ['x', \"y\"]\nheaders:\n  set_request: { x-key: CANARY }\naudit:\n  loki:\n    password: |\n      CANARY\n";
        let (cut, at) = (cut.min(text.len()), at.min(text.len()));
        let mut broken = text.to_owned();
        broken.insert_str(at, &put);
        broken.truncate(if cut < 20 { broken.len() } else { cut.max(at + put.len()) });
        // What was cut in the middle of the word is no secret any more.
        prop_assert!(!shown(&broken).contains("CANARY"), "{}\n=>\n{}", broken, shown(&broken));
    }
}
