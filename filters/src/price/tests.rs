//! What prices come to: by hand, and against slower models that cannot be wrong in the same way.

use proptest::prelude::*;

use super::*;
use crate::glob::Glob;
use crate::usage::{MAX_TOKENS, Usage};

#[expect(clippy::unnecessary_wraps, reason = "prices are optional where it is used")]
fn usd(text: &str) -> Option<PerMillion> {
    Some(PerMillion::parse(text).unwrap())
}

fn rate(text: &str) -> PriceRate {
    PriceRate::parse(text).unwrap()
}

/// What Anthropic publishes for Claude Sonnet 4.5.
fn sonnet() -> Price {
    Price::new(Tariff {
        rates: Rates {
            input: usd("3"),
            output: usd("15"),
            cache_read: usd("0.30"),
            cache_write_5m: usd("3.75"),
            cache_write_1h: usd("6"),
            reasoning: None,
        },
        tiers: vec![Tier {
            above: 200_000,
            rates: Rates { input: usd("6"), output: usd("22.50"), ..Rates::default() },
        }],
        ..Tariff::default()
    })
}

fn usage(input_uncached: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input_uncached, cache_read, output, ..Usage::default() }
}

#[test]
fn a_request_costs_what_its_tokens_cost() {
    let all = Usage { cache_write_5m: 200, cache_write_1h: 300, reasoning: 40, ..usage(1_000, 500, 100) };
    // 1000 × 3000 + 500 × 300 + 200 × 3750 + 300 × 6000 + 100 × 15000 nano-dollars
    assert_eq!(sonnet().cost(&all, 0, PriceRate::default()), NanoUsd(7_200_000));
    assert_eq!(sonnet().cost(&all, 0, rate("1.25")), NanoUsd(9_000_000));
    assert_eq!(sonnet().cost(&all, 0, rate("0")), NanoUsd(0));
    assert_eq!(sonnet().cost(&Usage::default(), 9, PriceRate::default()), NanoUsd(0), "images have no price here");
}

#[test]
fn a_tier_holds_for_the_whole_request_and_counts_the_cached_prompt() {
    let cost = |usage| sonnet().cost(&usage, 0, PriceRate::default()).0;
    assert_eq!(cost(usage(100_000, 100_000, 10)), 100_000 * 3_000 + 100_000 * 300 + 10 * 15_000);
    // What the tier does not write is as without it.
    assert_eq!(cost(usage(100_001, 100_000, 10)), 100_001 * 6_000 + 100_000 * 300 + 10 * 22_500);
}

#[test]
fn the_highest_tier_that_applies_wins_in_whatever_order_they_are_written() {
    let tier = |above, input: &str| Tier { above, rates: Rates { input: usd(input), ..Rates::default() } };
    let rates = Rates { input: usd("1"), output: usd("0"), ..Rates::default() };
    let price = Price::new(Tariff { rates, tiers: vec![tier(200, "3"), tier(100, "2")], ..Tariff::default() });
    let cost = |tokens| price.cost(&usage(tokens, 0, 0), 0, PriceRate::default()).0;
    assert_eq!([cost(100), cost(101), cost(200), cost(201)], [100_000, 202_000, 400_000, 603_000]);
    // A cache's default is the input price that applies.
    assert_eq!(price.cost(&usage(0, 201, 0), 0, PriceRate::default()), NanoUsd(603_000));
}

#[test]
fn reasoning_has_its_own_price_where_one_is_written() {
    let rates = Rates { input: usd("0"), output: usd("1"), reasoning: usd("4"), ..Rates::default() };
    let price = Price::new(Tariff { rates, ..Tariff::default() });
    let cost = |output, reasoning| price.cost(&Usage { reasoning, ..usage(0, 0, output) }, 0, PriceRate::default()).0;
    assert_eq!([cost(10, 0), cost(10, 4), cost(10, 10)], [10_000, 22_000, 40_000]);
    assert_eq!(cost(10, 99), 40_000, "a part is no larger than the whole");
}

#[test]
fn requests_and_images_have_prices_too() {
    let price = Price::new(Tariff {
        per_request: NanoUsd::parse("0.005").unwrap(),
        per_image: NanoUsd::parse("0.04").unwrap(),
        ..Tariff::default()
    });
    assert_eq!(price.cost(&usage(1000, 0, 1000), 0, PriceRate::default()), NanoUsd(5_000_000));
    assert_eq!(price.cost(&usage(0, 0, 0), 3, rate("2")), NanoUsd(250_000_000));
}

#[test]
fn a_cost_is_rounded_once_and_half_up() {
    let price = |input: &str| {
        let rates = Rates { input: usd(input), output: usd(input), ..Rates::default() };
        Price::new(Tariff { rates, ..Tariff::default() })
    };
    let cost = |input: &str, tokens, by: &str| price(input).cost(&usage(tokens, 0, 0), 0, rate(by)).0;
    // A thousandth of a nano-dollar a token.
    assert_eq!([cost("0.000001", 499, "1"), cost("0.000001", 500, "1"), cost("0.000001", 1_499, "1")], [0, 1, 1]);
    assert_eq!([cost("0.000001", 499, "1.002"), cost("0.000001", 499, "1.003")], [0, 1]);
    // Each half by itself would be rounded up to one.
    assert_eq!(price("0.000001").cost(&usage(500, 0, 500), 0, PriceRate::default()), NanoUsd(1));
}

#[test]
fn what_cannot_be_counted_is_the_most_that_can() {
    let most = Some(PerMillion(u64::MAX));
    let rates = Rates { input: most, output: most, ..Rates::default() };
    let price = Price::new(Tariff { rates, per_image: NanoUsd(u64::MAX), ..Tariff::default() });
    let all = Usage { cache_write_5m: u64::MAX, ..usage(u64::MAX, u64::MAX, u64::MAX) };
    assert_eq!(price.cost(&all, u64::MAX, PriceRate(u64::MAX)), NanoUsd(u64::MAX));
    assert_eq!(price.cost(&all, 0, PriceRate(1)), NanoUsd(u64::MAX));
    assert_eq!(price.cost(&all, 0, PriceRate(0)), NanoUsd(0));
    assert_eq!(price.at_most(u64::MAX, u64::MAX, PriceRate(u64::MAX)), NanoUsd(u64::MAX));
    assert_eq!(price.cost(&usage(1_000_000, 0, 0), 0, PriceRate::default()), NanoUsd(u64::MAX));
}

#[test]
fn the_most_is_that_of_the_dearest_kind_and_the_dearest_tier() {
    let one = PriceRate::default();
    assert_eq!(sonnet().at_most(1_000, 100, one), NanoUsd(1_000 * 6_000 + 100 * 15_000), "an hour's cache is dearest");
    assert_eq!(sonnet().at_most(200_001, 0, one), NanoUsd(200_001 * 6_000));
    let tier = Tier { above: 100, rates: Rates { input: usd("0.1"), ..Rates::default() } };
    let rates = Rates { input: usd("1"), output: usd("0"), ..Rates::default() };
    let cheaper_beyond = Price::new(Tariff { rates, tiers: vec![tier], ..Tariff::default() });
    assert_eq!(cheaper_beyond.at_most(500, 0, one), NanoUsd(100_000), "a hundred at the full price");
    assert_eq!(cheaper_beyond.at_most(2_000, 0, one), NanoUsd(200_000));
}

#[test]
fn the_first_glob_that_matches_wins() {
    let table = table(&["gpt-4o-mini", "gpt-4o*", "*-mini", "gpt-*", "gpt-4o", "*"]);
    let place = |model| table.price(model).map(|price| price.tariff().per_request.0);
    assert_eq!(place("gpt-4o-mini"), Some(0));
    assert_eq!(place("gpt-4o"), Some(1));
    assert_eq!(place("gpt-4o-2024"), Some(1));
    assert_eq!(place("o3-mini"), Some(2));
    assert_eq!(place("gpt-5-mini"), Some(2));
    assert_eq!(place("gpt-5"), Some(3));
    assert_eq!([place("claude"), place("")], [Some(5), Some(5)]);
    assert_eq!(PriceTable::new(Vec::new()).price("gpt-4o"), None);
}

#[test]
fn the_upstreams_model_is_priced_before_the_clients() {
    let table = table(&["alias", "real"]);
    let place = |upstream, client| table.price_of(upstream, client).map(|price| price.tariff().per_request.0);
    assert_eq!(place("real", "alias"), Some(1));
    assert_eq!(place("unknown", "alias"), Some(0));
    assert_eq!(place("unknown", "unknown"), None);
}

#[test]
fn a_version_is_of_what_a_table_says() {
    let one = table(&["a", "b"]);
    assert_eq!(one.version(), table(&["a", "b"]).version());
    assert_ne!(one.version(), table(&["b", "a"]).version());
    assert_ne!(one.version(), table(&["a"]).version());
    assert_ne!(PriceTable::new(Vec::new()).version(), 0);
    let dearer = PriceTable::new(vec![(Glob::new("a"), sonnet())]);
    let cheaper =
        PriceTable::new(vec![(Glob::new("a"), Price::new(Tariff { tiers: Vec::new(), ..sonnet().tariff().clone() }))]);
    assert_ne!(dearer.version(), cheaper.version());
}

#[test]
fn money_and_rates_are_read_as_written_and_a_rate_is_not_shown() {
    assert_eq!(PerMillion::parse("0.0375").unwrap().written(), "0.0375");
    assert_eq!(NanoUsd::parse("12").unwrap().written(), "12");
    assert_eq!(NanoUsd(12_500_000_000).to_string(), "12.500000000");
    assert_eq!(PriceRate::parse("1.2345678"), Err(DecimalError::TooFine(6)));
    assert_eq!(PriceRate::parse("-1"), Err(DecimalError::Shape));
    assert_eq!(format!("{:?}", rate("1.25")), "PriceRate(…)");
}

/// A table whose prices tell their places.
#[test]
fn what_is_charged_at_a_rate_costs_the_same_at_the_rate_of_one() {
    let at = |price: &Price, rate_of: &str| Price::new(price.tariff().at(rate(rate_of)));
    let price = Price::new(Tariff {
        rates: Rates { input: usd("2.5"), output: usd("10"), ..Rates::default() },
        per_request: NanoUsd(3),
        per_image: NanoUsd(5),
        max_output_tokens: Some(7),
        tiers: vec![Tier { above: 200, rates: Rates { input: usd("5"), ..Rates::default() } }],
    });
    let dearer = at(&price, "1.2");
    let Tariff { rates, per_request, per_image, max_output_tokens, tiers } = dearer.tariff().clone();
    assert_eq!((rates.input, rates.output, rates.cache_read), (usd("3"), usd("12"), None));
    assert_eq!((per_request, per_image, max_output_tokens), (NanoUsd(4), NanoUsd(6), Some(7)), "rounded half up");
    assert_eq!((tiers[0].above, tiers[0].rates.input, tiers[0].rates.output), (200, usd("6"), None));
    let sonnet = sonnet();
    for (usage, rate_of) in [(usage(100, 0, 10), "1.2"), (usage(300_000, 7, 9), "0.5"), (usage(9, 9, 9), "0")] {
        let one = PriceRate::default();
        assert_eq!(at(&sonnet, rate_of).cost(&usage, 0, one), sonnet.cost(&usage, 0, rate(rate_of)), "{rate_of}");
    }
    let most = Tariff { per_request: NanoUsd(u64::MAX), ..Tariff::default() };
    assert_eq!(most.at(rate("2")).per_request, NanoUsd(u64::MAX));
}

fn table<T: AsRef<str>>(globs: &[T]) -> PriceTable {
    let entry = |(place, glob): (u64, &T)| {
        (Glob::new(glob.as_ref()), Price::new(Tariff { per_request: NanoUsd(place), ..Tariff::default() }))
    };
    PriceTable::new((0..).zip(globs).map(entry).collect())
}

/// Whole numbers of any size, by the rules of primary school: decimal digits, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digits(Vec<u8>);

impl Digits {
    fn of(number: u64) -> Self {
        Self(number.to_string().bytes().rev().map(|digit| digit - b'0').collect())
    }

    fn carried(sums: Vec<u32>) -> Self {
        let (mut digits, mut carry) = (Vec::new(), 0);
        for sum in sums {
            carry += sum;
            digits.push(u8::try_from(carry % 10).unwrap());
            carry /= 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap());
            carry /= 10;
        }
        Self(digits)
    }

    fn plus(&self, other: &Self) -> Self {
        let digit = |number: &Self, at| u32::from(number.0.get(at).copied().unwrap_or(0));
        Self::carried((0..self.0.len().max(other.0.len())).map(|at| digit(self, at) + digit(other, at)).collect())
    }

    fn times(&self, other: &Self) -> Self {
        let mut sums = vec![0; self.0.len() + other.0.len()];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                sums[i + j] += u32::from(*a) * u32::from(*b);
            }
        }
        Self::carried(sums)
    }

    /// Without the last twelve digits, rounded half up; the largest number if it is larger.
    fn rounded(&self) -> u64 {
        let half = Self::of(500_000_000_000);
        let digits = self.plus(&half).0.into_iter().skip(12).collect::<Vec<_>>();
        let text: String = digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
        let text = text.trim_start_matches('0');
        if text.is_empty() { 0 } else { text.parse().unwrap_or(u64::MAX) }
    }
}

/// The cost by the book, without a number of a fixed size.
fn slow_cost(tariff: &Tariff, usage: &Usage, images: u64, rate: PriceRate) -> u64 {
    let prompt = usage.input_uncached + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h;
    let tier = tariff.tiers.iter().filter(|tier| tier.above < prompt).max_by_key(|tier| tier.above);
    let pick = |field: fn(&Rates) -> Option<PerMillion>| {
        tier.and_then(|tier| field(&tier.rates)).or_else(|| field(&tariff.rates)).map(|price| price.0)
    };
    let (input, output) = (pick(|r| r.input).unwrap_or(0), pick(|r| r.output).unwrap_or(0));
    let million = Digits::of(1_000_000);
    let terms = [
        (usage.input_uncached, input),
        (usage.cache_read, pick(|r| r.cache_read).unwrap_or(input)),
        (usage.cache_write_5m, pick(|r| r.cache_write_5m).unwrap_or(input)),
        (usage.cache_write_1h, pick(|r| r.cache_write_1h).unwrap_or(input)),
        (usage.output - usage.reasoning, output),
        (usage.reasoning, pick(|r| r.reasoning).unwrap_or(output)),
    ]
    .map(|(tokens, price)| Digits::of(tokens).times(&Digits::of(price)));
    let images = Digits::of(images).times(&Digits::of(tariff.per_image.0)).times(&million);
    let flat = Digits::of(tariff.per_request.0).times(&million).plus(&images);
    let sum = terms.iter().fold(flat, |sum, term| sum.plus(term));
    sum.times(&Digits::of(rate.0)).rounded()
}

fn any_price() -> impl Strategy<Value = PerMillion> {
    prop_oneof![0..50_000_000_000_u64, 0..1_000_u64, any::<u64>()].prop_map(PerMillion)
}

fn any_rates() -> impl Strategy<Value = Rates> {
    prop::array::uniform6(prop::option::of(any_price())).prop_map(
        |[input, output, cache_read, cache_write_5m, cache_write_1h, reasoning]| Rates {
            input,
            output,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            reasoning,
        },
    )
}

fn any_tariff() -> impl Strategy<Value = Tariff> {
    let tiers = prop::collection::btree_map(0..6_000_u64, any_rates(), 0..4);
    let flat = || prop_oneof![Just(0), 0..1_000_000_000_u64, any::<u64>()].prop_map(NanoUsd);
    (any_rates(), flat(), flat(), tiers).prop_map(|(rates, per_request, per_image, tiers)| Tariff {
        rates,
        per_request,
        per_image,
        max_output_tokens: None,
        tiers: tiers.into_iter().rev().map(|(above, rates)| Tier { above, rates }).collect(),
    })
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let tokens = || prop_oneof![0..2_000_u64, 0..=MAX_TOKENS];
    (prop::array::uniform5(tokens()), any::<prop::sample::Index>()).prop_map(|([a, b, c, d, output], part)| Usage {
        input_uncached: a,
        cache_read: b,
        cache_write_5m: c,
        cache_write_1h: d,
        output,
        reasoning: part.index(usize::try_from(output).unwrap() + 1) as u64,
        ..Usage::default()
    })
}

fn any_rate() -> impl Strategy<Value = PriceRate> {
    prop_oneof![Just(1_000_000), 0..5_000_000_u64, any::<u64>()].prop_map(PriceRate)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn costs_are_those_of_sums_without_bounds(
        tariff in any_tariff(), usage in any_usage(), images in 0..20_u64, rate in any_rate(),
    ) {
        let cost = Price::new(tariff.clone()).cost(&usage, images, rate);
        prop_assert_eq!(cost.0, slow_cost(&tariff, &usage, images, rate));
    }

    #[test]
    fn no_request_costs_more_than_the_most(
        tariff in any_tariff(), usage in any_usage(), rate in any_rate(), more in 0..5_000_u64,
    ) {
        let price = Price::new(tariff);
        let most = price.at_most(usage.input() + more, usage.output + more, rate);
        prop_assert!(price.cost(&usage, 0, rate) <= most);
    }

    /// Some request within the bounds costs as much: nothing is reserved in vain.
    #[test]
    fn the_most_can_be_reached(tariff in any_tariff(), input in 0..9_000_u64, output in 0..9_000_u64, rate in any_rate()) {
        let price = Price::new(tariff.clone());
        let ends = tariff.tiers.iter().map(|tier| tier.above).chain([input]).filter(|end| *end <= input);
        let prompts = ends.flat_map(|tokens| {
            let of = |place| [0, 1, 2, 3].map(|at| if at == place { tokens } else { 0 });
            [of(0), of(1), of(2), of(3)]
        });
        let reached = prompts.flat_map(|[a, b, c, d]| [0, output].map(|reasoning| Usage {
            input_uncached: a,
            cache_read: b,
            cache_write_5m: c,
            cache_write_1h: d,
            output,
            reasoning,
            ..Usage::default()
        }));
        let dearest = reached.map(|usage| price.cost(&usage, 0, rate)).max();
        prop_assert_eq!(dearest, Some(price.at_most(input, output, rate)));
    }

    #[test]
    fn the_index_finds_what_a_walk_finds(
        globs in prop::collection::vec("[abé*]{0,5}", 0..40), models in prop::collection::vec("[abé*]{0,6}", 1..20),
    ) {
        let table = table(&globs);
        for model in models {
            let walked = (0..).zip(&globs).find(|(_, glob)| Glob::new(glob.as_str()).matches(&model));
            let found = table.price(&model).map(|price| price.tariff().per_request.0);
            prop_assert_eq!(found, walked.map(|(place, _): (u64, _)| place), "{}", model);
        }
    }
}
