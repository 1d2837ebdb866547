//! What requests and answers are made of.
//!
//! Owns the schemas that are no objects of the catalogue (`objects` has those), and the words for making them.

use serde_json::{Map, Value, json};

use super::{monitor, objects};
use crate::admin::api::me::OWN_RECORD_FIELDS;
use crate::ledger::Counters;

/// The schema of the record, as it is published.
const RECORD: &str = include_str!("../../../../conf/record.schema.json");

/// A schema by its name.
pub(in crate::admin::api) fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// It, or `null`.
pub(in crate::admin::api) fn or_null(mut schema: Value) -> Value {
    match &schema["type"] {
        Value::String(one) if schema.get("enum").is_none() => {
            schema["type"] = json!([one, "null"]);
            schema
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// A mapping that has all of these fields and no others.
pub(in crate::admin::api) fn exactly(properties: Value) -> Value {
    let required: Vec<String> = properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// A list of them.
pub(in crate::admin::api) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// One of these words.
pub(in crate::admin::api) fn word<'w>(words: impl IntoIterator<Item = &'w str>) -> Value {
    json!({ "type": "string", "enum": words.into_iter().collect::<Vec<_>>() })
}

/// Any text.
pub(in crate::admin::api) fn text() -> Value {
    json!({ "type": "string" })
}

/// A count.
pub(in crate::admin::api) fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// RFC 3339.
pub(in crate::admin::api) fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

/// A moment as a parameter.
pub(in crate::admin::api) fn moment() -> Value {
    json!({ "anyOf": [time(), { "type": "integer", "minimum": 0, "maximum": 4_102_444_800_u64 }] })
}

/// How many rows.
pub(in crate::admin::api) fn limit(most: usize) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": most })
}

/// Where a page begins: only an answer's own `next` is one.
pub(in crate::admin::api) fn cursor() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// A strong entity tag.
pub(in crate::admin::api) fn etag() -> Value {
    json!({ "type": "string", "pattern": "^\"[0-9a-f]{16}\"$" })
}

/// An amount of money, or a factor, exactly.
pub(in crate::admin::api) fn decimal() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$", "examples": ["2.5"] })
}

/// `{"rows":[…]}`
pub(in crate::admin::api) fn rows(row: Value) -> Value {
    exactly(json!({ "rows": list(row) }))
}

/// Every schema with a name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = objects::all();
    let mistake = exactly(json!({ "field": text(), "message": text() }));
    let error = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["code", "message"],
        "properties": {
            "code": text(),
            "message": text(),
            "field": text(),
            "parameter": text(),
            "mistakes": list(json!({ "anyOf": [mistake, text()] })),
        },
    });
    let import_mistake = exactly(json!({ "line": count(), "reason": text() }));
    let statuses = exactly(json!({ "seen": count(), "applied": count(), "unread": count() }));
    let fields = json!({ "type": ["object", "null"] });
    all.extend(console());
    all.extend(monitor::all());
    for (name, schema) in [
        (
            "Session",
            exactly(
                json!({ "role": word(["admin", "user"]), "user": or_null(text()), "csrf": text(), "expires": time() }),
            ),
        ),
        ("Error", exactly(json!({ "error": error }))),
        (
            "Readiness",
            exactly(json!({
                "ready": { "type": "boolean" },
                "reasons": list(exactly(json!({ "part": text(), "message": text() }))),
            })),
        ),
        (
            "Change",
            exactly(json!({
                "id": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
                "time": time(),
                "who": text(),
                "action": text(),
                "kind": text(),
                "name": or_null(text()),
                "before": fields,
                "after": fields,
            })),
        ),
        (
            "ImportReport",
            exactly(json!({
                "lines": count(), "imported": count(), "known": count(), "skipped": count(), "statuses": statuses,
                "unread": count(), "errors": list(import_mistake),
            })),
        ),
    ] {
        all.insert(name.to_owned(), schema);
    }
    all.extend(record());
    all
}

/// What the console is told.
fn console() -> [(String, Value); 5] {
    let number = || json!({ "type": "number", "minimum": 0 });
    let figures = || -> Map<String, Value> {
        Counters::default().figures().into_iter().map(|(name, _)| (name, count())).collect()
    };
    let with = |more: &str, schema: Value| {
        let mut all = figures();
        all.insert(more.to_owned(), schema);
        exactly(all.into())
    };
    let attention = exactly(json!({
        "kind": text(), "level": word(["warning", "critical"]), "subject": or_null(text()), "values": { "type": "object" },
    }));
    let piece = exactly(json!({
        "time": time(), "requests": count(), "failed": count(), "cost_micro_usd": count(), "input_tokens": count(),
        "output_tokens": count(),
    }));
    let overview = exactly(json!({
        "time": time(),
        "version": text(),
        "uptime_s": count(),
        "ready": { "type": "boolean" },
        "attention": list(attention),
        "attention_omitted": count(),
        "now": exactly(json!({ "requests_per_s": number(), "streams": count(), "in_flight": count() })),
        "first_token_ms": exactly(json!({ "p50": or_null(number()), "p95": or_null(number()) })),
        "today": with("spend_nano_usd", count()),
        "yesterday": with("whole", exactly(figures().into())),
        "series_step_s": count(),
        "series": list(piece),
    }));
    let fault = || {
        exactly(json!({
            "file": or_null(text()), "line": or_null(count()), "column": or_null(count()), "field": or_null(text()),
            "message": text(),
        }))
    };
    let reload = exactly(json!({ "time": time(), "ok": { "type": "boolean" }, "mistakes": list(fault()) }));
    let file = exactly(json!({
        "state": word(["same", "changed", "invalid", "missing"]), "mistakes": list(fault()), "text": or_null(text()),
    }));
    let configuration = exactly(json!({
        "version": count(), "loaded_at": time(), "path": or_null(text()), "running": { "type": "object" }, "file": file,
        "last_reload": or_null(reload),
    }));
    let check = exactly(json!({ "valid": { "type": "boolean" }, "mistakes": list(fault()) }));
    let error = || {
        or_null(
            json!({ "type": "object", "required": ["code", "message"], "properties": { "code": text(), "message": text() } }),
        )
    };
    let run = exactly(json!({
        "ok": { "type": "boolean" }, "model": text(), "key": text(), "operation": text(), "status": or_null(count()),
        "connect_ms": or_null(number()), "first_token_ms": or_null(number()), "total_ms": number(),
        "tokens": exactly(json!({ "input": count(), "output": count() })), "text": or_null(text()), "error": error(),
    }));
    let test = exactly(json!({
        "status": or_null(count()), "request_id": or_null(text()), "channel": or_null(text()),
        "first_token_ms": or_null(number()), "total_ms": number(), "text": or_null(text()), "error": error(),
    }));
    [
        ("Overview", overview),
        ("Configuration", configuration),
        ("ConfigurationCheck", check),
        ("ChannelRun", run),
        ("ProxyTest", test),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

/// The published schema, whose own definitions become schemas beside it.
fn record() -> Map<String, Value> {
    let text = RECORD.replace("#/$defs/", "#/components/schemas/Record-");
    let mut record: Map<String, Value> = serde_json::from_str(&text).expect("a test reads it");
    record.remove("$schema");
    let mut all = Map::new();
    if let Some(Value::Object(defined)) = record.remove("$defs") {
        all.extend(defined.into_iter().map(|(name, schema)| (format!("Record-{name}"), schema)));
    }
    let mut own = Value::from(record.clone());
    own["title"] = "One's own request".into();
    if let Some(properties) = own["properties"].as_object_mut() {
        properties.retain(|field, _| OWN_RECORD_FIELDS.contains(&field.as_str()));
    }
    own["required"] = json!(OWN_RECORD_FIELDS);
    if let Some(own) = own.as_object_mut() {
        own.remove("$id");
    }
    all.insert("OwnRecord".to_owned(), own);
    all.insert("Record".to_owned(), record.into());
    all
}
