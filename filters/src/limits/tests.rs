use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;

use proptest::prelude::*;

use crate::calendar::DAY_MS;

use super::*;

const NOON: Now = Now { steady_ms: 5_000, unix_ms: 1_795_262_400_000 };

fn later(now: Now, ms: u64) -> Now {
    Now { steady_ms: now.steady_ms + ms, unix_ms: now.unix_ms + ms }
}

fn account(limits: Limits) -> Arc<Account> {
    Arc::new(Account::new(limits, Spent::default(), NOON))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where a limit may be left out")]
fn usd(nano: u64) -> Option<NanoUsd> {
    Some(NanoUsd(nano))
}

fn uses(tokens: u64, cost: u64) -> Use {
    Use { tokens, cost: NanoUsd(cost) }
}

fn key(account: &Arc<Account>, wanted: Use, now: Now) -> Result<Permit, Exceeded> {
    reserve(&[(Subject::Key, account.clone())], wanted, now)
}

#[test]
fn a_minute_holds_no_more_requests_than_the_limit_and_all_of_it_is_usable() {
    let a = account(Limits { rpm: Some(3), ..Limits::default() });
    for n in 0..3 {
        let permit = key(&a, uses(0, 0), later(NOON, n * 400)).expect("within the limit");
        let standing = permit.requests().expect("limited");
        assert_eq!((standing.limit, standing.remaining), (3, 2 - n));
        permit.settle(uses(0, 0));
    }
    let refused = key(&a, uses(0, 0), later(NOON, 900)).unwrap_err();
    let expected = Exceeded {
        subject: Subject::Key,
        limit: Limit::Rpm,
        allowed: 3,
        used: 3,
        wanted: 1,
        reset_ms: Some(61_000 - 900),
        is_final: false,
    };
    assert_eq!(refused, expected);
    assert!(key(&a, uses(0, 0), later(NOON, 60_999)).is_err(), "sixty seconds after the last of them it still counts");
    for _ in 0..3 {
        key(&a, uses(0, 0), later(NOON, 61_000)).expect("a minute later all is free").settle(uses(0, 0));
    }
}

#[test]
fn a_refusal_by_the_last_limit_consumes_nothing_of_the_others() {
    let limits = Limits { rpm: Some(2), tpm: Some(100), concurrency: Some(2), ..Limits::default() };
    let a = account(limits);
    let user = account(Limits { budget: Budget { total: usd(10), ..Budget::default() }, ..Limits::default() });
    let both = [(Subject::Key, a.clone()), (Subject::User, user.clone())];
    for _ in 0..100 {
        let refused = reserve(&both, uses(10, 11), NOON).unwrap_err();
        assert_eq!((refused.subject, refused.limit), (Subject::User, Limit::Budget(Period::Total)));
        assert!(refused.is_final);
    }
    assert_eq!(a.in_use(NOON), InUse::default());
    let permit = reserve(&both, uses(100, 10), NOON).expect("nothing was consumed");
    assert_eq!((permit.requests().unwrap().remaining, permit.tokens().unwrap().remaining), (1, 0));
}

#[test]
fn what_was_not_used_is_free_as_soon_as_it_is_known() {
    let budget = Budget { day: usd(100), ..Budget::default() };
    let a = account(Limits { tpm: Some(1000), budget, ..Limits::default() });
    let permit = key(&a, uses(1000, 100), NOON).unwrap();
    let refused = key(&a, uses(1, 1), NOON).unwrap_err();
    assert_eq!((refused.limit, refused.reset_ms, refused.is_final), (Limit::Budget(Period::Day), Some(1000), false));
    permit.settle(uses(10, 1));
    let in_use = a.in_use(NOON);
    assert_eq!((in_use.tokens, in_use.spent.day, in_use.reserved), (10, NanoUsd(1), NanoUsd(0)));
    key(&a, uses(990, 99), NOON).expect("what is left of both").settle(uses(990, 99));
    assert!(key(&a, uses(0, 1), NOON).unwrap_err().is_final);
    drop(key(&a, uses(0, 0), NOON).expect("what uses nothing is free"));
}

#[test]
fn a_permit_that_is_dropped_was_never_taken() {
    let budget = Budget { month: usd(1), ..Budget::default() };
    let a = account(Limits { rpm: Some(1), tpm: Some(1), concurrency: Some(1), budget });
    for _ in 0..10 {
        drop(key(&a, uses(1, 1), NOON).expect("nothing is left taken"));
    }
    assert_eq!(a.in_use(NOON), InUse::default());
}

#[test]
fn a_request_that_alone_exceeds_a_limit_is_refused_for_good() {
    let a = account(Limits { tpm: Some(10), budget: Budget { day: usd(5), ..Budget::default() }, ..Limits::default() });
    let tokens = key(&a, uses(11, 1), NOON).unwrap_err();
    assert_eq!((tokens.limit, tokens.reset_ms, tokens.is_final), (Limit::Tpm, None, true));
    let money = key(&a, uses(1, 6), NOON).unwrap_err();
    assert_eq!((money.limit, money.reset_ms, money.is_final), (Limit::Budget(Period::Day), None, true));
}

#[test]
fn a_day_ends_at_midnight_of_utc_and_a_clock_that_jumps_back_does_not_open_it_again() {
    let budget = Budget { day: usd(5), month: usd(12), ..Budget::default() };
    let a = account(Limits { budget, ..Limits::default() });
    key(&a, uses(0, 5), NOON).unwrap().settle(uses(0, 5));
    let refused = key(&a, uses(0, 5), NOON).unwrap_err();
    assert_eq!((refused.limit, refused.reset_ms), (Limit::Budget(Period::Day), Some(DAY_MS / 2)));
    let tomorrow = later(NOON, DAY_MS / 2);
    key(&a, uses(0, 5), tomorrow).expect("a new day").settle(uses(0, 5));
    assert!(key(&a, uses(0, 1), NOON).is_err(), "yesterday is over");
    let day_after = later(tomorrow, DAY_MS);
    key(&a, uses(0, 2), day_after).expect("another").settle(uses(0, 2));
    let month = key(&a, uses(0, 1), day_after).unwrap_err();
    assert_eq!((month.limit, month.used), (Limit::Budget(Period::Month), 12));
    // 2026-11-23 to 2026-12-01.
    assert_eq!(month.reset_ms, Some(8 * DAY_MS));
}

#[test]
fn what_was_reserved_before_midnight_is_spent_on_the_day_it_was_reserved() {
    let budget = Budget { day: usd(5), total: usd(9), ..Budget::default() };
    let a = account(Limits { budget, ..Limits::default() });
    let before = key(&a, uses(0, 5), NOON).unwrap();
    let tomorrow = later(NOON, DAY_MS);
    let after = key(&a, uses(0, 4), tomorrow).expect("a day of its own");
    before.settle(uses(0, 3));
    assert_eq!(a.in_use(tomorrow).spent, Spent { day: NanoUsd(0), month: NanoUsd(3), total: NanoUsd(3) });
    after.settle(uses(0, 4));
    assert_eq!(a.in_use(tomorrow).spent, Spent { day: NanoUsd(4), month: NanoUsd(7), total: NanoUsd(7) });
}

#[test]
fn new_limits_count_what_was_used_under_the_old_ones() {
    let a = account(Limits { concurrency: Some(10), ..Limits::default() });
    let running: Vec<_> = (0..5).map(|_| key(&a, uses(0, 0), NOON).unwrap()).collect();
    a.set_limits(Limits { concurrency: Some(5), ..Limits::default() });
    assert_eq!(key(&a, uses(0, 0), NOON).unwrap_err().used, 5);
    drop(running);
    a.set_limits(Limits::default());
    key(&a, uses(u64::MAX, u64::MAX), NOON).expect("no limits are left").settle(uses(1, 1));
}

#[test]
fn an_account_that_never_had_limits_is_not_counted() {
    let a = account(Limits::default());
    let permit = key(&a, uses(1, 1), NOON).unwrap();
    assert!(!permit.is_limited());
    assert_eq!(a.in_use(NOON), InUse::default());
}

#[test]
fn a_minute_goes_on_where_another_process_left_it() {
    let limits = Limits { rpm: Some(10), tpm: Some(100), ..Limits::default() };
    let a = account(limits);
    // Twenty seconds after a full minute of the clock.
    let now = Now { steady_ms: 125_000, unix_ms: NOON.unix_ms + 20_000 };
    let taken = |requests, tokens| Taken { requests, tokens };
    let spent = Spent { total: NanoUsd(9), ..Spent::default() };
    a.start_from(&Past { spent, minutes: [taken(4, 40), taken(3, 30)] }, now);
    let in_use = |ms| {
        let in_use = a.in_use(later(now, ms));
        (in_use.requests, in_use.tokens, in_use.spent.total.0)
    };
    assert_eq!(in_use(0), (7, 70, 9));
    assert_eq!(in_use(40_999), (7, 70, 9));
    assert_eq!(in_use(41_000), (4, 40, 9), "a minute after the last minute's end");
    assert_eq!(in_use(61_000), (0, 0, 9));
}

#[test]
fn a_thousand_at_once_get_exactly_the_limit() {
    for _ in 0..20 {
        let budget = Budget { total: usd(1_000), ..Budget::default() };
        let a = account(Limits { rpm: Some(100), ..Limits::default() });
        let user = account(Limits { budget, concurrency: Some(70), ..Limits::default() });
        let barrier = Barrier::new(8);
        let admitted: usize = thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                let mut admitted = 0;
                for n in 0..125_u64 {
                    let both = [(Subject::Key, a.clone()), (Subject::User, user.clone())];
                    if let Ok(permit) = reserve(&both, uses(n, 10), NOON) {
                        assert!(user.in_use(NOON).running <= 70);
                        permit.settle(uses(n, 10));
                        admitted += 1;
                    }
                }
                admitted
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
        assert_eq!((user.in_use(NOON).spent.total, user.in_use(NOON).running), (NanoUsd(1_000), 0));
    }
}

/// What the accounts must do, by lists that are searched from one end to the other.
#[derive(Default)]
struct Model {
    limits: Limits,
    /// Whether requests or tokens were ever limited: from then on both are counted.
    counts: bool,
    /// Second, amount and request of what was taken.
    requests: Vec<(u64, u64, usize)>,
    tokens: Vec<(u64, u64, usize)>,
    running: Vec<usize>,
    day: u64,
    month: u64,
    /// Day, month, cost, and the request while it is under way.
    money: Vec<(u64, u64, u64, Option<usize>)>,
}

impl Model {
    fn sees(&mut self, now: Now) {
        self.counts |= self.limits.rpm.is_some() || self.limits.tpm.is_some();
        let second = now.steady_ms / 1000;
        self.requests.retain(|(at, ..)| at + 61 > second);
        self.tokens.retain(|(at, ..)| at + 61 > second);
        self.day = self.day.max(now.unix_ms / DAY_MS);
        self.month = self.month.max(crate::calendar::month_number(now.unix_ms));
    }

    fn spent(&self, period: Period, reserved: bool) -> u64 {
        let counts = |(day, month, ..): &&(u64, u64, u64, Option<usize>)| match period {
            Period::Day => *day == self.day,
            Period::Month => *month == self.month,
            Period::Total => true,
        };
        self.money
            .iter()
            .filter(counts)
            .filter(|(.., open)| open.is_some() == reserved)
            .map(|(_, _, cost, _)| cost)
            .sum()
    }

    fn refuses(&self, wanted: Use, now: Now) -> Option<(Limit, u64, u64, Option<u64>)> {
        let budget = self.limits.budget;
        for (period, allowed) in Period::ALL.into_iter().zip([budget.day, budget.month, budget.total]) {
            let Some(NanoUsd(allowed)) = allowed else { continue };
            let (spent, used) = (self.spent(period, false), self.spent(period, false) + self.spent(period, true));
            if wanted != Use::default() && (used + wanted.cost.0 > allowed || used >= allowed) {
                let end = match period {
                    Period::Day => Some((self.day + 1) * DAY_MS),
                    Period::Month => Some(crate::calendar::month_of(self.month + 1)),
                    Period::Total => None,
                };
                let reset = if wanted.cost.0 > allowed {
                    None
                } else if spent + wanted.cost.0 <= allowed && spent < allowed {
                    Some(1000)
                } else {
                    end.map(|end| end.saturating_sub(now.unix_ms))
                };
                return Some((Limit::Budget(period), allowed, used, reset));
            }
        }
        for (limit, allowed, taken, wanted) in [
            (Limit::Rpm, self.limits.rpm, &self.requests, 1),
            (Limit::Tpm, self.limits.tpm, &self.tokens, wanted.tokens),
        ] {
            let Some(allowed) = allowed else { continue };
            let at = |second: u64| taken.iter().filter(|(at, ..)| at + 61 > second).map(|(_, n, _)| n).sum::<u64>();
            let second = now.steady_ms / 1000;
            if at(second) + wanted > allowed {
                let free = (second..=second + 61).find(|later| at(*later) + wanted <= allowed);
                let reset = free.map(|free| free * 1000 - now.steady_ms);
                return Some((limit, allowed, at(second), reset));
            }
        }
        let running = self.running.len() as u64;
        self.limits.concurrency.filter(|most| running >= *most).map(|most| (Limit::Concurrency, most, running, None))
    }

    fn takes(&mut self, request: usize, wanted: Use, now: Now) {
        let second = now.steady_ms / 1000;
        self.running.push(request);
        if self.counts {
            self.requests.push((second, 1, request));
            self.tokens.push((second, wanted.tokens, request));
        }
        self.money.push((self.day, self.month, wanted.cost.0, Some(request)));
    }

    fn ends(&mut self, request: usize, used: Option<Use>) {
        self.running.retain(|other| *other != request);
        if used.is_none() {
            self.requests.retain(|(.., other)| *other != request);
        }
        for (_, n, _) in self.tokens.iter_mut().filter(|(.., other)| *other == request) {
            *n = used.unwrap_or_default().tokens;
        }
        for (_, _, cost, open) in self.money.iter_mut().filter(|(.., open)| *open == Some(request)) {
            (*cost, *open) = (used.unwrap_or_default().cost.0, None);
        }
        // Sums are all that is asked for: what is over is kept as one entry a day.
        let mut sums: HashMap<(u64, u64), u64> = HashMap::new();
        self.money.retain(|(day, month, cost, open)| {
            if open.is_none() {
                *sums.entry((*day, *month)).or_default() += cost;
            }
            open.is_some()
        });
        self.money.extend(sums.into_iter().map(|((day, month), cost)| (day, month, cost, None)));
    }

    fn in_use(&self) -> InUse {
        let [day, month, total] = Period::ALL.map(|period| NanoUsd(self.spent(period, false)));
        InUse {
            requests: self.requests.iter().map(|(_, n, _)| n).sum(),
            tokens: self.tokens.iter().map(|(_, n, _)| n).sum(),
            running: self.running.len() as u64,
            spent: Spent { day, month, total },
            reserved: NanoUsd(self.spent(Period::Total, true)),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { key: usize, wanted: Use },
    Settle { which: prop::sample::Index, used: Use },
    Release { which: prop::sample::Index },
    Reload { account: usize, limits: Limits },
    Wait { ms: u64 },
    ClockJumps { ms: i64 },
}

fn any_use() -> impl Strategy<Value = Use> {
    (0..40_u64, 0..40_u64).prop_map(|(tokens, cost)| uses(tokens, cost))
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let limit = |most: u64| prop::option::of(1..most);
    let money = || prop::option::of((1..400_u64).prop_map(NanoUsd));
    (limit(20), limit(300), limit(8), money(), money(), prop::option::of((1..4_000_u64).prop_map(NanoUsd))).prop_map(
        |(rpm, tpm, concurrency, day, month, total)| Limits {
            rpm,
            tpm,
            concurrency,
            budget: Budget { day, month, total },
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let day = i64::try_from(DAY_MS).unwrap();
    prop_oneof![
        10 => (0..2_usize, any_use()).prop_map(|(key, wanted)| Step::Reserve { key, wanted }),
        6 => (any::<prop::sample::Index>(), any_use()).prop_map(|(which, used)| Step::Settle { which, used }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Release { which }),
        1 => (0..3_usize, any_limits()).prop_map(|(account, limits)| Step::Reload { account, limits }),
        4 => (0..9_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..200_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (-40 * day..40 * day).prop_map(|ms| Step::ClockJumps { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A million steps: two keys of one user, in any order of requests, ends, reloads and clock jumps.
    #[test]
    fn accounts_do_what_the_model_does(steps in prop::collection::vec(any_step(), 2_000)) {
        let mut now = NOON;
        let accounts = [Limits::default(); 3].map(|limits| Arc::new(Account::new(limits, Spent::default(), now)));
        let mut models: [Model; 3] = Default::default();
        // While nobody is limited nothing is counted; what counts later is another test's.
        for (account, model) in accounts.iter().zip(&mut models) {
            let limits = Limits { concurrency: Some(6), ..Limits::default() };
            account.set_limits(limits);
            model.limits = limits;
            model.sees(now);
        }
        let mut open: Vec<(usize, usize, Permit)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Reserve { key, wanted } => {
                    let of = [(Subject::Key, key), (Subject::User, 2)];
                    of.iter().for_each(|(_, at)| models[*at].sees(now));
                    let expected = of.iter().find_map(|(subject, at)| {
                        models[*at].refuses(wanted, now).map(|refused| (*subject, refused))
                    });
                    match reserve(&of.map(|(subject, at)| (subject, accounts[at].clone())), wanted, now) {
                        Ok(permit) => {
                            prop_assert_eq!(expected, None, "step {}", number);
                            of.iter().for_each(|(_, at)| models[*at].takes(number, wanted, now));
                            open.push((number, key, permit));
                        }
                        Err(e) => {
                            let refused = (e.subject, (e.limit, e.allowed, e.used, e.reset_ms));
                            prop_assert_eq!(Some(refused), expected, "step {}", number);
                        }
                    }
                }
                Step::Settle { which, used } if !open.is_empty() => {
                    let (request, key, permit) = open.swap_remove(which.index(open.len()));
                    permit.settle(used);
                    [key, 2].into_iter().for_each(|at| models[at].ends(request, Some(used)));
                }
                Step::Release { which } if !open.is_empty() => {
                    let (request, key, permit) = open.swap_remove(which.index(open.len()));
                    drop(permit);
                    [key, 2].into_iter().for_each(|at| models[at].ends(request, None));
                }
                Step::Settle { .. } | Step::Release { .. } => {}
                Step::Reload { account, limits } => {
                    accounts[account].set_limits(limits);
                    models[account].limits = limits;
                }
                Step::Wait { ms } => now = later(now, ms),
                Step::ClockJumps { ms } => now.unix_ms = now.unix_ms.saturating_add_signed(ms),
            }
            for (account, model) in accounts.iter().zip(&mut models) {
                model.sees(now);
                prop_assert_eq!(account.in_use(now), model.in_use(), "step {}", number);
            }
        }
    }
}

#[test]
fn the_tightest_budget_is_the_one_of_which_the_largest_share_is_spent() {
    let now = Now { steady_ms: 200_000, unix_ms: 40 * 86_400_000 };
    let usd = |dollars: u64| NanoUsd(dollars * 1_000_000_000);
    let spent = Spent { day: usd(1), month: usd(9), total: usd(20) };
    let tightest =
        |budget: Budget| Account::new(Limits { budget, ..Limits::default() }, spent, now).tightest_budget(now);
    let budget = |day, month, total| Budget { day, month, total };
    let of = |period, spent, allowed| Some(BudgetUse { period, spent, allowed });
    assert_eq!(tightest(budget(None, None, None)), None);
    assert_eq!(tightest(budget(Some(usd(2)), Some(usd(10)), Some(usd(30)))), of(Period::Month, usd(9), usd(10)));
    assert_eq!(tightest(budget(Some(usd(1)), Some(usd(10)), None)), of(Period::Day, usd(1), usd(1)));
    assert_eq!(tightest(budget(None, Some(usd(9)), Some(NanoUsd(0)))), of(Period::Total, usd(20), NanoUsd(0)));
    let account = Account::new(Limits { budget: budget(Some(usd(2)), None, None), ..Limits::default() }, spent, now);
    let tomorrow = Now { unix_ms: now.unix_ms + 86_400_000, ..now };
    assert_eq!(account.tightest_budget(tomorrow), of(Period::Day, NanoUsd(0), usd(2)), "another day");
}
