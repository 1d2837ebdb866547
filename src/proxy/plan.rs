//! What a channel is asked: a request is planned anew for each, because each has its own path, models and
//! habits.

use std::borrow::Cow;

use weir_filters::request::{BodyFacts, Edit, ask_for_usage, set_model, without_model_and_stream};
use weir_filters::route::{Match, Operation, UpstreamPath};
use weir_filters::target;

use crate::channels::Channel;

/// What is asked of the upstream.
pub(super) struct Plan {
    pub(super) operation: Operation,
    /// Path and query.
    pub(super) target: String,
    /// What changes in the client's body.
    pub(super) edits: Vec<Edit>,
    /// Whether Weir asks for a usage report that the client did not ask for.
    pub(super) injected: bool,
}

/// What `channel` is asked for a request that came by `route` for `path` and `query`.
pub(super) fn plan(
    route: &Match<'_>,
    channel: &Channel,
    path: &str,
    query: Option<&str>,
    model: Option<&str>,
    facts: Option<&BodyFacts>,
) -> Plan {
    let mut edits = Vec::new();
    let mut operation = route.operation;
    let mut also = None;
    let mapped = model.and_then(|model| channel.maps(model));
    let asked = mapped.or(model).unwrap_or_default();
    let streams = facts.and_then(|facts| facts.stream.as_ref()).is_some_and(|stream| stream.value);
    let upstream_path = match &route.upstream {
        UpstreamPath::Same | UpstreamPath::None => Cow::Borrowed(path),
        UpstreamPath::Fixed(fixed) => Cow::Borrowed(*fixed),
        UpstreamPath::Gemini { models, verb } => target::gemini(models, asked, verb).into(),
        UpstreamPath::GeminiChat => {
            edits.extend(facts.map(without_model_and_stream).unwrap_or_default());
            operation = if streams { Operation::GeminiStream } else { Operation::GeminiGenerate };
            also = (streams && !query.is_some_and(has_alt)).then_some("alt=sse");
            let verb = if streams { "streamGenerateContent" } else { "generateContent" };
            target::gemini("/v1beta/models", asked, verb).into()
        }
    };
    let mut injected = false;
    if let Some(facts) =
        facts.filter(|_| !matches!(route.upstream, UpstreamPath::GeminiChat | UpstreamPath::Gemini { .. }))
    {
        edits.extend(mapped.and_then(|mapped| set_model(facts, mapped)));
        let reports = matches!(operation, Operation::OpenAiChat | Operation::OpenAiCompletions);
        if streams && reports && channel.config().inject_usage {
            let edit = ask_for_usage(facts);
            injected = edit.is_some();
            edits.extend(edit);
        }
    }
    let full = target::join(&channel.config().base_url.path, &upstream_path);
    Plan { operation, target: target::with_query(&full, query, also), edits, injected }
}

fn has_alt(query: &str) -> bool {
    query.split('&').any(|part| part.starts_with("alt="))
}
