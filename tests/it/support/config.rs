//! Configurations, part by part. They are written as JSON, which is YAML.

use std::net::SocketAddr;

use serde_json::{Value, json};
use weir_filters::key::KeyDigest;

use super::UPSTREAM_KEY;

/// A channel.
#[derive(Clone)]
pub(crate) struct Channel(pub(super) Value);

/// A channel of OpenAI's protocol, named `openai`, that serves `gpt-*`.
pub(crate) fn openai(address: SocketAddr) -> Channel {
    Channel::new("openai", "openai", address, "gpt-*")
}

/// A channel of Anthropic's protocol, named `anthropic`, that serves `claude-*`.
pub(crate) fn anthropic(address: SocketAddr) -> Channel {
    Channel::new("anthropic", "anthropic", address, "claude-*")
}

/// A channel of Gemini's protocol, named `gemini`, that serves `gemini-*`.
pub(crate) fn gemini(address: SocketAddr) -> Channel {
    Channel::new("gemini", "gemini", address, "gemini-*")
}

impl Channel {
    fn new(name: &str, protocol: &str, address: SocketAddr, models: &str) -> Self {
        Self(json!({
            "name": name,
            "protocol": protocol,
            "base_url": format!("http://{address}"),
            "keys": [{ "name": "main", "value": UPSTREAM_KEY }],
            "models": [models],
        }))
    }

    pub(crate) fn named(self, name: &str) -> Self {
        self.with("name", name)
    }

    pub(crate) fn models(self, models: &[&str]) -> Self {
        self.with("models", models)
    }

    pub(crate) fn maps(self, from: &str, to: &str) -> Self {
        self.with("model_map", json!({ from: to }))
    }

    /// The upstream's key.
    pub(crate) fn presents(self, key: &str) -> Self {
        self.with("keys", json!([{ "name": "main", "value": key }]))
    }

    pub(crate) fn timeouts(self, first_byte: &str, idle: &str) -> Self {
        self.with("timeouts", json!({ "connect": "2s", "first_byte": first_byte, "idle": idle }))
    }

    /// Any other field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }
}

/// A client key.
#[derive(Clone)]
pub(crate) struct Key(pub(super) Value);

/// What a client presents as the key of that name.
pub(crate) fn secret_of(name: &str) -> String {
    format!("sk-weir-{name}-91c7e3")
}

/// A key that may do everything, of the user `user-of-{name}`.
pub(crate) fn key_named(name: &str) -> Key {
    let digest = KeyDigest::of(&secret_of(name)).to_string();
    Key(json!({ "name": name, "sha256": digest, "user": format!("user-of-{name}") }))
}

impl Key {
    /// Any other field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    pub(super) fn user(&self) -> &str {
        self.0["user"].as_str().unwrap_or_default()
    }
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        key_named(name)
    }
}
