//! The attempts of one request: where it goes first, what a failure says of the upstream, and where it goes
//! after that.
//!
//! Owns the order of things. What a failure means is decided in [`weir_filters::retry`], who is next in
//! [`Channels`](crate::channels::Channels).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderName, RETRY_AFTER};
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_http::RequestHeader;
use weir_filters::credential::strip_query;
use weir_filters::health::Blow;
use weir_filters::key::Admitted;
use weir_filters::limits::{Permit, Use};
use weir_filters::refusal::Refusal;
use weir_filters::request::{BodyFacts, apply};
use weir_filters::retry::{self, Blame, Failure, Progress};
use weir_filters::route::Match;
use weir_filters::sticky;

use crate::channels::{Channel, Choice, NoChannel, Wish};
use crate::clock;
use crate::config::Timeouts;
use crate::http1::Response;
use crate::ledger::Outcome;
use crate::leg::Upload;
use crate::metrics::Cooled;

use super::context::{Context, Exchange};
use super::limits::Asked;
use super::plan::{Plan, plan};
use super::request::Body;
use super::{finish, limits, pricing};

/// What Azure and OpenAI say beside `Retry-After`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How a request came.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) route: &'a Match<'a>,
    pub(super) path: &'a str,
    /// Without credentials.
    pub(super) query: Option<&'a str>,
    pub(super) model: Option<&'a str>,
}

/// An attempt that failed and was followed by another.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The channel that was asked.
    pub channel: Arc<Channel>,
    /// The place of its key.
    pub key: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// What the upstream answered; 0: nothing.
    pub status: u16,
    /// From the choice of the channel to that end, the making of a connection included.
    pub duration: Duration,
}

/// What a request's attempts need to know of each other.
#[derive(Default)]
pub(super) struct Attempts {
    /// Those before the one that goes on; no more than `retry.attempts` has.
    failed: Vec<Attempt>,
    begun: Option<Instant>,
    /// Until when an answer's head must be there, from the second attempt on.
    deadline: Option<Instant>,
    /// The conversation that the request is a turn of.
    conversation: Option<u64>,
    /// Kept while there is another way to serve the request.
    spare: Option<Box<Spare>>,
}

/// The client's body, to be planned anew.
struct Spare {
    pieces: Vec<Bytes>,
    facts: Option<BodyFacts>,
}

impl Attempts {
    /// The first one begins.
    pub(super) fn begin(&mut self) {
        self.begun = Some(clock::now());
    }

    /// Those that failed, in order.
    pub(super) fn failed(&self) -> &[Attempt] {
        &self.failed
    }

    /// An answer is passed on: there is no other attempt.
    pub(super) fn end(&mut self) {
        self.spare = None;
    }

    /// What of a channel's patience is left to the attempt that goes on.
    pub(super) fn limit(&self, timeouts: Timeouts) -> Timeouts {
        let Some(deadline) = self.deadline else { return timeouts };
        let left = deadline.saturating_duration_since(clock::now());
        Timeouts { connect: timeouts.connect.min(left), first_byte: timeouts.first_byte.min(left), ..timeouts }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| clock::now() >= deadline)
    }
}

/// Chooses the channel that is asked first.
pub(super) fn first(
    ctx: &mut Context,
    way: &Way<'_>,
    admitted: &Admitted,
    client: &RequestHeader,
    body: Body,
) -> Result<(), Refusal> {
    let Body { pieces, facts, more } = body;
    let snapshot = ctx.snapshot.clone();
    let mut wish = wish(ctx, way);
    let several = way.model.is_some() && snapshot.channels.has_several(&wish, |name| permits(ctx, name));
    let conversation = snapshot.sticky.as_ref().filter(|_| several).and_then(|sticky| {
        let header = sticky.header.as_ref().and_then(|name| client.headers.get(name));
        sticky::conversation(&ctx.key.as_ref()?.id, header.map(http::HeaderValue::as_bytes), &pieces)
    });
    let last = conversation.and_then(|conversation| ctx.shared.conversations.last(conversation, wish.now));
    wish.last = last.as_deref();
    ctx.images = pricing::images(way.route.operation, way.path, facts.as_ref());
    let asked = Asked { operation: way.route.operation, facts: facts.as_ref() };
    let (choice, room) = with_room(ctx, &asked, |full| {
        let admits = |channel: &Channel| !full.contains(&channel.index()) && limits::has_room(ctx, &asked, channel);
        let choice = snapshot.channels.choose(&wish, |name| permits(ctx, name), admits);
        choice.map_err(|e| refusal(e, way.model))
    })?;
    if let Some(model) = way.model
        && snapshot.refuses_unpriced(way.route.operation, &choice.channel, model)
    {
        return Err(Refusal::ModelNotPriced { model: model.into() });
    }
    let plan = plan(way.route, &choice.channel, way.path, way.query, way.model, facts.as_ref());
    ctx.images = pricing::images(plan.operation, &plan.target, facts.as_ref());
    // Only what has a channel takes from limits.
    let asked = Asked { operation: way.route.operation, facts: facts.as_ref() };
    let ways: Vec<&Channel> = if several && admitted.key.is_limited() {
        let permitted = snapshot.channels.permitted(&wish, |name| permits(ctx, name));
        permitted.map(|channel| &**channel).take(limits::MAX_WAYS).collect()
    } else {
        Vec::new()
    };
    limits::reserve(ctx, admitted, &asked, &choice.channel, ways.into_iter())?;
    let several = several && choice.channel.config().failover.retries.attempts > 1;
    ctx.attempts.conversation = conversation;
    let body = if several {
        let body = edited(&plan, &pieces);
        ctx.attempts.spare = Some(Box::new(Spare { pieces, facts }));
        body
    } else if plan.edits.is_empty() {
        pieces
    } else {
        apply(&pieces, &plan.edits)
    };
    install(ctx, choice, room, plan, body, more);
    Ok(())
}

/// Takes room at the channel that `choose` gives: it is told which were full, because another request took
/// what was left just then.
fn with_room<E>(
    ctx: &Context,
    asked: &Asked<'_>,
    mut choose: impl FnMut(&[usize]) -> Result<Choice, E>,
) -> Result<(Choice, Option<Permit>), E> {
    let mut full = Vec::new();
    loop {
        let choice = choose(&full)?;
        match limits::take_room(ctx, asked, &choice.channel) {
            Ok(room) => return Ok((choice, room)),
            Err(_) => full.push(choice.channel.index()),
        }
    }
}

/// What a client is told who asks for `model`.
pub(super) fn refusal(why: NoChannel, model: Option<&str>) -> Refusal {
    match (why, model) {
        (NoChannel::NotPermitted, _) => Refusal::ChannelNotPermitted,
        (NoChannel::Unserved, Some(model)) => Refusal::ModelNotFound { model: model.into() },
        (NoChannel::Unserved, None) => Refusal::NoChannel,
        (NoChannel::Busy, _) => Refusal::ChannelsFull,
        (NoChannel::Draining, _) => Refusal::ChannelsDraining,
    }
}

fn wish<'a>(ctx: &Context, way: &Way<'a>) -> Wish<'a> {
    // The request's id is drawn by lot.
    let chance = u64::try_from(ctx.id & u128::from(u64::MAX)).unwrap_or_default();
    let among = way.route.channels;
    Wish { protocol: way.route.operation.protocol(), model: way.model, among, last: None, chance, now: clock::now() }
}

/// Whether the client's key may use the channel.
fn permits(ctx: &Context, channel: &str) -> bool {
    ctx.admitted.as_ref().is_some_and(|admitted| admitted.permits_channel(channel))
}

fn edited(plan: &Plan, pieces: &[Bytes]) -> Vec<Bytes> {
    if plan.edits.is_empty() { pieces.to_vec() } else { apply(pieces, &plan.edits) }
}

fn install(
    ctx: &mut Context,
    choice: Choice,
    room: Option<Permit>,
    plan: Plan,
    body: Vec<Bytes>,
    more: Option<Upload>,
) {
    let gauge = ctx.snapshot.handles.channel(choice.channel.index()).enter();
    ctx.operation = Some(plan.operation);
    ctx.exchange = Some(Exchange::new(choice, plan, body, more, room, gauge));
}

/// The head of an answer has come. `true`: it is not passed on, because another attempt takes its place.
pub(super) fn is_replaced(head: &Response, client: &RequestHeader, ctx: &mut Context) -> bool {
    let failure = Failure::Status(head.status.as_u16());
    report_answer(head, ctx);
    !head.status.is_success() && another(failure, client, ctx)
}

/// Says what the head of an answer tells of the channel and its key.
pub(super) fn report_answer(head: &Response, ctx: &mut Context) {
    if head.status.is_success() {
        let Some(exchange) = &ctx.exchange else { return };
        exchange.hold.answered(&exchange.channel, exchange.key);
        if let (Some(conversation), Some(sticky)) = (ctx.attempts.conversation, &ctx.snapshot.sticky) {
            ctx.shared.conversations.remember(conversation, exchange.channel.name(), sticky.ttl, clock::now());
        }
        return;
    }
    let wait = retry::wait(head.lines.get(&RETRY_AFTER), head.lines.get(&RETRY_AFTER_MS));
    report(Failure::Status(head.status.as_u16()), wait, ctx);
}

/// An exchange broke off. `true`: another attempt takes its place.
pub(super) fn is_tried_again(error: &Error, client: &RequestHeader, ctx: &mut Context) -> bool {
    // What the gateway itself lacks says nothing of the channel, and lacks elsewhere too.
    if *error.esource() != ErrorSource::Upstream || ctx.refused.is_some() {
        return false;
    }
    let failure = match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        _ => Failure::Connect,
    };
    // A time that ran out because others had used it up says nothing of the channel.
    if !ctx.attempts.is_late() || ctx.status != 0 {
        report(failure, None, ctx);
    }
    ctx.status == 0 && another(failure, client, ctx)
}

/// The answer broke off after its head had been passed on.
pub(super) fn broke_off(ctx: &mut Context) {
    report(Failure::Connect, None, ctx);
}

/// Says what a failure tells of the channel and its key.
fn report(failure: Failure, wait: Option<Duration>, ctx: &mut Context) {
    let Some(exchange) = &mut ctx.exchange else { return };
    let Exchange { hold, channel, key, .. } = exchange;
    let cooled = match failure.blame() {
        Blame::None => {
            hold.answered(channel, *key);
            return;
        }
        Blame::Key { certain } => {
            let blow = Blow { is_final: certain, wait };
            hold.key_failed(channel, *key, blow, clock::now()).then_some(Cooled::Key)
        }
        Blame::Channel => {
            hold.channel_failed(channel, Blow { is_final: false, wait }, clock::now()).then_some(Cooled::Channel)
        }
    };
    if let Some(what) = cooled {
        log::warn!("channel {}: {} cools down", channel.name(), what.name());
        ctx.snapshot.handles.channel(channel.index()).cooled_down(&ctx.shared.metrics, what);
    }
}

/// Puts the next attempt in place of the one that failed, if there is to be one.
fn another(failure: Failure, client: &RequestHeader, ctx: &mut Context) -> bool {
    let snapshot = ctx.snapshot.clone();
    let now = clock::now();
    let (Some(exchange), Some(spare)) = (&mut ctx.exchange, &ctx.attempts.spare) else { return false };
    let retries = &exchange.channel.config().failover.retries;
    let begun = ctx.attempts.begun.unwrap_or(now);
    let progress = Progress {
        attempts: u32::try_from(ctx.attempts.failed.len()).map_or(u32::MAX, |n| n.saturating_add(1)),
        elapsed: now.saturating_duration_since(begun),
        is_whole: exchange.more.is_none(),
        is_answered: ctx.status != 0,
    };
    if !retries.allow(failure, &progress) {
        return false;
    }
    let Ok(route) = snapshot.routes.find(&client.method, client.uri.path()) else { return false };
    let deadline = begun + retries.within;
    let (chosen, channel, key) = (exchange.begun, exchange.channel.clone(), exchange.key);
    let failed = &ctx.attempts.failed;
    let had = |index, key: Option<usize>| {
        failed.iter().any(|had| had.channel.index() == index && key.is_none_or(|key| had.key == key))
    };
    let other_key = match failure.blame() {
        Blame::Key { .. } => {
            let tried = |place| place == key || had(channel.index(), Some(place));
            exchange.hold.change_key(&channel, now, tried)
        }
        Blame::None | Blame::Channel => None,
    };
    let query = client.uri.query().map(|query| strip_query(query).into_owned());
    let model = ctx.model.clone();
    let way = Way { route: &route, path: client.uri.path(), query: query.as_deref(), model: Some(&*model) };
    let asked_for = Asked { operation: route.operation, facts: spare.facts.as_ref() };
    let next = match other_key {
        Some(key) => ctx.exchange.take().map(|same| {
            let Exchange { channel, hold, room, .. } = same;
            (Choice { channel, key, hold }, room)
        }),
        None => with_room(ctx, &asked_for, |full| {
            let choice = snapshot.channels.choose_next(
                &wish(ctx, &way),
                |name| permits(ctx, name),
                |channel| {
                    limits::has_room(ctx, &asked_for, channel)
                        && !snapshot.refuses_unpriced(route.operation, channel, &model)
                },
                |other| {
                    let index = other.index();
                    index == channel.index() || had(index, None) || full.contains(&index)
                },
            );
            choice.ok_or(())
        })
        .ok(),
    };
    let Some((choice, room)) = next else { return false };
    if let Some(room) = ctx.exchange.as_mut().filter(|failed| failed.asked.is_some()).and_then(|e| e.room.take()) {
        // The upstream was asked, and its provider counts that too.
        room.settle(Use::default());
    }
    let plan = plan(way.route, &choice.channel, way.path, way.query, way.model, spare.facts.as_ref());
    let body = edited(&plan, &spare.pieces);

    let (outcome, status) = match failure {
        Failure::Timeout => (Outcome::Timeout, 0),
        Failure::Connect => (Outcome::UpstreamError, 0),
        Failure::Status(status) => (Outcome::UpstreamError, status),
    };
    snapshot.handles.channel(channel.index()).failed_attempt(&ctx.shared.metrics, outcome);
    let duration = now.saturating_duration_since(chosen);
    ctx.attempts.failed.push(Attempt { channel, key, outcome, status, duration });
    ctx.attempts.deadline = Some(deadline);
    ctx.outcome = None;
    install(ctx, choice, room, plan, body, None);
    true
}

/// The client has left: nothing follows, and what becomes of this attempt says nothing of the channel.
pub(super) fn is_clients(error: &Error) -> bool {
    finish::blame(error, true) == Outcome::ClientAbort
}
