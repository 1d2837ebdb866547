//! One model's price, and what a request costs by it.
//!
//! Owns tiers, defaults and the arithmetic. Refuses to know names of models.

use crate::decimal::{DecimalError, fixed, shown};
use crate::usage::Usage;

use super::{NanoUsd, PriceRate, USD_PLACES};

/// What a million tokens cost, in billionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u64);

impl PerMillion {
    /// Dollars for a million tokens as they are written in a price table: `2.5`.
    ///
    /// # Errors
    /// When it is no such number, or finer than a billionth.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        fixed(text, USD_PLACES).map(Self)
    }

    /// What [`PerMillion::parse`] reads.
    pub fn written(self) -> String {
        shown(self.0, USD_PLACES)
    }
}

/// Prices of tokens, as far as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Prompt tokens.
    pub input: Option<PerMillion>,
    /// Generated tokens.
    pub output: Option<PerMillion>,
    /// Prompt tokens from a cache; `None`: as `input`.
    pub cache_read: Option<PerMillion>,
    /// Prompt tokens written to a cache of five minutes; `None`: as `input`.
    pub cache_write_5m: Option<PerMillion>,
    /// Prompt tokens written to a cache of an hour; `None`: as `input`.
    pub cache_write_1h: Option<PerMillion>,
    /// Generated tokens of reasoning; `None`: as `output`.
    pub reasoning: Option<PerMillion>,
}

impl Rates {
    /// Each by the name that it has in a price table.
    pub fn named(&self) -> [(&'static str, Option<PerMillion>); 6] {
        let Self { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning } = *self;
        [
            ("input", input),
            ("output", output),
            ("cache_read", cache_read),
            ("cache_write_5m", cache_write_5m),
            ("cache_write_1h", cache_write_1h),
            ("reasoning", reasoning),
        ]
    }

    fn at(self, rate: PriceRate) -> Self {
        let at = |price: Option<PerMillion>| price.map(|price| PerMillion(rate.of(price.0)));
        let Self { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning } = self;
        Self {
            input: at(input),
            output: at(output),
            cache_read: at(cache_read),
            cache_write_5m: at(cache_write_5m),
            cache_write_1h: at(cache_write_1h),
            reasoning: at(reasoning),
        }
    }
}

/// Other prices for long prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// It applies to the whole request if its prompt has more tokens than this, cached ones included.
    pub above: u64,
    /// What it changes; the rest is as without a tier.
    pub rates: Rates,
}

/// What is written of a model's price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// Prices of tokens.
    pub rates: Rates,
    /// For a request, whatever its tokens.
    pub per_request: NanoUsd,
    /// For an image that a request to generate images asks for.
    pub per_image: NanoUsd,
    /// The longest answer that the model gives, in tokens, if it is known.
    pub max_output_tokens: Option<u64>,
    /// Prices of long prompts, in any order.
    pub tiers: Vec<Tier>,
}

impl Tariff {
    /// What is charged by it at a rate, each price rounded to the billionth: what whoever has that rate may be shown,
    /// because it says what they pay and nothing of what others do.
    #[must_use]
    pub fn at(&self, rate: PriceRate) -> Self {
        let tier = |tier: &Tier| Tier { above: tier.above, rates: tier.rates.at(rate) };
        Self {
            rates: self.rates.at(rate),
            per_request: NanoUsd(rate.of(self.per_request.0)),
            per_image: NanoUsd(rate.of(self.per_image.0)),
            max_output_tokens: self.max_output_tokens,
            tiers: self.tiers.iter().map(tier).collect(),
        }
    }
}

/// A model's price, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    tariff: Tariff,
    base: Tokens,
    /// By their thresholds.
    tiers: Vec<(u64, Tokens)>,
}

/// What each kind of token costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tokens {
    input: PerMillion,
    output: PerMillion,
    cache_read: PerMillion,
    cache_write_5m: PerMillion,
    cache_write_1h: PerMillion,
    reasoning: PerMillion,
}

/// Prices are for a million tokens and rates are in millionths, so sums are in units of a nano-dollar
/// divided by this.
const SCALE: u128 = MILLION * MILLION;
const MILLION: u128 = 1_000_000;

impl Price {
    /// The price that a tariff says.
    pub fn new(mut tariff: Tariff) -> Self {
        tariff.tiers.sort_by_key(|tier| tier.above);
        let rates = tariff.rates;
        let tiers = tariff.tiers.iter().map(|tier| (tier.above, Tokens::of(tier.rates.over(rates)))).collect();
        Self { base: Tokens::of(rates), tiers, tariff }
    }

    /// What was written, tiers in order.
    pub fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// What a request with that usage costs, for which so many images were asked. Rounded once, half up.
    pub fn cost(&self, usage: &Usage, images: u64, rate: PriceRate) -> NanoUsd {
        let prompt = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
        let tokens = self.tokens(prompt.into_iter().fold(0, u64::saturating_add));
        // A part is no larger than the whole, whatever an upstream says.
        let reasoning = usage.reasoning.min(usage.output);
        let sum = sum([
            times(usage.input_uncached, tokens.input.0),
            times(usage.cache_read, tokens.cache_read.0),
            times(usage.cache_write_5m, tokens.cache_write_5m.0),
            times(usage.cache_write_1h, tokens.cache_write_1h.0),
            times(usage.output - reasoning, tokens.output.0),
            times(reasoning, tokens.reasoning.0),
        ]);
        self.total(sum, images, rate)
    }

    /// The most that a request can cost whose prompt and answer have at most so many tokens, and which asks
    /// for no images.
    pub fn at_most(&self, input_tokens: u64, output_tokens: u64, rate: PriceRate) -> NanoUsd {
        self.at_most_with(input_tokens, output_tokens, 0, rate)
    }

    /// [`Price::at_most`] of a request that asks for so many images.
    pub fn at_most_with(&self, input_tokens: u64, output_tokens: u64, images: u64, rate: PriceRate) -> NanoUsd {
        // A tier may be cheaper than the one below it: the longest prompt need not be the dearest.
        let ends = self.tiers.iter().map(|(above, _)| *above).chain([u64::MAX]);
        let begins = std::iter::once((None, self.base));
        let begins = begins.chain(self.tiers.iter().map(|(above, tokens)| (Some(*above), *tokens)));
        let reachable = begins.zip(ends).filter(|((above, _), _)| above.is_none_or(|above| input_tokens > above));
        let dearest = reachable.map(|((_, tokens), end)| {
            sum([
                times(input_tokens.min(end), tokens.dearest_input().0),
                times(output_tokens, tokens.output.max(tokens.reasoning).0),
            ])
        });
        // `None` is more than can be counted.
        let most = dearest.reduce(|a, b| Some(a?.max(b?))).unwrap_or_default();
        self.total(most, images, rate)
    }

    /// The longest answer that the model gives, in tokens, if it is known.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.tariff.max_output_tokens
    }

    /// The highest tier that applies.
    fn tokens(&self, prompt: u64) -> &Tokens {
        let applying = self.tiers.iter().rev().find(|(above, _)| prompt > *above);
        applying.map_or(&self.base, |(_, tokens)| tokens)
    }

    /// `tokens` is their price times a million.
    fn total(&self, tokens: Option<u128>, images: u64, rate: PriceRate) -> NanoUsd {
        let rate = u128::from(rate.millionths());
        if rate == 0 {
            return NanoUsd(0);
        }
        let scaled = || {
            let flat = u128::from(self.tariff.per_request.0).checked_add(times(images, self.tariff.per_image.0))?;
            flat.checked_mul(MILLION)?.checked_add(tokens?)?.checked_mul(rate)?.checked_add(SCALE / 2)
        };
        // What does not fit into 128 bits is, divided by the scale, still more than 64 bits hold.
        scaled().and_then(|scaled| u64::try_from(scaled / SCALE).ok()).map_or(NanoUsd(u64::MAX), NanoUsd)
    }
}

impl Rates {
    /// Each price that is written here, else the one that is written there.
    fn over(self, base: Self) -> Self {
        Self {
            input: self.input.or(base.input),
            output: self.output.or(base.output),
            cache_read: self.cache_read.or(base.cache_read),
            cache_write_5m: self.cache_write_5m.or(base.cache_write_5m),
            cache_write_1h: self.cache_write_1h.or(base.cache_write_1h),
            reasoning: self.reasoning.or(base.reasoning),
        }
    }
}

impl Tokens {
    fn of(rates: Rates) -> Self {
        let (input, output) = (rates.input.unwrap_or_default(), rates.output.unwrap_or_default());
        Self {
            input,
            output,
            cache_read: rates.cache_read.unwrap_or(input),
            cache_write_5m: rates.cache_write_5m.unwrap_or(input),
            cache_write_1h: rates.cache_write_1h.unwrap_or(input),
            reasoning: rates.reasoning.unwrap_or(output),
        }
    }

    fn dearest_input(&self) -> PerMillion {
        self.input.max(self.cache_read).max(self.cache_write_5m).max(self.cache_write_1h)
    }
}

/// Two numbers of 64 bits always have a product in 128.
fn times(count: u64, price: u64) -> u128 {
    u128::from(count) * u128::from(price)
}

/// `None` if it cannot be counted.
fn sum<const N: usize>(terms: [u128; N]) -> Option<u128> {
    terms.into_iter().try_fold(0_u128, u128::checked_add)
}
