//! The price file from its outside, and the settings that go with it.

use std::fs;
use std::path::Path;

use weir_filters::glob::Glob;
use weir_filters::price::{NanoUsd, PerMillion, Price, PriceRate, Rates, Tariff, Tier};

use super::super::prices::{PRICE, PRICES, TIER};
use super::super::{PriceFile, Sources, Unpriced, parse_prices, parse_with};
use super::{CHANNEL, appended, env, good};

#[expect(clippy::unnecessary_wraps, reason = "prices are optional where it is used")]
fn usd(text: &str) -> Option<PerMillion> {
    Some(PerMillion::parse(text).unwrap())
}

fn file(text: &str) -> PriceFile {
    parse_prices(text, Path::new("prices.yaml"), &env).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The mistakes of a text, as `line:column: message`.
fn wrong(text: &str) -> Vec<String> {
    let mistakes = parse_prices(text, Path::new("prices.yaml"), &env).expect_err(text);
    mistakes.iter().map(|m| m.to_string().strip_prefix("prices.yaml:").expect("names the file").to_owned()).collect()
}

#[test]
fn prices_are_what_is_written() {
    let prices = file(
        "
imported:
  gpt-4: { input: 30, output: 60 }
models:
  'claude-*':
    input: '3'
    output: \"15\"
    cache_read: 0.30
    cache_write_5m: 3.75
    cache_write_1h: 6
    reasoning: 16
    per_request: 0.005
    per_image: 0.04
    max_output_tokens: 64000
    tiers:
      - { above: 200000, input: 6, output: 22.5 }
      - { above: 400000, cache_read: 0.000000001 }
  '*': { per_request: 0 }
",
    );
    let rates = Rates {
        input: usd("3"),
        output: usd("15"),
        cache_read: usd("0.3"),
        cache_write_5m: usd("3.75"),
        cache_write_1h: usd("6"),
        reasoning: usd("16"),
    };
    let tier = |above, rates| Tier { above, rates };
    let claude = Tariff {
        rates,
        per_request: NanoUsd(5_000_000),
        per_image: NanoUsd(40_000_000),
        max_output_tokens: Some(64_000),
        tiers: vec![
            tier(200_000, Rates { input: usd("6"), output: usd("22.5"), ..Rates::default() }),
            tier(400_000, Rates { cache_read: Some(PerMillion(1)), ..Rates::default() }),
        ],
    };
    let gpt = Rates { input: usd("30"), output: usd("60"), ..Rates::default() };
    let entry = |glob: &str, tariff| (Glob::new(glob), Price::new(tariff));
    assert_eq!(prices.models, [entry("claude-*", claude), entry("*", Tariff::default())]);
    assert_eq!(prices.imported, [entry("gpt-4", Tariff { rates: gpt, ..Tariff::default() })]);
    let table = prices.into_table();
    assert_eq!(table.price("gpt-4").unwrap().tariff(), &Tariff::default(), "what is written by hand comes first");
}

#[test]
fn every_mistake_of_a_price_file_is_told_with_its_line() {
    assert_eq!(
        wrong(
            "models:
  gpt-4o: { inptu: 1, output: 2 }
  gpt-5: { input: 1e-6, output: 1.0000000001 }
  gpt-5: { input: 1, output: 1 }
  o3:
  o4: { input: 1, output: -1, max_output_tokens: 0, tiers: [{ input: 1 }, { above: 5 }, { above: 5, input: 2 }] }
  'a b': { input: 1, output: 99999999999999999999 }
  img: { per_image: free }
imported: { 'gpt-*': { input: 1, output: 1 } }
model: 1
"
        ),
        [
            "2:11: `input` is missing",
            "2:13: unknown field `inptu`; did you mean \"input\"?",
            "3:19: `input` must be US dollars for a million tokens, such as \"2.5\", not `1e-6`",
            "3:33: `output` has more than 9 digits behind the point",
            "4:3: `gpt-5` is given twice, first on line 3",
            "5:6: `input` is missing",
            "5:6: `output` is missing",
            "6:27: `output` must be US dollars for a million tokens, such as \"2.5\", not `-1`",
            "6:50: `max_output_tokens` must be at least 1, not `0`",
            "6:61: `above` is missing",
            "6:75: the tier changes no price",
            "6:89: a tier above 5 is given twice, first on line 6",
            "7:3: `a b` must be a name or a glob without spaces, at most 256 bytes, not `a b`",
            "7:30: `output` is too large",
            "8:21: `per_image` must be US dollars, such as \"0.04\", not `free`",
            "9:13: `gpt-*` must be a model's name without `*`, not `gpt-*`; globs belong into `models`",
            "10:1: unknown field `model`; did you mean \"models\"?",
        ]
    );
    assert_eq!(wrong("{}"), ["1:1: `models` is missing"]);
    assert_eq!(wrong("models: [a]"), ["1:9: `models` must be a mapping, not a list"]);
    assert_eq!(
        wrong("models: {"),
        ["2:1: not valid YAML: did not find expected node content, while parsing a flow node"]
    );
    assert_eq!(file("models:"), PriceFile::default(), "a table without prices is none of these");
}

#[test]
fn mistakes_in_the_price_file_stand_beside_those_of_the_configuration() {
    let read = |path: &Path| match path.to_str() {
        Some("etc/p.yaml") => Ok("models:\n  gpt-4o: { input: 1, outptu: 1 }\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let sources = Sources { env: &env, read: &read, cores: 1 };
    let lines = |text: &str| {
        let mistakes = parse_with(&format!("{CHANNEL}{text}"), Path::new("etc/weir.yaml"), &sources).expect_err(text);
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let in_prices = [
        "etc/p.yaml:2:11: `output` is missing".to_owned(),
        "etc/p.yaml:2:23: unknown field `outptu`; did you mean \"output\"?".to_owned(),
    ];
    assert_eq!(lines("prices: p.yaml\n"), in_prices);
    let both = lines("prices: p.yaml\nserver: { threads: x }\n");
    assert_eq!(both[0], "etc/weir.yaml:8:20: `threads` must be a whole number from 0, not `x`");
    assert_eq!(both[1..], in_prices);
    assert_eq!(
        lines("prices: q.yaml\nunpriced: refuse\n"),
        ["etc/weir.yaml:7:9: `prices` names a file which does not exist"]
    );
}

#[test]
fn settings_of_prices_are_checked() {
    appended(&[
        ("unpriced: no", &["7:11: `unpriced` must be one of allow, refuse, not `no`"]),
        (
            "unpriced: refuse",
            &["7:11: `unpriced` must not be `refuse` without `prices`: every request would be refused"],
        ),
        (
            "users: [{ name: a, price_rate: '-1' }]",
            &["7:32: `price_rate` must be a decimal number such as \"1.2\", not `-1`"],
        ),
        (
            "users: [{ name: a, price_rate: 1.0000001 }]",
            &["7:32: `price_rate` has more than 6 digits behind the point"],
        ),
    ]);
}

#[test]
fn a_rate_is_read_and_not_shown() {
    let config =
        good(&format!("{CHANNEL}unpriced: allow\nusers: [{{ name: a, price_rate: 1.234567 }}, {{ name: b }}]\n"));
    let rates: Vec<PriceRate> = config.users.iter().map(|user| user.price_rate).collect();
    assert_eq!(rates, [PriceRate::parse("1.234567").unwrap(), PriceRate::default()]);
    assert!(config.prices.is_none());
    assert_eq!(config.unpriced, Unpriced::Allow);
    assert!(!format!("{config:?}").contains("234567"));
}

#[test]
fn the_annotated_price_file_is_valid_and_names_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prices.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let prices = parse_prices(&text, &path, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(prices.models.len() >= 8, "some models of each provider");
    for field in [PRICES, PRICE, TIER].iter().flat_map(|fields| fields.known) {
        let named = [" ", "\n", "{ "].iter().any(|before| text.contains(&format!("{before}{field}:")));
        assert!(named, "conf/prices.yaml does not name `{field}`");
    }
}

#[test]
fn ten_thousand_prices_are_read_in_no_time() {
    let lines = (0..10_000).map(|n| format!("  'model-{n}': {{ input: '1.5', output: '2' }}\n"));
    let text: String = std::iter::once("models:\n".to_owned()).chain(lines).collect();
    let started = std::time::Instant::now();
    let table = file(&text).into_table();
    assert_eq!(table.len(), 10_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
