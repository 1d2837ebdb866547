//! One push on its way: the request, and what became of it in words.
//!
//! Owns the HTTP client and what it may do: one address, no redirects, no proxies of the environment. Refuses to know
//! what is pushed, and what is done after a failure.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response};
use weir_filters::backoff::wait;
use weir_filters::loki::{Body, Verdict, verdict};

use crate::config::{BaseUrl, Login, Loki};

/// How much of an answer is repeated in the log, in bytes.
const MAX_SAID: usize = 200;

/// How long a connection is kept that nothing is sent over: longer than records gather at most sites, shorter than
/// what proxies keep one.
const KEEP: Duration = Duration::from_secs(30);

/// A client for one Loki.
#[derive(Debug)]
pub(super) struct Pusher {
    client: Client,
    url: String,
    tenant: Option<String>,
    login: Option<Login>,
    timeout: Duration,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// What happened, unless it was taken. It holds no secret.
    pub(super) said: String,
    /// How long Loki wants to be left alone.
    pub(super) after: Option<Duration>,
}

impl Pusher {
    /// A client; `authorities`: a file of certificates that are trusted beside the system's.
    pub(super) fn new(config: &Loki, authorities: Option<&Path>) -> io::Result<Self> {
        let mut builder = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .pool_idle_timeout(KEEP)
            .pool_max_idle_per_host(1)
            .timeout(config.delivery.timeout);
        if let Some(path) = authorities {
            let bundle = Certificate::from_pem_bundle(&std::fs::read(path)?).map_err(io::Error::other)?;
            builder = bundle.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        Ok(Self {
            client: builder.build().map_err(io::Error::other)?,
            url: format!("{}/loki/api/v1/push", origin(&config.url)),
            tenant: config.tenant.clone(),
            login: config.login.clone(),
            timeout: config.delivery.timeout,
        })
    }

    /// Pushes, and says what became of it.
    pub(super) async fn push(&self, body: Body) -> Outcome {
        match self.request(body).send().await {
            Ok(response) => answered(response).await,
            Err(e) => self.failed(&e),
        }
    }

    fn request(&self, body: Body) -> RequestBuilder {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, body.content_type);
        if let Some(coding) = body.content_encoding {
            request = request.header(CONTENT_ENCODING, coding);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Scope-OrgID", tenant);
        }
        request = match &self.login {
            Some(Login::Basic { username, password }) => request.basic_auth(username, Some(password.expose())),
            Some(Login::Bearer(token)) => request.bearer_auth(token.expose()),
            None => request,
        };
        request.body(body.bytes)
    }

    fn failed(&self, error: &reqwest::Error) -> Outcome {
        let said = if error.is_timeout() {
            format!("no answer within {:?}", self.timeout)
        } else {
            // The innermost error says what happened; those around it repeat the address.
            let mut source = error.source();
            while let Some(inner) = source.and_then(|error| error.source()) {
                source = Some(inner);
            }
            let cause = source.map_or_else(|| "the connection broke".to_owned(), ToString::to_string);
            if error.is_connect() { format!("no connection: {cause}") } else { cause }
        };
        Outcome { verdict: Verdict::Again, said, after: None }
    }
}

async fn answered(mut response: Response) -> Outcome {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let after = retry_after.and_then(|value| wait(value.as_bytes(), SystemTime::now()));
    let mut begin = Vec::new();
    let mut is_whole = true;
    while begin.len() < MAX_SAID {
        match response.chunk().await {
            Ok(Some(chunk)) => begin.extend_from_slice(&chunk[..chunk.len().min(MAX_SAID - begin.len())]),
            Ok(None) => break,
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    let verdict = verdict(status, is_whole && begin.is_empty());
    // It goes into a line of the log, whatever it is.
    let text = String::from_utf8_lossy(&begin).trim().escape_debug().to_string();
    let said = match verdict {
        Verdict::Taken => String::new(),
        Verdict::Again if status < 300 => format!("{status} with a body, which is no answer of Loki: {text}"),
        _ if text.is_empty() => status.to_string(),
        _ => format!("{status}: {text}"),
    };
    Outcome { verdict, said, after }
}

/// Scheme, host and port, and the path before Loki's own.
fn origin(url: &BaseUrl) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    format!("{scheme}://{host}:{}{}", url.port, url.path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_configured_one_and_lokis_path() {
        for (tls, host, port, path, expected) in [
            (false, "127.0.0.1", 3100, "", "http://127.0.0.1:3100"),
            (true, "loki.example.com", 443, "/logs/", "https://loki.example.com:443/logs"),
            (false, "::1", 3100, "/", "http://[::1]:3100"),
        ] {
            let url = BaseUrl { tls, host: host.to_owned(), port, path: path.to_owned() };
            assert_eq!(origin(&url), expected);
        }
    }
}
