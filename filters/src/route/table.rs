//! The routes: the built-in ones as a list, the configured ones as a map, and the one spelling of a
//! path that either accepts.
//!
//! Knows nothing of keys, of bodies, or of where an upstream is.

use std::collections::HashMap;

use http::Method;

use super::Operation;

/// A route that the configuration adds to the built-in ones.
#[derive(Debug, Clone)]
pub struct ConfiguredRoute {
    /// The exact, canonical path.
    pub path: String,
    /// What it asks for.
    pub operation: Operation,
    /// The channels that may serve it, by name; empty: all.
    pub channels: Vec<String>,
    /// The path asked of the upstream, instead of the operation's own.
    pub upstream_path: Option<String>,
    /// Browsers' cross-origin access, if given.
    pub cors: Option<CorsPolicy>,
}

/// Which origins a browser may call a route from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsPolicy {
    /// Origins as browsers spell them, such as `https://app.example`; `*` allows all.
    pub origins: Vec<String>,
}

impl CorsPolicy {
    /// What `access-control-allow-origin` says to `origin`; `None`: it is not allowed. Origins are
    /// compared byte for byte (RFC 6454, section 6.2, gives them one spelling).
    pub fn allow<'a>(&self, origin: &'a str) -> Option<&'a str> {
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some("*");
        }
        self.origins.iter().any(|allowed| allowed == origin).then_some(origin)
    }
}

/// Every route, built-in and configured.
#[derive(Debug, Clone)]
pub struct RouteTable {
    configured: Vec<ConfiguredRoute>,
    by_path: HashMap<String, usize>,
}

/// A route that a path took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match<'t> {
    /// The route's place in [`RouteTable::names`].
    pub index: usize,
    /// The route's name: a path with what varies in braces. There are only as many as routes, so a
    /// metric may carry it.
    pub name: &'t str,
    /// What is asked for.
    pub operation: Operation,
    /// The model named in the path, as it is spelled there.
    pub model: Option<&'t str>,
    /// The path to ask of the upstream.
    pub upstream: UpstreamPath<'t>,
    /// The channels that may serve it, by name; empty: all.
    pub channels: &'t [String],
    /// Browsers' cross-origin access, if given.
    pub cors: Option<&'t CorsPolicy>,
}

/// The path to ask of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamPath<'t> {
    /// The client's own.
    Same,
    /// This one.
    Fixed(&'t str),
    /// `{models}/{model}:{verb}`. The model is the route's, or else the body's.
    Gemini {
        /// Where the models are in the version of the API that the client asked for:
        /// `/v1beta/models` or `/v1/models`.
        models: &'static str,
        /// What is asked of the model.
        verb: &'static str,
    },
    /// The same of `/v1beta`, but the body's `model` and `stream` decide both model and verb.
    GeminiChat,
    /// None: Weir answers itself.
    None,
}

/// Why a path took no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteError {
    /// The path is not spelled in the one way that is accepted, see [`is_canonical`].
    NotCanonical,
    /// There is no such route.
    NotFound,
    /// There is one, for other methods.
    MethodNotAllowed {
        /// The methods that it takes, as the `allow` header lists them.
        allow: &'static str,
    },
}

impl RouteTable {
    /// Adds `configured` to the built-in routes. A configured path wins over a built-in one, and the
    /// first of two that are equal wins over the second.
    pub fn new(configured: Vec<ConfiguredRoute>) -> Self {
        let mut by_path = HashMap::with_capacity(configured.len());
        for (index, route) in configured.iter().enumerate() {
            by_path.entry(route.path.clone()).or_insert(index);
        }
        Self { configured, by_path }
    }

    /// Every route's name; the place of a name is its [`Match::index`].
    pub fn names(&self) -> Vec<&str> {
        let built_in = BUILT_IN.iter().map(|route| route.name);
        built_in.chain(self.configured.iter().map(|route| route.path.as_str())).collect()
    }

    /// The route of a request. `path` has no query.
    pub fn find<'t>(&'t self, method: &Method, path: &'t str) -> Result<Match<'t>, RouteError> {
        let found = self.find_any_method(path)?;
        let (methods, allow) = methods(found.operation);
        if methods.contains(method) { Ok(found) } else { Err(RouteError::MethodNotAllowed { allow }) }
    }

    /// The route of a path, for a preflight, whose own method says nothing.
    pub fn find_any_method<'t>(&'t self, path: &'t str) -> Result<Match<'t>, RouteError> {
        if !is_canonical(path) {
            return Err(RouteError::NotCanonical);
        }
        if let Some(&index) = self.by_path.get(path) {
            return Ok(self.configured_match(index));
        }
        let (index, route, model) = BUILT_IN
            .iter()
            .enumerate()
            .find_map(|(index, route)| route.takes(path).map(|model| (index, route, model)))
            .ok_or(RouteError::NotFound)?;
        let model = Some(model).filter(|model| !model.is_empty());
        // Policy, price and record go by the model's name. One that the upstream would decode into
        // another name must not pass them under this one.
        if route.operation != Operation::Models && model.is_some_and(|model| model.contains('%')) {
            return Err(RouteError::NotCanonical);
        }
        Ok(Match {
            index,
            name: route.name,
            operation: route.operation,
            model,
            upstream: route.upstream,
            channels: &[],
            cors: None,
        })
    }

    fn configured_match(&self, index: usize) -> Match<'_> {
        let route = &self.configured[index];
        let last = route.path.rsplit('/').next().unwrap_or("");
        let model = match own_path(route) {
            UpstreamPath::Gemini { .. } => last.rsplit_once(':').map(|(model, _)| model).filter(|m| !m.is_empty()),
            _ => None,
        };
        Match {
            index: BUILT_IN.len() + index,
            name: &route.path,
            operation: route.operation,
            model,
            upstream: route.upstream_path.as_deref().map_or_else(|| own_path(route), UpstreamPath::Fixed),
            channels: &route.channels,
            cors: route.cors.as_ref(),
        }
    }
}

/// Whether a path is spelled in the one way that routing and permission both go by: segments of
/// RFC 3986's `pchar`, none of them empty, `.` or `..`, and nothing percent-encoded that could stand
/// for itself or that another reader would take for `/`, `\`, `.`, `%` or a control.
pub fn is_canonical(path: &str) -> bool {
    let Some(rest) = path.as_bytes().strip_prefix(b"/") else { return false };
    if rest.is_empty() {
        return true;
    }
    let (mut segment, mut at) = (0, 0);
    loop {
        match rest.get(at) {
            Some(&byte) if STANDS_FOR_ITSELF[usize::from(byte)] => at += 1,
            Some(b'%') if crate::credential::hex_pair(rest, at + 1).is_some_and(|byte| !needs_own_spelling(byte)) => {
                at += 3;
            }
            None | Some(b'/') => {
                if matches!(&rest[segment..at], b"" | b"." | b"..") {
                    return false;
                }
                if at == rest.len() {
                    return true;
                }
                at += 1;
                segment = at;
            }
            Some(_) => return false,
        }
    }
}

/// What a segment is spelled with, percent-encoding aside: RFC 3986, section 3.3, `pchar`.
const STANDS_FOR_ITSELF: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = is_unreserved(byte)
            || matches!(
                byte,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
            );
        byte += 1;
    }
    plain
};

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn needs_own_spelling(byte: u8) -> bool {
    is_unreserved(byte) || byte.is_ascii_control() || b"/\\%".contains(&byte)
}

/// The methods that an operation takes, and how the `allow` header lists them.
const fn methods(operation: Operation) -> (&'static [Method], &'static str) {
    const OTHER: &[Method] = &[Method::GET, Method::POST, Method::DELETE];
    const MODELS: &[Method] = &[Method::GET];
    const ALL_ELSE: &[Method] = &[Method::POST];
    match operation {
        Operation::OpenAiOther => (OTHER, "GET, POST, DELETE"),
        Operation::Models => (MODELS, "GET"),
        _ => (ALL_ELSE, "POST"),
    }
}

/// What an upstream is asked for by a configured route that does not say it.
fn own_path(route: &ConfiguredRoute) -> UpstreamPath<'static> {
    let gemini = |verb| UpstreamPath::Gemini { models: "/v1beta/models", verb };
    match route.operation {
        Operation::OpenAiChat => UpstreamPath::Fixed("/v1/chat/completions"),
        Operation::OpenAiCompletions => UpstreamPath::Fixed("/v1/completions"),
        Operation::OpenAiEmbeddings => UpstreamPath::Fixed("/v1/embeddings"),
        Operation::OpenAiResponses => UpstreamPath::Fixed("/v1/responses"),
        // One operation of many paths: the client's is the only one that says which.
        Operation::OpenAiOther => UpstreamPath::Same,
        Operation::OllamaChat if route.path.ends_with("/generate") => UpstreamPath::Fixed("/api/generate"),
        Operation::OllamaChat => UpstreamPath::Fixed("/api/chat"),
        Operation::AnthropicMessages => UpstreamPath::Fixed("/v1/messages"),
        Operation::AnthropicCountTokens => UpstreamPath::Fixed("/v1/messages/count_tokens"),
        Operation::GeminiGenerate => gemini("generateContent"),
        Operation::GeminiStream => gemini("streamGenerateContent"),
        Operation::GeminiEmbed => gemini("embedContent"),
        Operation::GeminiCountTokens => gemini("countTokens"),
        Operation::Models => UpstreamPath::None,
    }
}

#[derive(Debug)]
struct BuiltIn {
    name: &'static str,
    base: &'static str,
    form: Form,
    operation: Operation,
    upstream: UpstreamPath<'static>,
}

/// What may follow a built-in route's base.
#[derive(Debug)]
enum Form {
    Nothing,
    /// `/` and anything.
    Below,
    /// Nothing, or `/` and anything.
    Family,
    /// `/{model}:{verb}`, the model without a slash.
    Verb(&'static str),
    /// `/{id}`, slashes included, unless it ends in one of the verbs.
    Model,
}

impl BuiltIn {
    /// `Some` if the path is this route's: the model that it names, empty if it names none.
    fn takes<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.base)?;
        let below = rest.strip_prefix('/');
        match self.form {
            Form::Nothing => rest.is_empty().then_some(""),
            Form::Below => below.map(|_| ""),
            Form::Family => (rest.is_empty() || below.is_some()).then_some(""),
            Form::Verb(verb) => {
                let model = below?.strip_suffix(verb)?.strip_suffix(':')?;
                (!model.is_empty() && !model.contains('/')).then_some(model)
            }
            Form::Model => {
                let model = below?;
                let verb = model.rsplit_once(':').map(|(_, verb)| verb);
                let is_verb = verb.is_some_and(|verb| VERBS.iter().any(|(known, _)| *known == verb));
                (!is_verb).then_some(model)
            }
        }
    }
}

const VERBS: [(&str, Operation); 5] = [
    ("generateContent", Operation::GeminiGenerate),
    ("streamGenerateContent", Operation::GeminiStream),
    ("embedContent", Operation::GeminiEmbed),
    ("countTokens", Operation::GeminiCountTokens),
    ("batchEmbedContents", Operation::GeminiEmbed),
];

const fn exact(path: &'static str, operation: Operation) -> BuiltIn {
    BuiltIn { name: path, base: path, form: Form::Nothing, operation, upstream: UpstreamPath::Same }
}

const fn prefixed(path: &'static str, operation: Operation, upstream: &'static str) -> BuiltIn {
    BuiltIn { upstream: UpstreamPath::Fixed(upstream), ..exact(path, operation) }
}

const fn other(name: &'static str, base: &'static str, form: Form) -> BuiltIn {
    BuiltIn { name, base, form, operation: Operation::OpenAiOther, upstream: UpstreamPath::Same }
}

const fn verb(name: &'static str, base: &'static str, which: usize) -> BuiltIn {
    let (verb, operation) = VERBS[which];
    BuiltIn { name, base, form: Form::Verb(verb), operation, upstream: UpstreamPath::Gemini { models: base, verb } }
}

const fn models(name: &'static str, base: &'static str, form: Form) -> BuiltIn {
    BuiltIn { name, base, form, operation: Operation::Models, upstream: UpstreamPath::None }
}

/// The data plane of the interface. The busiest come first: they are tried in this order.
const BUILT_IN: [BuiltIn; 31] = [
    exact("/v1/chat/completions", Operation::OpenAiChat),
    exact("/v1/messages", Operation::AnthropicMessages),
    exact("/v1/responses", Operation::OpenAiResponses),
    exact("/v1/embeddings", Operation::OpenAiEmbeddings),
    exact("/v1/completions", Operation::OpenAiCompletions),
    verb("/v1beta/models/{model}:generateContent", "/v1beta/models", 0),
    verb("/v1beta/models/{model}:streamGenerateContent", "/v1beta/models", 1),
    verb("/v1beta/models/{model}:embedContent", "/v1beta/models", 2),
    verb("/v1beta/models/{model}:countTokens", "/v1beta/models", 3),
    verb("/v1beta/models/{model}:batchEmbedContents", "/v1beta/models", 4),
    verb("/v1/models/{model}:generateContent", "/v1/models", 0),
    verb("/v1/models/{model}:streamGenerateContent", "/v1/models", 1),
    verb("/v1/models/{model}:embedContent", "/v1/models", 2),
    verb("/v1/models/{model}:countTokens", "/v1/models", 3),
    verb("/v1/models/{model}:batchEmbedContents", "/v1/models", 4),
    BuiltIn { upstream: UpstreamPath::GeminiChat, ..exact("/gemini/v1/chat", Operation::GeminiGenerate) },
    exact("/v1/messages/count_tokens", Operation::AnthropicCountTokens),
    prefixed("/api/v1/messages", Operation::AnthropicMessages, "/v1/messages"),
    prefixed("/claude/v1/messages", Operation::AnthropicMessages, "/v1/messages"),
    prefixed("/api/v1/messages/count_tokens", Operation::AnthropicCountTokens, "/v1/messages/count_tokens"),
    prefixed("/claude/v1/messages/count_tokens", Operation::AnthropicCountTokens, "/v1/messages/count_tokens"),
    other("/v1/responses/{id}", "/v1/responses", Form::Below),
    other("/v1/files", "/v1/files", Form::Family),
    other("/v1/batches", "/v1/batches", Form::Family),
    other("/v1/images", "/v1/images", Form::Below),
    other("/v1/audio", "/v1/audio", Form::Below),
    other("/v1/moderations", "/v1/moderations", Form::Nothing),
    models("/v1/models", "/v1/models", Form::Nothing),
    models("/v1/models/{id}", "/v1/models", Form::Model),
    models("/v1beta/models", "/v1beta/models", Form::Nothing),
    models("/v1beta/models/{model}", "/v1beta/models", Form::Model),
];

#[cfg(test)]
mod tests;
