//! A channel is asked now, over a connection of its own.
//!
//! Owns which model and key it is asked with, and that what came of it is booked under the channel, never under a client
//! key, and tells of its health as any request does. A channel that is full, cools down or is drained is asked all the
//! same: to see whether it may serve again is what this is for.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use serde_json::{Value, json};
use weir_filters::health::Blow;
use weir_filters::limits::Subject;
use weir_filters::probe::{Bad, Broke, Question, error_of, judge};
use weir_filters::protocol::Protocol;
use weir_filters::retry::{Blame, Failure};

use crate::catalog::{Kind, Refused};
use crate::channels::{Channel, Hold};
use crate::control::now_ms;
use crate::draw;
use crate::http1::put_line;
use crate::ledger::{Outcome, Settlement};
use crate::proxy::{Shared, Snapshot};

use super::ask::{Answer, Waits, ask, cut, head};
use super::{MAX_TEXT, MAX_TIME, Trials, millis};

/// Under this name what a channel was asked by hand is counted: no key has it.
const BOOKED: &str = "(channel run)";

/// What a person wants a channel to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunAsked {
    /// The model, as clients call it; `None`: the first that the channel names.
    pub model: Option<String>,
    /// The name of the upstream key; `None`: the first.
    pub key: Option<String>,
}

/// One run.
struct Run {
    shared: Arc<Shared>,
    live: Arc<Snapshot>,
    channel: Arc<Channel>,
    key: usize,
    model: String,
    question: Question,
    begun: Instant,
}

impl Trials {
    /// Asks a channel; what came of it.
    ///
    /// # Errors
    /// There is no such channel, key or model, or as many trials are under way as may be.
    pub(crate) fn run(
        &self,
        name: &str,
        asked: &RunAsked,
    ) -> Result<impl Future<Output = Value> + Send + use<>, Refused> {
        let live = self.shared.live.load_full();
        let channel = live.channels().iter().find(|channel| **channel.name() == *name).cloned();
        let channel = channel.ok_or(Refused::NotFound(Kind::Channel))?;
        let keys = &channel.config().keys;
        let key = match &asked.key {
            None => 0,
            Some(key) => keys
                .iter()
                .position(|known| known.name == *key)
                .ok_or_else(|| Refused::invalid("key", format!("the channel `{name}` has no key of this name")))?,
        };
        let first = || channel.named_models().next().map(str::to_owned);
        let model = asked.model.clone().or_else(first).ok_or_else(|| {
            Refused::invalid(
                "model",
                format!("the channel `{name}` names no model one by one: say which one to ask for"),
            )
        })?;
        let upstreams = channel.maps(&model).unwrap_or(&model);
        let question = Question::smallest(channel.config().protocol, upstreams, channel.config().inject_usage);
        let slot = self.slot()?;
        let run = Run { shared: self.shared.clone(), live, channel, key, model, question, begun: Instant::now() };
        Ok(async move {
            let _slot = slot;
            run.go().await
        })
    }
}

impl Run {
    async fn go(mut self) -> Value {
        let mut hold = self.channel.try_out(self.key);
        let _under_way = self.live.enter(&self.channel);
        let timeouts = self.channel.config().timeouts;
        let waits = Waits { first_byte: timeouts.first_byte, idle: timeouts.idle, until: self.begun + MAX_TIME };
        let (mut connect, mut answer) = self.ask(waits).await;
        if let Some(again) = self.question.reworded(answer.seen.status.unwrap_or_default(), &answer.body) {
            self.question = again;
            (connect, answer) = self.ask(waits).await;
        }
        let total = self.begun.elapsed();
        let judged = judge(&answer.seen);
        self.report(&mut hold, &answer, judged.is_ok(), waits);
        self.book(&answer, judged.is_ok());
        let secret = self.channel.key(self.key).value.expose();
        let usage = answer.reading.usage;
        json!({
            "ok": judged.is_ok(),
            "model": self.model,
            "key": self.channel.key(self.key).name,
            "operation": self.question.operation.to_string(),
            "status": answer.seen.status,
            "connect_ms": connect.map(millis),
            "first_token_ms": answer.first_token.map(millis),
            "total_ms": millis(total),
            "tokens": { "input": usage.input(), "output": usage.output },
            "text": answer.text(&self.question, &[secret]),
            "error": judged.err().map(|bad| error(bad, &answer, secret)),
        })
    }

    /// Connects and asks: how long the first took, and what came.
    async fn ask(&self, waits: Waits) -> (Option<std::time::Duration>, Answer) {
        let Ok(origin) = self.channel.origin().await else { return (None, Answer::none(Broke::Address)) };
        let begun = Instant::now();
        let left = waits.until.saturating_duration_since(begun);
        let patience = self.channel.config().timeouts.connect.min(left);
        let Ok(exchange) = self.shared.leg.fresh(&origin, patience).await else {
            self.channel.is_unreachable(origin.address);
            return (None, Answer::none(Broke::Connect));
        };
        let connect = begun.elapsed();
        let target = self.question.target(&self.channel.config().base_url.path);
        let mut head = head(&target, self.channel.host_header().as_bytes(), self.question.body().len());
        if self.channel.config().protocol == Protocol::Anthropic {
            put_line(&mut head, b"anthropic-version", b"2023-06-01");
        }
        self.live.headers_of_policy(&HeaderMap::new(), |name, value| {
            put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
        });
        let Some((name, value)) = self.channel.credential(self.key) else {
            return (None, Answer::none(Broke::Connect));
        };
        put_line(&mut head, name.as_str().as_bytes(), value.as_bytes());
        (Some(connect), ask(exchange, head, &self.question, waits).await)
    }

    /// Tells the channel's health, as after any request. What only this trial has no time for says nothing.
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

    /// Counts what the channel was asked: its provider does too.
    fn book(&self, answer: &Answer, is_good: bool) {
        let was_asked = !matches!(answer.seen.broke, Some(Broke::Address | Broke::Connect));
        let Ok(id) = draw::request_id() else { return };
        if !was_asked {
            return;
        }
        let usage = answer.reading.usage;
        let delivered = answer.seen.status.is_some_and(|status| (200..300).contains(&status)) && !answer.seen.has_error;
        let (cost, price_version, unpriced) = self.live.cost_of(&self.channel, &self.model, &usage, delivered);
        let time_ms = now_ms();
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.shared.ledger.append(&Settlement::<&str> {
            id,
            time_ms,
            duration_us: micros(self.begun.elapsed()),
            first_token_us: answer.first_token.map(micros),
            key_id: BOOKED,
            key_name: BOOKED,
            user: "",
            route: BOOKED,
            operation: self.question.operation,
            channel: self.channel.name(),
            model: &self.model,
            status: answer.seen.status.unwrap_or_default(),
            outcome: match answer.seen.broke {
                _ if is_good => Outcome::Ok,
                Some(Broke::Timeout) => Outcome::Timeout,
                _ => Outcome::UpstreamError,
            },
            stream: self.question.stream,
            events: answer.reading.events,
            request_bytes: self.question.body().len() as u64,
            response_bytes: answer.reading.body_bytes,
            usage,
            cost,
            price_version,
            unpriced,
            attempts: 1,
        });
        let accounts = &self.shared.accounts;
        accounts.book([(Subject::Channel, &**self.channel.name())], cost, time_ms);
    }
}

/// Why an answer is not good, with what the other side says itself.
pub(super) fn error(bad: Bad, answer: &Answer, secret: &str) -> Value {
    let Bad { code, message } = bad;
    let detail = error_of(&answer.body).map(|detail| cut(detail.replace(secret, "[secret]"), MAX_TEXT / 8));
    json!({ "code": code, "message": message, "detail": detail })
}
