//! The way in: who asks, for what, and where it goes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use weir_filters::credential::{present, strip_query};
use weir_filters::key::Admitted;
use weir_filters::protocol::Protocol;
use weir_filters::refusal::Refusal;
use weir_filters::request::{BodyError, BodyFacts, BodyScanner};
use weir_filters::route::{Match, Operation};

use crate::clock;
use crate::front::STALL;
use crate::leg::Upload;

use super::attempt::{self, Way};
use super::context::{Context, Stage};
use super::{Snapshot, record, reply};

/// Pieces of a body smaller than this are joined: a client that sends single bytes would otherwise
/// cost a hundred times their number in memory.
const SMALL_PIECE: usize = 8 * 1024;

/// Pingora's first phase. `true`: the answer has been written here.
pub(super) async fn arrive(session: &mut Session, ctx: &mut Context) -> Result<bool> {
    record::arrived(session, ctx);
    let snapshot = ctx.snapshot.clone();
    // Only HTTP/2 heeds it.
    session.downstream_session.set_write_timeout(Some(snapshot.terms.write));
    let head = session.req_header();
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let path = uri.path();
    ctx.protocol = dialect_of(path);
    ctx.reads = method != Method::POST;
    if method == Method::HEAD && path == "/" {
        return reply::alive(session, ctx).await;
    }
    if method == Method::OPTIONS {
        return reply::preflight(session, ctx, &snapshot, path).await;
    }
    ctx.place = ctx.shared.in_flight.enter(snapshot.max_in_flight);
    if ctx.place.is_none() {
        return reply::refuse(session, ctx, Refusal::Overloaded).await;
    }
    match admit(session, ctx, &snapshot, &method, path).await {
        Ok(Admission::Forward) => Ok(false),
        Ok(Admission::Models { id }) => reply::models(session, ctx, &snapshot, id.as_deref()).await,
        Err(Stop::Refused(refusal)) => reply::refuse(session, ctx, refusal).await,
        Err(Stop::Broken(error)) => Err(error),
    }
}

enum Admission {
    Forward,
    Models { id: Option<String> },
}

enum Stop {
    Refused(Refusal),
    /// The client left, or its body could not be read.
    Broken(Box<Error>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

async fn admit(
    session: &mut Session,
    ctx: &mut Context,
    snapshot: &Arc<Snapshot>,
    method: &Method,
    path: &str,
) -> std::result::Result<Admission, Stop> {
    let route = snapshot.routes.find(method, path).map_err(Refusal::from)?;
    ctx.route = Some(route.index);
    ctx.operation = Some(route.operation);
    let head = session.req_header();
    ctx.protocol = dialect(&route, ctx.protocol, &head.headers);
    ctx.cors_origin = allowed_origin(&route, &head.headers);

    let query = head.uri.query();
    let credential = present(&head.headers, query).map_err(Refusal::from)?;
    let credential_length = credential.expose().len();
    let admitted = match snapshot.keys.admit(&credential, ctx.protocol, ctx.arrived_ms) {
        Ok(admitted) => admitted,
        Err((refusal, key)) => {
            ctx.key = key;
            return Err(refusal.into());
        }
    };
    ctx.key = Some(admitted.key.clone());
    ctx.admitted = Some(admitted.clone());
    if route.operation == Operation::Models {
        return Ok(Admission::Models { id: route.model.map(str::to_owned) });
    }
    let query = query.map(|query| strip_query(query).into_owned());
    let before_body = clock::now();
    let body = read_body(session, ctx, &route).await?;
    // Time passes only in a wait.
    let waited = clock::now().saturating_duration_since(before_body);
    let model = route.model.or_else(|| Some(&*body.facts.as_ref()?.model.as_ref()?.value)).map(Arc::<str>::from);
    if let Some(model) = &model {
        ctx.model = model.clone();
        if model.len() >= credential_length {
            // Somebody may send the key as a model's name, which is written down everywhere.
            ctx.shown_model = record::without_credentials(model, session.req_header());
        }
    }
    check_model(&route, &admitted, model.as_deref())?;
    let way = Way { route: &route, path, query: query.as_deref(), model: model.as_deref() };
    attempt::first(ctx, &way, &admitted, session.req_header(), body)?;
    ctx.stage = Stage::Admitted;
    ctx.overhead = ctx.arrived.elapsed().saturating_sub(waited);
    Ok(Admission::Forward)
}

/// Whether the key may ask for that model, or for none.
pub(super) fn check_model(
    route: &Match<'_>,
    admitted: &Admitted,
    model: Option<&str>,
) -> std::result::Result<(), Refusal> {
    match model {
        Some(model) if !admitted.permits_model(model) => Err(Refusal::ModelNotPermitted { model: model.into() }),
        None if names_a_model(route) => Err(Refusal::ModelMissing),
        // Without a model nothing says what would be used: a file of batch requests can ask for any.
        None if admitted.has_model_limits() => Err(Refusal::ModelNotPermitted { model: "".into() }),
        _ => Ok(()),
    }
}

/// A body, as far as it is read before a channel is chosen.
pub(super) struct Body {
    pub(super) pieces: Vec<Bytes>,
    pub(super) facts: Option<BodyFacts>,
    pub(super) more: Option<Upload>,
}

/// Reads a JSON body whole: its model may be its last member, two models are refused before anyone
/// is asked, and a body that is held can be sent again. Uploads are not held; they stream.
async fn read_body(session: &mut Session, ctx: &mut Context, route: &Match<'_>) -> std::result::Result<Body, Stop> {
    let limit = ctx.snapshot.max_body;
    let head = session.req_header();
    let length = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::BodyTooLarge { limit }.into());
    }
    let json = is_read(route, &head.headers);
    let expects = head.headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if session.as_mut().is_body_empty() || matches!(head_method(session), Method::GET) {
        let facts =
            if names_a_model(route) { Some(BodyScanner::new().finish().map_err(|e| unusable(&e))?) } else { None };
        return Ok(Body { pieces: Vec::new(), facts, more: None });
    }
    if expects {
        session.downstream_session.write_continue_response().await.map_err(broken)?;
    }
    if !json {
        let more = length.map_or(Upload::Chunked, Upload::Length);
        return Ok(Body { pieces: Vec::new(), facts: None, more: Some(more) });
    }
    let mut scanner = BodyScanner::new();
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut read = 0;
    let mut small = BytesMut::new();
    while let Some(piece) = next_piece(session, ctx).await? {
        read += piece.len();
        ctx.request_bytes = read as u64;
        if read > limit {
            return Err(Refusal::BodyTooLarge { limit }.into());
        }
        scanner.feed(&piece);
        record::sent(&piece, ctx);
        if piece.len() >= SMALL_PIECE || read == piece.len() {
            pieces.extend((!small.is_empty()).then(|| small.split().freeze()));
            pieces.push(piece);
        } else {
            small.extend_from_slice(&piece);
            if small.len() >= 2 * SMALL_PIECE {
                pieces.push(small.split().freeze());
            }
        }
    }
    pieces.extend((!small.is_empty()).then(|| small.freeze()));
    let facts = facts(&mut scanner, route)?;
    Ok(Body { pieces, facts, more: None })
}

/// What a body that was read whole says.
pub(super) fn facts(scanner: &mut BodyScanner, route: &Match<'_>) -> std::result::Result<Option<BodyFacts>, Refusal> {
    match scanner.finish() {
        Ok(facts) => Ok(Some(facts)),
        // What passes through unread need not be an object; but one with two models could be metered
        // under one and served under the other.
        Err(e) if !names_a_model(route) && e != BodyError::DuplicateModel => Ok(None),
        Err(e) => Err(unusable(&e)),
    }
}

/// Whether the body is read before a channel is chosen.
pub(super) fn is_read(route: &Match<'_>, headers: &HeaderMap) -> bool {
    route.operation != Operation::OpenAiOther || is_json(headers)
}

/// The next piece of the client's body. HTTP/2 has no timer of its own for it.
async fn next_piece(session: &mut Session, ctx: &Context) -> std::result::Result<Option<Bytes>, Stop> {
    if let Some(client) = &ctx.client {
        return client.body().await.map_err(broken);
    }
    match tokio::time::timeout(STALL, session.read_request_body()).await {
        Ok(piece) => piece.map_err(broken),
        Err(_) => Err(broken(Error::explain(ErrorType::ReadTimedout, "the client stopped sending its body"))),
    }
}

fn head_method(session: &Session) -> Method {
    session.req_header().method.clone()
}

fn unusable(error: &BodyError) -> Refusal {
    Refusal::BadBody { what: error.to_string() }
}

fn broken(error: Box<Error>) -> Stop {
    Stop::Broken(error.into_down())
}

/// Counts a body that streams, and stops one that exceeds the cap.
pub(super) fn more_body(data: &Bytes, ctx: &mut Context) -> Result<()> {
    ctx.request_bytes += data.len() as u64;
    record::sent(data, ctx);
    let limit = ctx.snapshot.max_body;
    if ctx.request_bytes > limit as u64 {
        ctx.refused = Some(Refusal::BodyTooLarge { limit });
        return Error::e_explain(ErrorType::HTTPStatus(413), "the body is larger than server.max_body");
    }
    Ok(())
}

/// Whether the body must name a model: the path does not.
fn names_a_model(route: &Match<'_>) -> bool {
    matches!(
        route.operation,
        Operation::OpenAiChat
            | Operation::OpenAiCompletions
            | Operation::OpenAiEmbeddings
            | Operation::OpenAiResponses
            | Operation::OllamaChat
            | Operation::AnthropicMessages
            | Operation::AnthropicCountTokens
    ) || (route.operation.protocol() == Protocol::Gemini && route.model.is_none())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn allowed_origin(route: &Match<'_>, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?.to_str().ok()?;
    HeaderValue::from_str(route.cors?.allow(origin)?).ok()
}

/// The dialect in which a request is answered whose path alone says `by_path`.
pub(super) fn dialect(route: &Match<'_>, by_path: Protocol, headers: &HeaderMap) -> Protocol {
    match route.operation {
        Operation::Models => listed_for(by_path, headers),
        operation => operation.protocol(),
    }
}

/// The dialect in which a request without a route is answered.
pub(super) fn dialect_of(path: &str) -> Protocol {
    if path.starts_with("/v1beta/") || path.starts_with("/gemini/") {
        Protocol::Gemini
    } else if path.starts_with("/v1/messages") || path.starts_with("/claude/") || path.starts_with("/api/v1/messages") {
        Protocol::Anthropic
    } else {
        Protocol::OpenAi
    }
}

/// Whose shape a list of models has: three protocols have theirs at `/v1/models`.
fn listed_for(by_path: Protocol, headers: &HeaderMap) -> Protocol {
    match by_path {
        Protocol::OpenAi if headers.contains_key("anthropic-version") => Protocol::Anthropic,
        Protocol::OpenAi if headers.contains_key("x-goog-api-key") => Protocol::Gemini,
        by_path => by_path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_models_has_its_callers_shape() {
        for (path, header, shape) in [
            ("/v1/models", "authorization", Protocol::OpenAi),
            ("/v1/models", "x-api-key", Protocol::OpenAi),
            ("/v1/models", "anthropic-version", Protocol::Anthropic),
            ("/v1/models", "x-goog-api-key", Protocol::Gemini),
            ("/v1beta/models", "authorization", Protocol::Gemini),
        ] {
            let headers = HeaderMap::from_iter([(header.parse().expect("a name"), HeaderValue::from_static("x"))]);
            assert_eq!(listed_for(dialect_of(path), &headers), shape, "{path} {header}");
        }
    }
}
