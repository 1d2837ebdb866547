//! Lists of models in each protocol's shape, as they are given to clients and as upstreams give them.
//!
//! Refuses to know which models there are and who may see them.

use serde::Serialize;
use serde_json::Value;

use crate::protocol::Protocol;

/// A model that a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// What the client calls it.
    pub id: &'a str,
    /// Who serves it.
    pub owner: &'a str,
}

/// `GET /v1/models` as OpenAI answers it. When a model was made is not known: `created` is 0.
pub fn openai_list(models: &[Listed<'_>]) -> String {
    json(&OpenAiList { object: "list", data: models.iter().map(openai).collect() })
}

/// `GET /v1/models/{id}` as OpenAI answers it.
pub fn openai_one(model: Listed<'_>) -> String {
    json(&openai(&model))
}

/// `GET /v1/models` as Anthropic answers it, all of it on one page. When a model was made is not
/// known: `created_at` is the epoch, which Anthropic's reference gives for that case.
pub fn anthropic_list(models: &[Listed<'_>]) -> String {
    json(&AnthropicList {
        data: models.iter().map(anthropic).collect(),
        has_more: false,
        first_id: models.first().map(|model| model.id),
        last_id: models.last().map(|model| model.id),
    })
}

/// `GET /v1/models/{id}` as Anthropic answers it.
pub fn anthropic_one(model: Listed<'_>) -> String {
    json(&anthropic(&model))
}

/// `GET /v1beta/models` as Gemini answers it, all of it on one page.
pub fn gemini_list(models: &[Listed<'_>]) -> String {
    json(&GeminiList { models: models.iter().map(gemini).collect() })
}

/// `GET /v1beta/models/{model}` as Gemini answers it.
pub fn gemini_one(model: Listed<'_>) -> String {
    json(&gemini(&model))
}

/// The models of an upstream's own list, in its order.
pub fn listed(protocol: Protocol, document: &Value) -> Vec<String> {
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

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
}

#[derive(Serialize)]
struct GeminiList<'a> {
    models: Vec<GeminiModel<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeminiModel<'a> {
    name: String,
    display_name: &'a str,
    supported_generation_methods: [&'static str; 4],
}

fn openai<'a>(model: &Listed<'a>) -> OpenAiModel<'a> {
    OpenAiModel { id: model.id, object: "model", created: 0, owned_by: model.owner }
}

fn anthropic<'a>(model: &Listed<'a>) -> AnthropicModel<'a> {
    AnthropicModel { r#type: "model", id: model.id, display_name: model.id, created_at: "1970-01-01T00:00:00Z" }
}

fn gemini<'a>(model: &Listed<'a>) -> GeminiModel<'a> {
    GeminiModel {
        name: format!("models/{}", model.id),
        display_name: model.id,
        supported_generation_methods: ["generateContent", "streamGenerateContent", "countTokens", "embedContent"],
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of text and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MODELS: [Listed<'_>; 2] =
        [Listed { id: "gpt-4o", owner: "miniai" }, Listed { id: "meta/\"llama\"", owner: "lab" }];

    #[test]
    fn openai_gets_its_shape() {
        assert_eq!(
            openai_list(&MODELS),
            r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":0,"owned_by":"miniai"},{"id":"meta/\"llama\"","object":"model","created":0,"owned_by":"lab"}]}"#
        );
        assert_eq!(openai_list(&[]), r#"{"object":"list","data":[]}"#);
        assert_eq!(openai_one(MODELS[0]), r#"{"id":"gpt-4o","object":"model","created":0,"owned_by":"miniai"}"#);
    }

    #[test]
    fn anthropic_gets_its_shape() {
        assert_eq!(
            anthropic_list(&MODELS),
            r#"{"data":[{"type":"model","id":"gpt-4o","display_name":"gpt-4o","created_at":"1970-01-01T00:00:00Z"},{"type":"model","id":"meta/\"llama\"","display_name":"meta/\"llama\"","created_at":"1970-01-01T00:00:00Z"}],"has_more":false,"first_id":"gpt-4o","last_id":"meta/\"llama\""}"#
        );
        assert_eq!(anthropic_list(&[]), r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#);
        assert_eq!(
            anthropic_one(MODELS[0]),
            r#"{"type":"model","id":"gpt-4o","display_name":"gpt-4o","created_at":"1970-01-01T00:00:00Z"}"#
        );
    }

    #[test]
    fn gemini_gets_its_shape() {
        let one = r#"{"name":"models/gpt-4o","displayName":"gpt-4o","supportedGenerationMethods":["generateContent","streamGenerateContent","countTokens","embedContent"]}"#;
        assert_eq!(gemini_one(MODELS[0]), one);
        assert_eq!(gemini_list(&MODELS[..1]), format!(r#"{{"models":[{one}]}}"#));
        assert_eq!(gemini_list(&[]), r#"{"models":[]}"#);
    }

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
