//! What is said of an object: its fields, in the words in which they are written.
//!
//! Owns what may be seen. What is not named here is not shown, and every field is named: the structs are taken
//! apart whole, so that a new one asks here whether it is to be seen. Absent is `null` or an empty list, never
//! missing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use weir_filters::calendar;
use weir_filters::glob::Glob;
use weir_filters::health::Cooldown;
use weir_filters::limits::{Budget, InUse, Limits};
use weir_filters::price::NanoUsd;
use weir_filters::retry::{Failure, Retries};

use crate::config::{BaseUrl, Channel, Failover, Identity, Key, OnDisconnect, Probe, Timeouts, User};

/// Fields and values.
pub(crate) type Shown = Map<String, Value>;

/// A key: never its secret, nor a digest of it.
pub(crate) fn key(key: &Key) -> Shown {
    let Key { name, user, sha256: _, enabled, expires, protocols, models, channels, limits: budget, identity } = key;
    let previous = identity.as_ref().and_then(|Identity { id: _, previous, granted: _ }| previous.as_ref());
    shown(json!({
        "id": key.id(),
        "name": name,
        "user": user,
        "enabled": enabled,
        "expires": expires.map(time),
        "protocols": protocols.iter().map(|protocol| protocol.name()).collect::<Vec<_>>(),
        "models": globs(models),
        "channels": globs(channels),
        "limits": limits(budget),
        // Until when the secret from before the last rotation still counts.
        "previous_until": previous.map(|previous| time(previous.until)),
    }))
}

/// A user, for whoever sells to them: they never see their rate themselves.
pub(crate) fn user(user: &User) -> Shown {
    let User { name, limits: budget, price_rate, max_keys, role, password } = user;
    shown(json!({
        "name": name,
        "limits": limits(budget),
        "price_rate": price_rate.written(),
        "max_keys": max_keys,
        "role": role.name(),
        "has_password": password.is_some(),
    }))
}

/// A channel: its keys by name alone.
pub(crate) fn channel(channel: &Channel) -> Shown {
    // How far it may lead follows from where it comes from.
    let Channel {
        name,
        protocol,
        base_url,
        reach: _,
        keys,
        models,
        model_map,
        inject_usage,
        timeouts,
        limits: budget,
        failover,
        probe,
    } = channel;
    let Failover { priority, weight, on_disconnect, max_concurrency, retries, cooldown } = failover;
    let Retries { attempts, within, on } = retries;
    let Cooldown { failures, time: cooled } = cooldown;
    let Timeouts { connect, first_byte, idle } = timeouts;
    shown(json!({
        "name": name,
        "protocol": protocol.name(),
        "base_url": url(base_url),
        "keys": keys.iter().map(|key| json!({ "name": key.name })).collect::<Vec<_>>(),
        "models": globs(models),
        "model_map": model_map,
        "inject_usage": inject_usage,
        "timeouts": {
            "connect": duration(*connect),
            "first_byte": duration(*first_byte),
            "idle": duration(*idle),
        },
        "priority": priority,
        "weight": weight,
        "on_disconnect": match on_disconnect {
            OnDisconnect::Drain => "drain",
            OnDisconnect::Abort => "abort",
        },
        "max_concurrency": max_concurrency,
        "retry": { "attempts": attempts, "within": duration(*within), "on": on.iter().copied().map(failure).collect::<Vec<_>>() },
        "cooldown": { "failures": failures, "for": duration(*cooled) },
        "limits": limits(budget),
        "probe": probe.as_ref().map(of_probe),
    }))
}

fn of_probe(probe: &Probe) -> Value {
    let Probe { every, models, prompt, max_tokens, timeout, cap, pause_on_traffic } = probe;
    json!({
        "every": duration(*every),
        "models": models,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "timeout": duration(*timeout),
        "tokens_per_day": cap.tokens,
        "usd_per_day": cap.nano_usd.map(|nano| NanoUsd(nano).written()),
        "pause_on_traffic": pause_on_traffic,
    })
}

fn failure(failure: Failure) -> Value {
    match failure {
        Failure::Connect => "connect".into(),
        Failure::Timeout => "timeout".into(),
        Failure::Status(status) => status.into(),
    }
}

/// What is used of limits at present.
pub(crate) fn in_use(used: &InUse) -> Value {
    let InUse { requests, tokens, running, spent, reserved } = used;
    json!({
        "rpm": requests,
        "tpm": tokens,
        "concurrency": running,
        "budget_usd": { "day": spent.day.written(), "month": spent.month.written(), "total": spent.total.written() },
        "reserved_usd": reserved.written(),
    })
}

/// What may be used.
pub(crate) fn limits(limits: &Limits) -> Value {
    let Limits { rpm, tpm, concurrency, budget: Budget { day, month, total } } = limits;
    json!({
        "rpm": rpm,
        "tpm": tpm,
        "concurrency": concurrency,
        "budget_usd": { "day": day.map(NanoUsd::written), "month": month.map(NanoUsd::written), "total": total.map(NanoUsd::written) },
    })
}

/// A duration in the largest unit that holds it whole.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

fn time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    calendar::rfc3339(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn globs(globs: &[Glob]) -> Vec<&str> {
    globs.iter().map(Glob::as_str).collect()
}

/// A base URL as it is written.
pub(crate) fn url(url: &BaseUrl) -> String {
    let BaseUrl { tls, host, port, path } = url;
    let (scheme, default) = if *tls { ("https", 443) } else { ("http", 80) };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let port = if *port == default { String::new() } else { format!(":{port}") };
    format!("{scheme}://{host}{port}{path}")
}

fn shown(value: Value) -> Shown {
    match value {
        Value::Object(fields) => fields,
        _ => Shown::new(),
    }
}

#[cfg(test)]
mod tests {
    use weir_filters::secret::Secret;

    use crate::config::{Written, read_channel, read_key, read_user};

    use super::*;

    fn written(value: &Value) -> Written {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn what_is_shown_is_what_was_written_without_its_secrets() {
        let limits = json!({
            "rpm": 60, "tpm": 5, "concurrency": 1,
            "budget_usd": { "day": "2.5", "month": "100", "total": "0.000000001" },
        });
        let mut user_written =
            json!({ "name": "alice", "limits": limits, "price_rate": "1.25", "max_keys": 3, "role": "admin" });
        let mut read = read_user(&written(&user_written)).unwrap();
        user_written["has_password"] = false.into();
        assert_eq!(Value::from(user(&read)), user_written);
        read.password = Some(Secret::new("canary"));
        user_written["has_password"] = true.into();
        assert_eq!(Value::from(user(&read)), user_written);

        let mut channel_written = json!({
            "name": "c", "protocol": "openai", "base_url": "http://[::1]:9001/prefix",
            "keys": [{ "name": "main", "value": "sk-canary" }], "models": ["gpt-*", "o3"],
            "model_map": { "gpt-4o": "large" }, "inject_usage": false,
            "timeouts": { "connect": "1500ms", "first_byte": "2m", "idle": "7d" }, "limits": limits,
            "priority": 3, "weight": 2, "on_disconnect": "abort", "max_concurrency": 9,
            "retry": { "attempts": 3, "within": "5m", "on": ["connect", "timeout", 429] },
            "cooldown": { "failures": 5, "for": "90s" },
            "probe": {
                "every": "30m", "models": ["gpt-4o"], "prompt": "Say yes.", "max_tokens": 8, "timeout": "9s",
                "tokens_per_day": 1000, "usd_per_day": "0.25", "pause_on_traffic": false,
            },
        });
        let shown = Value::from(channel(&read_channel(&written(&channel_written)).unwrap()));
        channel_written["keys"] = json!([{ "name": "main" }]);
        assert_eq!(shown, channel_written);

        let key_written = json!({
            "name": "laptop", "user": "alice", "sha256": "ab".repeat(32), "enabled": false,
            "expires": "2027-01-01T00:00:00.000Z", "protocols": ["gemini"], "models": ["gpt-*"],
            "channels": ["c"], "limits": limits,
        });
        let mut expected = key_written.clone();
        let fields = expected.as_object_mut().unwrap();
        fields.remove("sha256");
        let read = read_key(&written(&key_written)).unwrap();
        fields.insert("id".into(), json!(read.id()));
        fields.insert("previous_until".into(), Value::Null);
        assert_eq!(Value::from(key(&read)), expected);
    }

    #[test]
    fn what_was_left_out_is_null_or_empty() {
        let read = read_key(&written(&json!({ "name": "a", "sha256": "ab".repeat(32) }))).unwrap();
        let nothing = json!({
            "rpm": null, "tpm": null, "concurrency": null,
            "budget_usd": { "day": null, "month": null, "total": null },
        });
        let expected = json!({
            "id": read.id(), "name": "a", "user": null, "enabled": true, "expires": null, "protocols": [],
            "models": [], "channels": [], "limits": nothing, "previous_until": null,
        });
        assert_eq!(Value::from(key(&read)), expected);
    }

    #[test]
    fn durations_and_urls_are_read_again_as_they_were() {
        for text in ["0ms", "1ms", "1500ms", "1s", "90s", "2m", "25h", "7d"] {
            let read = crate::config::read_duration(text).unwrap();
            assert_eq!(duration(read), text);
        }
        for text in ["https://api.example.com", "http://h:9001/v1", "https://[::1]:8443", "http://10.0.0.1/a/b"] {
            let mut object = json!({
                "name": "c", "protocol": "openai", "keys": [{ "name": "m", "value": "x" }], "models": ["*"],
            });
            object["base_url"] = json!(text);
            assert_eq!(channel(&read_channel(&written(&object)).unwrap())["base_url"], text);
        }
    }
}
