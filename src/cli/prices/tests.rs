//! From a file of LiteLLM's to a price file, step by step.

use std::path::Path;

use super::change::Change;
use super::litellm::{self, Imported};
use crate::config::{PriceFile, parse_prices};

const LITELLM: &str = r#"{
    "sample_spec": {"input_cost_per_token": 0.0},
    "gpt-4o": {"mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-06, "max_output_tokens": 16384},
    "claude-x": {"mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
        "input_cost_per_token_above_200k_tokens": 6e-06, "input_cost_per_audio_token": 1},
    "dall-e": {"mode": "image_generation", "output_cost_per_image": 0.04},
    "whisper": {"mode": "audio_transcription", "input_cost_per_second": 0.0001}
}"#;

const BY_HAND: &str = "\
# Ours.
models:
  \"claude-*\": { input: 9, output: 9 } # agreed in May
  o3:
    input: '2'
    output: 8
";

fn imported(text: &str) -> Imported {
    litellm::read(text).expect("JSON")
}

fn parse(text: &str) -> PriceFile {
    parse_prices(text, Path::new("prices.yaml"), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn import(text: &str, before: Option<&str>) -> (String, Result<String, String>) {
    let present = before.map(parse).unwrap_or_default();
    let imported = imported(text);
    let change = Change::new(&present, &imported);
    (change.report(&imported), change.apply(before))
}

const SECTION: &str = "\
# Written by `weir prices import`, which writes it anew each time: nothing that is changed here by hand stays.
# Prices in `models:` come first, so put your own there.
imported:
  \"claude-x\": { input: \"3\", output: \"15\", tiers: [{ above: 200000, input: \"6\" }] }
  \"dall-e\": { per_image: \"0.04\" }
  \"gpt-4o\": { input: \"2.5\", output: \"10\", cache_read: \"1.25\", max_output_tokens: 16384 }
";

#[test]
fn what_people_wrote_stays_byte_for_byte_and_comes_first() {
    let (report, after) = import(LITELLM, Some(BY_HAND));
    assert_eq!(after, Ok(format!("{BY_HAND}\n{SECTION}")));
    assert_eq!(
        report,
        "\
+ claude-x: input: \"3\", output: \"15\", tiers: [{ above: 200000, input: \"6\" }]
+ dall-e: per_image: \"0.04\"
+ gpt-4o: input: \"2.5\", output: \"10\", cache_read: \"1.25\", max_output_tokens: 16384
! whisper: not imported: it is priced by what Weir does not count: input_cost_per_second
prices of what Weir does not count, which were left out: input_cost_per_audio_token (1)
1 stay as `models:` has them: claude-x
3 added, 0 changed, 0 as before, 0 kept, 1 not imported
"
    );
    let table = parse(&after.unwrap()).into_table();
    assert_eq!(table.price("claude-x").unwrap().tariff().rates.input.unwrap().written(), "9");
    assert_eq!(table.price("gpt-4o").unwrap().tariff().rates.input.unwrap().written(), "2.5");
}

#[test]
fn an_import_again_changes_what_changed_and_keeps_the_rest() {
    let before = format!("{BY_HAND}\n{SECTION}");
    let (report, after) = import(LITELLM, Some(&before));
    assert_eq!(after.as_ref(), Ok(&before));
    assert!(report.ends_with("\n0 added, 0 changed, 3 as before, 0 kept, 1 not imported\n"), "{report}");

    let newer = r#"{"gpt-4o": {"input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05, "max_output_tokens": 16384},
        "$new": {"input_cost_per_token": 0, "output_cost_per_token": 0}}"#;
    let (report, after) = import(newer, Some(&before));
    assert_eq!(
        report,
        "\
+ $new: input: \"0\", output: \"0\"
~ gpt-4o: input: \"2.5\" → \"2\", cache_read: \"1.25\" → none
= claude-x: kept; it is not in the file
= dall-e: kept; it is not in the file
1 added, 1 changed, 0 as before, 2 kept, 0 not imported
"
    );
    let after = after.unwrap();
    assert!(after.starts_with(&format!("{BY_HAND}\n")), "{after}");
    assert!(after.contains("\n  \"$$new\": { input: \"0\", output: \"0\" }\n"), "{after}");
    assert!(after.contains("\n  \"gpt-4o\": { input: \"2\", output: \"10\", max_output_tokens: 16384 }\n"), "{after}");
    assert_eq!(after.matches("imported:\n").count(), 1);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let (_, after) = import(LITELLM, None);
    let after = after.unwrap();
    assert!(after.starts_with("# US dollars for a million tokens."), "{after}");
    assert!(after.ends_with(SECTION), "{after}");
    assert_eq!(import(LITELLM, Some(&after)).1, Ok(after));
}

#[test]
fn what_would_lose_something_is_refused() {
    let refused = |before: &str| import(LITELLM, Some(before)).1.unwrap_err();
    let flow = "{ models: { a: { input: 1, output: 1 } } }\n";
    assert_eq!(refused(flow), "nothing can be put behind its end; write `models:` as a block, one model a line");
    let comment = "imported:\n  a: { input: 1, output: 1 }\n  # mine\n";
    assert_eq!(refused(comment), "line 3: a comment in `imported:` would be lost; move it above");
    let trailing = "imported:\n  a: { input: 1, output: 1 } # mine\n";
    assert_eq!(refused(trailing), "line 2: a comment in `imported:` would be lost; move it above");
    let middle = format!("imported:\n  a: {{ input: 1, output: 1 }}\n{BY_HAND}");
    assert_eq!(refused(&middle), "line 3: a comment in `imported:` would be lost; move it above");
    let middle = "imported:\n  a: { input: 1, output: 1 }\nmodels:\n  b: { input: 1, output: 1 }\n";
    assert_eq!(refused(middle), "line 3: `imported:` must be the last part; move it there");
}
