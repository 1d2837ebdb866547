//! What Weir answers itself: refusals in the caller's dialect, lists of models, preflights.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};
use weir_filters::models::{self, Listed};
use weir_filters::protocol::Protocol;
use weir_filters::refusal::Refusal;

use crate::front::Turned;
use crate::ledger::Outcome;
use crate::metrics::AuthFailure;

use super::context::{Context, Stage};
use super::{Snapshot, finish, record};

/// How much of a body that nobody wants is read and thrown away, so that its sender gets to see the
/// answer before it sees the connection close.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Refuses. The connection stays open unless its body is too large to be read to the end.
pub(super) async fn refuse(session: &mut Session, ctx: &mut Context, refusal: Refusal) -> Result<bool> {
    let (status, body) = (refusal.status(), refusal.body(ctx.protocol, &ctx.id()));
    let too_large = matches!(refusal, Refusal::BodyTooLarge { .. });
    let headers = refusal.headers(ctx.protocol, ctx.arrived_ms);
    if let Some(failure) = auth_failure(&refusal) {
        ctx.shared.metrics.auth_failure(failure);
    }
    if refusal == Refusal::Overloaded {
        ctx.shared.metrics.turned_away(Turned::Overload);
    }
    ctx.refused = Some(refusal);
    ctx.stage = Stage::Answered;
    if too_large {
        close_after(ctx);
    }
    write(session, ctx, status, "application/json", &headers, body.into()).await?;
    if too_large {
        linger(session).await;
    }
    Ok(true)
}

fn auth_failure(refusal: &Refusal) -> Option<AuthFailure> {
    Some(match refusal {
        Refusal::MissingKey => AuthFailure::Missing,
        Refusal::UnknownKey | Refusal::MalformedKey => AuthFailure::Unknown,
        Refusal::KeysDisagree => AuthFailure::Conflict,
        Refusal::KeyDisabled => AuthFailure::Disabled,
        Refusal::KeyExpired => AuthFailure::Expired,
        Refusal::ProtocolNotPermitted | Refusal::ModelNotPermitted { .. } | Refusal::ChannelNotPermitted => {
            AuthFailure::NotPermitted
        }
        _ => return None,
    })
}

/// `HEAD /`: some clients ask whether anyone is there.
pub(super) async fn alive(session: &mut Session, ctx: &mut Context) -> Result<bool> {
    ctx.stage = Stage::Answered;
    write(session, ctx, 200, "text/plain", &[], Bytes::new()).await?;
    Ok(true)
}

/// Answers a browser that asks before it asks.
pub(super) async fn preflight(
    session: &mut Session,
    ctx: &mut Context,
    snapshot: &Snapshot,
    path: &str,
) -> Result<bool> {
    ctx.stage = Stage::Answered;
    let Ok(route) = snapshot.routes.find_any_method(path) else {
        return refuse(session, ctx, Refusal::NotFound).await;
    };
    ctx.route = Some(route.index);
    let request = &session.req_header().headers;
    let mut headers = vec![(ALLOW, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"))];
    let origin = request.get(ORIGIN).and_then(|v| v.to_str().ok());
    if let Some(allowed) = route.cors.zip(origin).and_then(|(cors, origin)| cors.allow(origin)) {
        let put = |headers: &mut Vec<_>, name: &'static str, value: HeaderValue| {
            headers.push((HeaderName::from_static(name), value));
        };
        put(&mut headers, "access-control-allow-origin", HeaderValue::from_str(allowed).map_err(internal)?);
        put(&mut headers, "access-control-allow-methods", HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            put(&mut headers, "access-control-allow-headers", asked.clone());
        }
        put(&mut headers, "access-control-max-age", HeaderValue::from_static("86400"));
        headers.push((VARY, HeaderValue::from_static("origin, access-control-request-headers")));
    }
    write(session, ctx, 204, "", &headers, Bytes::new()).await?;
    Ok(true)
}

/// Lists what the key may use, in the shape of whoever asks.
pub(super) async fn models(
    session: &mut Session,
    ctx: &mut Context,
    snapshot: &Snapshot,
    id: Option<&str>,
) -> Result<bool> {
    let protocol = ctx.protocol;
    let Some(admitted) = ctx.admitted.clone() else { return Err(Error::new(ErrorType::InternalError)) };
    let permitted = |model: &str, channel: &str| admitted.permits_model(model) && admitted.permits_channel(channel);
    let listed = snapshot.listed_models(protocol, permitted);
    let listed: Vec<Listed<'_>> = listed.iter().map(|(id, owner)| Listed { id, owner }).collect();
    let body = match id {
        None => match protocol {
            Protocol::OpenAi => models::openai_list(&listed),
            Protocol::Anthropic => models::anthropic_list(&listed),
            Protocol::Gemini => models::gemini_list(&listed),
        },
        Some(id) => match (listed.iter().find(|listed| listed.id == id), protocol) {
            (Some(&one), Protocol::OpenAi) => models::openai_one(one),
            (Some(&one), Protocol::Anthropic) => models::anthropic_one(one),
            (Some(&one), Protocol::Gemini) => models::gemini_one(one),
            (None, _) => return refuse(session, ctx, Refusal::ModelNotFound { model: id.into() }).await,
        },
    };
    ctx.stage = Stage::Answered;
    write(session, ctx, 200, "application/json", &[], body.into()).await?;
    Ok(true)
}

/// The exchange failed: says so, if the answer has not begun.
pub(super) async fn failure(session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
    if ctx.refused.is_some() {
        ctx.outcome = Some(Outcome::Refused);
    }
    finish::ended(Some(error), ctx);
    let answered = session.response_written().is_some_and(|head| !head.status.is_informational());
    let refusal = match ctx.refused.take() {
        Some(refusal) => refusal,
        None => match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => Refusal::BodyIncomplete,
            (
                ErrorSource::Downstream,
                ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::H2Error,
            ) => {
                return FailToProxy { error_code: 0, can_reuse_downstream: false };
            }
            (ErrorSource::Downstream, _) => Refusal::BadBody { what: "the request cannot be read".into() },
            (_, ErrorType::ReadTimedout | ErrorType::ConnectTimedout | ErrorType::WriteTimedout) => {
                Refusal::UpstreamTimeout
            }
            (ErrorSource::Internal, _) => Refusal::Internal,
            (
                _,
                ErrorType::ConnectError
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::TLSHandshakeFailure
                | ErrorType::TLSHandshakeTimedout
                | ErrorType::InvalidCert
                | ErrorType::SocketError,
            ) => Refusal::UpstreamUnreachable,
            _ => Refusal::UpstreamBroken,
        },
    };
    ctx.error = Some(match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::WriteTimedout) => "slow_reader",
        _ => refusal.reason(),
    });
    let code = refusal.status();
    if answered {
        if !session.as_mut().is_body_done() {
            linger(session).await;
        }
        return FailToProxy { error_code: code, can_reuse_downstream: false };
    }
    log::warn!("request {}: {}: {}", ctx.id(), refusal.reason(), error.etype().as_str());
    let body = refusal.body(ctx.protocol, &ctx.id());
    // What is left of the request, or of its body, is not known: nothing may follow it.
    close_after(ctx);
    // Whether it is written or not, nothing more can be said.
    let _ = write(session, ctx, code, "application/json", &refusal.headers(ctx.protocol, ctx.arrived_ms), body.into())
        .await;
    if !session.as_mut().is_body_done() {
        linger(session).await;
    }
    FailToProxy { error_code: code, can_reuse_downstream: false }
}

async fn write(
    session: &mut Session,
    ctx: &mut Context,
    status: u16,
    content_type: &'static str,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Result<()> {
    ctx.status = status;
    // HTTP/2 would send the bytes that a HEAD must not have.
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    if !empty {
        ctx.own_bytes = body.len() as u64;
        record::received(&body, &mut ctx.notes);
    }
    // Counted before it leaves, as an upstream's answer is: what a client was told is in the journal.
    finish::settle(ctx);
    let mut header = ResponseHeader::build(status, Some(headers.len() + 6))?;
    if status != 204 {
        header.insert_header(CONTENT_LENGTH, body.len())?;
        header.insert_header(CONTENT_TYPE, content_type)?;
    }
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header("x-weir-request-id", ctx.id())?;
    for (name, value) in headers {
        header.insert_header(name, value)?;
    }
    if let Some(origin) = &ctx.cors_origin {
        header.insert_header("access-control-allow-origin", origin)?;
    }
    session.write_response_header(Box::new(header), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// The connection ends with the answer. A stream of HTTP/2 does so anyway.
fn close_after(ctx: &Context) {
    if let Some(client) = &ctx.client {
        client.close_after();
    }
}

async fn linger(session: &mut Session) {
    let drain = async {
        let mut left = LINGER_BYTES;
        while let Ok(Some(piece)) = session.read_request_body().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // Whoever sends slower than this gets the close.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), drain).await;
}

fn internal(e: http::header::InvalidHeaderValue) -> Box<Error> {
    Error::because(ErrorType::InternalError, "writing an answer", e)
}
