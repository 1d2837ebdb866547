//! What the monitor tells, as schemas.

use serde_json::{Value, json};
use weir_filters::monitor::{RunState, Standing};

use super::schemas::{count, decimal, exactly, list, or_null, text, time, word};

const STATES: [RunState; 5] =
    [RunState::Healthy, RunState::Degraded, RunState::Down, RunState::NoModels, RunState::Error];

/// All of them.
pub(super) fn all() -> [(String, Value); 2] {
    let boolean = || json!({ "type": "boolean" });
    let number = || or_null(json!({ "type": "number", "minimum": 0 }));
    let states = || STATES.map(RunState::name);
    let point = exactly(json!({
        "time": time(), "ok": boolean(), "code": or_null(text()), "first_token_ms": number(), "total_ms": number(),
    }));
    let standings = [Standing::Passing, Standing::Failing, Standing::Unknown].map(Standing::name);
    let model = exactly(json!({
        "model": text(), "state": word(standings), "success_share": number(), "first_token_p50_ms": number(),
        "first_token_p95_ms": number(), "total_p50_ms": number(), "total_p95_ms": number(), "results": list(point),
    }));
    let channel = exactly(json!({
        "channel": text(),
        "state": or_null(word(states())),
        "every": or_null(text()),
        "last_run_at": or_null(time()),
        "next_run_at": or_null(time()),
        "spent_today": exactly(json!({ "tokens": count(), "cost_usd": decimal() })),
        "cap": exactly(json!({ "tokens": or_null(count()), "cost_usd": or_null(decimal()) })),
        "models": list(model),
    }));
    let error = exactly(json!({ "code": text(), "message": text(), "detail": or_null(text()) }));
    let result = exactly(json!({
        "model": text(),
        "ok": boolean(),
        "by": word(["probe", "traffic"]),
        "skipped": or_null(word(["cap", "interrupted"])),
        "error": or_null(error),
        "status": or_null(count()),
        "connect_ms": number(),
        "first_token_ms": number(),
        "total_ms": number(),
        "tokens_per_second": number(),
        "tokens": exactly(json!({ "input": count(), "output": count() })),
        "cost_usd": decimal(),
    }));
    let run = exactly(json!({
        "id": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
        "begun_at": time(),
        "ended_at": or_null(time()),
        "reason": word(["schedule", "manual"]),
        // One that has not ended has no other state.
        "state": word(states().into_iter().chain(["running"])),
        "results": list(result),
    }));
    [("MonitoredChannel".to_owned(), channel), ("MonitorRun".to_owned(), run)]
}
