//! Exchanges with an upstream that tells the truth, and with some that lie.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::http::custom::client::Session;
use pingora_http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::session::{LegSession, Payload};

const SECOND: Duration = Duration::from_secs(1);

fn request(body: Vec<Bytes>, more: bool, framing: (&'static str, &'static str)) -> Box<RequestHeader> {
    let mut request = RequestHeader::build("POST", b"/v1/chat", None).unwrap();
    request.insert_header("host", "up").unwrap();
    request.insert_header(framing.0, framing.1).unwrap();
    let mut parts = http::request::Parts::from(request);
    parts.extensions.insert(Payload {
        body,
        more,
        first_byte: SECOND / 5,
        idle: SECOND / 5,
        hold_end: false,
        stop: None,
    });
    Box::new(parts.into())
}

fn exchange() -> (LegSession, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    (LegSession::new(Box::new(near), true), far)
}

async fn read_all(leg: &mut LegSession) -> pingora_core::Result<Vec<u8>> {
    leg.read_response_header().await?;
    let mut body = Vec::new();
    while let Some(data) = leg.read_response_body().await? {
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// Sends a small request, lets the upstream say `answer` and close if `close`, and reads it all.
async fn answer(answer: &[u8], close: bool) -> (Result<Vec<u8>, String>, bool) {
    let (mut leg, mut far) = exchange();
    leg.write_request_header(request(vec!["{}".into()], false, ("content-length", "2")), false).await.unwrap();
    drop(leg.take_request_body_writer());
    let mut head = vec![0; 1024];
    let n = far.read(&mut head).await.unwrap();
    assert!(head[..n].ends_with(b"\r\n\r\n{}"), "head and body leave in one write");
    far.write_all(answer).await.unwrap();
    let open = (!close).then_some(far);
    let body = read_all(&mut leg).await.map_err(|e| e.etype().as_str().to_owned());
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
    leg.write_request_header(request(vec![], false, ("content-length", "0")), true).await.unwrap();
    drop(far);
    let mut error = leg.read_response_header().await.unwrap_err();
    assert_eq!(error.etype().as_str(), "ConnectionClosed");
    error.retry.decide_reuse(true);
    assert!(error.retry.retry());
}

#[tokio::test]
async fn an_upstream_may_answer_before_it_has_read_the_body() {
    let (near, mut far) = duplex(1024);
    let mut leg = LegSession::new(Box::new(near), false);
    let body = vec![Bytes::from(vec![b'a'; 1 << 20])];
    leg.write_request_header(request(body, false, ("content-length", "1048576")), false).await.unwrap();
    let answer = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno";
    far.write_all(answer).await.unwrap();
    assert_eq!(read_all(&mut leg).await.unwrap(), b"no");
    assert_eq!(leg.response_header_status(), 413);
    assert!(leg.into_reusable().is_none(), "the request is not whole on the wire");
}

#[tokio::test]
async fn a_body_of_megabytes_arrives_whole() {
    let (near, mut far) = duplex(1024);
    let mut leg = LegSession::new(Box::new(near), false);
    let body: Vec<_> = (0..64u8).map(|i| Bytes::from(vec![i; 80_000])).collect();
    leg.write_request_header(request(body.clone(), false, ("content-length", "5120000")), false).await.unwrap();
    let reader = tokio::spawn(async move {
        let (mut got, mut buffer) = (Vec::new(), vec![0; 4096]);
        while !(got.len() > 5_120_000 && got.ends_with(&[63; 80_000])) {
            let n = far.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        (got, far)
    });
    assert_eq!(read_all(&mut leg).await.unwrap(), b"");
    let (got, _far) = reader.await.unwrap();
    assert!(got.ends_with(&body.concat()));
    assert!(leg.into_reusable().is_some());
}

#[tokio::test]
async fn a_body_that_follows_is_framed_as_announced() {
    let (mut leg, mut far) = exchange();
    leg.write_request_header(request(vec![], true, ("transfer-encoding", "chunked")), false).await.unwrap();
    let mut writer = leg.take_request_body_writer().unwrap();
    writer.write_all_buf(&mut Bytes::from("hello, ")).await.unwrap();
    writer.write_all_buf(&mut Bytes::from("twelve bytes")).await.unwrap();
    writer.finish().await.unwrap();
    far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    read_all(&mut leg).await.unwrap();
    drop(writer);
    assert!(leg.into_reusable().is_some());
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert!(got.ends_with("\r\n\r\n7\r\nhello, \r\nc\r\ntwelve bytes\r\n0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn a_body_never_exceeds_its_announced_length() {
    let (mut leg, _far) = exchange();
    leg.write_request_header(request(vec![], true, ("content-length", "3")), false).await.unwrap();
    let mut writer = leg.take_request_body_writer().unwrap();
    writer.write_all_buf(&mut Bytes::from("ab")).await.unwrap();
    assert!(writer.write_all_buf(&mut Bytes::from("cd")).await.is_err());
    assert!(writer.finish().await.is_err(), "and a shorter one is no success either");
    drop(writer);
    assert!(leg.into_reusable().is_none());
}

impl LegSession {
    fn response_header_status(&self) -> u16 {
        self.response_header().map_or(0, |h| h.status.as_u16())
    }
}
