//! What is known of a request, from its arrival to its settlement.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use weir_filters::boundary::Boundary;
use weir_filters::cut::UsageCut;
use weir_filters::key::{Admitted, KeyEntry};
use weir_filters::limits::Permit;
use weir_filters::meter::Meter;
use weir_filters::protocol::Protocol;
use weir_filters::refusal::Refusal;
use weir_filters::route::Operation;

use crate::channels::{Channel, Choice, Hold};
use crate::clock;
use crate::front::Client;
use crate::ledger::Outcome;
use crate::leg::Upload;
use crate::metrics::GaugeGuard;

use super::attempt::{Attempt, Attempts};
use super::in_flight::Place;
use super::limits::Held;
use super::plan::Plan;
use super::record::Notes;
use super::{Shared, Snapshot, finish};

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its head has arrived.
    #[default]
    Arrived,
    /// It was answered by Weir itself: refused, or asked for what Weir knows.
    Answered,
    /// A key made it, and a channel serves it.
    Admitted,
    /// It has been counted.
    Settled,
}

/// A request's own state. Dropping it settles the request, whatever ended it: an answer, a client
/// that left, a panic.
pub struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) stage: Stage,
    pub(super) id: u128,
    pub(super) arrived: Instant,
    pub(super) arrived_ms: u64,
    /// Index into the snapshot's route names; `None` until a route matched.
    pub(super) route: Option<usize>,
    pub(super) operation: Option<Operation>,
    /// The dialect in which a refusal is said.
    pub(super) protocol: Protocol,
    /// Its connection, if it came over HTTP/1.1.
    pub(super) client: Option<Arc<Client>>,
    /// Its place among the requests under way.
    pub(super) place: Option<Place>,
    /// Whose request it is, admitted or not.
    pub(super) key: Option<Arc<KeyEntry>>,
    pub(super) admitted: Option<Admitted>,
    /// What it holds of limits.
    pub(super) held: Option<Held>,
    pub(super) refused: Option<Refusal>,
    /// The model that the client asked for, as it did.
    pub(super) model: Arc<str>,
    /// The same as it may be written down, if that is something else.
    pub(super) shown_model: Option<Arc<str>>,
    pub(super) request_bytes: u64,
    pub(super) cors_origin: Option<http::HeaderValue>,
    pub(super) exchange: Option<Exchange>,
    pub(super) attempts: Attempts,
    pub(super) status: u16,
    pub(super) outcome: Option<Outcome>,
    /// Whether the request only reads: what it reads was used, and counted, by an earlier one.
    pub(super) reads: bool,
    /// Images that are asked for.
    pub(super) images: u64,
    /// Time spent in Weir's own code before the upstream was asked.
    pub(super) overhead: Duration,
    /// What was noted for its record, if there is to be one.
    pub(super) notes: Option<Notes>,
    /// What went wrong, in one word, if that is known better than its outcome says.
    pub(super) error: Option<&'static str>,
    /// Bytes of an answer of Weir's own.
    pub(super) own_bytes: u64,
}

/// What is known once a channel is chosen.
pub(super) struct Exchange {
    pub(super) channel: Arc<Channel>,
    /// The place of the upstream key among the channel's.
    pub(super) key: usize,
    /// The leave to ask it.
    pub(super) hold: Hold,
    /// What it takes of the channel's own limits.
    pub(super) room: Option<Permit>,
    /// Path and query asked of the upstream.
    pub(super) target: String,
    /// The body for the upstream, as far as it was read before the channel was chosen.
    pub(super) body: Vec<Bytes>,
    /// How the rest of the body is framed, if there is a rest.
    pub(super) more: Option<Upload>,
    /// Whether Weir asked the upstream for a usage report that the client did not ask for.
    pub(super) injected: bool,
    pub(super) cut: Option<UsageCut>,
    pub(super) meter: Option<Meter>,
    pub(super) stream: bool,
    /// What the upstream answered; 0: nothing yet.
    pub(super) status: u16,
    /// Where a stream of events stands in which Weir could still say something.
    pub(super) boundary: Option<Boundary>,
    /// The body is whole, seen from the upstream's side.
    pub(super) complete: bool,
    /// The end of the answer, held back until its record is on the disk.
    pub(super) held: Option<Bytes>,
    pub(super) left_to_hold: Option<u64>,
    /// When its channel was chosen.
    pub(super) begun: Instant,
    /// When the upstream had a connection and was asked.
    pub(super) asked: Option<Instant>,
    pub(super) first_token: Option<Duration>,
    pub(super) position: Option<crate::ledger::Position>,
    /// Held for what its end does to the gauges.
    pub(super) gauges: (GaugeGuard, Option<GaugeGuard>),
}

impl Exchange {
    /// One that is still to be asked.
    pub(super) fn new(
        choice: Choice,
        plan: Plan,
        body: Vec<Bytes>,
        more: Option<Upload>,
        room: Option<Permit>,
        in_flight: GaugeGuard,
    ) -> Self {
        Self {
            channel: choice.channel,
            key: choice.key,
            hold: choice.hold,
            room,
            target: plan.target,
            body,
            more,
            injected: plan.injected,
            cut: None,
            meter: None,
            stream: false,
            status: 0,
            boundary: None,
            complete: false,
            held: None,
            left_to_hold: None,
            begun: clock::now(),
            asked: None,
            first_token: None,
            position: None,
            gauges: (in_flight, None),
        }
    }
}

impl Context {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let snapshot = shared.live.load_full();
        Self {
            shared,
            snapshot,
            stage: Stage::Arrived,
            id: random_id(),
            arrived: clock::now(),
            arrived_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            route: None,
            operation: None,
            protocol: Protocol::OpenAi,
            client: None,
            place: None,
            key: None,
            admitted: None,
            held: None,
            refused: None,
            model: Arc::from(""),
            shown_model: None,
            request_bytes: 0,
            cors_origin: None,
            exchange: None,
            attempts: Attempts::default(),
            status: 0,
            outcome: None,
            reads: false,
            images: 0,
            overhead: Duration::ZERO,
            notes: None,
            error: None,
            own_bytes: 0,
        }
    }

    /// The request's id, as clients see it: 32 hex digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The digits of [`Context::id`].
    pub(super) fn id_digits(&self) -> [u8; 32] {
        digits(self.id)
    }

    /// Gives the request away, as to a task that outlives its client. What stays is settled: nothing is
    /// counted twice.
    pub(super) fn hand_over(&mut self) -> Self {
        let stays = Self {
            shared: self.shared.clone(),
            snapshot: self.snapshot.clone(),
            stage: Stage::Settled,
            id: self.id,
            arrived: self.arrived,
            arrived_ms: self.arrived_ms,
            route: self.route,
            operation: self.operation,
            protocol: self.protocol,
            client: self.client.take(),
            // What is read for nobody has a bound of its own.
            place: self.place.take(),
            key: None,
            admitted: None,
            held: None,
            refused: None,
            model: Arc::from(""),
            shown_model: None,
            request_bytes: self.request_bytes,
            images: self.images,
            cors_origin: self.cors_origin.take(),
            exchange: None,
            attempts: Attempts::default(),
            status: self.status,
            outcome: self.outcome,
            reads: self.reads,
            overhead: self.overhead,
            notes: None,
            error: self.error,
            own_bytes: self.own_bytes,
        };
        std::mem::replace(self, stays)
    }

    /// The model as it may be written down.
    pub(super) fn written_model(&self) -> &str {
        self.shown_model.as_ref().unwrap_or(&self.model)
    }

    /// The attempts that failed before the one that the request ended with.
    pub fn failed_attempts(&self) -> &[Attempt] {
        self.attempts.failed()
    }

    /// How far the request has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        finish::settle(self);
    }
}

fn digits(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

/// 128 bits of the system's randomness, fetched for 256 requests at a time: one system call a
/// request would be a tenth of its cost.
fn random_id() -> u128 {
    const SIZE: usize = 256 * 16;
    thread_local!(static POOL: RefCell<(Box<[u8; SIZE]>, usize)> = RefCell::new((Box::new([0; SIZE]), SIZE)));
    POOL.with_borrow_mut(|(pool, used)| {
        if *used == SIZE {
            // Without randomness there are no ids, and without ids nothing can be counted once.
            getrandom::fill(&mut pool[..]).expect("the system gives random bytes");
            *used = 0;
        }
        let (id, _) = pool[*used..].split_first_chunk::<16>().expect("a multiple of 16 is left");
        *used += 16;
        u128::from_ne_bytes(*id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_those_of_the_id() {
        let id = 0x0123_4567_89ab_cdef_0000_fedc_ba98_7654_u128;
        assert_eq!(digits(id), *b"0123456789abcdef0000fedcba987654");
        assert_eq!(digits(id)[..], *format!("{id:032x}").as_bytes());
    }

    #[test]
    fn ids_do_not_repeat() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
