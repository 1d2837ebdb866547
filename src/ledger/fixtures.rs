//! Owns the settlements that the ledger's tests are made of.

use std::sync::Arc;

use proptest::prelude::*;
use weir_filters::price::NanoUsd;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use super::record::{Outcome, Settlement};

/// A plain, successful request: 3 input tokens, 5 output tokens, 7 nano-dollars.
pub(crate) fn settlement(id: u128, time_ms: u64) -> Settlement {
    Settlement {
        id,
        time_ms,
        duration_us: 1_500,
        first_token_us: None,
        key_id: "k1".into(),
        key_name: "alice-laptop".into(),
        user: "alice".into(),
        route: "/v1/chat/completions".into(),
        operation: Operation::OpenAiChat,
        channel: "miniai".into(),
        model: "gpt-4o".into(),
        status: 200,
        outcome: Outcome::Ok,
        stream: false,
        events: 2,
        request_bytes: 100,
        response_bytes: 200,
        usage: Usage { input_uncached: 3, output: 5, source: Source::Upstream, ..Usage::default() },
        cost: NanoUsd(7),
        price_version: 11,
        unpriced: false,
        attempts: 1,
    }
}

/// Any settlement whose strings are within bounds.
pub(crate) fn any_settlement() -> impl Strategy<Value = Settlement> {
    let text = || "[a-z/ü\u{1F600}]{0,12}".prop_map(Arc::<str>::from);
    let source = prop::sample::select(vec![Source::Upstream, Source::Partial, Source::Estimated, Source::None]);
    (
        (any::<u128>(), any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<u16>(), any::<bool>()),
        (text(), text(), text(), text(), text(), text()),
        (prop::sample::select(&Operation::ALL[..]), prop::sample::select(&Outcome::ALL[..]), source),
        (any::<[u64; 10]>(), any::<(u64, bool, u32)>()),
    )
        .prop_map(|(a, b, c, (n, p))| Settlement {
            id: a.0,
            time_ms: a.1,
            duration_us: a.2,
            first_token_us: a.3,
            status: a.4,
            stream: a.5,
            key_id: b.0,
            key_name: b.1,
            user: b.2,
            route: b.3,
            channel: b.4,
            model: b.5,
            operation: c.0,
            outcome: c.1,
            events: n[0],
            request_bytes: n[1],
            response_bytes: n[2],
            usage: Usage {
                input_uncached: n[3],
                cache_read: n[4],
                cache_write_5m: n[5],
                cache_write_1h: n[6],
                output: n[7],
                reasoning: n[8],
                source: c.2,
            },
            cost: NanoUsd(n[9]),
            price_version: p.0,
            unpriced: p.1,
            attempts: p.2,
        })
}
