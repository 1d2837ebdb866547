//! The prices of all models: which one is a model's.
//!
//! Owns the order of the globs and the index that keeps it. Refuses to know what a price is.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::glob::Glob;

use super::{Price, Rates, Tier};

/// Prices by globs. **The first glob that matches wins.**
#[derive(Clone, PartialEq, Eq)]
pub struct PriceTable {
    /// In the order of the file.
    entries: Vec<(Glob, Price)>,
    /// By what their globs begin with, sorted.
    beginnings: Vec<Beginning>,
    version: u64,
}

/// The globs that have the same text before their first star; of a name that is all of it.
///
/// A model's globs stand under the beginnings that it begins with. The longest of these is found by
/// bisection: it is the last that does not sort behind the model, or what that one begins with.
#[derive(Clone, PartialEq, Eq)]
struct Beginning {
    text: Box<str>,
    /// The longest other one that this begins with.
    shorter: Option<usize>,
    /// Places of entries, ascending; `true`: whatever follows the beginning, they match.
    globs: Vec<(usize, bool)>,
}

impl PriceTable {
    /// A table of `entries`, in order.
    pub fn new(entries: Vec<(Glob, Price)>) -> Self {
        Self { beginnings: beginnings(&entries), version: version(&entries), entries }
    }

    /// The price of `model`, if it has one. Its time grows with the logarithm of the table's size and with
    /// how many globs begin as the model does.
    pub fn price(&self, model: &str) -> Option<&Price> {
        self.at(self.place(model)?)
    }

    /// The price at a place that [`PriceTable::place_of`] gave.
    pub fn at(&self, place: usize) -> Option<&Price> {
        self.entries.get(place).map(|(_, price)| price)
    }

    fn place(&self, model: &str) -> Option<usize> {
        let mut first = usize::MAX;
        let mut next = self.beginnings.partition_point(|beginning| *beginning.text <= *model).checked_sub(1);
        while let Some(at) = next {
            let beginning = &self.beginnings[at];
            if model.starts_with(&*beginning.text) {
                let candidates = beginning.globs.iter().take_while(|(place, _)| *place < first);
                let matching = candidates.filter(|(place, any)| *any || self.entries[*place].0.matches(model));
                first = matching.map(|(place, _)| *place).next().unwrap_or(first);
            }
            next = beginning.shorter;
        }
        (first < self.entries.len()).then_some(first)
    }

    /// The price of a request: that of the model which the upstream was asked for, as it is the upstream
    /// that charges; if there is none, that of the model which the client asked for.
    pub fn price_of(&self, upstream_model: &str, client_model: &str) -> Option<&Price> {
        self.at(self.place_of(upstream_model, client_model)?)
    }

    /// Where the price of a request stands: for whoever asks for the same models often.
    pub fn place_of(&self, upstream_model: &str, client_model: &str) -> Option<usize> {
        let place = self.place(upstream_model);
        if place.is_none() && upstream_model != client_model { self.place(client_model) } else { place }
    }

    /// Tells this table's prices from others': the first eight bytes of the SHA-256 of all that is in it. It
    /// depends on what the table says, not on how that is written. Never 0.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every glob and its price, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Glob, &Price)> {
        self.entries.iter().map(|(glob, price)| (glob, price))
    }

    /// How many globs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no price at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Debug for PriceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriceTable").field("len", &self.len()).field("version", &self.version).finish_non_exhaustive()
    }
}

fn beginnings(entries: &[(Glob, Price)]) -> Vec<Beginning> {
    let begins = |glob: &Glob| glob.as_str().split('*').next().unwrap_or_default().len();
    let mut order: Vec<(&str, usize)> =
        entries.iter().enumerate().map(|(place, (glob, _))| (&glob.as_str()[..begins(glob)], place)).collect();
    order.sort_unstable();
    let mut beginnings: Vec<Beginning> = Vec::new();
    for (text, place) in order {
        if beginnings.last().is_none_or(|last| *last.text != *text) {
            let mut shorter = beginnings.len().checked_sub(1);
            while let Some(at) = shorter.filter(|at| !text.starts_with(&*beginnings[*at].text)) {
                shorter = beginnings[at].shorter;
            }
            beginnings.push(Beginning { text: text.into(), shorter, globs: Vec::new() });
        }
        let rest = &entries[place].0.as_str()[text.len()..];
        let any = !rest.is_empty() && rest.bytes().all(|b| b == b'*');
        if let Some(beginning) = beginnings.last_mut() {
            beginning.globs.push((place, any));
        }
    }
    beginnings
}

fn version(entries: &[(Glob, Price)]) -> u64 {
    let mut hash = Sha256::new();
    let put = |hash: &mut Sha256, number: u64| hash.update(number.to_le_bytes());
    let put_option = |hash: &mut Sha256, number: Option<u64>| {
        hash.update([u8::from(number.is_some())]);
        put(hash, number.unwrap_or_default());
    };
    let put_rates = |hash: &mut Sha256, rates: &Rates| {
        let Rates { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning } = *rates;
        for price in [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning] {
            put_option(hash, price.map(|price| price.0));
        }
    };
    for (glob, price) in entries {
        let tariff = price.tariff();
        put(&mut hash, glob.as_str().len() as u64);
        hash.update(glob.as_str());
        put_rates(&mut hash, &tariff.rates);
        put(&mut hash, tariff.per_request.0);
        put(&mut hash, tariff.per_image.0);
        put_option(&mut hash, tariff.max_output_tokens);
        put(&mut hash, tariff.tiers.len() as u64);
        for Tier { above, rates } in &tariff.tiers {
            put(&mut hash, *above);
            put_rates(&mut hash, rates);
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}
