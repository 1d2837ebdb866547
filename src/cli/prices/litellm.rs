//! Prices out of LiteLLM's `model_prices_and_context_window.json`.
//!
//! Owns what its fields mean. Its numbers are read as they are written, digit by digit: as floats they would
//! already be others. Refuses to know what is done with the prices.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use weir_filters::price::{NanoUsd, PerMillion, Rates, Tariff, Tier};

use crate::config;

use super::number::Number;

/// An entry that explains the others.
const EXAMPLE: &str = "sample_spec";

/// A token's price times ten to the power of this is that of a million.
const MILLION: i32 = 6;

/// What a file comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Imported {
    pub(super) tariffs: BTreeMap<String, Tariff>,
    /// Entries that are no price, and why not.
    pub(super) refused: Vec<(String, String)>,
    /// Prices finer than a table holds: the model, and what was rounded.
    pub(super) rounded: Vec<(String, String)>,
    /// Prices of what Weir does not count, and beside how many prices that were taken they stand.
    pub(super) uncounted: BTreeMap<String, usize>,
}

/// Reads a whole file.
pub(super) fn read(text: &str) -> serde_json::Result<Imported> {
    let Members(entries) = serde_json::from_str(text)?;
    let mut imported = Imported::default();
    for (name, raw) in entries.into_iter().filter(|(name, _)| name != EXAMPLE) {
        if imported.tariffs.contains_key(&name) {
            imported.refused.push((name, "stands in the file twice; the first is taken".to_owned()));
            continue;
        }
        match Entry::read(&name, raw).and_then(Entry::finish) {
            Ok((tariff, notes)) => {
                for field in notes.uncounted {
                    *imported.uncounted.entry(field).or_default() += 1;
                }
                imported.rounded.extend(notes.rounded.into_iter().map(|what| (name.clone(), what)));
                imported.tariffs.insert(name, tariff);
            }
            Err(why) => imported.refused.push((name, why)),
        }
    }
    Ok(imported)
}

/// The members of an object in their order, repeated ones included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        json.deserialize_map(Each)
    }
}

/// One model's entry, its fields sorted by what they are.
#[derive(Default)]
struct Entry {
    mode: String,
    base: Rates,
    tiers: BTreeMap<u64, Rates>,
    per_request: Option<NanoUsd>,
    per_image: Option<NanoUsd>,
    /// What a generated token of an image costs.
    image_token: Option<PerMillion>,
    max_output_tokens: Option<u64>,
    notes: Notes,
}

/// What there is to say about a price that was taken.
#[derive(Default)]
struct Notes {
    rounded: Vec<String>,
    uncounted: Vec<String>,
}

impl Entry {
    fn read(name: &str, raw: &RawValue) -> Result<Self, String> {
        if !config::is_importable(name) {
            return Err("has a name that no price table holds: with a `*` or a space, or too long".to_owned());
        }
        let Ok(Members(fields)) = serde_json::from_str(raw.get()) else {
            return Err("is no object".to_owned());
        };
        let mut entry = Self::default();
        entry.take_all(fields, None)?;
        Ok(entry)
    }

    /// Takes the fields of a mapping; `above`: that of a tier.
    fn take_all(&mut self, fields: Vec<(String, &RawValue)>, above: Option<u64>) -> Result<(), String> {
        for (field, value) in fields.into_iter().filter(|(_, value)| value.get() != "null") {
            self.take(&field, value.get(), above).map_err(|why| format!("has `{field}`, which {why}"))?;
        }
        Ok(())
    }

    fn take(&mut self, field: &str, value: &str, above: Option<u64>) -> Result<(), String> {
        match field {
            "mode" => self.mode = serde_json::from_str(value).map_err(|_| "is no text".to_owned())?,
            "max_output_tokens" => {
                // Where nobody knows it, it is 0 or a sentence.
                let known = Number::read(value, 0, 0).ok().filter(|tokens| tokens.value > 0 && !tokens.is_rounded);
                self.max_output_tokens = known.map(|tokens| tokens.value);
            }
            "input_cost_per_request" | "input_cost_per_query" => {
                self.per_request = Some(NanoUsd(self.price(field, value, 0)?));
            }
            "output_cost_per_image" => self.per_image = Some(NanoUsd(self.price(field, value, 0)?)),
            "output_cost_per_image_token" => {
                self.image_token = Some(PerMillion(self.price(field, value, MILLION)?));
            }
            "tiered_pricing" => self.take_tiers(value)?,
            _ => self.take_tokens(field, value, above)?,
        }
        Ok(())
    }

    /// A price of tokens, or something else.
    fn take_tokens(&mut self, field: &str, value: &str, above: Option<u64>) -> Result<(), String> {
        let (kind, own) = without_tier(field);
        let Some(slot) = slot(kind) else {
            // Of what is no number, but an object or a list, it is not known whether it is more than nothing.
            let is_free = Number::read(value, MILLION, weir_filters::price::USD_PLACES).is_ok_and(|n| n.value == 0);
            if (field.contains("cost") || field.contains("pricing")) && !is_free {
                self.notes.uncounted.push(field.to_owned());
            }
            return Ok(());
        };
        let price = PerMillion(self.price(field, value, MILLION)?);
        let rates = match own.or(above) {
            None => &mut self.base,
            Some(above) => self.tiers.entry(above).or_default(),
        };
        *slot(rates) = Some(price);
        Ok(())
    }

    /// A list of prices, each with the range of prompts for which it is: `[0, 32000]`, `[32000, 128000]`.
    fn take_tiers(&mut self, value: &str) -> Result<(), String> {
        let no_tiers = || "is no list of prices by ranges of tokens".to_owned();
        let tiers: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| no_tiers())?;
        for tier in tiers {
            let Members(mut fields) = serde_json::from_str(tier.get()).map_err(|_| no_tiers())?;
            let at = fields.iter().position(|(field, _)| field == "range").ok_or_else(no_tiers)?;
            let (_, range) = fields.swap_remove(at);
            let range: Vec<&RawValue> = serde_json::from_str(range.get()).map_err(|_| no_tiers())?;
            let from = Number::read(range.first().ok_or_else(no_tiers)?.get(), 0, 0)?;
            if from.is_rounded {
                return Err(no_tiers());
            }
            self.take_all(fields, (from.value > 0).then_some(from.value))?;
        }
        Ok(())
    }

    /// A number of dollars, moved by so many digits, in billionths.
    fn price(&mut self, field: &str, value: &str, digits: i32) -> Result<u64, String> {
        let number = Number::read(value, digits, weir_filters::price::USD_PLACES)?;
        if number.is_rounded {
            let shown = NanoUsd(number.value).written();
            self.notes.rounded.push(format!("`{field}` of {value} is rounded to {shown}"));
        }
        Ok(number.value)
    }

    fn finish(mut self) -> Result<(Tariff, Notes), String> {
        let makes_images = self.mode.starts_with("image");
        if makes_images && self.image_token.is_some() {
            // Nearly all that such a model generates are tokens of images.
            self.base.output = self.image_token;
        }
        let generates = self.base.output.is_some_and(|price| price.0 > 0);
        if self.per_image.is_some() && (generates || !makes_images) {
            // The same image, told once in tokens and once in whole: only one of them is charged.
            self.per_image = None;
            self.notes.uncounted.push("output_cost_per_image".to_owned());
        }
        let has_other_price = self.per_request.is_some() || self.per_image.is_some();
        if self.base == Rates::default() && !has_other_price {
            return Err(match self.notes.uncounted.as_slice() {
                [] => "has no price".to_owned(),
                uncounted => format!("is priced by what Weir does not count: {}", uncounted.join(", ")),
            });
        }
        let is_text = ["", "chat", "completion", "responses", "realtime"].contains(&self.mode.as_str());
        let has_tokens = self.base != Rates::default();
        for (price, field) in
            [(&mut self.base.input, "input_cost_per_token"), (&mut self.base.output, "output_cost_per_token")]
        {
            if price.is_none() && is_text && !has_other_price {
                return Err(format!("has no `{field}`"));
            }
            if has_tokens {
                // What has only one of them, as an embedding, costs nothing for the other.
                price.get_or_insert_default();
            }
        }
        let tariff = Tariff {
            rates: plain(self.base),
            per_request: self.per_request.unwrap_or_default(),
            per_image: self.per_image.unwrap_or_default(),
            max_output_tokens: self.max_output_tokens,
            tiers: self.tiers.into_iter().map(|(above, rates)| Tier { above, rates }).collect(),
        };
        let free = Rates { input: Some(PerMillion(0)), output: Some(PerMillion(0)), ..Rates::default() };
        let is_free =
            tariff == Tariff { rates: free, max_output_tokens: tariff.max_output_tokens, ..Tariff::default() };
        if is_free && !self.notes.uncounted.is_empty() {
            let uncounted = self.notes.uncounted.join(", ");
            return Err(format!("is priced by what Weir does not count: {uncounted}"));
        }
        Ok((tariff, self.notes))
    }
}

/// Without the prices that are what they would be if they were not written.
fn plain(mut rates: Rates) -> Rates {
    let (input, output) = (rates.input, rates.output);
    for (price, default) in [
        (&mut rates.cache_read, input),
        (&mut rates.cache_write_5m, input),
        (&mut rates.cache_write_1h, input),
        (&mut rates.reasoning, output),
    ] {
        if *price == default {
            *price = None;
        }
    }
    rates
}

/// The field without `_above_200k_tokens`, and that number of tokens.
fn without_tier(field: &str) -> (&str, Option<u64>) {
    let parts = field.strip_suffix("k_tokens").and_then(|field| field.rsplit_once("_above_"));
    match parts.and_then(|(kind, thousands)| Some((kind, thousands.parse::<u64>().ok()?.checked_mul(1000)?))) {
        Some((kind, above)) if above > 0 => (kind, Some(above)),
        _ => (field, None),
    }
}

type Slot = fn(&mut Rates) -> &mut Option<PerMillion>;

/// Where a price of tokens belongs.
fn slot(kind: &str) -> Option<Slot> {
    Some(match kind {
        "input_cost_per_token" => |rates| &mut rates.input,
        "output_cost_per_token" => |rates| &mut rates.output,
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => |rates| &mut rates.cache_read,
        "cache_creation_input_token_cost" => |rates| &mut rates.cache_write_5m,
        "cache_creation_input_token_cost_above_1hr" => |rates| &mut rates.cache_write_1h,
        "output_cost_per_reasoning_token" => |rates| &mut rates.reasoning,
        _ => return None,
    })
}
