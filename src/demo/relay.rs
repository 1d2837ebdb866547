//! What a gateway does to the demo's requests, in the fewest lines: the stand-in that tests run the demo against.
//!
//! It knows the cases; it meters nothing by itself but copies the mock's ledger.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::cases::{Case, CaseBody, CredentialForm, ServedBy, cases};
use super::send::send;

/// `case` as its upstream gets it.
pub(super) fn upstream(mut case: Case) -> Case {
    case.credential = match case.operation.protocol() {
        weir_filters::protocol::Protocol::OpenAi => CredentialForm::Bearer,
        weir_filters::protocol::Protocol::Anthropic => CredentialForm::ApiKey,
        weir_filters::protocol::Protocol::Gemini => CredentialForm::GoogApiKey,
    };
    let path = case.path.replacen("/proxy/miniai", "/miniai", 1).replacen("/ollama", "", 1);
    case.path = path.replacen("/api/v1/messages", "/v1/messages", 1).replacen("/claude/v1/", "/v1/", 1);
    if !case.edits_body {
        return case;
    }
    let CaseBody::Json(text) = &case.body else { return case };
    let mut body: Value = serde_json::from_str(text).expect("cases are JSON");
    if case.path == "/gemini/v1/chat" {
        body.as_object_mut().expect("an object").retain(|name, _| name == "contents");
        let verb = if case.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        case.path = format!("/v1beta/models/{}:{verb}", case.model);
    } else {
        body["stream_options"] = json!({ "include_usage": true });
    }
    case.body = CaseBody::Json(body.to_string());
    case
}

/// A relay to the mock at `mock`; ends with the runtime.
pub(super) async fn start(mock: SocketAddr, upstream_key: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let cases = Arc::new(cases());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let cases = Arc::clone(&cases);
            let service = service_fn(move |request| relay(mock, upstream_key, Arc::clone(&cases), request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

async fn relay(
    mock: SocketAddr,
    upstream_key: &str,
    cases: Arc<Vec<Case>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let path = target.split("key=").next().unwrap_or_default().trim_end_matches(['?', '&']);
    let case = cases.iter().find(|case| case.path == path && case.bytes() == body).expect("one of the cases");
    let mut response = if case.served_by == ServedBy::Gateway {
        Response::new(Full::new(Bytes::from_static(b"{}")))
    } else {
        let received = send(mock, upstream_key, &upstream(case.clone()), &[]).await.expect("an answer");
        let is_usage_chunk = |event: &str| event.contains("\"choices\":[],\"usage\":");
        let text = String::from_utf8(received.body.to_vec()).expect("UTF-8");
        let kept: String = if case.edits_body && case.stream {
            text.split_inclusive("\n\n").filter(|event| !is_usage_chunk(event)).collect()
        } else {
            text
        };
        let mut response = Response::new(Full::new(Bytes::from(kept)));
        *response.status_mut() = received.status.try_into().expect("a status");
        response
    };
    response.headers_mut().insert("x-weir-request-id", http::HeaderValue::from_static("0"));
    Ok(response)
}
