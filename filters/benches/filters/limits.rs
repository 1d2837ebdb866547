//! What a request with limits costs more: taken from its accounts, and settled.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use weir_filters::limits::{Account, Budget, Limits, Now, Spent, Subject, Use, reserve};
use weir_filters::price::NanoUsd;

use crate::runner::{Case, Work};

pub(crate) fn cases() -> Vec<Case> {
    let rate = Limits { rpm: Some(u64::MAX), ..Limits::default() };
    let all = Limits {
        rpm: Some(u64::MAX),
        tpm: Some(u64::MAX),
        concurrency: Some(1000),
        budget: Budget { month: Some(NanoUsd(u64::MAX)), ..Budget::default() },
    };
    let case = |name: &str, limits: &'static [(Subject, Limits)]| {
        Case::new(format!("limits/{name}"), Work::Calls(1), move || {
            let now = Now { steady_ms: 0, unix_ms: 1_795_262_400_000 };
            let account = |limits| Arc::new(Account::new(limits, Spent::default(), now));
            let accounts: Vec<_> = limits.iter().map(|(subject, limits)| (*subject, account(*limits))).collect();
            // A call each tenth of a millisecond, as at ten thousand requests a second.
            let calls = Cell::new(0_u64);
            move || {
                calls.set(calls.get() + 1);
                let ms = calls.get() / 10;
                let now = Now { steady_ms: ms, unix_ms: now.unix_ms + ms };
                let wanted = Use { tokens: 500, cost: NanoUsd(5_000) };
                let permit = reserve(black_box(&accounts), wanted, now).expect("there is room");
                permit.settle(black_box(Use { tokens: 40, cost: NanoUsd(300) }));
            }
        })
    };
    vec![
        case("rpm", Box::leak(Box::new([(Subject::Key, rate)]))),
        case("all", Box::leak(Box::new([(Subject::Key, all)]))),
        case("all_and_users", Box::leak(Box::new([(Subject::Key, all), (Subject::User, all)]))),
    ]
}
