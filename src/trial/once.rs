//! A channel is asked once, over a connection of its own, and what came of it is known and booked.
//!
//! Owns how a request that nobody's client made is sent to a channel, that it is booked under the channel and never under
//! a client key, and what it says of the channel's health. Who asks, and for what reason, is others' business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderMap, Method};
use weir_filters::health::Blow;
use weir_filters::limits::Subject;
use weir_filters::price::NanoUsd;
use weir_filters::probe::{Bad, Broke, Question, error_of, judge};
use weir_filters::protocol::Protocol;
use weir_filters::retry::{Blame, Failure};
use weir_filters::route::Operation;
use weir_filters::usage::Usage;

use crate::channels::{Channel, Hold};
use crate::control::now_ms;
use crate::draw;
use crate::http1::put_line;
use crate::ledger::{Outcome, Settlement};
use crate::leg::Exchange;
use crate::proxy::{Shared, Snapshot};

use super::MAX_TEXT;
use super::ask::{Answer, Waits, ask, cut, fetch, head};

/// What an exchange says of its channel's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// What any request would.
    All,
    /// Only whether it can be reached and takes the key: what a model makes of a question is the model's business.
    Reach,
}

/// Whoever asks a channel.
pub(crate) struct Errand {
    pub(crate) shared: Arc<Shared>,
    pub(crate) live: Arc<Snapshot>,
    pub(crate) channel: Arc<Channel>,
    /// The place of the key.
    pub(crate) key: usize,
    /// Under this name it is counted: no key has it.
    pub(crate) booked: &'static str,
    pub(crate) tells: Tells,
    /// How long it may take in all.
    pub(crate) most: Duration,
}

/// What came of it.
pub(crate) struct Told {
    pub(crate) operation: Operation,
    pub(crate) status: Option<u16>,
    pub(crate) connect: Option<Duration>,
    /// From the request to the first token.
    pub(crate) first_token: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) usage: Usage,
    pub(crate) cost: NanoUsd,
    pub(crate) text: Option<String>,
    /// Why it is no good answer; `None`: it is one.
    pub(crate) bad: Option<Bad>,
    /// What the other side says of that itself.
    pub(crate) detail: Option<String>,
    /// Whether the upstream has seen the question.
    pub(crate) was_asked: bool,
}

impl Errand {
    /// Asks `question`, for what clients call `model`.
    pub(crate) async fn go(&self, model: &str, mut question: Question) -> Told {
        let begun = Instant::now();
        let mut hold = self.channel.try_out(self.key);
        let _under_way = self.live.enter(&self.channel);
        let waits = self.waits(begun);
        let (mut connect, mut answer) = self.ask(&question, waits).await;
        if let Some(again) = question.reworded(answer.seen.status.unwrap_or_default(), &answer.body) {
            question = again;
            (connect, answer) = self.ask(&question, waits).await;
        }
        let total = begun.elapsed();
        let bad = judge(&answer.seen).err();
        match self.tells {
            Tells::All => self.report(&mut hold, &answer, bad.is_none(), waits),
            Tells::Reach => self.report_reach(&mut hold, &answer, bad.is_none()),
        }
        let was_asked = !matches!(answer.seen.broke, Some(Broke::Address | Broke::Connect));
        let cost = if was_asked { self.book(model, &question, &answer, bad.is_none(), total) } else { NanoUsd(0) };
        let secret = self.channel.key(self.key).value.expose();
        Told {
            operation: question.operation,
            status: answer.seen.status,
            connect,
            first_token: answer.first_token,
            total,
            usage: answer.reading.usage,
            cost,
            text: answer.text(&question, &[secret]),
            bad,
            detail: bad.and_then(|_| detail(&answer, secret)),
            was_asked,
        }
    }

    /// What the upstream answers to a `GET` of `target`, behind the channel's prefix: its status and its body. It costs
    /// nothing, and says nothing of the channel's health.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(crate) async fn get(&self, target: &str) -> Result<Vec<u8>, Bad> {
        let waits = self.waits(Instant::now());
        let (exchange, _) = match self.connect(waits).await {
            Ok(connected) => connected,
            Err(broke) => return Err(judge(&Answer::none(broke).seen).err().unwrap_or(UNKNOWN)),
        };
        let Some(head) = self.head(&Method::GET, target, 0) else { return Err(UNKNOWN) };
        let mut answer = fetch(exchange, head, waits).await;
        // A list says nothing that a model would.
        answer.seen.has_output = true;
        judge(&answer.seen).map(|()| answer.body)
    }

    fn waits(&self, begun: Instant) -> Waits {
        let timeouts = self.channel.config().timeouts;
        Waits { first_byte: timeouts.first_byte, idle: timeouts.idle, until: begun + self.most }
    }

    /// Connects and asks: how long the first took, and what came.
    async fn ask(&self, question: &Question, waits: Waits) -> (Option<Duration>, Answer) {
        let (exchange, connect) = match self.connect(waits).await {
            Ok(connected) => connected,
            Err(broke) => return (None, Answer::none(broke)),
        };
        let target = question.target(&self.channel.config().base_url.path);
        let Some(head) = self.head(&Method::POST, &target, question.body().len()) else {
            return (None, Answer::none(Broke::Connect));
        };
        (Some(connect), ask(exchange, head, question, waits).await)
    }

    async fn connect(&self, waits: Waits) -> Result<(Exchange, Duration), Broke> {
        let origin = self.channel.origin().await.map_err(|_| Broke::Address)?;
        let begun = Instant::now();
        let left = waits.until.saturating_duration_since(begun);
        let patience = self.channel.config().timeouts.connect.min(left);
        let Ok(exchange) = self.shared.leg.fresh(&origin, patience).await else {
            self.channel.is_unreachable(origin.address);
            return Err(Broke::Connect);
        };
        Ok((exchange, begun.elapsed()))
    }

    /// The head of a request with the channel's credentials; `None`: the key cannot be in one.
    fn head(&self, method: &Method, target: &str, length: usize) -> Option<BytesMut> {
        let mut head = head(method, target, self.channel.host_header().as_bytes(), length);
        if self.channel.config().protocol == Protocol::Anthropic {
            put_line(&mut head, b"anthropic-version", b"2023-06-01");
        }
        self.live.headers_of_policy(&HeaderMap::new(), |name, value| {
            put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
        });
        let (name, value) = self.channel.credential(self.key)?;
        put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
        Some(head)
    }

    /// Tells the channel's health, as after any request. What only this one has no time for says nothing.
    fn report(&self, hold: &mut Hold, answer: &Answer, is_good: bool, waits: Waits) {
        let now = Instant::now();
        let (channel, key) = (&self.channel, self.key);
        match answer.failure() {
            Some(Failure::Timeout) if now >= waits.until => {}
            Some(failure) => match failure.blame() {
                Blame::None => hold.answered(channel, key),
                Blame::Key { certain } => {
                    hold.key_failed(channel, key, Blow { is_final: certain, wait: None }, now);
                }
                Blame::Channel => {
                    hold.channel_failed(channel, Blow { is_final: false, wait: None }, now);
                }
            },
            None => {
                hold.answered(channel, key);
                if is_good {
                    hold.succeeded(channel, key);
                }
            }
        }
    }

    /// Tells it that nothing could be reached, or that the key was refused; and what takes either of that back.
    fn report_reach(&self, hold: &mut Hold, answer: &Answer, is_good: bool) {
        let now = Instant::now();
        let (channel, key) = (&self.channel, self.key);
        match (answer.failure(), answer.seen.status) {
            (Some(Failure::Connect), None) => {
                hold.channel_failed(channel, Blow { is_final: false, wait: None }, now);
            }
            (Some(failure), _) => {
                if let Blame::Key { certain } = failure.blame() {
                    hold.key_failed(channel, key, Blow { is_final: certain, wait: None }, now);
                }
            }
            (None, _) => {
                hold.answered(channel, key);
                if is_good {
                    hold.succeeded(channel, key);
                }
            }
        }
    }

    /// Counts what the channel was asked: its provider does too. What it cost.
    fn book(&self, model: &str, question: &Question, answer: &Answer, is_good: bool, total: Duration) -> NanoUsd {
        let usage = answer.reading.usage;
        let delivered = answer.seen.status.is_some_and(|status| (200..300).contains(&status)) && !answer.seen.has_error;
        let (cost, price_version, unpriced) = self.live.cost_of(&self.channel, model, &usage, delivered);
        let Ok(id) = draw::request_id() else { return cost };
        let time_ms = now_ms();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.shared.ledger.append(&Settlement::<&str> {
            id,
            time_ms,
            duration_us: micros(total),
            first_token_us: answer.first_token.map(micros),
            key_id: self.booked,
            key_name: self.booked,
            user: "",
            route: self.booked,
            operation: question.operation,
            channel: self.channel.name(),
            model,
            status: answer.seen.status.unwrap_or_default(),
            outcome: match answer.seen.broke {
                _ if is_good => Outcome::Ok,
                Some(Broke::Timeout) => Outcome::Timeout,
                _ => Outcome::UpstreamError,
            },
            stream: question.stream,
            events: answer.reading.events,
            request_bytes: question.body().len() as u64,
            response_bytes: answer.reading.body_bytes,
            usage,
            cost,
            price_version,
            unpriced,
            attempts: 1,
        });
        let accounts = &self.shared.accounts;
        accounts.book([(Subject::Channel, &**self.channel.name())], cost, time_ms);
        cost
    }
}

/// A key that cannot be in a header keeps anything from being sent.
const UNKNOWN: Bad = Bad { code: "connect", message: "no request could be made" };

/// What the other side says itself of an answer that is not good, without the secret that it may repeat.
pub(super) fn detail(answer: &Answer, secret: &str) -> Option<String> {
    error_of(&answer.body).map(|detail| cut(detail.replace(secret, "[secret]"), MAX_TEXT / 8))
}
