//! A price table that takes the place of the file's.
//!
//! Owns the list that it is written as: a table's order decides which price counts, and the members of a JSON
//! object have none.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_filters::glob::Glob;
use weir_filters::price::{Price, PriceTable, Rates, Tariff, Tier};

use crate::config::{self, Written, Wrong};

use super::{Draft, Part, Refused};

/// A table and what it was read from.
pub(crate) struct Prices {
    /// Short JSON, an entry each.
    texts: Vec<String>,
    pub(crate) table: Arc<PriceTable>,
}

impl Prices {
    /// Reads a list of entries: the fields of `prices.yaml`, and `model` for the glob.
    pub(super) fn new(entries: &[Written]) -> Result<Self, Vec<Wrong>> {
        let table = Arc::new(PriceTable::new(config::read_prices(entries)?));
        let texts: serde_json::Result<Vec<String>> = entries.iter().map(serde_json::to_string).collect();
        Ok(Self { texts: texts.map_err(|e| vec![Wrong::new("", e.to_string())])?, table })
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }
}

impl Draft<'_> {
    /// Puts a table in the place of the file's; `None`: goes back to the file's.
    pub(crate) fn set_prices(&mut self, entries: Option<&[Written]>) -> Result<(), Refused> {
        if entries.is_some_and(<[_]>::is_empty) {
            let message = "`models` must not be an empty list; DELETE goes back to the file's";
            return Err(Refused::invalid("models", message));
        }
        if entries.is_none() && self.shelves.prices.is_none() {
            return Err(Refused::NoPrices);
        }
        self.shelves.prices = entries.map(Prices::new).transpose()?.map(Arc::new);
        self.touch(Part::Prices);
        Ok(())
    }
}

/// A table as the list that [`Prices::new`] reads.
pub(crate) fn shown(table: &PriceTable) -> Vec<Value> {
    table.iter().map(|(glob, price)| entry(glob, price)).collect()
}

fn entry(glob: &Glob, price: &Price) -> Value {
    let mut fields = shown_price(price.tariff());
    fields.insert("model".into(), glob.as_str().into());
    fields.into()
}

/// The fields of a price. What is not written has its default, which depends on what is: it is left out.
pub(crate) fn shown_price(tariff: &Tariff) -> Written {
    let Tariff { rates, per_request, per_image, max_output_tokens, tiers } = tariff;
    let mut fields = prices_of(rates);
    for (field, price) in [("per_request", per_request), ("per_image", per_image)] {
        if price.0 > 0 {
            fields.insert(field.into(), price.written().into());
        }
    }
    if let Some(tokens) = max_output_tokens {
        fields.insert("max_output_tokens".into(), json!(tokens));
    }
    if !tiers.is_empty() {
        let tier = |Tier { above, rates }: &Tier| {
            let mut fields = prices_of(rates);
            fields.insert("above".into(), json!(above));
            Value::from(fields)
        };
        fields.insert("tiers".into(), tiers.iter().map(tier).collect());
    }
    fields
}

fn prices_of(rates: &Rates) -> Written {
    rates.named().into_iter().filter_map(|(field, price)| Some((field.to_owned(), price?.written().into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &Value) -> Vec<Written> {
        list.as_array().expect("a list").iter().map(|entry| entry.as_object().expect("fields").clone()).collect()
    }

    #[test]
    fn a_table_is_shown_as_it_was_written_and_in_its_order() {
        let list = json!([
            { "model": "z-mini", "input": "0.15", "output": "0.6", "max_output_tokens": 16384 },
            {
                "model": "z-*", "input": "2.5", "output": "10", "cache_read": "1.25", "cache_write_5m": "3",
                "cache_write_1h": "5", "reasoning": "12", "per_request": "0.01",
                "tiers": [{ "above": 200_000, "input": "5" }, { "above": 1000, "output": "11" }],
            },
            { "model": "a", "per_image": "0.04" },
            { "model": "4", "input": "0", "output": "0" },
        ]);
        let prices = Prices::new(&entries(&list)).unwrap();
        let mut shown: Value = shown(&prices.table).into();
        assert_eq!(Prices::new(&entries(&shown)).unwrap().table, prices.table);
        let tiers = shown[1]["tiers"].as_array_mut().expect("tiers");
        tiers.sort_by_key(|tier| std::cmp::Reverse(tier["above"].as_u64()));
        assert_eq!(shown, list);
    }

    #[test]
    fn a_mistake_names_the_entry() {
        for (list, field, message) in [
            (json!([{ "input": "1", "output": "1" }]), "models[0].model", "`model` is missing"),
            (json!([{ "model": 5, "input": "1", "output": "1" }]), "models[0].model", "`model` must be text"),
            (json!([{ "model": "a" }]), "models[0].input", "`input` is missing"),
            (
                json!([{ "model": "a", "per_image": "1" }, { "model": "b", "input": "1e3", "output": "1" }]),
                "models[1].input",
                "`input` must be US dollars for a million tokens, such as \"2.5\", not `1e3`",
            ),
            (
                json!([{ "model": "a", "per_image": "1", "tiers": [{ "above": 1, "output": "1", "inpt": "1" }] }]),
                "models[0].tiers[0].inpt",
                "unknown field `inpt`; did you mean \"input\"?",
            ),
            (
                json!([{ "model": "a", "per_image": "1" }, { "model": "a", "per_image": "1" }]),
                "models[1].model",
                "`model` is given twice",
            ),
            (json!([{ "model": "a b", "per_image": "1" }]), "models[0].model", "`model` must be a name or a glob"),
        ] {
            let wrong = Prices::new(&entries(&list)).err().unwrap_or_else(|| panic!("{list} is read"));
            assert_eq!(wrong[0].field, field, "{list}: {wrong:?}");
            assert!(wrong[0].message.starts_with(message), "{list}: {wrong:?}");
        }
    }
}
