//! One exchange: the request goes, the answer is read to its end, or to where it breaks.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pingora_core::{Error, ErrorType};
use weir_filters::body::{self, Captured};
use weir_filters::decode::Encoding;
use weir_filters::mask::Mask;
use weir_filters::meter::{Meter, Reading, Shape};
use weir_filters::probe::{Broke, Question, Seen, text_of};
use weir_filters::retry::Failure;
use weir_filters::route::Operation;

use crate::http1::{Alarm, Lines, put_length, put_line};
use crate::leg::{Exchange, Step};

use super::MAX_TEXT;

/// More than any answer to such a question has: what goes on is broken off.
const MAX_ANSWER: usize = 512 << 10;

/// How long to wait for what.
#[derive(Clone, Copy)]
pub(super) struct Waits {
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    /// For everything.
    pub(super) until: Instant,
}

/// What came.
pub(super) struct Answer {
    pub(super) seen: Seen,
    pub(super) lines: Option<Lines>,
    /// From the request to the first token.
    pub(super) first_token: Option<Duration>,
    pub(super) reading: Reading,
    pub(super) body: Vec<u8>,
    layout: (Shape, Encoding),
}

/// The head of a request: its lines are added behind it.
pub(super) fn head(method: &Method, target: &str, host: &[u8], length: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    head.extend_from_slice(method.as_str().as_bytes());
    head.extend_from_slice(b" ");
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    put_line(&mut head, b"host", host);
    put_line(&mut head, b"accept-encoding", b"identity");
    if *method != Method::GET {
        put_line(&mut head, b"content-type", b"application/json");
        put_length(&mut head, length as u64);
    }
    head
}

/// Sends what `question` asks behind `head`, and reads the answer.
pub(super) async fn ask(mut exchange: Exchange, mut head: BytesMut, question: &Question, waits: Waits) -> Answer {
    head.extend_from_slice(b"\r\n");
    let body = question.body();
    let prompt_bytes = body.len() as u64;
    exchange.send(Method::POST, head, &[Bytes::from(body)], None);
    let mut answer = Answer::default();
    let mut meter = None;
    let read = read(&mut exchange, question.operation, waits, &mut answer, &mut meter).await;
    answer.seen.broke = read.err();
    if let Some(mut meter) = meter {
        let (is_whole, status) = (answer.seen.is_whole, answer.seen.status.unwrap_or_default());
        answer.reading = meter.finish(is_whole, status, prompt_bytes);
    }
    answer.seen.has_error = answer.reading.failed;
    answer.seen.has_output = answer.text(question, &[]).is_some();
    answer
}

/// Sends a request that is all `head`, and reads the answer, which is a list of models.
pub(super) async fn fetch(mut exchange: Exchange, mut head: BytesMut, waits: Waits) -> Answer {
    head.extend_from_slice(b"\r\n");
    exchange.send(Method::GET, head, &[], None);
    let mut answer = Answer::default();
    let read = read(&mut exchange, Operation::Models, waits, &mut answer, &mut None).await;
    answer.seen.broke = read.err();
    answer
}

async fn read(
    exchange: &mut Exchange,
    operation: Operation,
    waits: Waits,
    answer: &mut Answer,
    meter: &mut Option<Meter>,
) -> Result<(), Broke> {
    let asked = Instant::now();
    let broken = |error: Box<Error>| match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Broke::Timeout,
        _ => Broke::Connection,
    };
    let mut alarm = Alarm::default();
    let mut last = tokio::time::Instant::now();
    loop {
        if answer.seen.status.is_none()
            && let Some(head) = exchange.take_head().map_err(broken)?
        {
            let text = |name| head.lines.get(name).and_then(|value| std::str::from_utf8(value).ok());
            let shape = Shape::of(operation, text(&CONTENT_TYPE));
            let encoding = Encoding::of(text(&CONTENT_ENCODING));
            answer.layout = (shape, encoding);
            *meter = Some(Meter::new(operation, shape, encoding));
            answer.seen.status = Some(head.status.as_u16());
            answer.lines = Some(head.lines);
        }
        if let Some(meter) = meter {
            let data = exchange.take_body().map_err(broken)?;
            meter.feed(&data);
            if answer.first_token.is_none() && meter.has_first_token() {
                answer.first_token = Some(asked.elapsed());
            }
            answer.body.extend_from_slice(&data);
            if exchange.is_done() {
                answer.seen.is_whole = true;
                return Ok(());
            }
            if answer.body.len() > MAX_ANSWER {
                return Err(Broke::TooLarge);
            }
        }
        let until = tokio::time::Instant::from_std(waits.until);
        let due = exchange.due(waits.first_byte, waits.idle, last).map_or(until, |due| due.min(until));
        let step = poll_fn(|cx| {
            if let Poll::Ready(step) = exchange.poll_step(cx) {
                return Poll::Ready(step.map_err(broken));
            }
            ready!(alarm.poll(cx, due));
            Poll::Ready(Err(Broke::Timeout))
        });
        if let Step::Read(0) = step.await? {
            exchange.closed().map_err(broken)?;
        }
        last = tokio::time::Instant::now();
        if Instant::now() >= waits.until {
            return Err(Broke::Timeout);
        }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            lines: None,
            first_token: None,
            reading: Reading::default(),
            body: Vec::new(),
            layout: (Shape::Opaque, Encoding::Identity),
        }
    }
}

impl Answer {
    /// Of an exchange that did not begin.
    pub(super) fn none(broke: Broke) -> Self {
        Self { seen: Seen { broke: Some(broke), ..Seen::default() }, ..Self::default() }
    }

    /// What the model wrote, without the secrets that it may repeat.
    pub(super) fn text(&self, question: &Question, secrets: &[&str]) -> Option<String> {
        let mask = Mask::new(secrets);
        let (shape, encoding) = self.layout;
        let captured = Captured {
            operation: question.operation,
            shape,
            encoding,
            bytes: &self.body,
            total: self.body.len() as u64,
            cut: !self.seen.is_whole,
        };
        if shape == Shape::Json {
            let document = serde_json::from_slice(&mask.apply(&self.body)).ok()?;
            return text_of(question.operation, &document).map(|text| cut(text, MAX_TEXT));
        }
        let mut shown = Vec::new();
        body::put(&mut shown, &captured, MAX_TEXT, &mask);
        let shown: serde_json::Value = serde_json::from_slice(&shown).ok()?;
        // A stream in which nothing was written is shown as it came, which is no text.
        let text = shown["text"].as_str().filter(|_| shown["reassembled"] == true)?;
        let is_error = text.starts_with("[error]") || text.starts_with("[data]");
        (!is_error && !text.is_empty()).then(|| text.to_owned())
    }

    /// How an attempt of a request would have failed here; `None`: it would not.
    pub(super) fn failure(&self) -> Option<Failure> {
        match (self.seen.broke, self.seen.status) {
            (Some(Broke::Timeout), _) => Some(Failure::Timeout),
            (Some(_), _) | (None, None) => Some(Failure::Connect),
            (None, Some(status)) if !(200..300).contains(&status) => Some(Failure::Status(status)),
            (None, Some(_)) => None,
        }
    }
}

/// The beginning of a text, of whole characters.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}
