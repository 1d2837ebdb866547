//! The exchange between a client and an upstream: the phases in their order, and every wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::clock;
use crate::config::{Durability, Timeouts};
use crate::front::{Client, Patience, STALL};
use crate::http1::Alarm;
use crate::leg::{Exchange, Leg, Step};

use super::context::Context;
use super::{attempt, drain, finish, record, request, response, upstream};

/// How often a request is tried on connections that turn out to have been closed while idle.
const MAX_TRIES: usize = 3;

/// What became of one attempt that did not fail.
enum Served {
    /// The client has the answer.
    Passed,
    /// The answer is a failure, and another attempt has taken its place.
    Replaced,
}

/// Serves an admitted request: asks the upstream, or another one if that fails, and passes the answer on.
pub(super) async fn run(leg: &Leg, session: &mut Session, ctx: &mut Context) -> Result<()> {
    ctx.attempts.begin();
    let mut tries = 1;
    loop {
        match attempt(leg, session, ctx).await {
            Ok(Served::Passed) => return Ok(()),
            Ok(Served::Replaced) => {}
            // The same again, which is no attempt more: the connection had been idle for too long.
            Err(error) if error.retry.retry() && tries < MAX_TRIES => {
                tries += 1;
                continue;
            }
            Err(error) if attempt::is_tried_again(&error, session.req_header(), ctx) => {}
            Err(error) => return Err(error),
        }
        tries = 1;
    }
}

async fn attempt(leg: &Leg, session: &mut Session, ctx: &mut Context) -> Result<Served> {
    let (origin, timeouts) = upstream::origin(ctx).await?;
    let timeouts = ctx.attempts.limit(timeouts);
    let mut exchange = match leg.open(&origin, timeouts.connect).await {
        Ok(exchange) => exchange,
        Err(e) => return Err(upstream::not_connected(&origin, ctx, e.into_up())),
    };
    let reused = exchange.is_reused();
    let served = serve(&mut exchange, session, ctx, timeouts).await;
    if let Err(error) = &served
        && attempt::is_clients(error)
    {
        finish::ended(Some(error), ctx);
        drain::read_on(exchange, origin, timeouts, ctx);
        return served;
    }
    leg.close(exchange, &origin);
    served.map_err(|error| upstream::failed(ctx, error, reused))
}

async fn serve(
    exchange: &mut Exchange,
    session: &mut Session,
    ctx: &mut Context,
    timeouts: Timeouts,
) -> Result<Served> {
    upstream::send(session.req_header(), ctx, exchange)?;
    let own = ctx.client.clone();
    let (mut alarm, mut patience) =
        (Alarm::default(), Patience::new(ctx.snapshot.terms.write, ctx.snapshot.terms.min_rate));
    let asked = ctx.exchange.as_ref().and_then(|exchange| exchange.asked);
    let last = asked.map_or_else(clock::tokio_now, Instant::from_std);
    let mut wait = Wait { first_byte: timeouts.first_byte, idle: timeouts.idle, last };
    let mut client = Side::of(own.as_ref(), session, &mut alarm, &mut patience);
    let head = loop {
        if let Some(head) = exchange.take_head()? {
            break head;
        }
        wait.for_either(exchange, &mut client, ctx).await?;
    };
    if attempt::is_replaced(&head, session.req_header(), ctx) {
        // If the rest of it is there already, the connection can be used again.
        let _ = exchange.take_body();
        return Ok(Served::Replaced);
    }
    let head = response::head(head, ctx);
    record::answered(head.lines(), session.req_header(), ctx);
    let mut client = Side::of(own.as_ref(), session, &mut alarm, &mut patience);
    client.head(head, ctx).await?;
    match pass_on(exchange, &mut client, wait, ctx).await {
        Err(error) if *error.esource() == ErrorSource::Upstream => {
            let Some(words) = response::last_words(&error, ctx).await else { return Err(error) };
            attempt::broke_off(ctx);
            client.piece(words, true).await?;
            client.flush().await?;
            Ok(Served::Passed)
        }
        passed => passed.map(|()| Served::Passed),
    }
}

/// Passes the answer's body on.
async fn pass_on(exchange: &mut Exchange, client: &mut Side<'_>, mut wait: Wait, ctx: &mut Context) -> Result<()> {
    // Under `strict` the end is told only when its record is on the disk; otherwise an answer is settled
    // before its last byte leaves.
    let strict = ctx.snapshot.durability == Durability::Strict;
    loop {
        let data = exchange.take_body()?;
        let done = exchange.is_done();
        let data = response::body(data, done && !strict, ctx);
        client.piece(data, done && !strict).await?;
        if done {
            break;
        }
        client.flush().await?;
        wait.for_either(exchange, client, ctx).await?;
    }
    if strict {
        client.flush().await?;
        client.piece(response::end(ctx).await, true).await?;
    }
    client.flush().await
}

/// Waits for the upstream, the client, or too long.
struct Wait {
    first_byte: Duration,
    idle: Duration,
    last: Instant,
}

impl Wait {
    /// Moves on whichever side has something to say. An error is one that ends the exchange.
    async fn for_either(&mut self, exchange: &mut Exchange, client: &mut Side<'_>, ctx: &mut Context) -> Result<()> {
        let event = match client {
            Side::Own(client) => self.own(exchange, client).await?,
            Side::Pingora { session, alarm, .. } => self.pingora(exchange, session, alarm).await?,
        };
        self.last = clock::tokio_now();
        match event {
            Event::Read(0) => exchange.closed(),
            Event::Read(_) | Event::Sent => Ok(()),
            Event::Upload(Some(data)) => {
                request::more_body(&data, ctx)?;
                exchange.upload(data)
            }
            Event::Upload(None) => exchange.uploaded(),
        }
    }

    async fn own(&self, exchange: &mut Exchange, client: &Client) -> Result<Event> {
        poll_fn(|cx| {
            if let Poll::Ready(step) = exchange.poll_step(cx) {
                return Poll::Ready(step.map(Event::from));
            }
            if exchange.wants_more() {
                if let Poll::Ready(piece) = client.poll_body(cx) {
                    return Poll::Ready(piece.map(Event::Upload));
                }
            } else if !exchange.is_uploading()
                && let Poll::Ready(gone) = client.poll_gone(cx)
            {
                return Poll::Ready(Err(gone));
            }
            let (due, error) = self.due(exchange);
            ready!(client.poll_alarm(cx, due));
            Poll::Ready(Err(error()))
        })
        .await
    }

    async fn pingora(&self, exchange: &mut Exchange, session: &mut ServerSession, alarm: &mut Alarm) -> Result<Event> {
        let (wants, uploading) = (exchange.wants_more(), exchange.is_uploading());
        if uploading && session.is_body_done() {
            // Pingora would wait for the client to leave.
            return Ok(Event::Upload(None));
        }
        let mut from_client = pin!(async {
            if uploading && !wants {
                return std::future::pending().await;
            }
            session.read_body_or_idle(!uploading).await
        });
        poll_fn(|cx| {
            if let Poll::Ready(step) = exchange.poll_step(cx) {
                return Poll::Ready(step.map(Event::from));
            }
            if let Poll::Ready(piece) = from_client.as_mut().poll(cx) {
                return Poll::Ready(piece.map(Event::Upload).map_err(Error::into_down));
            }
            let (due, error) = self.due(exchange);
            ready!(alarm.poll(cx, due));
            Poll::Ready(Err(error()))
        })
        .await
    }

    /// Until when there may be silence, and whose fault it is then.
    fn due(&self, exchange: &Exchange) -> (Instant, fn() -> Box<Error>) {
        match exchange.due(self.first_byte, self.idle, self.last) {
            Some(due) => {
                (due, || Error::explain(ErrorType::ReadTimedout, "the upstream was silent for too long").into_up())
            }
            None => (self.last + STALL, || {
                Error::explain(ErrorType::ReadTimedout, "the client stopped sending its body").into_down()
            }),
        }
    }
}

enum Event {
    Sent,
    Read(usize),
    Upload(Option<Bytes>),
}

impl From<Step> for Event {
    fn from(step: Step) -> Self {
        match step {
            Step::Sent => Self::Sent,
            Step::Read(n) => Self::Read(n),
        }
    }
}

/// The client: of HTTP/1.1, whose connection is Weir's own, or of HTTP/2, which Pingora speaks.
enum Side<'a> {
    Own(&'a Arc<Client>),
    Pingora { session: &'a mut ServerSession, alarm: &'a mut Alarm, patience: &'a mut Patience },
}

impl<'a> Side<'a> {
    fn of(
        own: Option<&'a Arc<Client>>,
        session: &'a mut Session,
        alarm: &'a mut Alarm,
        patience: &'a mut Patience,
    ) -> Self {
        match own {
            Some(client) => Self::Own(client),
            None => Self::Pingora { session: &mut session.downstream_session, alarm, patience },
        }
    }

    async fn head(&mut self, head: response::Head, ctx: &Context) -> Result<()> {
        match self {
            Self::Own(client) => {
                client.head(head.status, head.reason.as_deref(), head.length, |out| head.write(out, ctx));
                Ok(())
            }
            Self::Pingora { session, .. } => {
                session.write_response_header(Box::new(head.to_pingora(ctx)?)).await.map_err(Error::into_down)
            }
        }
    }

    /// Passes a piece on; `end`: nothing follows. The client of HTTP/1.1 gets it with the next flush.
    async fn piece(&mut self, data: Bytes, end: bool) -> Result<()> {
        match self {
            Self::Own(client) => {
                client.piece(data);
                if end {
                    client.end();
                }
                Ok(())
            }
            Self::Pingora { session, patience, .. } => {
                if data.is_empty() && !end {
                    return Ok(());
                }
                // Pingora says when all of a piece has gone, not what the client has taken meanwhile.
                let (begun, length) = (StdInstant::now(), data.len());
                session.set_write_timeout(Some(patience.left()));
                session.write_response_body(data, end).await.map_err(Error::into_down)?;
                patience.spent(begun.elapsed(), length);
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        match self {
            Self::Own(client) => client.flush().await,
            Self::Pingora { .. } => Ok(()),
        }
    }
}
