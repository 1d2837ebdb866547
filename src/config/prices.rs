//! The price table's file: prices by hand, and behind them those that were imported.
//!
//! Owns its fields and what they mean, and the settings that go with prices. Knows nothing of who asks for a
//! price.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_filters::decimal::DecimalError;
use weir_filters::glob::Glob;
use weir_filters::price::{NanoUsd, PerMillion, Price, PriceRate, PriceTable, Rates, Tariff, Tier};

use super::Unpriced;
use super::mistake::{Complaint, Mistakes, Report};
use super::scalar::{self, Parsed, Word, one_of};
use super::section::{At, Fields, Reader, Section};
use super::tree::{NodeId, Tree};
use super::validate::Check;

pub(super) const PRICES: Fields = Fields { known: &["models", "imported"], later: &[] };
pub(super) const PRICE: Fields = Fields {
    known: &[
        "input",
        "output",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "reasoning",
        "per_request",
        "per_image",
        "max_output_tokens",
        "tiers",
    ],
    later: &[],
};
pub(super) const TIER: Fields = Fields {
    known: &["above", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"],
    later: &[],
};

/// A file of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceFile {
    /// `models:`, in order: globs, the first that matches wins.
    pub models: Vec<(Glob, Price)>,
    /// `imported:`, exact names that stand behind all of `models`.
    pub imported: Vec<(Glob, Price)>,
}

impl PriceFile {
    /// The table that the file says.
    pub fn into_table(self) -> PriceTable {
        PriceTable::new(self.models.into_iter().chain(self.imported).collect())
    }
}

/// Checks the text of a price file called `file`. `env` gives the value of a variable that is set.
///
/// # Errors
/// All that is wrong, by line.
pub fn parse_prices(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<PriceFile, Mistakes> {
    let mut report = Report::default();
    let tree = Tree::parse(text, file, env, &mut report)?;
    let mut reader = Reader { tree: &tree, report: &mut report };
    let prices = PriceFile::read(&mut reader);
    if report.is_empty() { Ok(prices) } else { Err(report.into_mistakes(file, &tree)) }
}

/// Whether a price file may hold an imported price for a model of this name.
pub fn is_importable(name: &str) -> bool {
    imported_name(Word { text: name, raw: name }).is_ok()
}

impl Check<'_, '_> {
    /// The table in the file of that name, which has lines of its own.
    pub(super) fn prices(&mut self, path: Option<&At<PathBuf>>) -> Option<Arc<PriceTable>> {
        let At { value, at } = path?;
        let text = self.file(value, *at)?;
        match parse_prices(&text, &self.folder.join(value), self.sources.env) {
            Ok(prices) => Some(Arc::new(prices.into_table())),
            Err(mistakes) => {
                self.r.report.add_elsewhere(mistakes);
                None
            }
        }
    }

    pub(super) fn unpriced(&mut self, written: Option<&At<Unpriced>>, has_prices: bool) -> Unpriced {
        let Some(written) = written else { return Unpriced::default() };
        if written.value == Unpriced::Refuse && !has_prices {
            let complaint = Complaint::new("must not be `refuse` without `prices`: every request would be refused");
            self.r.complain(written.at, complaint);
        }
        written.value
    }
}

impl PriceFile {
    fn read(r: &mut Reader<'_>) -> Self {
        let root = r.section(NodeId::ROOT, &PRICES);
        if root.entry("models").is_none() && root.entry("imported").is_none() {
            r.report.add(root.at, Complaint::new("`models` is missing"));
        }
        Self {
            models: entries(r, &root, "models", scalar::glob),
            imported: entries(r, &root, "imported", imported_name),
        }
    }
}

fn entries(
    r: &mut Reader<'_>,
    root: &Section,
    field: &str,
    name: impl Fn(Word<'_>) -> Parsed<Glob>,
) -> Vec<(Glob, Price)> {
    let Some(at) = r.optional(root, field) else { return Vec::new() };
    let members = r.members(at, name).into_iter().map(|(glob, at)| (glob, price(r, at)));
    members.filter_map(|(glob, price)| Some((glob?, price))).collect()
}

pub(super) fn price(r: &mut Reader<'_>, at: NodeId) -> Price {
    let s = r.section(at, &PRICE);
    let per_request = r.optional_word(&s, "per_request", dollars);
    let per_image = r.optional_word(&s, "per_image", dollars);
    // One that was forgotten would be free. Only what has another price may go without.
    if s.entry("per_request").is_none() && s.entry("per_image").is_none() {
        for field in ["input", "output"] {
            r.required(&s, field);
        }
    }
    let tiers = r.optional(&s, "tiers").and_then(|at| r.sections(at, &TIER, tier));
    let tiers: Vec<At<Tier>> = tiers.map_or_else(Vec::new, |tiers| tiers.value.into_iter().flatten().collect());
    let mut seen = HashMap::new();
    for tier in &tiers {
        let first = *seen.entry(tier.value.above).or_insert(tier.at);
        if first != tier.at {
            let message = format!("a tier above {} is given twice", tier.value.above);
            r.report.add_repeated(tier.at, first, message);
        }
    }
    Price::new(Tariff {
        rates: rates(r, &s),
        per_request: per_request.map_or_else(NanoUsd::default, |price| price.value),
        per_image: per_image.map_or_else(NanoUsd::default, |price| price.value),
        max_output_tokens: r.optional_word(&s, "max_output_tokens", positive).map(|tokens| tokens.value),
        tiers: tiers.into_iter().map(|tier| tier.value).collect(),
    })
}

fn tier(r: &mut Reader<'_>, s: &Section) -> Option<At<Tier>> {
    let above = r.required_word(s, "above", positive);
    let rates = rates(r, s);
    let writes_a_price = TIER.known.iter().any(|field| *field != "above" && s.entry(field).is_some());
    if !writes_a_price {
        r.report.add(s.at, Complaint::new("the tier changes no price"));
    }
    Some(At { value: Tier { above: above?.value, rates }, at: s.at })
}

fn rates(r: &mut Reader<'_>, s: &Section) -> Rates {
    let mut of = |field| r.optional_word(s, field, per_million).map(|price| price.value);
    Rates {
        input: of("input"),
        output: of("output"),
        cache_read: of("cache_read"),
        cache_write_5m: of("cache_write_5m"),
        cache_write_1h: of("cache_write_1h"),
        reasoning: of("reasoning"),
    }
}

fn per_million(word: Word<'_>) -> Parsed<PerMillion> {
    PerMillion::parse(word.text).map_err(|e| not_decimal(word, e, "US dollars for a million tokens, such as \"2.5\""))
}

pub(super) fn dollars(word: Word<'_>) -> Parsed<NanoUsd> {
    NanoUsd::parse(word.text).map_err(|e| not_decimal(word, e, "US dollars, such as \"0.04\""))
}

/// What a user's requests are multiplied by.
pub(super) fn price_rate(word: Word<'_>) -> Parsed<PriceRate> {
    PriceRate::parse(word.text).map_err(|e| not_decimal(word, e, "a decimal number such as \"1.2\""))
}

/// What becomes of a request without a price.
pub(super) fn unpriced(word: Word<'_>) -> Parsed<Unpriced> {
    one_of(word, &[("allow", Unpriced::Allow), ("refuse", Unpriced::Refuse)])
}

/// A number of tokens.
fn positive(word: Word<'_>) -> Parsed<u64> {
    match scalar::count(word)? {
        0 => Err(word.must_be("at least 1")),
        count => Ok(count as u64),
    }
}

fn not_decimal(word: Word<'_>, error: DecimalError, what: &str) -> Complaint {
    match error {
        DecimalError::Shape => word.must_be(what),
        error => Complaint::new(error.to_string()),
    }
}

fn imported_name(word: Word<'_>) -> Parsed<Glob> {
    let glob = scalar::glob(word)?;
    if glob.is_literal() {
        Ok(glob)
    } else {
        Err(word.must_be("a model's name without `*`").suggest("globs belong into `models`"))
    }
}
