//! Exchanges with an upstream that tells the truth, and with some that lie.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::exchange::{Exchange, Step, Upload};

/// How long an upstream may be silent here.
const SILENCE: Duration = Duration::from_millis(200);

fn head() -> BytesMut {
    BytesMut::from("POST /v1/chat HTTP/1.1\r\nhost: up\r\n\r\n")
}

fn exchange() -> (Exchange, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    (Exchange::new(Box::new(near), true, Instant::now().into_std()), far)
}

async fn step(leg: &mut Exchange) -> Result<()> {
    let step = timeout(SILENCE, poll_fn(|cx| leg.poll_step(cx))).await;
    match step.map_err(|_| Error::new(ErrorType::ReadTimedout))?? {
        Step::Read(0) => leg.closed(),
        _ => Ok(()),
    }
}

async fn read_all(leg: &mut Exchange) -> Result<(u16, Vec<u8>)> {
    let head = loop {
        match leg.take_head()? {
            Some(head) => break head,
            None => step(leg).await?,
        }
    };
    let mut body = Vec::new();
    loop {
        body.extend_from_slice(&leg.take_body()?);
        if leg.is_done() {
            return Ok((head.status.as_u16(), body));
        }
        step(leg).await?;
    }
}

/// Sends a small request, lets the upstream say `answer` and close if `close`, and reads it all.
async fn answer(answer: &[u8], close: bool) -> (Result<Vec<u8>, String>, bool) {
    let (mut leg, mut far) = exchange();
    leg.send(Method::POST, head(), &["{}".into()], None);
    poll_fn(|cx| std::task::Poll::Ready(leg.poll_step(cx).is_pending())).await;
    let mut request = vec![0; 1024];
    let n = far.read(&mut request).await.unwrap();
    assert!(request[..n].ends_with(b"\r\n\r\n{}"), "head and body leave in one write");
    far.write_all(answer).await.unwrap();
    let open = (!close).then_some(far);
    let body = read_all(&mut leg).await.map(|(_, body)| body).map_err(|e| e.etype().as_str().to_owned());
    let reusable = leg.into_reusable().is_some();
    drop(open);
    (body, reusable)
}

#[tokio::test]
async fn an_answer_with_a_length_leaves_the_connection_usable() {
    let got = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false).await;
    assert_eq!(got, (Ok(b"hello".to_vec()), true));
}

#[tokio::test]
async fn a_chunked_answer_leaves_the_connection_usable() {
    let got =
        answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", false).await;
    assert_eq!(got, (Ok(b"abcde".to_vec()), true));
}

#[tokio::test]
async fn a_length_that_is_too_short_poisons_no_connection() {
    let got = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhello", false).await;
    assert_eq!(got, (Ok(b"hell".to_vec()), false));
}

#[tokio::test]
async fn a_length_that_is_too_long_is_an_error() {
    let got = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", true).await;
    assert_eq!(got, (Err("ConnectionClosed".into()), false));
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    let got = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", false).await;
    assert_eq!(got, (Err("ReadTimedout".into()), false));
}

#[tokio::test]
async fn a_chunked_answer_cut_before_its_last_chunk_is_an_error() {
    let got = answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", true).await;
    assert_eq!(got, (Err("ConnectionClosed".into()), false));
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_the_connection() {
    let got = answer(b"HTTP/1.1 200 OK\r\n\r\nhello", true).await;
    assert_eq!(got, (Ok(b"hello".to_vec()), false));
}

#[tokio::test]
async fn an_answer_that_closes_is_not_reused() {
    let got = answer(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", false).await;
    assert_eq!(got, (Ok(b"x".to_vec()), false));
}

#[tokio::test]
async fn interim_heads_are_passed_over_but_not_without_end() {
    let mut some = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(3);
    some.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(answer(&some, false).await, (Ok(b"x".to_vec()), true));
    let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
    assert_eq!(answer(&flood, false).await, (Err("InvalidHTTPHeader".into()), false));
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    head.resize(64 * 1024, b'a');
    assert_eq!(answer(&head, false).await, (Err("InvalidHTTPHeader".into()), false));
}

#[tokio::test]
async fn a_connection_closed_before_an_answer_may_be_tried_afresh() {
    let (mut leg, far) = exchange();
    leg.send(Method::POST, head(), &[], None);
    drop(far);
    let mut error = read_all(&mut leg).await.unwrap_err();
    assert_eq!(error.etype().as_str(), "ConnectionClosed");
    error.retry.decide_reuse(true);
    assert!(error.retry.retry());
}

#[tokio::test]
async fn a_connection_closed_after_an_interim_answer_may_not() {
    let (mut leg, mut far) = exchange();
    leg.send(Method::POST, head(), &[], None);
    far.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
    drop(far);
    let mut error = read_all(&mut leg).await.unwrap_err();
    error.retry.decide_reuse(true);
    assert!(!error.retry.retry(), "the request may have been carried out");
}

#[tokio::test]
async fn an_upstream_may_answer_before_it_has_read_the_body() {
    let (near, mut far) = duplex(1024);
    let mut leg = Exchange::new(Box::new(near), false, Instant::now().into_std());
    leg.send(Method::POST, head(), &[Bytes::from(vec![b'a'; 1 << 20])], None);
    far.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(read_all(&mut leg).await.unwrap(), (413, b"no".to_vec()));
    assert!(leg.into_reusable().is_none(), "the request is not whole on the wire");
}

#[tokio::test]
async fn a_body_of_megabytes_arrives_whole() {
    let (near, mut far) = duplex(1024);
    let mut leg = Exchange::new(Box::new(near), false, Instant::now().into_std());
    let body: Vec<_> = (0..64u8).map(|i| Bytes::from(vec![i; 80_000])).collect();
    leg.send(Method::POST, head(), &body, None);
    let reader = tokio::spawn(async move {
        let (mut got, mut buffer) = (Vec::new(), vec![0; 4096]);
        while !(got.len() > 5_120_000 && got.ends_with(&[63; 80_000])) {
            let n = far.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        (got, far)
    });
    let slow = timeout(Duration::from_secs(20), async {
        loop {
            match read_all(&mut leg).await {
                Err(e) if e.etype() == &ErrorType::ReadTimedout => {}
                other => return other,
            }
        }
    });
    assert_eq!(slow.await.unwrap().unwrap(), (200, Vec::new()));
    let (got, _far) = reader.await.unwrap();
    assert!(got.ends_with(&body.concat()));
    assert!(leg.into_reusable().is_some());
}

#[tokio::test]
async fn a_body_that_follows_is_framed_as_announced() {
    let (mut leg, mut far) = exchange();
    leg.send(Method::POST, head(), &[], Some(Upload::Chunked));
    leg.upload("hello, ".into()).unwrap();
    leg.upload("twelve bytes".into()).unwrap();
    leg.uploaded().unwrap();
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    read_all(&mut leg).await.unwrap();
    assert!(leg.into_reusable().is_some());
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert!(got.ends_with("\r\n\r\n7\r\nhello, \r\nc\r\ntwelve bytes\r\n0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn a_body_never_exceeds_its_announced_length() {
    let (mut leg, _far) = exchange();
    leg.send(Method::POST, head(), &[], Some(Upload::Length(3)));
    leg.upload("ab".into()).unwrap();
    assert!(leg.upload("cd".into()).is_err());
    assert!(leg.uploaded().is_err(), "and a shorter one is no success either");
    assert!(leg.into_reusable().is_none());
}

#[tokio::test]
async fn an_upload_waits_while_the_upstream_takes_nothing() {
    let (near, _far) = duplex(1024);
    let mut leg = Exchange::new(Box::new(near), false, Instant::now().into_std());
    leg.send(Method::POST, head(), &[], Some(Upload::Chunked));
    let mut pieces = 0;
    while leg.wants_more() {
        leg.upload(Bytes::from(vec![b'x'; 16 * 1024])).unwrap();
        pieces += 1;
    }
    assert_eq!(pieces, 4, "no more than 64 KiB is held");
    let now = Instant::now();
    let due = leg.due(Duration::from_secs(120), SILENCE, now).unwrap();
    assert_eq!(due, now + SILENCE, "the upstream is late, not the client");
}
