//! The end of a request: what the meter read becomes one settlement.

use std::time::Duration;

use pingora_core::{Error, ErrorSource, ErrorType};
use weir_filters::limits::Use;
use weir_filters::meter::Reading;
use weir_filters::price::NanoUsd;
use weir_filters::refusal::Refusal;
use weir_filters::usage::Usage;

use crate::clock;
use crate::front::Turned;
use crate::ledger::{Outcome, Settlement};
use crate::metrics::Observation;

use super::context::{Context, Stage};
use super::{limits, pricing, record};

/// Notes why a request ended, as Pingora saw it. What is known already stands.
pub(super) fn ended(error: Option<&Error>, ctx: &mut Context) {
    if ctx.outcome.is_none()
        && let Some(error) = error
    {
        if let Some(why) = too_slow(error) {
            ctx.shared.metrics.turned_away(why);
        }
        ctx.outcome = Some(blame(error, ctx.status != 0));
    }
}

/// Whether the client was waited for for too long.
fn too_slow(error: &Error) -> Option<Turned> {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Turned::LateBody),
        (ErrorSource::Downstream, ErrorType::WriteTimedout) => Some(Turned::SlowReader),
        _ => None,
    }
}

/// Who or what broke a request off.
pub(super) fn blame(error: &Error, answered: bool) -> Outcome {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) => Outcome::ClientAbort,
        (_, ErrorType::ReadTimedout | ErrorType::ConnectTimedout | ErrorType::WriteTimedout) => Outcome::Timeout,
        _ if answered => Outcome::UpstreamAbort,
        _ => Outcome::UpstreamError,
    }
}

/// Counts a request, once. Called when an answer is whole, and by `Drop` for every other end.
pub(super) fn settle(ctx: &mut Context) {
    if ctx.stage == Stage::Settled {
        return;
    }
    let answered_here = ctx.stage != Stage::Admitted;
    ctx.stage = Stage::Settled;
    let snapshot = &ctx.snapshot;
    let now = clock::now();
    let duration = now.saturating_duration_since(ctx.arrived);
    let outcome = outcome(ctx);
    let mut observation = Observation {
        route: ctx.route,
        status: ctx.status,
        duration,
        overhead: (!answered_here).then_some(ctx.overhead),
        channel: None,
        model: None,
        operation: ctx.operation,
        upstream_duration: None,
        first_token: None,
        events: 0,
        usage: Usage::default(),
        invalid: 0,
        outcome,
        stream: false,
        cost: NanoUsd::default(),
        unpriced: false,
    };
    let mut delivered = false;
    let mut read = None;
    if let Some(exchange) = &mut ctx.exchange {
        observation.channel = Some(exchange.channel.index());
        observation.model = snapshot.model_label(exchange.channel.index(), &ctx.model);
        observation.upstream_duration = exchange.asked.map(|asked| now.saturating_duration_since(asked));
        observation.first_token = exchange.first_token;
        observation.stream = exchange.stream;
        if exchange.complete {
            exchange.hold.succeeded(&exchange.channel, exchange.key);
        }
        if let Some(mut meter) = exchange.meter.take() {
            let reading = meter.finish(exchange.complete, exchange.status, ctx.request_bytes);
            observation.events = reading.events;
            delivered = (200..300).contains(&exchange.status) && !reading.failed;
            if !ctx.reads {
                observation.usage = reading.usage;
                observation.invalid = reading.invalid;
            }
            read = Some(reading);
        }
    }
    let priced = pricing::priced(ctx, snapshot, &observation.usage, delivered);
    (observation.cost, observation.unpriced) = (priced.cost, priced.unpriced);
    ctx.shared.metrics.observe(&snapshot.handles, &observation);
    count(ctx, &observation, read.as_ref(), priced, answered_here);
    record::leave(ctx, &observation, read.as_ref());
}

/// Writes the request down in the ledger, if it is one that counts there.
fn count(
    ctx: &mut Context,
    observation: &Observation,
    read: Option<&Reading>,
    priced: pricing::Priced,
    answered_here: bool,
) {
    let snapshot = &ctx.snapshot;
    let outcome = observation.outcome;
    if answered_here && outcome != Outcome::Refused {
        return;
    }
    if matches!(ctx.refused, Some(Refusal::LedgerFull)) {
        // The room that is left in memory is for what was spent.
        return;
    }
    let (Some(key), Some(operation), Some(route)) = (&ctx.key, ctx.operation, ctx.route) else { return };
    let settlement = Settlement::<&str> {
        id: ctx.id,
        time_ms: ctx.arrived_ms,
        duration_us: micros(observation.duration),
        first_token_us: observation.first_token.map(micros),
        key_id: &key.id,
        key_name: &key.name,
        user: &key.user,
        route: &snapshot.route_names[route],
        operation,
        channel: ctx.exchange.as_ref().map_or("", |exchange| exchange.channel.name()),
        model: ctx.written_model(),
        status: ctx.status,
        outcome,
        stream: observation.stream,
        events: observation.events,
        request_bytes: ctx.request_bytes,
        response_bytes: read.map_or(0, |reading| reading.body_bytes),
        usage: observation.usage,
        cost: priced.cost,
        price_version: priced.version,
        unpriced: priced.unpriced,
        attempts: attempts(ctx),
    };
    let used = Use { tokens: settlement.usage.total(), cost: settlement.cost };
    let position = ctx.shared.ledger.append(&settlement);
    limits::settle(ctx, used);
    if let Some(exchange) = &mut ctx.exchange {
        exchange.position = Some(position);
    }
}

/// How often a channel was asked.
fn attempts(ctx: &Context) -> u32 {
    let last = ctx.exchange.as_ref().is_some_and(|exchange| exchange.asked.is_some());
    u32::try_from(ctx.attempts.failed().len()).unwrap_or(u32::MAX).saturating_add(u32::from(last))
}

fn outcome(ctx: &Context) -> Outcome {
    if ctx.refused.is_some() && ctx.outcome.is_none() {
        return Outcome::Refused;
    }
    ctx.outcome.unwrap_or(match &ctx.exchange {
        Some(exchange) if !exchange.complete => Outcome::ClientAbort,
        _ if ctx.status >= 500 => Outcome::UpstreamError,
        _ => Outcome::Ok,
    })
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
