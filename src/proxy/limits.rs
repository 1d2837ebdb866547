//! What a request takes of its key's and its user's limits, and what it gives back.

use weir_filters::key::Admitted;
use weir_filters::limits::estimate::Tokens;
use weir_filters::limits::{self, Exceeded, Permit, Subject, Use};
use weir_filters::price::{NanoUsd, Price};
use weir_filters::refusal::Refusal;
use weir_filters::request::BodyFacts;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use crate::channels::Channel;
use crate::ledger::{Outcome, Settlement};
use crate::metrics::GaugeGuard;

use super::context::Context;

/// How many channels are looked at for the dearest: a price is found in less than a microsecond.
pub(super) const MAX_WAYS: usize = 32;

/// What a request asks for.
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    pub(super) facts: Option<&'a BodyFacts>,
}

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

/// Whether the channel's own limits have room for the request.
pub(super) fn has_room(ctx: &Context, asked: &Asked<'_>, channel: &Channel) -> bool {
    let Some(account) = &ctx.snapshot.rooms[channel.index()] else { return true };
    let (tokens, cost) = most(ctx, asked, channel);
    account.has_room(Use { tokens: tokens.total(), cost }, ctx.shared.accounts.at(ctx.arrived_ms))
}

/// Takes from the channel's own limits what the request may use. Of an attempt that failed only the request
/// itself stays taken.
pub(super) fn take_room(ctx: &Context, asked: &Asked<'_>, channel: &Channel) -> Result<Option<Permit>, Exceeded> {
    let Some(account) = &ctx.snapshot.rooms[channel.index()] else { return Ok(None) };
    let (tokens, cost) = most(ctx, asked, channel);
    let accounts = [(Subject::Channel, account.clone())];
    limits::reserve(&accounts, Use { tokens: tokens.total(), cost }, ctx.shared.accounts.at(ctx.arrived_ms)).map(Some)
}

/// Takes from the limits of the key and its user what the request may use at the dearest of the channels
/// that may serve it in the end (`ways`), of which `channel` is asked first. A request without limits takes
/// nothing, and touches nothing that others touch.
pub(super) fn reserve<'a>(
    ctx: &mut Context,
    admitted: &Admitted,
    asked: &Asked<'_>,
    channel: &'a Channel,
    ways: impl Iterator<Item = &'a Channel>,
) -> Result<(), Refusal> {
    let of_channel = ctx.snapshot.rooms[channel.index()].as_ref().is_some_and(|account| account.has_budget());
    if !admitted.key.is_limited() && !of_channel {
        return Ok(());
    }
    let costs = ways.chain([channel]).map(|channel| most(ctx, asked, channel));
    let (tokens, cost) = costs.max_by_key(|(tokens, cost)| (*cost, tokens.total())).unwrap_or_default();
    let wanted = Use { tokens: tokens.total(), cost };
    let accounts = &ctx.shared.accounts;
    match limits::reserve(admitted.key.accounts(), wanted, accounts.at(ctx.arrived_ms)) {
        Ok(permit) => {
            if wanted.cost.0 > 0 && (of_channel || permit.has_budget()) {
                // Money that is given out is on record before anybody can spend it: see `Ledger::reserve`.
                if let Some(thought) = thought(ctx, asked.operation, channel, tokens, wanted.cost)
                    && !ctx.shared.ledger.reserve(&thought, ctx.snapshot.when_full)
                {
                    return Err(Refusal::LedgerFull);
                }
            }
            if !permit.is_limited() {
                return Ok(());
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

/// The most that a request may use and cost at a channel, as far as that can be said before it is made.
fn most(ctx: &Context, asked: &Asked<'_>, channel: &Channel) -> (Tokens, NanoUsd) {
    let Asked { operation, facts } = *asked;
    let rate = ctx.key.as_ref().map(|key| key.price_rate).unwrap_or_default();
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
    if let Some(room) = ctx.exchange.as_mut().and_then(|exchange| exchange.room.take()) {
        room.settle(used);
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
fn thought<'a>(
    ctx: &'a Context,
    operation: Operation,
    channel: &'a Channel,
    tokens: Tokens,
    cost: NanoUsd,
) -> Option<Settlement<&'a str>> {
    let key = ctx.key.as_ref()?;
    Some(Settlement {
        id: ctx.id,
        time_ms: ctx.arrived_ms,
        duration_us: 0,
        first_token_us: None,
        key_id: &key.id,
        key_name: &key.name,
        user: &key.user,
        route: &ctx.snapshot.route_names[ctx.route?],
        operation,
        channel: channel.name(),
        model: ctx.written_model(),
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
