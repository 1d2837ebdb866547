//! A record as an `ai_event` message: what apinto writes for each request and APIPark's consumer counts.
//!
//! Owns the form of the message and what each of its members is filled with. Refuses to know how messages travel.
//!
//! # The form, and where it is from
//! Looked up in APIParkLab/APIPark at 9192b399, eolinker/apinto at b5972ba1 and eolinker/eosc at 8a50f9b5.
//!
//! | fact | source |
//! | --- | --- |
//! | members: `ai`, `api`, `provider`, `request_id`, `time_iso8601`; `ai` has seven | APIPark, scripts/resource/init_config.sh |
//! | they stand sorted by name, because a map is written | eosc, formatter/json/json.go |
//! | the consumer wants text, but for the figures, and a list of `ai_provider_statuses` | APIPark, app/ai-event-handler/nsq.go |
//! | it reads the time as RFC 3339, and drops what it cannot read | the same |
//! | figures are whole numbers; nothing sets the cost, and the consumer overlooks it | apinto, ai-convert/label.go; APIPark, nsq.go |
//! | a status is `{provider, model, key, status}`, one for each try, all of them text | apinto, ai-convert/label.go |
//! | a status's key is `<provider>-<key>@ai-key`; the consumer takes off what is around the key | APIPark, module/ai-key/iml.go, nsq.go |
//! | the words of a status, and which status of HTTP becomes which | apinto, ai-convert/status.go, ai-convert/openai.go, drivers/ai-provider |
//! | what has no answer counts as 504, and that as a timeout | apinto, node/http-context/response.go, drivers/plugins/ai-formatter/executor.go |
//! | `api` and `provider` are the API and the service that it belongs to, by their ids | APIPark, gateway/apinto/project.go, nsq.go |
//! | the request's id is a UUID | apinto, node/http-context/context.go |
//!
//! apinto writes a variable that was never set as `""`, the list of statuses too, at which its consumer loses the
//! message. Here each member always is of one type.
//!
//! # What it is filled with
//! The route is the API, and the node's name the service. A channel is a provider of AI, and a channel's key its key:
//! APIPark counts a message only if there are keys in it and it knows them all, so channels and their keys have to be
//! called what they are called there; a request that no channel was asked for is read, and not counted. The cost is in
//! dollars.

use serde::{Deserialize, Deserializer};

use crate::decimal;
use crate::json::{put_str, put_u64};
use crate::retry::{Blame, Failure};

/// What apinto puts behind a key's name: the kind of object that it is.
const KIND: &str = "@ai-key";

/// Puts the message that says what `record` says, a line or the record alone; whether that is a record. If it is not,
/// nothing is put.
pub fn put(record: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(record) = serde_json::from_slice::<Record>(record) else { return false };
    record.put(out);
    true
}

/// The fields of a record that a message is made of; a text that is `null` is empty.
#[derive(Deserialize)]
struct Record {
    id: String,
    time: String,
    #[serde(deserialize_with = "or_empty")]
    node: String,
    #[serde(deserialize_with = "or_empty")]
    route: String,
    #[serde(deserialize_with = "or_empty")]
    channel: String,
    #[serde(deserialize_with = "or_empty")]
    model_requested: String,
    #[serde(deserialize_with = "or_empty")]
    model_upstream: String,
    attempts: Vec<Attempt>,
    input_tokens: u64,
    output_tokens: u64,
    cost_nano_usd: u64,
}

#[derive(Deserialize)]
struct Attempt {
    #[serde(deserialize_with = "or_empty")]
    channel: String,
    #[serde(deserialize_with = "or_empty")]
    channel_key: String,
    #[serde(deserialize_with = "or_empty")]
    outcome: String,
    status: Option<u16>,
}

impl Record {
    fn put(&self, out: &mut Vec<u8>) {
        text(out, "{\"ai\":{\"ai_model\":", self.model());
        out.extend_from_slice(b",\"ai_model_cost\":");
        out.extend_from_slice(decimal::shown(self.cost_nano_usd, 9).as_bytes());
        for (name, tokens) in [
            (",\"ai_model_input_token\":", self.input_tokens),
            (",\"ai_model_output_token\":", self.output_tokens),
            (",\"ai_model_total_token\":", self.input_tokens.saturating_add(self.output_tokens)),
        ] {
            out.extend_from_slice(name.as_bytes());
            put_u64(out, tokens);
        }
        text(out, ",\"ai_provider\":", self.channel());
        out.extend_from_slice(b",\"ai_provider_statuses\":[");
        for (n, attempt) in self.attempts.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            self.put_status(attempt, out);
        }
        text(out, "]},\"api\":", &self.route);
        text(out, ",\"provider\":", self.node.split('/').next().unwrap_or_default());
        text(out, ",\"request_id\":", &uuid(&self.id));
        text(out, ",\"time_iso8601\":", &self.time);
        out.push(b'}');
    }

    fn put_status(&self, attempt: &Attempt, out: &mut Vec<u8>) {
        let Attempt { channel, channel_key, .. } = attempt;
        // A record has the model's name at the channel that served the request, and at no other one.
        let model = if channel == self.channel() { self.model() } else { &self.model_requested };
        let key = if channel_key.is_empty() { String::new() } else { format!("{channel}-{channel_key}{KIND}") };
        text(out, "{\"key\":", &key);
        text(out, ",\"model\":", model);
        text(out, ",\"provider\":", channel);
        text(out, ",\"status\":", attempt.word());
        out.push(b'}');
    }

    /// What the model is called by who serves it.
    fn model(&self) -> &str {
        if self.model_upstream.is_empty() { &self.model_requested } else { &self.model_upstream }
    }

    /// The channel that served the request, or else the last one that was asked.
    fn channel(&self) -> &str {
        match self.attempts.last() {
            Some(last) if self.channel.is_empty() => &last.channel,
            _ => &self.channel,
        }
    }
}

impl Attempt {
    /// The word of apinto for how it ended. Where apinto holds every other status against the key, a request that
    /// is itself at fault is called what it is: else a model's name that a client misspells would make APIPark show a
    /// good key as broken. The empty word says nothing of the key.
    fn word(&self) -> &'static str {
        match (self.status, &*self.outcome) {
            (None, "client_abort" | "refused") => "",
            (None | Some(408 | 504), _) | (_, "timeout") => "timeout",
            (Some(status), _) if status < 400 => "normal",
            (Some(402), _) => "quota exhausted",
            (Some(429), _) => "exceeded",
            (Some(status), _) => match Failure::Status(status).blame() {
                Blame::None => "invalid request",
                Blame::Key { .. } | Blame::Channel => "invalid",
            },
        }
    }
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    put_str(out, value);
}

/// The 32 digits of an id as those of a UUID.
fn uuid(id: &str) -> String {
    if id.len() != 32 || !id.is_ascii() {
        return id.to_owned();
    }
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

#[cfg(test)]
mod tests;
