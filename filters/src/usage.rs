//! Canonical usage: one value into which every protocol's report is folded, and how reports merge.
//!
//! It knows no protocol: which names mean which figure, and how figures become canonical, is said
//! in `protocol/`.

mod plain;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Where the figures of a [`Usage`] come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The upstream reported them, and its report was final.
    Upstream,
    /// The stream was cut after a report that was not its last.
    Partial,
    /// Nothing was reported: output is estimated from what was delivered.
    Estimated,
    /// There was nothing to report: no answer, or an operation without tokens.
    #[default]
    None,
}

impl Source {
    /// The name used in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Upstream => "upstream",
            Source::Partial => "partial",
            Source::Estimated => "estimated",
            Source::None => "none",
        }
    }
}

/// Tokens of one request. The fields are disjoint, so that they can be priced and summed;
/// only `reasoning` is a part of another (`output`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens billed at the full input price.
    pub input_uncached: u64,
    /// Prompt tokens served from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache that lives five minutes, or whose life was not said.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache that lives an hour.
    pub cache_write_1h: u64,
    /// All generated tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Where the figures come from.
    pub source: Source,
}

impl Usage {
    /// What people call input tokens: the whole prompt, cached or not.
    pub const fn input(&self) -> u64 {
        self.input_uncached + self.cache_read + self.cache_write()
    }

    /// Prompt tokens written to a cache, whatever its life.
    pub const fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// Input and output together.
    pub const fn total(&self) -> u64 {
        self.input() + self.output
    }
}

/// The largest number of tokens that is believed.
pub const MAX_TOKENS: u64 = 1_000_000_000;

/// A figure as providers report it, before it is made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Field {
    /// The prompt; whether the cached part is in it, the dialect knows.
    Prompt,
    Completion,
    Total,
    Cached,
    Reasoning,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    /// The prompt that tools added.
    ToolPrompt,
    /// The same figures under the names of another API of the same provider: gateways fill both
    /// sets, one of them with zeros.
    Input,
    InputCached,
    Output,
    OutputReasoning,
    /// DeepSeek's split of the prompt.
    CacheHit,
    CacheMiss,
    /// The timings of llama.cpp.
    TimedPrompt,
    TimedCached,
    TimedOutput,
}

const FIELDS: usize = Field::TimedOutput as usize + 1;

/// Where a figure stands in a usage object: the object around it (empty: none), and its name.
pub(crate) type Name = (&'static str, &'static str, Field);

/// The last value of every figure that was reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    values: [u32; FIELDS],
    seen: u32,
}

impl Counts {
    /// The last value reported.
    pub(crate) fn get(&self, field: Field) -> Option<u64> {
        let index = field as usize;
        (self.seen & 1 << index != 0).then(|| u64::from(self.values[index]))
    }

    /// The last value reported, or zero.
    pub(crate) fn or_zero(&self, field: Field) -> u64 {
        self.get(field).unwrap_or(0)
    }

    /// Whether anything was reported, be it zeros.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen == 0
    }

    /// Takes a figure that is known to be a number of tokens.
    pub(crate) fn set(&mut self, field: Field, tokens: u32) {
        self.values[field as usize] = tokens;
        self.seen |= 1 << field as usize;
    }

    /// Merges one report: a value that is not null replaces the one before it. Returns how many
    /// figures were read and how many values were refused.
    pub(crate) fn merge(&mut self, raw: &[u8], names: &'static [Name]) -> Merged {
        self.merge_as(raw, names, Place::Object(""))
    }

    /// Merges one figure that stands alone.
    pub(crate) fn merge_field(&mut self, raw: &[u8], field: Field) -> Merged {
        self.merge_as(raw, &[], Place::Figure(field))
    }

    fn merge_as(&mut self, raw: &[u8], names: &'static [Name], place: Place) -> Merged {
        let before = self.clone();
        if let Some(merged) = plain::merge(raw, names, place, self) {
            return merged;
        }
        self.clone_from(&before);
        self.merge_with_serde(raw, names, place, before)
    }

    fn merge_with_serde(&mut self, raw: &[u8], names: &'static [Name], place: Place, before: Counts) -> Merged {
        let mut merged = Merged::default();
        let node = Node { names, place, counts: self, merged: &mut merged };
        let mut json = serde_json::Deserializer::from_slice(raw);
        if node.deserialize(&mut json).is_err() || json.end().is_err() {
            // What is no JSON is not believed in any of its parts.
            *self = before;
            merged = Merged { read: 0, invalid: 1 };
        }
        merged
    }
}

/// Where in a report the figures stand that are read from it, if it is written as most are.
pub(crate) fn figures(raw: &[u8], names: &'static [Name]) -> Option<Vec<(usize, Field)>> {
    plain::figures(raw, names)
}

/// What a report held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Figures that were taken.
    pub(crate) read: u64,
    /// Values that are no number of tokens.
    pub(crate) invalid: u64,
}

#[derive(Clone, Copy)]
enum Place {
    /// An object of figures, or of objects of figures, by its name.
    Object(&'static str),
    Figure(Field),
    Unknown,
}

/// One value of a report, read without building a tree of it.
struct Node<'a> {
    names: &'static [Name],
    place: Place,
    counts: &'a mut Counts,
    merged: &'a mut Merged,
}

impl Node<'_> {
    fn number(self, tokens: Option<u32>) {
        match (self.place, tokens) {
            (Place::Figure(field), Some(tokens)) => {
                self.counts.set(field, tokens);
                self.merged.read += 1;
            }
            _ => self.merged.invalid += 1,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.place {
            Place::Unknown => json.deserialize_ignored_any(IgnoredAny).map(drop),
            Place::Object(_) | Place::Figure(_) => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report of usage")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(Some(value).filter(|v| *v <= MAX_TOKENS).and_then(|v| u32::try_from(v).ok()));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(None);
        debug_assert!(value < 0, "serde_json passes what is not negative as u64");
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let whole = value.fract() == 0.0 && (0.0..=MAX_TOKENS as f64).contains(&value);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and at most 10^9"
        )]
        self.number(whole.then_some(value as u32));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.number(None);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.number(None);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.number(None);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Place::Object(outer) = self.place else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            self.number(None);
            return Ok(());
        };
        while let Some(place) = members.next_key_seed(Key { names: self.names, outer })? {
            members.next_value_seed(Node {
                names: self.names,
                place,
                counts: &mut *self.counts,
                merged: &mut *self.merged,
            })?;
        }
        Ok(())
    }
}

struct Key {
    names: &'static [Name],
    outer: &'static str,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Place, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Place, E> {
        let place = self.names.iter().find_map(|&(outer, name, field)| {
            if outer == self.outer && name == key {
                Some(Place::Figure(field))
            } else if self.outer.is_empty() && outer == key {
                Some(Place::Object(outer))
            } else {
                None
            }
        });
        Ok(place.unwrap_or(Place::Unknown))
    }
}
