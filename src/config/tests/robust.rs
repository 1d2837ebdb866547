use std::fmt::Write;
use std::time::Instant;

use proptest::prelude::*;

use super::super::fuzz_entry;
use super::{CHANNEL, parse, wrong};

const WHOLE: [&str; 2] = [include_str!("../../../conf/weir.yaml"), include_str!("../../../conf/prices.yaml")];

/// What YAML and this configuration give a meaning to.
const PIECES: [&str; 32] = [
    "\n",
    "  ",
    "- ",
    ": ",
    ":",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "\"",
    "'",
    "&a ",
    "*a",
    "!t ",
    "!!int ",
    "? ",
    "| ",
    "> ",
    "%",
    "---\n",
    "...\n",
    "${",
    "${A}",
    "${AB:-x}",
    "$$",
    "<<: ",
    "null",
    "\t",
    "é",
    "\u{f0041}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Cuts, insertions and repeats anywhere in the annotated files; `fuzz_entry` checks the outcome.
    #[test]
    fn no_mutation_panics_and_every_mistake_has_a_place(
        file in 0..WHOLE.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, 0..PIECES.len()), 1..6),
    ) {
        let is_content = |line: &&str| !line.trim_start().starts_with('#');
        let mut text: Vec<char> =
            WHOLE[file].lines().filter(is_content).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        fuzz_entry(text.into_iter().collect::<String>().as_bytes());
    }

    #[test]
    fn no_run_of_pieces_panics(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        fuzz_entry(pieces.into_iter().map(|piece| PIECES[piece]).collect::<String>().as_bytes());
    }

    /// Wherever a secret is put, no message repeats it: a variable's value never, a literal one as far
    /// as it looks like one.
    #[test]
    fn no_message_repeats_a_secret(at in any::<prop::sample::Index>(), shape in 0..4_usize, literal: bool) {
        let secret = if literal { "sk-canary-0123456789abcdef" } else { "${SECRET}" };
        let insert = [secret.to_owned(), format!(" {secret} "), format!("\"{secret}\""), format!("\n{secret}: x\n")];
        let mut text = format!(
            "{CHANNEL}admin: {{ token: a, metrics_token: b }}
users: [{{ name: u }}, {{ name: u }}]
routes: [{{ path: /a, operation: models, channels: [miniai], cors: {{ origins: [\"*\"] }} }}]
server: {{ threads: 1, max_body: 1MiB, grace_period: 1s }}
keys: [{{ name: k, user: u, sha256: c, expires: d, channels: [miniai] }}]
"
        );
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        text.insert_str(places[at.index(places.len())], &insert[shape]);
        if let Err(mistakes) = parse(&text) {
            let all = format!("{mistakes}\n{mistakes:?}");
            prop_assert!(!all.contains("canary"), "{all}\n{text}");
        }
    }
}

#[test]
fn documents_that_expand_without_end_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        writeln!(laughs, "a{level}: &a{level} [{below}]").unwrap();
    }
    assert_eq!(wrong(&laughs).len(), 1);
    assert_eq!(wrong("a: &a [*a]"), ["1:4: not valid YAML: recursion limit exceeded"]);
    assert_eq!(wrong(&"[".repeat(3000)).len(), 1);
}

#[test]
fn thousands_of_keys_are_read_in_good_time() {
    let mut text = format!("{CHANNEL}keys:\n");
    for key in 0..5000 {
        writeln!(text, "  - {{ name: key-{key}, sha256: {key:064x}, models: [gpt-*], channels: [miniai] }}").unwrap();
    }
    text.push_str("  - { name: key-7, sha256: x }\n");
    let started = Instant::now();
    assert_eq!(
        wrong(&text),
        ["5008:13: the key `key-7` is declared twice, first on line 15", "5008:28: `sha256` must be 64 hex digits",]
    );
    // Far above what it takes, far below what anything quadratic would.
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}
