//! What a request takes of its key's and its user's limits, and what it gives back.

use std::sync::Arc;

use weir_filters::key::Admitted;
use weir_filters::limits::estimate::Tokens;
use weir_filters::limits::{self, Permit, Subject, Use};
use weir_filters::price::{NanoUsd, Price, PriceRate};
use weir_filters::refusal::Refusal;
use weir_filters::request::BodyFacts;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use crate::channels::Channel;
use crate::ledger::{Outcome, Settlement};
use crate::metrics::GaugeGuard;

use super::context::Context;

/// A part of limits, for as long as the request is under way.
pub(super) struct Held {
    pub(super) permit: Permit,
    /// Held for what its end does to the gauge.
    _gauge: GaugeGuard,
}

impl Held {
    /// Whether its client is told how limits stand.
    pub(super) fn has_standings(&self) -> bool {
        self.permit.requests().is_some() || self.permit.tokens().is_some()
    }
}

/// Takes from the limits of the key and its user what the request may use. A request without limits takes
/// nothing, and touches nothing that others touch.
pub(super) fn reserve(
    ctx: &mut Context,
    admitted: &Admitted,
    operation: Operation,
    facts: Option<&BodyFacts>,
    channel: &Channel,
) -> Result<(), Refusal> {
    if !admitted.key.is_limited() {
        return Ok(());
    }
    let (tokens, cost) = most(ctx, admitted.key.price_rate, operation, facts, channel);
    let wanted = Use { tokens: tokens.total(), cost };
    let accounts = ctx.shared.accounts.clone();
    match limits::reserve(admitted.key.accounts(), wanted, accounts.at(ctx.arrived_ms)) {
        Ok(permit) => {
            if wanted.cost.0 > 0 && permit.has_budget() {
                // Money that is given out is on record before anybody can spend it: see `Ledger::reserve`.
                if let Some(thought) = thought(ctx, operation, tokens, wanted.cost) {
                    ctx.shared.ledger.reserve(&thought);
                }
            }
            ctx.held = Some(Held { permit, _gauge: ctx.shared.metrics.permit() });
            Ok(())
        }
        Err(exceeded) => {
            ctx.shared.metrics.limit_rejection(exceeded.limit);
            Err(Refusal::LimitExceeded(exceeded))
        }
    }
}

/// The most that a request may use and cost, as far as that can be said before it is made.
fn most(
    ctx: &Context,
    rate: PriceRate,
    operation: Operation,
    facts: Option<&BodyFacts>,
    channel: &Channel,
) -> (Tokens, NanoUsd) {
    if ctx.reads {
        return (Tokens::default(), NanoUsd(0));
    }
    let price = ctx.snapshot.price(channel, &ctx.model).filter(|_| operation.is_billed());
    let longest = price.and_then(Price::max_output_tokens);
    let tokens = ctx.snapshot.estimates.tokens(operation, ctx.request_bytes, facts, longest);
    let cost = price.map(|price| price.at_most_with(tokens.input, tokens.output, ctx.images, rate));
    (tokens, cost.unwrap_or_default())
}

/// Puts what the request used in the place of what was reserved for it.
pub(super) fn settle(ctx: &mut Context, used: Use) {
    if let Some(Held { permit, .. }) = ctx.held.take() {
        ctx.shared.metrics.settled(permit.reserved(), used);
        permit.settle(used);
    }
    let accounts = &ctx.shared.accounts;
    if used.cost.0 == 0 || accounts.epoch() == ctx.snapshot.accounts_epoch {
        return;
    }
    // Limits were set while the request was under way: those accounts did not know of it.
    let Some(key) = &ctx.key else { return };
    let known: Vec<Subject> = key.accounts().iter().map(|(subject, _)| *subject).collect();
    let channel = ctx.exchange.as_ref().map_or("", |exchange| exchange.channel.name());
    let names = [(Subject::Key, &*key.id), (Subject::User, &*key.user), (Subject::Channel, channel)];
    accounts.book(names.into_iter().filter(|(subject, _)| !known.contains(subject)), used.cost, ctx.arrived_ms);
}

/// The settlement that counts if the process is killed before there is another one.
fn thought(ctx: &Context, operation: Operation, tokens: Tokens, cost: NanoUsd) -> Option<Settlement> {
    let key = ctx.key.as_ref()?;
    Some(Settlement {
        id: ctx.id,
        time_ms: ctx.arrived_ms,
        duration_us: 0,
        first_token_us: None,
        key_id: key.id.clone(),
        key_name: key.name.clone(),
        user: key.user.clone(),
        route: ctx.snapshot.route_names[ctx.route?].clone(),
        operation,
        channel: Arc::from(""),
        model: ctx.model.clone(),
        status: 0,
        outcome: Outcome::UpstreamAbort,
        stream: false,
        events: 0,
        request_bytes: ctx.request_bytes,
        response_bytes: 0,
        usage: Usage {
            input_uncached: tokens.input,
            output: tokens.output,
            source: Source::Estimated,
            ..Usage::default()
        },
        cost,
        price_version: ctx.snapshot.prices.as_ref().map_or(0, |prices| prices.version()),
        unpriced: false,
        attempts: 0,
    })
}
