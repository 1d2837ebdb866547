//! `GET /admin/api/events`: what happens, as server-sent events while it happens.
//!
//! Owns the form of the stream and the meaning of its parameters. Who follows too slowly misses records, and is told how
//! many. Knows nothing of how records come.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::document::schemas::text;
use super::table::{Endpoint, Parameter};
use super::{answer, problem};
use crate::admin::server::Shared;
use crate::audit::{Filter, Following, Heard};

/// Silence is broken so often: proxies on the way close what says nothing for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The rows of the table.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let exact = || json!({ "type": "string", "minLength": 1 });
    let status = json!({ "type": "string", "pattern": "^([1-9][0-9]{2}|[1-9]xx|none)$" });
    vec![
        Endpoint::admin(Method::GET, "/admin/api/events", "follow", follow)
            .about("What happens, while it happens, as server-sent events: `request`, `config_reloaded`, and `missed` with the number of records that came too fast.")
            .takes(Parameter::query("key", "Only requests of the key with this name.", exact()))
            .takes(Parameter::query("user", "Only requests of this user.", exact()))
            .takes(Parameter::query("model", "Only requests that asked for this model.", exact()))
            .takes(Parameter::query("channel", "Only requests that this channel served.", exact()))
            .takes(Parameter::query("status", "Only requests with this status, this class, or none.", status))
            .gives_as(200, "A stream without an end.", Some(("text/event-stream", text())))
            .refuses(&[problem::UNAVAILABLE]),
    ]
}

async fn follow(
    State(shared): State<Arc<Shared>>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        return answer::error(StatusCode::BAD_REQUEST, "the query string cannot be read");
    };
    let filter = match parse(&parameters) {
        Ok(filter) => filter,
        Err((parameter, message)) => return answer::bad_parameter(&parameter, message),
    };
    let Some(following) = shared.state().follow(&filter) else {
        return answer::unavailable("as many follow already as may; try again later");
    };
    let mut response = Response::new(Body::from_stream(events(following, filter)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn parse(parameters: &[(String, String)]) -> Result<Filter, (String, &'static str)> {
    let mut filter = Filter::default();
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name.as_str()) {
            return Err((name.clone(), "given more than once"));
        }
        if value.is_empty() {
            return Err((name.clone(), "is empty; leave it out to hear of all"));
        }
        seen.push(name);
        match name.as_str() {
            "key" => filter.key(value),
            "user" => filter.user(value),
            "model" => filter.model(value),
            "channel" => filter.channel(value),
            "status" => {
                let status = value.parse().map_err(|()| "must be a status such as 429, a class such as 4xx, or none");
                filter.status(status.map_err(|message| (name.clone(), message))?);
            }
            _ => return Err((name.clone(), "unknown parameter; there are key, user, model, channel and status")),
        }
    }
    Ok(filter)
}

/// The stream's pieces: a comment at once, so that whoever asks knows that it has begun, and then what comes.
fn events(following: Following, filter: Filter) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold((following, filter, true), |(mut following, filter, is_first)| async move {
        if is_first {
            return Some((Ok(Bytes::from_static(b": follows\n\n")), (following, filter, false)));
        }
        loop {
            let mut piece = String::new();
            match tokio::time::timeout(HEARTBEAT, following.next()).await {
                Ok(None) => return None,
                Ok(Some(heard)) => put(&heard, &filter, &mut piece),
                Err(_) => piece.push_str(": still here\n\n"),
            }
            let missed = following.take_missed();
            if missed > 0 {
                // Into memory.
                let _ = write!(piece, "event: missed\ndata: {{\"records\":{missed}}}\n\n");
            }
            if !piece.is_empty() {
                return Some((Ok(piece.into()), (following, filter, false)));
            }
        }
    })
}

fn put(heard: &Heard, filter: &Filter, piece: &mut String) {
    match heard {
        Heard::Records(records) => {
            for (id, line) in records.lines(filter) {
                // A record is JSON on one line, and so of UTF-8.
                let _ = write!(piece, "id: {id:032x}\nevent: request\ndata: {}\n\n", String::from_utf8_lossy(line));
            }
        }
        Heard::ConfigReloaded(version) => {
            let _ = write!(piece, "event: config_reloaded\ndata: {{\"version\":{version}}}\n\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(parameters: &[(&str, &str)]) -> Option<(String, &'static str)> {
        let owned: Vec<_> = parameters.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        parse(&owned).err()
    }

    #[test]
    fn parameters_are_understood_or_named() {
        assert_eq!(mistake(&[("key", "a"), ("user", "b"), ("model", "c"), ("channel", "d"), ("status", "4xx")]), None);
        for (parameters, name) in [
            (&[("kee", "a")][..], "kee"),
            (&[("key", "a"), ("key", "b")], "key"),
            (&[("status", "4x")], "status"),
            (&[("user", "")], "user"),
        ] {
            assert_eq!(mistake(parameters).map(|(parameter, _)| parameter).as_deref(), Some(name));
        }
    }
}
