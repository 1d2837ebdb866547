//! Which models of a channel are probed.
//!
//! Owns the order of what says so: the configuration's list, else the models that the channel names, else those that its
//! upstream lists, so far as the channel is asked for them.

use weir_filters::models::listed;
use weir_filters::probe::Bad;
use weir_filters::protocol::Protocol;
use weir_filters::target;

use crate::config::Probe;
use crate::trial::Errand;

/// Of an upstream's list: some have thousands, and each costs a request.
const MAX_LISTED: usize = 50;

/// The models, as clients call them.
///
/// # Errors
/// Why the upstream does not say which it has.
pub(super) async fn of(errand: &Errand, probe: &Probe) -> Result<Vec<String>, Bad> {
    if !probe.models.is_empty() {
        return Ok(probe.models.clone());
    }
    let channel = &errand.channel;
    let mut named: Vec<String> = channel.named_models().map(str::to_owned).collect();
    named.sort_unstable();
    named.dedup();
    if !named.is_empty() {
        return Ok(named);
    }
    let protocol = channel.config().protocol;
    let (path, query) = match protocol {
        Protocol::OpenAi => ("/v1/models", None),
        // The most of a page that each of them gives.
        Protocol::Anthropic => ("/v1/models", Some("limit=1000")),
        Protocol::Gemini => ("/v1beta/models", Some("pageSize=1000")),
    };
    let target = target::with_query(&target::join(&channel.config().base_url.path, path), None, query);
    let body = errand.get(&target).await?;
    let Ok(document) = serde_json::from_slice(&body) else {
        return Err(Bad { code: "broken", message: "the upstream's list of models is no JSON" });
    };
    let is_served = |model: &String| channel.config().models.iter().any(|glob| glob.matches(model));
    Ok(listed(protocol, &document).into_iter().filter(is_served).take(MAX_LISTED).collect())
}
