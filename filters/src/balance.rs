//! Which of several candidates is asked: the lowest priority that has any, and among equals by weight.
//!
//! Owns the choice alone. It refuses to know what a candidate is; chance is an argument.
//!
//! If none is ready, the one whose cooldown ends first is asked all the same. To refuse would fail for
//! certain, and a gateway with a single channel would add its own outage to each of the upstream's.

use std::time::Instant;

/// The largest weight that a candidate can have: sums of many stay far from overflow.
pub const MAX_WEIGHT: u32 = 10_000;

/// One that could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<T> {
    /// What it is.
    pub what: T,
    /// Lower ones come first.
    pub priority: u32,
    /// Its share among those of the same priority; 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Whether it can be asked now.
    pub standing: Standing,
}

/// Whether a candidate can be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Ready,
    /// It cools down.
    Cooling {
        /// Until then.
        until: Instant,
    },
    /// It has no room for another request.
    Full,
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick<T> {
    /// A candidate that is ready.
    Ready(T),
    /// None is; of those that cool down this is the one whose cooldown ends first.
    Cooling(T),
    /// All are full.
    Full,
    /// There are none.
    None,
}

/// Picks one of `candidates`, which come in the order of their priorities. Those of a higher one than that
/// of the candidate picked are not looked at.
pub fn pick<T>(candidates: impl IntoIterator<Item = Candidate<T>>, chance: u64) -> Pick<T> {
    let mut ready: Option<(T, u32)> = None;
    let mut soonest: Option<(T, Instant)> = None;
    let mut is_any_full = false;
    let mut chance = chance;
    let mut total = 0;
    for candidate in candidates {
        if ready.as_ref().is_some_and(|(_, priority)| candidate.priority > *priority) {
            break;
        }
        match candidate.standing {
            Standing::Ready => {
                // Each takes the place of those before it by its share in all so far, so that in the end
                // every one has its share in all of them.
                total += u64::from(candidate.weight.max(1));
                if ready.is_none() || below(&mut chance, total) < u64::from(candidate.weight.max(1)) {
                    ready = Some((candidate.what, candidate.priority));
                }
            }
            Standing::Cooling { until } => {
                if soonest.as_ref().is_none_or(|(_, soonest)| until < *soonest) {
                    soonest = Some((candidate.what, until));
                }
            }
            Standing::Full => is_any_full = true,
        }
    }
    match (ready, soonest) {
        (Some((what, _)), _) => Pick::Ready(what),
        (None, Some((what, _))) => Pick::Cooling(what),
        (None, None) if is_any_full => Pick::Full,
        (None, None) => Pick::None,
    }
}

/// A number below `end`, the next that `chance` leads to (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
fn below(chance: &mut u64, end: u64) -> u64 {
    *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *chance;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    // The upper half of the product: without the bias of a remainder, for ends as small as these.
    u64::try_from((u128::from(word) * u128::from(end)) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn ready(what: usize, priority: u32, weight: u32) -> Candidate<usize> {
        Candidate { what, priority, weight, standing: Standing::Ready }
    }

    #[test]
    fn weights_are_shares() {
        let candidates = [ready(0, 0, 1), ready(1, 0, 2), ready(2, 0, 7), ready(3, 1, 10_000)];
        let mut counts = [0_u32; 4];
        let rounds = 100_000;
        for chance in 0..rounds {
            let Pick::Ready(what) = pick(candidates, chance) else { panic!("all are ready") };
            counts[what] += 1;
        }
        // Four standard deviations of a binomial with a hundred thousand tries are below 640.
        for (count, expected) in counts.into_iter().zip([10_000_u32, 20_000, 70_000, 0]) {
            assert!(count.abs_diff(expected) < 640, "{counts:?}");
        }
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn those_of_a_higher_priority_are_not_looked_at() {
        let endless = (0..).map(|n| ready(n, u32::try_from(n).unwrap(), 1));
        assert_eq!(pick(endless, 5), Pick::Ready(0));
    }

    #[test]
    fn if_all_cool_down_the_first_to_recover_is_picked() {
        let now = Instant::now();
        let cooling = |what, priority, seconds| Candidate {
            standing: Standing::Cooling { until: now + Duration::from_secs(seconds) },
            ..ready(what, priority, 1)
        };
        let full = Candidate { standing: Standing::Full, ..ready(9, 0, 1) };
        assert_eq!(pick([cooling(0, 0, 9), full, cooling(1, 0, 4), cooling(2, 1, 4)], 0), Pick::Cooling(1));
        assert_eq!(pick([cooling(0, 0, 9), ready(5, 7, 1)], 0), Pick::Ready(5));
        assert_eq!(pick([full], 0), Pick::Full);
        assert_eq!(pick(Vec::<Candidate<usize>>::new(), 0), Pick::None);
    }

    fn any_candidate() -> impl Strategy<Value = (u32, u32, u8)> {
        (0..4_u32, 1..=MAX_WEIGHT, 0..6_u8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_pick_is_of_the_lowest_priority_that_has_any(
            mut described in prop::collection::vec(any_candidate(), 0..12),
            chance in any::<u64>(),
        ) {
            described.sort_by_key(|(priority, ..)| *priority);
            let now = Instant::now();
            let candidates: Vec<_> = described
                .iter()
                .enumerate()
                .map(|(what, &(priority, weight, kind))| {
                    let standing = match kind {
                        0 => Standing::Full,
                        1..=3 => Standing::Cooling { until: now + Duration::from_secs(kind.into()) },
                        _ => Standing::Ready,
                    };
                    Candidate { what, priority, weight, standing }
                })
                .collect();
            let best = candidates.iter().filter(|c| c.standing == Standing::Ready).map(|c| c.priority).min();
            let first = candidates
                .iter()
                .filter_map(|c| match c.standing {
                    Standing::Cooling { until } => Some((until, c.what)),
                    _ => None,
                })
                .min();
            match pick(candidates.clone(), chance) {
                Pick::Ready(what) => {
                    prop_assert_eq!(candidates[what].standing, Standing::Ready);
                    prop_assert_eq!(Some(candidates[what].priority), best);
                }
                Pick::Cooling(what) => prop_assert_eq!((best, first.map(|f| f.1)), (None, Some(what))),
                Pick::Full => prop_assert!(best.is_none() && first.is_none() && !candidates.is_empty()),
                Pick::None => prop_assert!(candidates.is_empty()),
            }
        }
    }
}
