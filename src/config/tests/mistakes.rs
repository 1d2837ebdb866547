use super::{CHANNEL, DIGEST, appended, good, parse, wrong};

#[test]
fn five_mistakes_give_five_messages_with_their_lines() {
    let text = "\
listen:
  - address: localhost:8514
server:
  max_body: 32M
  grace_perod: 10s
channels:
  - name: miniai
    protocol: opnai
    base_url: http://127.0.0.1:9001
    keys: [{ name: main, value: ${UNSET_KEY} }]
    models: [\"gpt-*\"]
";
    assert_eq!(
        wrong(text),
        [
            "2:14: `address` must be an IP address with a port, such as 127.0.0.1:8514, not `localhost:8514`; \
             did you mean \"127.0.0.1:8514\"?",
            "4:13: `max_body` must be a size such as 64KiB, 32MiB, 1GB or a number of bytes, not `32M`; \
             did you mean \"32MiB\"?",
            "5:3: unknown field `grace_perod`; did you mean \"grace_period\"?",
            "8:15: `protocol` must be one of openai, anthropic, gemini, not `opnai`; did you mean \"openai\"?",
            "10:33: the variable `UNSET_KEY` is not set; set it, or write a default as in `${UNSET_KEY:-default}`",
        ]
    );
}

#[test]
fn what_is_no_yaml_is_one_mistake() {
    for (text, expected) in [
        ("channels: [", "2:1: not valid YAML: did not find expected node content, while parsing a flow node"),
        ("a: b\n c: d", "2:3: not valid YAML: mapping values are not allowed in this context"),
        ("a: *b", "1:4: not valid YAML: unknown anchor"),
        ("a: !!int b", "1:4: not valid YAML: a value does not fit its tag"),
        ("a: 1\nb: \u{7}", "2:4: the character U+0007 is not allowed"),
        ("a: \u{f0041}", "1:4: the character U+F0041 is not allowed"),
        ("channels: []\n---\nchannels: []", "3:1: a second document begins here"),
    ] {
        assert_eq!(wrong(text), [expected], "{text}");
    }
}

#[test]
fn an_empty_file_lacks_its_channels() {
    for text in ["", "# nothing\n", "---\n", "~", "{}"] {
        assert_eq!(wrong(text), ["1:1: `channels` is missing"], "{text}");
    }
    assert_eq!(wrong("channels:\n"), ["1:10: `channels` has no value"]);
    assert_eq!(wrong("[a]"), ["1:1: `configuration` must be a mapping, not a list", "1:1: `channels` is missing"]);
}

#[test]
fn every_unknown_field_is_named_and_later_ones_are_told_apart() {
    appended(&[
        ("chanels: []", &["7:1: unknown field `chanels`; did you mean \"channels\"?"]),
        (
            "zzz: 1\nserver: { thread: 1, qqq: 2 }",
            &[
                "7:1: unknown field `zzz`",
                "8:11: unknown field `thread`; did you mean \"threads\"?",
                "8:22: unknown field `qqq`",
            ],
        ),
        (
            "    probe: { evry: 30m }\n    retry: { attempt: 2 }",
            &[
                "7:12: `every` is missing",
                "7:14: unknown field `evry`; did you mean \"every\"?",
                "8:14: unknown field `attempt`; did you mean \"attempts\"?",
            ],
        ),
        ("users: [{ name: a, b }]", &["7:20: unknown field"]),
        ("server: {}\nserver: { threads: 1 }", &["8:1: `server` is given twice, first on line 7"]),
        ("<<: { a: b }", &["7:1: merge keys (`<<`) are not supported"]),
        ("[a]: b", &["7:1: a field's name must be text, not a list"]),
    ]);
}

#[test]
fn nobody_has_more_keys_than_their_user_may_have() {
    let keys = |count: usize| -> String {
        (0..count).map(|i| format!("  - {{ name: k{i}, user: a, sha256: {i:064x} }}\n")).collect()
    };
    for (user, most) in [("{ name: a }", 10), ("{ name: a, max_keys: 2 }", 2)] {
        let text = |count| format!("{CHANNEL}users: [{user}]\nkeys:\n{}", keys(count));
        assert_eq!(good(&text(most)).keys.len(), most);
        let line = 8 + most + 1;
        let message = format!("names a user who may have {most} keys and has more; raise the user's `max_keys`");
        assert_eq!(wrong(&text(most + 1)), [format!("{line}:{}: `user` {message}", if most > 9 { 24 } else { 23 })]);
    }
    appended(&[
        ("users: [{ name: a, max_keys: 0 }]", &["7:30: `max_keys` must be a whole number from 1, not `0`"]),
        (
            "users: [{ name: a, role: amdin }]",
            &["7:26: `role` must be one of admin, user, not `amdin`; did you mean \"admin\"?"],
        ),
        ("users: [{ name: a, password: canary }]", &["7:20: unknown field `password`"]),
    ]);
}

#[test]
fn names_that_stand_for_something_else_are_refused_as_over_the_api() {
    for actor in ["token", "socket", "signal"] {
        let message = "the record of changes calls somebody else so";
        let text = format!("{CHANNEL}users: [{{ name: {actor} }}]\n");
        assert_eq!(wrong(&text), [format!("7:17: `name` must not be `{actor}`: {message}")]);
    }
    appended(&[(
        "users: [{ name: price-rate }]",
        &["7:17: `name` must not be `price-rate`, which is a path of the API"],
    )]);
    let text = CHANNEL.replace("name: miniai", "name: order");
    assert_eq!(wrong(&text), ["2:11: `name` must not be `order`, which is a path of the API"]);
    assert_eq!(good(&format!("{CHANNEL}users: [{{ name: order }}]\n")).users[0].name, "order");
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    appended(&[
        ("server: 1", &["7:9: `server` must be a mapping, not a single value"]),
        (
            "admin: { trusted_proxies: [10.0.0.1/8] }",
            &[
                "7:28: `trusted_proxies[0]` must be an IP address or a network such as 10.0.0.0/8, with no bit set behind the first ones, not `10.0.0.1/8`",
            ],
        ),
        ("server: { threads: [1] }", &["7:20: `threads` must be a single value, not a list"]),
        ("server: { threads: many }", &["7:20: `threads` must be a whole number from 0, not `many`"]),
        ("server: { threads: 1025 }", &["7:20: `threads` must be at most 1024, not `1025`"]),
        (
            "server: { grace_period: 300 }",
            &[
                "7:25: `grace_period` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `300`; did you mean \"300s\"?",
            ],
        ),
        ("server: { keepalive_timeout: 0s }", &["7:30: `keepalive_timeout` must be longer than nothing, not `0s`"]),
        ("server: { header_timeout: 0s }", &["7:27: `header_timeout` must be longer than nothing, not `0s`"]),
        ("server: { max_header: 100 }", &["7:23: `max_header` must be from 4KiB to 1MiB, not `100`"]),
        ("server: { max_header: 2MiB }", &["7:23: `max_header` must be from 4KiB to 1MiB, not `2MiB`"]),
        ("server: { connections_per_ip: -1 }", &["7:31: `connections_per_ip` must be a whole number from 0, not `-1`"]),
        ("server: { max_in_flight: many }", &["7:26: `max_in_flight` must be a whole number from 0, not `many`"]),
        (
            "server: { min_drain_rate: 1k }",
            &["7:27: `min_drain_rate` must be a size such as 64KiB, 32MiB, 1GB or a number of bytes, not `1k`; \
                 did you mean \"1KiB\"?"],
        ),
        ("server: { max_body: !big 1 }", &["7:21: `max_body` must be a single value, not a tagged value"]),
        ("listen: { address: 127.0.0.1:1 }", &["7:9: `listen` must be a list, not a mapping"]),
        ("listen: []", &["7:9: `listen` must not be an empty list"]),
        ("listen: [{}]", &["7:10: `address` is missing"]),
        ("headers: { strip_request: cookie }", &["7:27: `strip_request` must be a list, not a single value"]),
        (
            "headers: { strip_request: [\"a b\", host] }",
            &[
                "7:28: `strip_request[0]` must be a header name, not `a b`",
                "7:35: `strip_request[1]` must not name `host`, which Weir handles itself",
            ],
        ),
        (
            "headers: { set_request: { a: \"b\\nc\", x-api-key: d, A: e } }",
            &[
                "7:30: `a` must be a header value: printable, without outer spaces",
                "7:38: `x-api-key` must not set `x-api-key`; put credentials into the channel's `keys`",
            ],
        ),
        ("headers: { set_request: { x-a: b, X-A: c } }", &["7:35: `X-A` is given twice, first on line 7"]),
        ("data_dir: \"\"", &["7:11: `data_dir` must not be empty"]),
        ("ledger: { durability: fast }", &["7:23: `durability` must be one of relaxed, strict, not `fast`"]),
        ("ledger: { when_full: wait }", &["7:22: `when_full` must be one of serve, refuse, not `wait`"]),
    ]);
}

#[test]
fn positions_hold_in_every_style_of_yaml() {
    let bad = "must be a whole number from 0, not `x`";
    appended(&[
        ("server:\n    threads:   x", &[&format!("8:16: `threads` {bad}")]),
        ("server: {keepalive_timeout: 1s,   threads: 'x'}", &[&format!("7:44: `threads` {bad}")]),
        ("server: {\n  keepalive_timeout: 1s,\n  threads: \"x\"\n}", &[&format!("9:12: `threads` {bad}")]),
        ("? server\n: threads: x", &[&format!("8:12: `threads` {bad}")]),
        ("users: [ { name: 通义通义 } ] # é\nserver: { threads: x }", &[&format!("8:20: `threads` {bad}")]),
        ("users: [{ name: 通义 }, { name: 通义 }]", &["7:31: the user `通义` is declared twice, first on line 7"]),
        // A value that an alias stands for is wrong where it is written.
        (
            "users: [{ name: &n a }]\nserver: { threads: *n }",
            &["7:17: `threads` must be a whole number from 0, not `a`"],
        ),
        (
            "users: [{ name: a, &k nothing : 1 }]\nserver: { *k : 1 }",
            &["7:20: unknown field `nothing`", "7:20: unknown field `nothing`"],
        ),
        ("\r\nserver: { threads: x }\r", &[&format!("8:20: `threads` {bad}")]),
        (
            "server: { threads: ${UNSET:-x, y}, keepalive_timeout: z }",
            &[
                "7:20: `threads` must be a whole number from 0, not `${UNSET:-x, y}`",
                "7:55: `keepalive_timeout` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `z`",
            ],
        ),
    ]);
}

#[test]
fn paths_lead_to_the_value() {
    let text = format!(
        "{CHANNEL}    timeouts: {{ connect: soon, idel: 1s }}\nkeys: [{{ name: a, sha256: b, models: [\"a b\"] }}]\n"
    );
    let mistakes = parse(&text).unwrap_err();
    let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(
        paths,
        ["channels[0].timeouts.connect", "channels[0].timeouts.idel", "keys[0].sha256", "keys[0].models[0]"]
    );
}

#[test]
fn channels_are_checked_as_a_whole() {
    appended(&[
        (
            "  - {}",
            &[
                "7:5: `name` is missing",
                "7:5: `protocol` is missing",
                "7:5: `base_url` is missing",
                "7:5: `keys` is missing",
                "7:5: `models` is missing",
            ],
        ),
        (
            "    model_map: { gpt-a: b, claude: c, gpt-*: d, gpt-a: e, gpt-x: \"\" }",
            &[
                "7:28: `claude` is never asked for: no glob in `models` matches it",
                "7:39: `gpt-*` is looked up as an exact name and must hold no `*`",
                "7:49: `gpt-a` is given twice, first on line 7",
                "7:66: `gpt-x` must be a name or a glob without spaces, at most 256 bytes, and is empty",
            ],
        ),
        (
            "  - { name: miniai, protocol: gemini, base_url: \"http://u:canary@h\", models: [], keys: [], inject_usage: true }",
            &[
                "7:13: the channel `miniai` is declared twice, first on line 2",
                "7:49: `base_url` must hold no credentials; put them into the channel's `keys`",
                "7:78: `models` must not be an empty list",
                "7:88: `keys` must not be an empty list",
                "7:106: `inject_usage` has no effect: gemini reports usage unasked",
            ],
        ),
        (
            "  - { name: meta, protocol: openai, base_url: 'http://169.254.169.254', models: [a], keys: [{ name: k, value: v }] }",
            &["7:47: `base_url` leads to a metadata or link-local address, which no channel may"],
        ),
        (
            "  - { name: meta, protocol: openai, base_url: 'http://[64:ff9b::a9fe:a9fe]', models: [a], keys: [{ name: k, value: v }] }",
            &["7:47: `base_url` leads to a metadata or link-local address, which no channel may"],
        ),
        (
            "  - { name: octal, protocol: openai, base_url: 'http://0251.0376.0251.0376', models: [a], keys: [{ name: k, value: v }] }",
            &[
                "7:48: `base_url` must be a URL whose address is four plain decimal numbers, not `http://0251.0376.0251.0376`; other forms are read differently by different programs",
            ],
        ),
        (
            "  - { name: a b, protocol: openai, base_url: http://h, models: [a], keys: [{ name: k, value: v }, { name: k, value: w }] }",
            &[
                "7:13: `name` must be a name of letters, digits and `. _ - @ : +`, at most 128 bytes, not `a b`",
                "7:107: the upstream key `k` is declared twice, first on line 7",
            ],
        ),
    ]);
}

#[test]
fn listeners_do_not_share_an_address() {
    appended(&[
        (
            "listen:\n  - address: 127.0.0.1:1\n  - address: 127.0.0.1:1",
            &["9:14: the address 127.0.0.1:1 is listened on twice, first on line 8"],
        ),
        (
            "listen:\n  - address: 0.0.0.0:1\nadmin: { address: 127.0.0.1:1 }",
            &["9:19: the address 127.0.0.1:1 is listened on twice, first on line 8"],
        ),
        (
            "listen:\n  - address: 0.0.0.0:8515",
            &["8:14: `address` is taken by the default of `admin.address`, 127.0.0.1:8515; write `admin.address` too"],
        ),
        ("admin: { address: 127.0.0.1:8514 }", &["7:19: `address` is taken by the default of `listen`, 0.0.0.0:8514"]),
    ]);
}

#[test]
fn names_and_digests_are_unique_and_references_are_known() {
    let keys = format!(
        "users: [{{ name: alice }}, {{ name: alice }}]
keys:
  - {{ name: a, user: alcie, sha256: {DIGEST}, channels: [minai, other-*, unheard] }}
  - {{ name: b, sha256: {DIGEST} }}
  - {{ name: a, sha256: sk-canary-123, expires: tomorrow, models: [], protocols: [claude] }}"
    );
    appended(&[(
        &keys,
        &[
            "7:34: the user `alice` is declared twice, first on line 7",
            "9:22: unknown user `alcie`; did you mean \"alice\"?",
            "9:114: unknown channel `minai`; did you mean \"miniai\"?",
            "9:130: unknown channel `unheard`",
            "10:24: this SHA-256 is another key's too, first on line 9",
            "11:13: the key `a` is declared twice, first on line 9",
            "11:24: `sha256` must be 64 hex digits; give the SHA-256 of the key, not the key",
            "11:48: `expires` must be a time after RFC 3339 such as 2027-01-01T00:00:00Z, not `tomorrow`",
            "11:66: `models` must not be an empty list",
            "11:82: `protocols[0]` must be one of openai, anthropic, gemini, not `claude`",
        ],
    )]);
}

#[test]
fn routes_are_canonical_and_can_be_served() {
    appended(&[
        (
            "routes: [{ path: /a/../b, operation: openai.chats, cors: {} }]",
            &[
                "7:18: `path` is not canonical: `/a/../b` has a `.` or `..` segment",
                "7:38: `operation` must be one of openai.chat, openai.completions, openai.embeddings, openai.responses, \
             openai.other, ollama.chat, anthropic.messages, anthropic.count_tokens, gemini.generate, gemini.stream, \
             gemini.embed, gemini.count_tokens, models, not `openai.chats`; did you mean \"openai.chat\"?",
                "7:58: `origins` is missing",
            ],
        ),
        (
            "routes: [{ path: /a, operation: models, upstream_path: /b, channels: [miniai] }]",
            &[
                "7:56: `upstream_path` has no effect: Weir answers `models` itself",
                "7:70: `channels` has no effect: Weir answers `models` itself",
            ],
        ),
        (
            "routes: [{ path: /a, operation: gemini.embed, channels: [miniai, mini] }]",
            &[
                "7:58: `channels[0]` names a channel that speaks openai, but gemini.embed is asked in gemini",
                "7:66: unknown channel `mini`; did you mean \"miniai\"?",
            ],
        ),
        (
            "routes:\n  - { path: /a, operation: openai.chat, cors: { origins: [https://a.example, \"*\", a.example] } }\n  - { path: /a, operation: openai.chat }",
            &[
                "8:78: `origins[1]` allows every origin, so it must stand alone",
                "8:83: `origins[2]` must be `*` or an origin such as https://example.com, not `a.example`",
                "9:13: the route `/a` is declared twice, first on line 8",
            ],
        ),
    ]);
}

#[test]
fn hours_are_kept_as_long_as_minutes() {
    appended(&[
        ("ledger: { keep_minutes: 40d }", &["7:25: `keep_hours` must not be shorter than `keep_minutes`"]),
        (
            "ledger: { keep_hours: 1d, keep_minutes: 1h1s1h }",
            &[
                "7:23: `keep_hours` must not be shorter than `keep_minutes`",
                "7:41: `keep_minutes` must be a duration such as 500ms, 10s, 1m30s, 2h or 7d, not `1h1s1h`",
            ],
        ),
    ]);
}

#[test]
fn a_hundred_mistakes_are_told_and_the_others_counted() {
    let text = format!("{CHANNEL}users: [{}]\n", "{ name: a/b }, ".repeat(130));
    let mistakes = parse(&text).unwrap_err();
    assert_eq!(mistakes.len(), 100);
    assert!(mistakes.to_string().ends_with("\netc/weir.yaml: and 30 more"));
}

#[test]
fn a_limit_that_cannot_be_meant_is_refused() {
    let key = |limits: &str| format!("keys: [{{ name: a, sha256: {DIGEST}, limits: {limits} }}]");
    for (limits, expected) in [
        ("{ rpm: 0 }", "`rpm` must be at least 1, not `0`; leave it out for no limit"),
        ("{ tpm: -5 }", "`tpm` must be a whole number from 0, not `-5`; leave it out for no limit"),
        ("{ rps: 1 }", "unknown field `rps`; did you mean \"rpm\"?"),
        ("{ budget_usd: 5 }", "`budget_usd` must be a mapping, not a single value"),
        ("{ budget_usd: { day: $5 } }", "`day` must be an amount of dollars such as \"2.50\", not `$5`"),
        ("{ budget_usd: { day: \"0\" } }", "`day` must be more than nothing, not `0`; leave it out for no limit"),
        ("{ budget_usd: { day: \"0.0000000001\" } }", "`day` has more than 9 digits behind the point"),
        ("{ budget_usd: { week: \"1\" } }", "unknown field `week`"),
    ] {
        let found = wrong(&format!("{CHANNEL}{}\n", key(limits)));
        assert_eq!(found.len(), 1, "{limits}: {found:?}");
        assert!(found[0].contains(expected), "{limits}: {found:?}");
    }
}

#[test]
fn what_channels_have_to_do_with_each_other_has_its_bounds() {
    appended(&[
        ("    priority: -1", &["7:15: `priority` must be a whole number from 0 to 1000000, not `-1`"]),
        ("    weight: 0", &["7:13: `weight` must be a whole number from 1 to 10000, not `0`"]),
        ("    weight: 1.5", &["7:13: `weight` must be a whole number from 1 to 10000, not `1.5`"]),
        (
            "    on_disconnect: abrt",
            &["7:20: `on_disconnect` must be one of drain, abort, not `abrt`; did you mean \"abort\"?"],
        ),
        ("    max_concurrency: +5", &["7:22: `max_concurrency` must be a whole number from 0 to 1000000, not `+5`"]),
        ("    retry: { attempts: 0 }", &["7:24: `attempts` must be a whole number from 1 to 10, not `0`"]),
        ("    retry: { on: [] }", &["7:18: `on` must not be an empty list"]),
        (
            "    retry: { on: [connect, 200, tiemout] }",
            &[
                "7:28: `on[1]` must be connect, timeout, or a status from 400 to 599, not `200`",
                "7:33: `on[2]` must be connect, timeout, or a status from 400 to 599, not `tiemout`",
            ],
        ),
        (
            "    retry: { within: 2m }",
            &[
                "7:22: `within` leaves no time for another attempt after `timeouts.first_byte`; make it longer, shorten \
               `first_byte`, or leave `timeout` out of `on`",
            ],
        ),
        ("    cooldown: { failures: 0 }", &["7:27: `failures` must be a whole number from 1 to 1000, not `0`"]),
        (
            "    probe: { every: 10ms, max_tokens: 0, usd_per_day: \"-1\", prompt: \"\" }",
            &[
                "7:21: `every` must be a second or longer, not `10ms`",
                "7:39: `max_tokens` must be a whole number from 1 to 4096, not `0`",
                "7:55: `usd_per_day` must be US dollars, such as \"0.04\", not `-1`",
                "7:69: `prompt` must be a question of at most 4096 bytes, and is empty",
            ],
        ),
        ("    probe: { every: 1m, models: [o9] }", &["7:34: `models[0]` is no model of this channel: `o9`"]),
        ("    cooldown: { for: 0s }", &["7:22: `for` must be longer than nothing, not `0s`"]),
        ("sticky: { ttl: 0s }", &["7:16: `ttl` must be longer than nothing, not `0s`"]),
        ("sticky: { header: \"a b\" }", &["7:19: `header` must be a header name, not `a b`"]),
    ]);
    for fine in ["retry: { within: 2m, attempts: 1 }", "retry: { within: 2m, on: [503] }"] {
        assert!(parse(&format!("{CHANNEL}    {fine}")).is_ok(), "{fine}");
    }
}
