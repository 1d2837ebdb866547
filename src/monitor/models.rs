//! Which models of a channel are probed.
//!
//! Owns the order of what says so: the configuration's list, else the models that the channel names, else those that its
//! upstream lists, so far as the channel is asked for them.

use serde_json::Value;
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

/// The models of an upstream's list, in its order.
fn listed(protocol: Protocol, document: &Value) -> Vec<String> {
    let (list, field) = match protocol {
        Protocol::OpenAi | Protocol::Anthropic => (&document["data"], "id"),
        Protocol::Gemini => (&document["models"], "name"),
    };
    let names = list.as_array().into_iter().flatten().filter_map(|model| model[field].as_str());
    let mut listed: Vec<String> = Vec::new();
    for name in names.map(|name| name.strip_prefix("models/").unwrap_or(name)) {
        if !name.is_empty() && name.len() <= 256 && !listed.iter().any(|known| known == name) {
            listed.push(name.to_owned());
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_protocol_lists_models_in_its_own_shape() {
        let list = json!({ "data": [{ "id": "b" }, { "id": "a" }, { "id": "b" }, { "x": 1 }] });
        assert_eq!(listed(Protocol::OpenAi, &list), ["b", "a"]);
        assert_eq!(listed(Protocol::Anthropic, &list), ["b", "a"]);
        let list = json!({ "models": [{ "name": "models/gemini-2.5-pro" }, { "name": "tuned" }] });
        assert_eq!(listed(Protocol::Gemini, &list), ["gemini-2.5-pro", "tuned"]);
        for nothing in [json!(null), json!([]), json!({ "data": 1, "models": [1] })] {
            assert!(listed(Protocol::OpenAi, &nothing).is_empty() && listed(Protocol::Gemini, &nothing).is_empty());
        }
    }
}
