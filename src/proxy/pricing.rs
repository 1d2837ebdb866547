//! What a request costs: which price is its, what its user's rate makes of it, and what becomes of it if
//! there is none.
//!
//! Refuses to know how a cost is calculated (that is [`weir_filters::price`]).

use weir_filters::price::{NanoUsd, Price, PriceRate};
use weir_filters::request::BodyFacts;
use weir_filters::route::Operation;
use weir_filters::usage::{Source, Usage};

use crate::channels::Channel;
use crate::config::Unpriced;

use super::Snapshot;
use super::context::Context;

/// The most images that are charged for one request. Providers make ten at once; a number of the client's own
/// choosing must not spend a budget that it shares with others.
const MAX_IMAGES: u64 = 128;

/// What a request that has ended costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Priced {
    pub(super) cost: NanoUsd,
    /// The version of the table that said so; 0: no price was applied.
    pub(super) version: u64,
    /// Whether it would have cost something, had its model a price.
    pub(super) unpriced: bool,
}

impl Snapshot {
    /// The price of `model`, asked of `channel`.
    pub(super) fn price(&self, channel: &Channel, model: &str) -> Option<&Price> {
        let prices = self.prices.as_ref()?;
        match self.model_label(channel.index(), model) {
            Some(label) => prices.at(self.priced_models[channel.index()][label]?),
            None => prices.price_of(channel.maps(model).unwrap_or(model), model),
        }
    }

    /// What a request costs that was made for nobody: the money, the version of the prices, and whether there was none
    /// where there should be one. `delivered`: with an answer that is no error.
    pub(crate) fn cost_of(
        &self,
        channel: &Channel,
        model: &str,
        usage: &Usage,
        delivered: bool,
    ) -> (NanoUsd, u64, bool) {
        let Some(prices) = &self.prices else { return (NanoUsd(0), 0, false) };
        if !(delivered || usage.source != Source::None) {
            return (NanoUsd(0), 0, false);
        }
        match self.price(channel, model) {
            Some(price) => (price.cost(usage, 0, PriceRate::default()), prices.version(), false),
            None => (NanoUsd(0), 0, true),
        }
    }

    /// The most that so many tokens of a model cost; nothing, if it has no price.
    pub(crate) fn at_most(&self, channel: &Channel, model: &str, input: u64, output: u64) -> NanoUsd {
        self.price(channel, model).map_or(NanoUsd(0), |price| price.at_most(input, output, PriceRate::default()))
    }

    /// Whether a request must not be sent, because nothing says what it would cost. One that names no model
    /// (files, uploads) is not held up: what it costs is said by its answer alone.
    pub(super) fn refuses_unpriced(&self, operation: Operation, channel: &Channel, model: &str) -> bool {
        self.unpriced == Unpriced::Refuse
            && operation.is_billed()
            && !model.is_empty()
            && self.price(channel, model).is_none()
    }
}

/// The cost of a request whose channel reported `usage`; `delivered`: with an answer that is no error.
pub(super) fn priced(ctx: &Context, snapshot: &Snapshot, usage: &Usage, delivered: bool) -> Priced {
    let (Some(prices), Some(exchange)) = (&snapshot.prices, &ctx.exchange) else { return Priced::default() };
    let billed = !ctx.reads && ctx.operation.is_some_and(Operation::is_billed);
    // What was refused by the provider is free, unless it says otherwise.
    if !billed || !(delivered || usage.source != Source::None) {
        return Priced::default();
    }
    let Some(price) = snapshot.price(&exchange.channel, &ctx.model) else {
        let unpriced = !ctx.model.is_empty() || usage.source != Source::None;
        return Priced { unpriced, ..Priced::default() };
    };
    let rate = ctx.key.as_ref().map(|key| key.price_rate).unwrap_or_default();
    let images = if delivered { ctx.images } else { 0 };
    Priced { cost: price.cost(usage, images, rate), version: prices.version(), unpriced: false }
}

/// How many images a request asks for: an answer's usage does not say it. `target` is the path and query
/// asked of the upstream.
pub(super) fn images(operation: Operation, target: &str, facts: Option<&BodyFacts>) -> u64 {
    let path = target.split('?').next().unwrap_or_default();
    if operation != Operation::OpenAiOther || !path.contains("/images/") {
        return 0;
    }
    // A form's fields are not read: it asks for one, as a body does that does not say how many.
    facts.and_then(|facts| facts.choices).unwrap_or(1).min(MAX_IMAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_as_many_as_are_asked_for() {
        let asked = |choices| BodyFacts { choices, ..BodyFacts::default() };
        let path = "/v1/images/generations";
        assert_eq!(images(Operation::OpenAiOther, path, Some(&asked(Some(3)))), 3);
        assert_eq!(images(Operation::OpenAiOther, path, Some(&asked(None))), 1);
        assert_eq!(images(Operation::OpenAiOther, "/openai/v1/images/edits?a=b", None), 1);
        assert_eq!(images(Operation::OpenAiOther, path, Some(&asked(Some(u64::MAX)))), MAX_IMAGES);
        assert_eq!(images(Operation::OpenAiOther, "/v1/files?x=/images/", Some(&asked(Some(3)))), 0);
        assert_eq!(images(Operation::OpenAiChat, path, Some(&asked(Some(3)))), 0);
    }
}
