//! Messages on their way to nsqd.
//!
//! Owns the connection, when something is sent again and when it is given up, and what is said of that in the log.
//! Refuses to know what a message says.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::time::{sleep, sleep_until};
use weir_filters::backoff::{backoff, wait};
use weir_filters::nsq::{Messages, Verdict, reason, target, verdict};
use weir_filters::record::fit;

use crate::audit::queue::{SinkStats, Taker};
use crate::config::Nsq;

/// How long what is left may take once nothing more will come. Longer, and whoever stops the gateway would stop it by
/// force.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The longest wait between two attempts in that time.
const HURRY: Duration = Duration::from_millis(250);

/// Between two looks whether that time has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Between two lines of the log about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What is read of an answer: nsqd says a word, and what another server says is not of interest.
const MAX_ANSWER: usize = 1024;

/// Sends messages to one nsqd.
pub(super) struct Sender<'a> {
    client: Client,
    url: Url,
    token: Option<HeaderValue>,
    taker: &'a Taker,
    /// When what is left is given up; unset until nothing more will come.
    gives_up: Cell<Option<Instant>>,
    failures: u32,
    trouble: Sparse,
    refusals: Sparse,
}

/// What became of some messages.
enum End {
    Taken,
    TooLarge(Answer),
    Refused(Answer),
    /// Time was up.
    GivenUp,
}

/// What nsqd said, or what spoke in its place.
struct Answer {
    verdict: Verdict,
    /// The wait that it asks for.
    asked: Option<Duration>,
    why: Why,
}

/// Why messages were not taken, for the log: no header, and of bodies only a word that is nsqd's own.
pub(super) enum Why {
    Answer { status: u16, reason: Option<String> },
    NoAnswer(String),
}

impl<'a> Sender<'a> {
    /// A sender that watches `taker` for the end.
    pub(super) fn new(config: &Nsq, taker: &'a Taker) -> io::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .timeout(config.delivery.timeout)
            .pool_max_idle_per_host(1)
            .http1_only()
            // A redirect is no nsqd's, and a proxy that the environment names is meant for others.
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(io::Error::other)?;
        let bearer = |token: &weir_filters::secret::Secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| io::Error::other("its token has a character that no header can hold"))?;
            value.set_sensitive(true);
            Ok::<_, io::Error>(value)
        };
        Ok(Self {
            client,
            url: url(config)?,
            token: config.token.as_ref().map(bearer).transpose()?,
            taker,
            gives_up: Cell::new(None),
            failures: 0,
            trouble: Sparse::default(),
            refusals: Sparse::default(),
        })
    }

    /// Sends all of `messages`, in their order, and returns once each is accounted for. What an nsqd with lower limits
    /// than usual does not take at once is sent in halves, and one message alone without what it can do without.
    pub(super) async fn send(&mut self, messages: &Messages) {
        let mut parts: Vec<_> = std::iter::once(0..messages.len()).collect();
        while let Some(part) = parts.pop() {
            let count = part.len() as u64;
            match self.deliver(messages.body(part.clone()).into()).await {
                End::Taken => self.stats().deliver(count),
                End::Refused(answer) => self.refuse(count, &answer.why),
                End::TooLarge(answer) if count == 1 => self.send_shortened(messages.get(part.start), answer).await,
                End::TooLarge(_) => parts.extend(halves(part).into_iter().rev()),
                End::GivenUp => self.stats().drop_records(count),
            }
        }
    }

    /// One message that is too large as it is.
    async fn send_shortened(&mut self, message: &[u8], mut answer: Answer) {
        let mut text = String::from_utf8_lossy(message).into_owned();
        while let Some(shorter) = fit(&text, text.len() - 1) {
            text = shorter.into_owned();
            let mut one = Messages::default();
            one.push(text.as_bytes());
            match self.deliver(one.body(0..1).into()).await {
                End::Taken => return self.stats().deliver(1),
                End::Refused(answer) => return self.refuse(1, &answer.why),
                End::TooLarge(again) => answer = again,
                End::GivenUp => return self.stats().drop_records(1),
            }
        }
        self.refuse(1, &answer.why);
    }

    /// Counts a record that no message can be made of.
    pub(super) fn refuse_one(&mut self) {
        self.stats().fail(1);
        if self.refusals.may_say() {
            log::error!("audit: nsq: a record is no message, or too long for one; it is lost");
        }
    }

    fn refuse(&mut self, count: u64, why: &Why) {
        self.stats().fail(count);
        if self.refusals.may_say() {
            log::error!("audit: nsq: {count} records are refused, and lost: {why}");
        }
    }

    /// Sends a body until there is an answer that says something of it.
    async fn deliver(&mut self, body: Bytes) -> End {
        // Whether the other side has closed an idle connection is seen before it is used.
        tokio::task::yield_now().await;
        loop {
            let Some(answer) = self.in_time(self.post(body.clone())).await else { return End::GivenUp };
            let settled = match answer.verdict {
                Verdict::Taken => End::Taken,
                Verdict::TooLarge => End::TooLarge(answer),
                Verdict::Refused => End::Refused(answer),
                Verdict::Again => {
                    self.failures = self.failures.saturating_add(1);
                    // Without chance the wait is still one.
                    let drawn = backoff(self.failures, getrandom::u64().unwrap_or_default());
                    let pause = drawn.max(answer.asked.unwrap_or_default());
                    if self.trouble.may_say() {
                        log::warn!("audit: nsq takes no records, they wait: {}", answer.why);
                    }
                    if self.in_time(self.pause(pause)).await.is_none() {
                        return End::GivenUp;
                    }
                    continue;
                }
            };
            if std::mem::take(&mut self.failures) > 0 && self.trouble.is_over() {
                log::info!("audit: nsq takes records again");
            }
            return settled;
        }
    }

    async fn post(&self, body: Bytes) -> Answer {
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/octet-stream");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let answered = async {
            let response = request.body(body).send().await?;
            let status = response.status().as_u16();
            let asked = response.headers().get(RETRY_AFTER).cloned();
            Ok::<_, reqwest::Error>((status, asked, beginning(response).await?))
        };
        match answered.await {
            Ok((status, asked, said)) => Answer {
                verdict: verdict(status, &said),
                asked: asked.and_then(|asked| wait(asked.as_bytes(), SystemTime::now())),
                why: Why::Answer { status, reason: reason(&said) },
            },
            Err(e) => Answer { verdict: Verdict::Again, asked: None, why: Why::NoAnswer(in_words(&e)) },
        }
    }

    /// What `work` gives, unless it is time to give up before.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let too_late = async {
            loop {
                match self.gives_up() {
                    Some(at) => return sleep_until(at.into()).await,
                    None => sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::select! {
            biased;
            () = too_late => None,
            done = work => Some(done),
        }
    }

    /// Waits for so long, or until it is time to hurry.
    async fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.gives_up().is_some() {
                return sleep(left.min(HURRY)).await;
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// When what is left is given up, if nothing more will come.
    fn gives_up(&self) -> Option<Instant> {
        if self.gives_up.get().is_none() && self.taker.is_closed() {
            self.gives_up.set(Some(Instant::now() + LAST_WORDS));
        }
        self.gives_up.get()
    }

    fn stats(&self) -> &SinkStats {
        self.taker.stats()
    }
}

/// Trouble that lasts, told now and then.
#[derive(Default)]
struct Sparse {
    said: Option<Instant>,
    /// Whether what was said last still holds.
    holds: bool,
}

impl Sparse {
    /// Whether it is to be said; it is taken to be.
    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if may {
            (self.said, self.holds) = (Some(Instant::now()), true);
        }
        may
    }

    /// Whether it was said, and its end has not been.
    fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.holds)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, reason: Some(reason) } => write!(f, "{status} {reason}"),
            Self::Answer { status: 200, reason: None } => f.write_str("200, but not the OK of an nsqd"),
            Self::Answer { status, reason: None } => write!(f, "{status}"),
            Self::NoAnswer(why) => f.write_str(why),
        }
    }
}

fn url(config: &Nsq) -> io::Result<Url> {
    let base = &config.url;
    let scheme = if base.tls { "https" } else { "http" };
    let host = if base.host.contains(':') { format!("[{}]", base.host) } else { base.host.clone() };
    let url = format!("{scheme}://{host}:{}{}", base.port, target(&base.path, &config.topic));
    url.parse().map_err(|e| io::Error::other(format!("{url} is no URL: {e}")))
}

/// The first half goes first.
fn halves(part: Range<usize>) -> [Range<usize>; 2] {
    let middle = part.start.midpoint(part.end);
    [part.start..middle, middle..part.end]
}

async fn beginning(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut said = Vec::new();
    while said.len() < MAX_ANSWER
        && let Some(chunk) = response.chunk().await?
    {
        said.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - said.len())]);
    }
    Ok(said)
}

/// An error with its causes, the last of which is the one that says something.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}
