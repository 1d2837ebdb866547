//! A channel is asked now, because a person wants to see how it fares.
//!
//! Owns which model and key it is asked with, and how what came of it is told. A channel that is full, cools down or is
//! drained is asked all the same: to see whether it may serve again is what this is for.

use std::future::Future;

use serde_json::{Value, json};
use weir_filters::probe::{Bad, Question};

use crate::catalog::{Kind, Refused};

use super::ask::Answer;
use super::once::{Errand, Tells, Told, detail};
use super::{MAX_TIME, Trials, millis};

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
        let shared = self.shared.clone();
        let errand = Errand { shared, live, channel, key, booked: BOOKED, tells: Tells::All, most: MAX_TIME };
        Ok(async move {
            let _slot = slot;
            let told = errand.go(&model, question).await;
            shown(&model, &errand.channel.key(key).name, told)
        })
    }
}

fn shown(model: &str, key: &str, told: Told) -> Value {
    json!({
        "ok": told.bad.is_none(),
        "model": model,
        "key": key,
        "operation": told.operation.to_string(),
        "status": told.status,
        "connect_ms": told.connect.map(millis),
        "first_token_ms": told.first_token.map(millis),
        "total_ms": millis(told.total),
        "tokens": { "input": told.usage.input(), "output": told.usage.output },
        "text": told.text,
        "error": told.bad.map(|bad| error_with(bad, told.detail)),
    })
}

/// Why an answer is not good, with what the other side says itself.
pub(super) fn error(bad: Bad, answer: &Answer, secret: &str) -> Value {
    error_with(bad, detail(answer, secret))
}

fn error_with(Bad { code, message }: Bad, detail: Option<String>) -> Value {
    json!({ "code": code, "message": message, "detail": detail })
}
