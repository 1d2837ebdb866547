//! What each kind of entry comes to.

use super::*;

#[expect(clippy::unnecessary_wraps, reason = "prices are optional where it is used")]
fn usd(text: &str) -> Option<PerMillion> {
    Some(PerMillion::parse(text).expect(text))
}

fn one(fields: &str) -> Imported {
    read(&format!(r#"{{"sample_spec": {{"mode": "one of chat"}}, "m": {{{fields}}}}}"#)).expect(fields)
}

fn tariff(fields: &str) -> Tariff {
    let imported = one(fields);
    assert_eq!(imported.refused, []);
    imported.tariffs["m"].clone()
}

fn why_not(fields: &str) -> String {
    let imported = one(fields);
    assert_eq!(imported.tariffs.len(), 0, "{imported:?}");
    imported.refused[0].1.clone()
}

const CHAT: &str = r#""mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05"#;

#[test]
fn an_entry_becomes_dollars_for_a_million() {
    let fields = format!(
        r#"{CHAT}, "litellm_provider": "anthropic", "max_output_tokens": 64000, "max_input_tokens": 200000,
        "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06, "output_cost_per_reasoning_token": 1.6e-05,
        "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05, "supports_vision": true,
        "cache_read_input_token_cost_above_272k_tokens": null"#
    );
    let rates = Rates {
        input: usd("3"),
        output: usd("15"),
        cache_read: usd("0.3"),
        cache_write_5m: usd("3.75"),
        cache_write_1h: usd("6"),
        reasoning: usd("16"),
    };
    let long = Rates { input: usd("6"), output: usd("22.5"), cache_write_1h: usd("12"), ..Rates::default() };
    let tiers = vec![Tier { above: 200_000, rates: long }];
    assert_eq!(tariff(&fields), Tariff { rates, max_output_tokens: Some(64_000), tiers, ..Tariff::default() });
}

#[test]
fn tiers_may_be_a_list_of_ranges() {
    let fields = r#""mode": "chat", "tiered_pricing": [
        {"input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07, "range": [0, 256000.0]},
        {"input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06, "range": [256000.0, 1000000.0]}]"#;
    let rates = |input, output| Rates { input: usd(input), output: usd(output), ..Rates::default() };
    let tiers = vec![Tier { above: 256_000, rates: rates("0.25", "2") }];
    assert_eq!(tariff(fields), Tariff { rates: rates("0.05", "0.4"), tiers, ..Tariff::default() });
    assert_eq!(
        why_not(r#""tiered_pricing": [{"input_cost_per_token": 1}]"#),
        "has `tiered_pricing`, which is no list of prices by ranges of tokens"
    );
}

#[test]
fn what_has_no_answer_has_no_price_of_one() {
    let embedding = tariff(r#""mode": "embedding", "input_cost_per_token": 2e-08"#);
    assert_eq!(embedding.rates, Rates { input: usd("0.02"), output: usd("0"), ..Rates::default() });
    let search = tariff(r#""mode": "rerank", "input_cost_per_query": 0.002"#);
    assert_eq!(search, Tariff { per_request: NanoUsd(2_000_000), ..Tariff::default() });
}

#[test]
fn an_image_is_charged_once() {
    let whole = tariff(r#""mode": "image_generation", "input_cost_per_image": 0.0, "output_cost_per_image": 0.04"#);
    assert_eq!(whole, Tariff { per_image: NanoUsd(40_000_000), ..Tariff::default() });
    let tokens = r#""mode": "image_generation", "input_cost_per_token": 5e-06, "output_cost_per_image": 0.04,
        "output_cost_per_image_token": 4e-05"#;
    let by_token = Rates { input: usd("5"), output: usd("40"), ..Rates::default() };
    assert_eq!(tariff(tokens), Tariff { rates: by_token, ..Tariff::default() });
    assert_eq!(one(tokens).uncounted["output_cost_per_image"], 1);
    let chat = format!(r#"{CHAT}, "output_cost_per_image": 0.04, "output_cost_per_image_token": 4e-05"#);
    assert_eq!(tariff(&chat), tariff(CHAT));
}

#[test]
fn defaults_are_not_written_down() {
    let fields =
        format!(r#"{CHAT}, "cache_read_input_token_cost": 3e-06, "output_cost_per_reasoning_token": 0.000015"#);
    assert_eq!(tariff(&fields), tariff(CHAT));
    assert_eq!(tariff(&format!(r#"{CHAT}, "max_output_tokens": "see the page""#)), tariff(CHAT));
    assert_eq!(tariff(&format!(r#"{CHAT}, "max_output_tokens": 0"#)), tariff(CHAT));
}

#[test]
fn nothing_is_dropped_in_silence() {
    for (fields, why) in [
        (r#""mode": "chat""#, "has no price"),
        (r#""mode": "chat", "input_cost_per_token": 1e-06"#, "has no `output_cost_per_token`"),
        (r#""input_cost_per_token": -1e-06"#, "has `input_cost_per_token`, which is negative: -1e-06"),
        (r#""input_cost_per_token": "1e-06""#, "has `input_cost_per_token`, which is no number"),
        (
            r#""mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0"#,
            "is priced by what Weir does not count: input_cost_per_second",
        ),
        (
            r#""input_cost_per_token": 0.0, "output_cost_per_token": 0, "ocr_cost_per_page": 0.003"#,
            "is priced by what Weir does not count: ocr_cost_per_page",
        ),
    ] {
        assert_eq!(why_not(fields), why, "{fields}");
    }
    let free = tariff(r#""input_cost_per_token": 0.0, "output_cost_per_token": 0, "input_cost_per_second": 0"#);
    assert_eq!(free.rates.input, usd("0"));
    let imported =
        one(&format!(r#"{CHAT}, "input_cost_per_audio_token": 4e-05, "input_cost_per_token_batches": 1e-06"#));
    assert_eq!(
        imported.uncounted.into_iter().collect::<Vec<_>>(),
        [("input_cost_per_audio_token".to_owned(), 1), ("input_cost_per_token_batches".to_owned(), 1)]
    );
    let rounded = one(r#""input_cost_per_token": 2.9999900000000002e-06, "output_cost_per_token": 1"#).rounded;
    let note = "`input_cost_per_token` of 2.9999900000000002e-06 is rounded to 2.99999";
    assert_eq!(rounded, [("m".to_owned(), note.to_owned())]);
}

#[test]
fn names_are_those_that_a_table_holds_and_each_stands_once() {
    let text = format!(r#"{{"a/*/b": {{{CHAT}}}, "a b": {{{CHAT}}}, "m": {{{CHAT}}}, "m": {{}}, "n": 1}}"#);
    let imported = read(&text).expect("JSON");
    assert_eq!(imported.tariffs.keys().collect::<Vec<_>>(), ["m"]);
    let refused: Vec<(&str, &str)> = imported.refused.iter().map(|(name, why)| (&**name, &**why)).collect();
    let name = "has a name that no price table holds: with a `*` or a space, or too long";
    assert_eq!(
        refused,
        [("a/*/b", name), ("a b", name), ("m", "stands in the file twice; the first is taken"), ("n", "is no object"),]
    );
    assert!(read("[]").is_err() && read("{").is_err());
}
