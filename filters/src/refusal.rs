//! Why a request was refused, and how its client is told: in the error shape of its own protocol,
//! so that the official SDKs raise the exception that fits.
//!
//! Refuses to know credentials, and what a log says: the two are separate.

use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::credential::CredentialError;
use crate::limits::{Exceeded, Limit};
use crate::protocol::Protocol;
use crate::route::RouteError;

/// How much of a model's name a message repeats, in characters. The name is the client's own text, and
/// the longest that providers use have some sixty.
const MAX_MODEL_CHARS: usize = 128;

/// Why Weir answered a request itself, with an error.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// No credential, in any form.
    MissingKey,
    /// A credential that is no known key.
    UnknownKey,
    /// A credential that cannot be a key.
    MalformedKey,
    /// Two credentials that differ.
    KeysDisagree,
    /// The key is switched off.
    KeyDisabled,
    /// The key's time is over.
    KeyExpired,
    /// The key may not speak this protocol.
    ProtocolNotPermitted,
    /// The key may not name this model.
    ModelNotPermitted {
        /// As the client names it.
        model: Box<str>,
    },
    /// The request names no model and has to.
    ModelMissing,
    /// No channel serves this model.
    ModelNotFound {
        /// As the client names it.
        model: Box<str>,
    },
    /// The model has no price, and what has none is refused.
    ModelNotPriced {
        /// As the client names it.
        model: Box<str>,
    },
    /// Channels serve this, but none that the key may reach.
    ChannelNotPermitted,
    /// No channel serves this route.
    NoChannel,
    /// The body is not what the operation needs.
    BadBody {
        /// What is wrong with it, as a clause; holds nothing of the body but its shape.
        what: String,
    },
    /// The body is larger than `server.max_body`.
    BodyTooLarge {
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// The body stopped before its end.
    BodyIncomplete,
    /// A limit of the key or of its user has no room for the request.
    LimitExceeded(Exceeded),
    /// Every channel that serves this is at a limit of its own.
    ChannelsFull,
    /// Every channel that serves this is being taken out of service.
    ChannelsDraining,
    /// As many requests are under way as the gateway takes.
    Overloaded,
    /// The key has a budget, and what the request may cost cannot be written down.
    LedgerFull,
    /// No such route.
    NotFound,
    /// The path is not in its canonical spelling.
    NotCanonical,
    /// The route does not take this method.
    MethodNotAllowed {
        /// The methods that it takes, as the `allow` header lists them.
        allow: &'static str,
    },
    /// No connection to the upstream.
    UpstreamUnreachable,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream's answer broke off or is not HTTP.
    UpstreamBroken,
    /// Weir's own fault.
    Internal,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::KeysDisagree
            | Self::ModelMissing
            | Self::ModelNotPriced { .. }
            | Self::BadBody { .. }
            | Self::NotCanonical => 400,
            Self::MissingKey | Self::UnknownKey | Self::MalformedKey => 401,
            Self::KeyDisabled
            | Self::KeyExpired
            | Self::ProtocolNotPermitted
            | Self::ModelNotPermitted { .. }
            | Self::ChannelNotPermitted => 403,
            Self::ModelNotFound { .. } | Self::NoChannel | Self::NotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyIncomplete => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::LimitExceeded(_) | Self::ChannelsFull => 429,
            Self::Internal => 500,
            Self::UpstreamUnreachable | Self::UpstreamBroken => 502,
            Self::ChannelsDraining | Self::Overloaded | Self::LedgerFull => 503,
            Self::UpstreamTimeout => 504,
        }
    }

    /// One word of a closed set, for metrics and records.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::UnknownKey => "unknown_key",
            Self::MalformedKey => "malformed_key",
            Self::KeysDisagree => "keys_disagree",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::ProtocolNotPermitted => "protocol_not_permitted",
            Self::ModelNotPermitted { .. } => "model_not_permitted",
            Self::ModelMissing => "model_missing",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::ModelNotPriced { .. } => "model_not_priced",
            Self::ChannelNotPermitted => "channel_not_permitted",
            Self::NoChannel => "no_channel",
            Self::BadBody { .. } => "bad_body",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyIncomplete => "body_incomplete",
            Self::LimitExceeded(_) => "limit_exceeded",
            Self::ChannelsFull => "channels_full",
            Self::ChannelsDraining => "channels_draining",
            Self::Overloaded => "overloaded",
            Self::LedgerFull => "ledger_full",
            Self::NotFound => "not_found",
            Self::NotCanonical => "not_canonical",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBroken => "upstream_broken",
            Self::Internal => "internal",
        }
    }

    /// What happened and what to do, for a person. Never holds a credential.
    pub fn message(&self) -> String {
        let fixed = match self {
            Self::MissingKey => {
                "No API key was sent. Send yours as 'Authorization: Bearer', 'x-api-key', 'x-goog-api-key' or '?key='."
            }
            Self::UnknownKey => "This API key is not known here. Check that it is whole, and that it was made here.",
            Self::MalformedKey => {
                "What was sent as an API key cannot be one. Send yours as 'Authorization: Bearer', 'x-api-key', \
                 'x-goog-api-key' or '?key='."
            }
            Self::KeysDisagree => "Two API keys were sent that differ. Send only one.",
            Self::KeyDisabled => "This API key is disabled. Ask whoever gave it to you to enable it.",
            Self::KeyExpired => "This API key has expired. Ask whoever gave it to you for another one.",
            Self::ProtocolNotPermitted => {
                "This API key may not use this provider's API. Use another one, or ask whoever gave you the key."
            }
            Self::ModelNotPermitted { model } => {
                return format!(
                    "This API key may not use the model '{}'. GET /v1/models lists those that it may.",
                    shown(model)
                );
            }
            Self::ModelMissing => "The request names no model. Set 'model'.",
            Self::ModelNotFound { model } => {
                return format!(
                    "The model '{}' is not served here. GET /v1/models lists those that are.",
                    shown(model)
                );
            }
            Self::ModelNotPriced { model } => {
                return format!(
                    "The model '{}' has no price here, and what has none is refused. Use another model, or ask \
                     whoever runs this gateway to add its price.",
                    shown(model)
                );
            }
            Self::ChannelNotPermitted => {
                "This API key may not reach any channel that serves this request. Ask whoever gave it to you."
            }
            Self::NoChannel => "No channel serves this request. Ask whoever runs this gateway to add one.",
            Self::BadBody { what } => {
                return format!("The request body cannot be used: {what}. Correct it and resend.");
            }
            Self::BodyTooLarge { limit } => {
                return format!(
                    "The request body is larger than the {limit} bytes that are taken. Send a smaller one."
                );
            }
            Self::BodyIncomplete => "The request body stopped before its end. Send it again.",
            Self::LimitExceeded(exceeded) => return exceeded.message(),
            Self::ChannelsFull => "Every channel that serves this request is at its limit. Try again later.",
            Self::ChannelsDraining => {
                "Every channel that serves this request is being taken out of service. Try again later."
            }
            Self::Overloaded => "The gateway serves as many requests as it can. Try again in a moment.",
            Self::LedgerFull => {
                "This API key has a budget, and what the request may cost cannot be written down at present. Try again \
                 later."
            }
            Self::NotFound => "There is nothing at this path. Check the base URL and the path.",
            Self::NotCanonical => {
                "The path is not in its canonical spelling. Send it without empty or dot segments, without a trailing \
                 slash, and without needless percent-encoding."
            }
            Self::MethodNotAllowed { allow } => return format!("This path does not take this method. Use {allow}."),
            Self::UpstreamUnreachable => "The upstream provider could not be reached. Try again later.",
            Self::UpstreamTimeout => "The upstream provider did not answer in time. Try again later.",
            Self::UpstreamBroken => "The upstream provider's answer was broken. Try again later.",
            Self::Internal => "The gateway failed. Try again; if it stays, report the request id.",
        };
        fixed.to_owned()
    }

    /// The body in the shape of `protocol`, as JSON. Its message ends with the request id.
    pub fn body(&self, protocol: Protocol, request_id: &str) -> String {
        let message = format!("{} Request id: {request_id}", self.message());
        match protocol {
            Protocol::OpenAi => {
                let (r#type, param, code) = self.openai();
                json(&OpenAiBody { error: OpenAiError { message, r#type, param, code } })
            }
            Protocol::Anthropic => {
                let error = AnthropicError { r#type: self.anthropic(), message };
                json(&AnthropicBody { r#type: "error", error, request_id })
            }
            Protocol::Gemini => {
                json(&GeminiBody { error: GeminiError { code: self.status(), message, status: self.gemini() } })
            }
        }
    }

    /// The event that tells of it in the middle of a stream, in the shape of `protocol`: for Anthropic one
    /// named `error`, for the others data as the body would be. All official SDKs raise an error for it.
    pub fn event(&self, protocol: Protocol, request_id: &str) -> String {
        let name = if protocol == Protocol::Anthropic { "event: error\n" } else { "" };
        format!("{name}data: {}\n\n", self.body(protocol, request_id))
    }

    /// The headers that go with the status: `www-authenticate` (RFC 9110, section 15.5.2), `allow`
    /// (section 15.5.6), `retry-after`, or how a limit stands at `unix_ms`.
    pub fn headers(&self, protocol: Protocol, unix_ms: u64) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::LimitExceeded(exceeded) => exceeded.headers(protocol, unix_ms),
            Self::ChannelsFull | Self::ChannelsDraining | Self::Overloaded | Self::LedgerFull => {
                vec![(RETRY_AFTER, HeaderValue::from_static("1"))]
            }
            Self::MethodNotAllowed { allow } => vec![(ALLOW, HeaderValue::from_static(allow))],
            _ if self.status() == 401 => vec![(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="weir""#))],
            _ => Vec::new(),
        }
    }

    /// `type`, `param` and `code`, in the words of OpenAI's API.
    fn openai(&self) -> (&'static str, Option<&'static str>, Option<&'static str>) {
        let (param, code) = match self {
            Self::MissingKey | Self::UnknownKey | Self::MalformedKey => (None, Some("invalid_api_key")),
            // OpenAI says the same of a model that is not there and of one that a project may not use.
            Self::ModelNotFound { .. } | Self::ModelNotPermitted { .. } => (Some("model"), Some("model_not_found")),
            Self::ModelMissing => (Some("model"), Some("missing_required_parameter")),
            Self::ModelNotPriced { .. } => (Some("model"), Some("model_not_priced")),
            Self::KeyDisabled | Self::KeyExpired | Self::ProtocolNotPermitted | Self::ChannelNotPermitted => {
                (None, Some("insufficient_permissions"))
            }
            Self::LimitExceeded(exceeded) => return limit(exceeded.limit),
            Self::ChannelsFull => return limit(Limit::Concurrency),
            Self::Overloaded => (None, Some("overloaded")),
            Self::NotFound => (None, Some("unknown_url")),
            Self::MethodNotAllowed { .. } => (None, Some("method_not_supported")),
            _ => (None, None),
        };
        let r#type = if self.status() >= 500 { "server_error" } else { "invalid_request_error" };
        (r#type, param, code)
    }

    /// `type`, of the list in Anthropic's reference, "Errors".
    fn anthropic(&self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// `status`, a name of `google.rpc.Code`. It has none for a method, a size or a broken request:
    /// Gemini calls those an invalid argument.
    fn gemini(&self) -> &'static str {
        match self.status() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            500 => "INTERNAL",
            502 | 503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INVALID_ARGUMENT",
        }
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Missing => Self::MissingKey,
            CredentialError::Disagree => Self::KeysDisagree,
            CredentialError::Malformed => Self::MalformedKey,
        }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotCanonical => Self::NotCanonical,
            RouteError::NotFound => Self::NotFound,
            RouteError::MethodNotAllowed { allow } => Self::MethodNotAllowed { allow },
        }
    }
}

/// What OpenAI says of each kind of limit: `type` names what is used up, and a spent budget is no rate.
fn limit(limit: Limit) -> (&'static str, Option<&'static str>, Option<&'static str>) {
    match limit {
        Limit::Rpm | Limit::Concurrency => ("requests", None, Some("rate_limit_exceeded")),
        Limit::Tpm => ("tokens", None, Some("rate_limit_exceeded")),
        Limit::Budget(_) => ("insufficient_quota", None, Some("insufficient_quota")),
    }
}

#[derive(Serialize)]
struct OpenAiBody {
    error: OpenAiError,
}

#[derive(Serialize)]
struct OpenAiError {
    message: String,
    r#type: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct AnthropicBody<'a> {
    r#type: &'static str,
    error: AnthropicError,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError {
    r#type: &'static str,
    message: String,
}

#[derive(Serialize)]
struct GeminiBody {
    error: GeminiError,
}

#[derive(Serialize)]
struct GeminiError {
    code: u16,
    message: String,
    status: &'static str,
}

/// A control could end a line of a terminal or a log.
fn shown(model: &str) -> String {
    let mut chars = model.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut shown: String = chars.by_ref().take(MAX_MODEL_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of text and numbers are JSON")
}

#[cfg(test)]
mod tests;
