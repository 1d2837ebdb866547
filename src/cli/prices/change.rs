//! What an import changes, and the text of the price file after it.
//!
//! Owns the layout of the imported part. What people wrote stays as it is, byte for byte: the imported part
//! stands behind all of it, under a name of its own. Refuses to know files and formats of prices.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use weir_filters::price::{NanoUsd, Price, Rates, Tariff};

use crate::config::{PriceFile, parse_prices};

use super::litellm::Imported;

/// Where the imported part begins.
const SECTION: &str = "imported:";

/// What stands before it.
const HEADER: &str = "\
# Written by `weir prices import`, which writes it anew each time: nothing that is changed here by hand stays.
# Prices in `models:` come first, so put your own there.
";

/// What a new file begins with.
const PREFACE: &str = "\
# US dollars for a million tokens. Your own prices belong into `models:`; they come before imported ones.
models:
";

/// How many models are named of those that are priced by hand.
const MAX_NAMED: usize = 10;

/// The difference between a price file and what would be imported into it.
pub(super) struct Change {
    added: Vec<(String, Tariff)>,
    changed: Vec<(String, Tariff, Tariff)>,
    /// Present ones that are not in the import.
    kept: Vec<String>,
    same: usize,
    /// Imported ones that have no effect: a price by hand comes first.
    by_hand: Vec<String>,
    after: BTreeMap<String, Tariff>,
}

impl Change {
    pub(super) fn new(present: &PriceFile, imported: &Imported) -> Self {
        let named =
            |(glob, price): &(weir_filters::glob::Glob, Price)| (glob.as_str().to_owned(), price.tariff().clone());
        let before: BTreeMap<String, Tariff> = present.imported.iter().map(named).collect();
        let mut change = Self {
            added: Vec::new(),
            changed: Vec::new(),
            kept: before.keys().filter(|name| !imported.tariffs.contains_key(*name)).cloned().collect(),
            same: 0,
            by_hand: Vec::new(),
            after: before.clone(),
        };
        for (name, new) in &imported.tariffs {
            if present.models.iter().any(|(glob, _)| glob.matches(name)) {
                change.by_hand.push(name.clone());
            }
            match before.get(name) {
                None => change.added.push((name.clone(), new.clone())),
                Some(old) if old != new => change.changed.push((name.clone(), old.clone(), new.clone())),
                Some(_) => change.same += 1,
            }
            change.after.insert(name.clone(), new.clone());
        }
        change
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty()
    }

    /// The difference for a person: a line for each model that is new, changed, kept or not read.
    pub(super) fn report(&self, imported: &Imported) -> String {
        let mut text = String::new();
        let line = |text: &mut String, sign: char, name: &str, what: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{sign} {name}: {what}");
        };
        for (name, tariff) in &self.added {
            line(&mut text, '+', name, &fields(tariff).join(", "));
        }
        for (name, old, new) in &self.changed {
            line(&mut text, '~', name, &differences(old, new).join(", "));
        }
        for name in &self.kept {
            line(&mut text, '=', name, "kept; it is not in the file");
        }
        for (name, what) in &imported.rounded {
            line(&mut text, '≈', name, what);
        }
        for (name, why) in &imported.refused {
            line(&mut text, '!', name, &format!("not imported: it {why}"));
        }
        if !imported.uncounted.is_empty() {
            let counted = |(field, count): (&String, &usize)| format!("{field} ({count})");
            let fields: Vec<String> = imported.uncounted.iter().map(counted).collect();
            let _ = writeln!(text, "prices of what Weir does not count, which were left out: {}", fields.join(", "));
        }
        if !self.by_hand.is_empty() {
            let named: Vec<&str> = self.by_hand.iter().take(MAX_NAMED).map(String::as_str).collect();
            let more = if self.by_hand.len() > named.len() { ", …" } else { "" };
            let count = self.by_hand.len();
            let _ = writeln!(text, "{count} stay as `models:` has them: {}{more}", named.join(", "));
        }
        let _ = writeln!(
            text,
            "{} added, {} changed, {} as before, {} kept, {} not imported",
            self.added.len(),
            self.changed.len(),
            self.same,
            self.kept.len(),
            imported.refused.len()
        );
        text
    }

    /// The file's text after the import. `before` is what it is now, if there is a file.
    ///
    /// # Errors
    /// When something of a person's would be lost.
    pub(super) fn apply(&self, before: Option<&str>) -> Result<String, String> {
        let by_hand = match before {
            None => PREFACE,
            Some(text) => without_imported(text)?,
        };
        let mut text = by_hand.trim_end().to_owned();
        let _ = write!(text, "\n\n{HEADER}{SECTION}\n");
        for (name, tariff) in &self.after {
            let _ = writeln!(text, "  {}: {{ {} }}", quoted(name), fields(tariff).join(", "));
        }
        self.check(before, &text)?;
        Ok(text.trim_start_matches('\n').to_owned())
    }

    /// Whether the new text says what it should: the same by hand, and all that is imported.
    fn check(&self, before: Option<&str>, after: &str) -> Result<(), String> {
        let read = |text| parse_prices(text, Path::new("prices"), &environment).map_err(|e| e.to_string());
        let models = before.map_or_else(|| Ok(PriceFile::default()), read)?.models;
        let expected = self.after.iter().map(|(name, tariff)| (name.as_str(), tariff));
        match read(after) {
            Ok(now)
                if now.models == models
                    && now.imported.iter().map(|(glob, price)| (glob.as_str(), price.tariff())).eq(expected) =>
            {
                Ok(())
            }
            _ => Err("nothing can be put behind its end; write `models:` as a block, one model a line".to_owned()),
        }
    }
}

/// The text before the imported part, which must be the last one and hold no comment.
fn without_imported(text: &str) -> Result<&str, String> {
    let mut at = 0;
    let mut begin = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if begin.is_none() && line.trim_end().starts_with(SECTION) {
            begin = Some(at);
        } else if begin.is_some() {
            let is_comment = line.trim_start().starts_with('#') || line.contains(" #");
            let is_outside = !line.trim_end().is_empty() && !line.starts_with([' ', '\t']);
            if is_comment {
                return Err(format!("line {}: a comment in `{SECTION}` would be lost; move it above", number + 1));
            }
            if is_outside {
                return Err(format!("line {}: `{SECTION}` must be the last part; move it there", number + 1));
            }
        }
        at += line.len();
    }
    let by_hand = &text[..begin.unwrap_or(text.len())];
    Ok(by_hand.strip_suffix(HEADER).unwrap_or(by_hand))
}

/// The variables of a price file are those of this command's environment.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A name as a price file has it. JSON's strings are YAML's too; `$` begins a variable.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name.replace('$', "$$")).to_string()
}

/// What is written of a tariff, field by field.
fn fields(tariff: &Tariff) -> Vec<String> {
    let flat = |name: &str, price: NanoUsd| (price.0 > 0).then(|| format!("{name}: \"{}\"", price.written()));
    let mut fields = rates(&tariff.rates);
    fields.extend(flat("per_image", tariff.per_image));
    // Something has to be written, be it that it is free.
    let is_bare = fields.is_empty();
    fields.extend(flat("per_request", tariff.per_request).or_else(|| is_bare.then(|| "per_request: \"0\"".to_owned())));
    fields.extend(tariff.max_output_tokens.map(|tokens| format!("max_output_tokens: {tokens}")));
    if !tariff.tiers.is_empty() {
        let tier = |tier: &weir_filters::price::Tier| {
            let above = format!("above: {}", tier.above);
            format!("{{ {} }}", [vec![above], rates(&tier.rates)].concat().join(", "))
        };
        fields.push(format!("tiers: [{}]", tariff.tiers.iter().map(tier).collect::<Vec<_>>().join(", ")));
    }
    fields
}

fn rates(rates: &Rates) -> Vec<String> {
    rates.named().into_iter().filter_map(|(name, price)| Some(format!("{name}: \"{}\"", price?.written()))).collect()
}

/// The fields that differ: `input: "2.5" → "3"`.
fn differences(old: &Tariff, new: &Tariff) -> Vec<String> {
    let by_name = |tariff: &Tariff| -> Vec<(String, String)> {
        fields(tariff).iter().filter_map(|f| f.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let of = |fields: &[(String, String)], name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let gone = old.iter().filter(|(name, _)| of(&new, name).is_none());
    let names = new.iter().chain(gone).map(|(name, _)| name);
    let none = || "none".to_owned();
    names
        .map(|name| (name, of(&old, name), of(&new, name)))
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name}: {} → {}", old.unwrap_or_else(none), new.unwrap_or_else(none)))
        .collect()
}
