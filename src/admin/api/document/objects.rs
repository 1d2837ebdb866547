//! Keys, users, channels and prices: a list of fields each, from which follow the schemas of what is shown, of what makes
//! one and of what changes one.
//!
//! Owns which field is whose. A test holds it against the fields that the configuration knows, and another one against
//! what is really answered.

use serde_json::{Map, Value, json};
use weir_filters::balance::MAX_WEIGHT;
use weir_filters::protocol::Protocol;

use super::schemas::{count, decimal, etag, exactly, list, of, or_null, text, time, word};
use crate::catalog::OWN_KEY_FIELDS;

/// A field of an object.
struct Field {
    name: &'static str,
    /// What an answer shows of it.
    shown: Option<Value>,
    /// What it is given as, and whether it must be.
    given: Option<(Value, bool)>,
}

/// Only shown.
fn shown(name: &'static str, schema: Value) -> Field {
    Field { name, shown: Some(schema), given: None }
}

/// Only given.
fn only_given(name: &'static str, schema: Value) -> Field {
    Field { name, shown: None, given: Some((schema, false)) }
}

/// Shown and given in the same form, where it may be left out.
fn both(name: &'static str, schema: Value) -> Field {
    given(name, schema.clone(), schema)
}

/// Shown and given in two forms.
fn given(name: &'static str, shown: Value, given: Value) -> Field {
    Field { name, shown: Some(shown), given: Some((given, false)) }
}

impl Field {
    /// It must be given when one is made.
    fn needed(mut self) -> Self {
        self.given = self.given.map(|(schema, _)| (schema, true));
        self
    }
}

/// `Key`, `KeyNew` and `KeyChange` of `Key`.
fn insert(all: &mut Map<String, Value>, name: &str, fields: Vec<Field>) {
    let shown: Map<String, Value> =
        fields.iter().filter_map(|field| Some((field.name.to_owned(), field.shown.clone()?))).collect();
    all.insert(name.to_owned(), exactly(shown.into()));
    let (mut properties, mut needed) = (Map::new(), Vec::new());
    for field in &fields {
        let Some((schema, is_needed)) = &field.given else { continue };
        if *is_needed {
            needed.push(field.name);
        }
        // `null` stands for a field that is left out; in a change, for one that is taken away.
        let schema = if *is_needed { schema.clone() } else { or_null(schema.clone()) };
        properties.insert(field.name.to_owned(), schema);
    }
    all.insert(
        format!("{name}New"),
        json!({ "type": "object", "additionalProperties": false, "required": needed, "properties": properties }),
    );
    let change = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    all.insert(format!("{name}Change"), change);
}

/// A mapping of which any field may be left out or be `null`.
fn some(properties: Value) -> Value {
    let properties: Map<String, Value> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), or_null(schema.clone())))
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn name() -> Value {
    let (inner, outer) = (r"[^/*?#\x00-\x1f\x7f-\x9f]", r"[^\s/*?#\x00-\x1f\x7f-\x9f]");
    json!({ "type": "string", "pattern": format!("^{outer}({inner}*{outer})?$"), "maxLength": 128 })
}

/// Of channels and upstream keys.
fn plain_name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9._@:+-]{1,128}$" })
}

fn globs() -> Value {
    let glob = json!({ "type": "string", "pattern": "^[^\\s\\x00-\\x1f\\x7f-\\x9f]+$", "maxLength": 256 });
    json!({ "type": "array", "items": glob })
}

/// What is not given is not limited: a list that is given is not empty.
fn some_of(mut list: Value) -> Value {
    list["minItems"] = 1.into();
    list
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn number(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn positive() -> Value {
    json!({ "type": "integer", "minimum": 1 })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^([0-9]{1,6}(ms|s|m|h|d))+$", "examples": ["500ms", "1m30s", "24h"] })
}

fn protocols() -> Value {
    word(Protocol::ALL.map(Protocol::name))
}

/// Fields that every object has beside its own.
fn common() -> Vec<Field> {
    vec![
        shown("origin", word(["file", "api"])),
        shown("shadowed", boolean()),
        shown("etag", etag()),
        shown("used", or_null(of("Used"))),
    ]
}

/// Every schema of the catalogue.
pub(super) fn all() -> Map<String, Value> {
    let mut all = Map::new();
    let limits = || given("limits", of("Limits"), of("LimitsNew"));
    let mut key = vec![
        shown("id", json!({ "type": "string", "minLength": 1 })),
        both("name", name()).needed(),
        given("user", or_null(text()), text()),
        both("enabled", boolean()),
        given("expires", or_null(time()), time()),
        given("protocols", list(protocols()), some_of(list(protocols()))),
        given("models", globs(), some_of(globs())),
        given("channels", globs(), some_of(globs())),
        limits(),
        shown("previous_until", or_null(time())),
        shown("last_used", or_null(time())),
    ];
    key.extend(common());
    insert(&mut all, "Key", key);
    let mut made = all["Key"].clone();
    made["properties"]["key"] = json!({ "type": "string", "description": "The secret, which is shown this once." });
    if let Some(required) = made["required"].as_array_mut() {
        required.push("key".into());
    }
    all.insert("KeyMade".to_owned(), made);
    insert_own_keys(&mut all);

    let mut user = vec![
        both("name", name()).needed(),
        limits(),
        both("price_rate", decimal()),
        both("max_keys", positive()),
        both("role", word(["admin", "user"])),
        only_given("password", json!({ "type": "string", "minLength": 10, "writeOnly": true })),
        shown("has_password", boolean()),
        shown("last_used", or_null(time())),
    ];
    user.extend(common());
    insert(&mut all, "User", user);

    let upstream_key = json!({
        "name": plain_name(), "state": word(["healthy", "cooling", "trial", "disabled"]), "cooling_until": or_null(time()),
    });
    let timeouts = json!({ "connect": duration(), "first_byte": duration(), "idle": duration() });
    let failure = json!({ "anyOf": [word(["connect", "timeout"]), number(400, 599)] });
    let retry = |on| json!({ "attempts": number(1, 10), "within": duration(), "on": on });
    let cooldown = json!({ "failures": number(1, 1000), "for": duration() });
    let probe = |is_shown: bool| {
        let cap = |of: Value| if is_shown { or_null(of) } else { of };
        json!({
            "every": duration(), "models": list(text()), "prompt": text(), "max_tokens": number(1, 4096),
            "timeout": duration(), "tokens_per_day": cap(number(1, u32::MAX.into())), "usd_per_day": cap(decimal()),
            "pause_on_traffic": boolean(),
        })
    };
    let mut channel = vec![
        both("name", plain_name()).needed(),
        both("protocol", protocols()).needed(),
        both("base_url", json!({ "type": "string", "pattern": "^https?://", "examples": ["https://api.example.com"] }))
            .needed(),
        given("keys", list(exactly(upstream_key)), some_of(list(of("UpstreamKeyNew")))).needed(),
        given("models", globs(), some_of(globs())).needed(),
        both("model_map", json!({ "type": "object", "additionalProperties": text() })),
        both("inject_usage", boolean()),
        given("timeouts", exactly(timeouts.clone()), some(timeouts)),
        both("priority", number(0, 1_000_000)),
        both("weight", number(1, MAX_WEIGHT.into())),
        both("on_disconnect", word(["drain", "abort"])),
        both("max_concurrency", number(0, 1_000_000)),
        given("retry", exactly(retry(list(failure.clone()))), some(retry(list(failure)))),
        given("cooldown", exactly(cooldown.clone()), some(cooldown)),
        limits(),
        given("probe", or_null(exactly(probe(true))), or_null(some(probe(false)))),
    ];
    channel.extend(common());
    channel.extend([
        shown("state", word(["healthy", "cooling", "trial", "draining", "disabled"])),
        shown("cooling_until", or_null(time())),
        shown("in_flight", count()),
    ]);
    insert(&mut all, "Channel", channel);

    let budget = || json!({ "day": decimal(), "month": decimal(), "total": decimal() });
    let nullable = |properties: Value| {
        let fields = properties.as_object().cloned().unwrap_or_default();
        exactly(fields.into_iter().map(|(name, schema)| (name, or_null(schema))).collect::<Map<_, _>>().into())
    };
    let rates = || json!({ "rpm": positive(), "tpm": positive(), "concurrency": positive() });
    let with_budget = |mut limits: Value, budget: Value| {
        limits["budget_usd"] = budget;
        limits
    };
    let mut shown = nullable(with_budget(rates(), json!({})));
    shown["properties"]["budget_usd"] = nullable(budget());
    let mut own_limits = shown.clone();
    own_limits["properties"]["used"] = or_null(of("Used"));
    if let Some(required) = own_limits["required"].as_array_mut() {
        required.push("used".into());
    }
    let upstream_key =
        json!({ "name": plain_name(), "value": { "type": "string", "minLength": 1, "writeOnly": true } });
    let mut upstream_key = some(upstream_key);
    upstream_key["required"] = json!(["name"]);
    upstream_key["properties"]["name"] = plain_name();
    for (name, schema) in [
        ("Limits", shown),
        ("LimitsNew", some(with_budget(rates(), some(budget())))),
        (
            "Used",
            exactly(json!({
                "rpm": count(), "tpm": count(), "concurrency": count(), "budget_usd": exactly(budget()),
                "reserved_usd": decimal(),
            })),
        ),
        ("UpstreamKeyNew", upstream_key),
        ("Price", price()),
        ("OwnPrice", {
            let mut price = price();
            price["required"] = json!([]);
            if let Some(fields) = price["properties"].as_object_mut() {
                fields.remove("model");
            }
            price
        }),
        ("OwnLimits", own_limits),
        (
            "Prices",
            exactly(json!({
                "origin": or_null(word(["file", "api"])),
                "version": or_null(json!({ "type": "string", "pattern": "^[0-9a-f]{16}$" })),
                "models": list(of("Price")),
                "etag": etag(),
            })),
        ),
    ] {
        all.insert(name.to_owned(), schema);
    }
    all
}

/// A key as its user sees it: what of `Key` is named here.
fn insert_own_keys(all: &mut Map<String, Value>) {
    let of_key = |name: &str| {
        let mut own = all[name].clone();
        let is_own = |field: &str| OWN_KEY_FIELDS.contains(&field) || field == "key";
        if let Some(properties) = own["properties"].as_object_mut() {
            properties.retain(|field, _| is_own(field));
        }
        if let Some(required) = own["required"].as_array_mut() {
            required.retain(|field| field.as_str().is_some_and(is_own));
        }
        own
    };
    let (shown, made) = (of_key("Key"), of_key("KeyMade"));
    let given = |required: &[&str]| {
        let fields = json!({ "name": name(), "enabled": boolean(), "expires": time() });
        let mut given = some(fields);
        given["required"] = json!(required);
        if !required.is_empty() {
            given["properties"]["name"] = name();
            given["properties"]["like"] = or_null(text());
        }
        given
    };
    all.insert("OwnKey".to_owned(), shown);
    all.insert("OwnKeyMade".to_owned(), made);
    all.insert("OwnKeyNew".to_owned(), given(&["name"]));
    all.insert("OwnKeyChange".to_owned(), given(&[]));
}

/// An entry of a price table. What is not written has its default, which depends on what is.
fn price() -> Value {
    let rates = ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"];
    let rates = || rates.iter().map(|rate| ((*rate).to_owned(), decimal())).collect::<Map<String, Value>>();
    let mut tier = rates();
    tier.insert("above".to_owned(), count());
    let tier = json!({ "type": "object", "additionalProperties": false, "required": ["above"], "properties": tier });
    let mut price = rates();
    price.insert(
        "model".to_owned(),
        json!({ "type": "string", "pattern": "^[^\\s\\x00-\\x1f\\x7f-\\x9f]+$", "maxLength": 256 }),
    );
    price.insert("per_request".to_owned(), decimal());
    price.insert("per_image".to_owned(), decimal());
    price.insert("max_output_tokens".to_owned(), positive());
    price.insert("tiers".to_owned(), list(tier));
    json!({ "type": "object", "additionalProperties": false, "required": ["model"], "properties": price })
}
