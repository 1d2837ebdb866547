//! Answers whose client has left: read to their end, so that what the upstream reports is counted.
//!
//! Owns when that is done and for how long. The client's connection is free meanwhile: the exchange and the
//! request's context, with all that it holds, go to a task of their own on the same thread.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use pingora_core::{Error, ErrorType, Result};

use crate::clock;
use crate::config::{OnDisconnect, Timeouts};
use crate::http1::Alarm;
use crate::leg::{self, Origin, Step};
use crate::metrics::Drained;

use super::attempt;
use super::context::{Context, Stage};
use super::response;

/// How long an answer is read for nobody. Most that a model writes is written by then; what is longer is paid
/// for by nobody who would read it.
const MAX_TIME: Duration = Duration::from_secs(120);

/// How many answers are read for nobody at a time. It bounds what clients that ask and leave can hold: a
/// connection and some 20 KiB each.
const MAX_DRAINS: usize = 256;

/// How many run. Shared by all threads, and touched only when a client leaves.
#[derive(Debug, Default)]
pub(crate) struct Drains(AtomicUsize);

/// One of them, given back on drop.
struct Running(Arc<Drains>);

impl Drains {
    /// Whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    fn enter(self: &Arc<Self>) -> Option<Running> {
        let entered = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < MAX_DRAINS).then_some(n + 1));
        entered.ok().map(|_| Running(self.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The client of this exchange has left. Reads on in a task of its own if the channel is configured so, if
/// there is something to count, and if there is room; otherwise the upstream is let go.
pub(super) fn read_on(mut exchange: leg::Exchange, origin: Origin, timeouts: Timeouts, ctx: &mut Context) {
    let shared = ctx.shared.clone();
    if !is_worth_it(&exchange, ctx) {
        return shared.leg.close(exchange, &origin);
    }
    let Some(running) = shared.drains.enter() else {
        shared.metrics.drained(Drained::Refused);
        return;
    };
    let mut ctx = ctx.hand_over();
    let active = shared.metrics.drain();
    tokio::spawn(clock::keep(async move {
        let _held = (running, active);
        let read = read(&mut exchange, timeouts, &mut ctx).await;
        shared.metrics.drained(if read.is_ok() { Drained::Complete } else { Drained::Cut });
        shared.leg.close(exchange, &origin);
        // What was read is settled here, whole or not.
        drop(ctx);
    }));
}

fn is_worth_it(leg: &leg::Exchange, ctx: &Context) -> bool {
    let Some(exchange) = &ctx.exchange else { return false };
    exchange.channel.config().failover.on_disconnect == OnDisconnect::Drain
        && ctx.stage == Stage::Admitted
        && ctx.operation.is_some_and(weir_filters::route::Operation::is_billed)
        && !ctx.reads
        // A request that is not whole has no answer.
        && !leg.is_uploading()
}

async fn read(leg: &mut leg::Exchange, timeouts: Timeouts, ctx: &mut Context) -> Result<()> {
    let until = clock::tokio_now() + MAX_TIME;
    let told = ctx.status;
    let mut last = clock::tokio_now();
    let mut is_answered = ctx.exchange.as_ref().is_some_and(|exchange| exchange.status != 0);
    let mut alarm = Alarm::default();
    loop {
        if !is_answered && let Some(head) = leg.take_head()? {
            is_answered = true;
            attempt::report_answer(&head, ctx);
            response::head(head, ctx);
            // What the client was told before it left stands.
            ctx.status = told;
        }
        if is_answered {
            let data = leg.take_body()?;
            response::body(data, leg.is_done(), ctx);
            if leg.is_done() {
                return Ok(());
            }
        }
        let due = leg.due(timeouts.first_byte, timeouts.idle, last).map_or(until, |due| due.min(until));
        let step = poll_fn(|cx| {
            if let Poll::Ready(step) = leg.poll_step(cx) {
                return Poll::Ready(step);
            }
            ready!(alarm.poll(cx, due));
            Poll::Ready(Error::e_explain(ErrorType::ReadTimedout, "an answer that nobody waits for took too long"))
        });
        if let Step::Read(0) = step.await? {
            leg.closed()?;
        }
        last = clock::tokio_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_run_than_there_is_room_for() {
        let drains = Arc::new(Drains::default());
        let running: Vec<_> = std::iter::from_fn(|| drains.enter()).collect();
        assert_eq!(running.len(), MAX_DRAINS);
        drop(running);
        assert!(drains.enter().is_some());
        assert_eq!(drains.0.load(Ordering::Relaxed), 0);
    }
}
