//! Connections of clients, from the first byte to the last.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::census::tests::room;
use super::client::{Client, Next};
use super::terms::Terms;
use crate::http1::{Alarm, Request, RequestError};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(30);

fn connection() -> (Client, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    (Client::new(Box::new(near), None, Alarm::default()), far)
}

/// So long for idleness, and for a head.
fn terms(idle: Duration, head: Duration) -> Terms {
    Terms { idle, head, ..room(1, 0) }
}

async fn next(client: &Client, idle: Duration, head: Duration) -> Next {
    client.next(&terms(idle, head), None).await
}

async fn request(client: &Client) -> Box<Request> {
    match next(client, SECOND, SECOND).await {
        Next::Request(request) => request,
        Next::Bad(error) => panic!("{error}"),
        Next::Http2 => panic!("HTTP/2"),
        Next::Late | Next::End => panic!("the end"),
    }
}

async fn body(client: &Client) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(piece) = client.body().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    body
}

/// Answers with `pieces`, and gives what the client got: its head's lines sorted, and its body.
async fn answer(client: &Client, far: &mut DuplexStream, length: Option<u64>, pieces: &[&'static str]) -> String {
    client.head(StatusCode::OK, None, length, |out| out.extend_from_slice(b"x-a: 1\r\n"));
    for piece in pieces {
        client.piece(Bytes::from_static(piece.as_bytes()));
    }
    client.end();
    client.flush().await.unwrap();
    let mut got = vec![0; 64 * 1024];
    let n = far.read(&mut got).await.unwrap();
    String::from_utf8(got[..n].to_vec()).unwrap()
}

#[tokio::test]
async fn requests_on_one_connection_are_read_one_after_the_other() {
    let (client, mut far) = connection();
    far.write_all(b"POST /a HTTP/1.1\r\nhost: w\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nhost: w\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(request(&client).await.parts.uri.path(), "/a");
    assert_eq!(body(&client).await, b"abc");
    let got = answer(&client, &mut far, Some(2), &["o", "k"]).await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok");
    assert!(client.is_reusable(SECOND).await);
    assert_eq!(request(&client).await.parts.uri.path(), "/b");
}

#[tokio::test]
async fn an_answer_without_a_length_is_chunked_or_ends_with_the_connection() {
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    let got = answer(&client, &mut far, None, &["hello, ", "", "twelve bytes"]).await;
    let head = "HTTP/1.1 200 OK\r\nx-a: 1\r\n";
    assert_eq!(
        got,
        format!(
            "{head}transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n7\r\nhello, \r\nc\r\ntwelve bytes\r\n0\r\n\r\n"
        )
    );
    far.write_all(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await.unwrap();
    request(&client).await;
    let got = answer(&client, &mut far, None, &["hello"]).await;
    assert_eq!(got, format!("{head}connection: close\r\n\r\nhello"));
    assert!(!client.is_reusable(SECOND).await);
}

#[tokio::test]
async fn the_answer_to_a_head_has_no_body() {
    let (client, mut far) = connection();
    far.write_all(b"HEAD / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    let got = answer(&client, &mut far, Some(5), &["hello"]).await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n");
    assert!(client.is_reusable(SECOND).await);
}

#[tokio::test]
async fn an_answer_that_is_shorter_than_it_says_ends_the_connection() {
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    answer(&client, &mut far, Some(5), &["hell"]).await;
    assert!(!client.is_reusable(SECOND).await);
}

#[tokio::test]
async fn more_than_was_announced_is_not_sent() {
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    let got = answer(&client, &mut far, Some(4), &["hello", "x"]).await;
    assert!(got.ends_with("\r\n\r\nhell"), "{got}");
}

#[tokio::test]
async fn a_body_that_nobody_read_is_read_away_in_time_or_ends_the_connection() {
    for (sent, reusable) in [("abc", true), ("ab", false)] {
        let (client, mut far) = connection();
        far.write_all(format!("POST / HTTP/1.1\r\nhost: w\r\ncontent-length: 3\r\n\r\n{sent}").as_bytes())
            .await
            .unwrap();
        request(&client).await;
        answer(&client, &mut far, Some(2), &["no"]).await;
        assert_eq!(client.is_reusable(TICK).await, reusable, "{sent}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_and_is_answered_without_it_gets_a_close() {
    let (client, mut far) = connection();
    far.write_all(b"POST / HTTP/1.1\r\nhost: w\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await.unwrap();
    assert!(request(&client).await.expects);
    let got = answer(&client, &mut far, Some(0), &[]).await;
    assert!(got.contains("connection: close\r\n"), "{got}");
    assert!(!client.is_reusable(TICK).await);
}

#[tokio::test]
async fn a_head_has_its_time_in_all_however_it_trickles() {
    let (client, mut far) = connection();
    let trickle = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nx: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if far.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(TICK / 3).await;
        }
        std::future::pending::<()>().await;
    });
    let start = std::time::Instant::now();
    assert!(matches!(next(&client, 20 * SECOND, 5 * TICK).await, Next::Late));
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
    trickle.abort();
}

#[tokio::test]
async fn the_first_head_has_its_time_from_the_beginning_and_a_later_one_from_its_first_byte() {
    let due = || Some(tokio::time::Instant::now() + 3 * TICK);
    let (client, _far) = connection();
    let start = std::time::Instant::now();
    assert!(matches!(client.next(&terms(60 * SECOND, 60 * SECOND), due()).await, Next::End), "silence");
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(matches!(client.next(&terms(60 * SECOND, 60 * SECOND), due()).await, Next::Late), "half a head");
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());

    far.write_all(b"host: w\r\n\r\n").await.unwrap();
    request(&client).await;
    answer(&client, &mut far, Some(2), &["ok"]).await;
    let slow = tokio::spawn(async move {
        tokio::time::sleep(3 * TICK).await;
        far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let start = std::time::Instant::now();
    assert!(matches!(next(&client, 20 * SECOND, 2 * TICK).await, Next::Late));
    assert!((5 * TICK..5 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    slow.abort();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_left_and_one_that_is_slow_is_held_to_a_rate() {
    for (min_rate, pause, piece, lost) in
        [(0, 60 * SECOND, 1, true), (100_000, TICK, 10, true), (100, TICK, 100, false)]
    {
        let (near, mut far) = duplex(100);
        let client = Client::new(Box::new(near), None, Alarm::default());
        far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
        let terms = Terms { write: 5 * TICK, min_rate, ..room(1, 0) };
        assert!(matches!(client.next(&terms, None).await, Next::Request(_)));
        client.head(StatusCode::OK, None, Some(3_000), |_| {});
        client.piece(Bytes::from(vec![b'x'; 3_000]));
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; piece];
            while far.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                tokio::time::sleep(pause).await;
            }
        });
        let flushed = tokio::time::timeout(10 * SECOND, client.flush()).await.expect("an end");
        let error = flushed.err().map(|e| e.etype().as_str().to_owned());
        assert_eq!(error.as_deref(), lost.then_some("WriteTimedout"), "{min_rate} {piece}");
        reader.abort();
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_waited_for_as_long_as_its_rate_allows() {
    for (min_rate, late) in [(0, false), (10, false), (100_000, true)] {
        let (client, mut far) = connection();
        far.write_all(b"POST / HTTP/1.1\r\nhost: w\r\ncontent-length: 20\r\n\r\n").await.unwrap();
        let terms = Terms { body: 5 * TICK, min_rate, ..room(1, 0) };
        assert!(matches!(client.next(&terms, None).await, Next::Request(_)));
        let trickle = tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(TICK).await;
                far.write_all(b"x").await.unwrap();
            }
            far
        });
        let mut read = 0;
        let error = loop {
            match client.body().await {
                Ok(Some(piece)) => read += piece.len(),
                Ok(None) => break None,
                Err(e) => break Some(e.etype().as_str().to_owned()),
            }
        };
        assert_eq!(error.as_deref(), late.then_some("ReadTimedout"), "{min_rate} {read}");
        assert_eq!(read == 20, !late, "{min_rate} {read}");
        trickle.abort();
    }
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time_and_a_closed_one_at_once() {
    let (client, _far) = connection();
    assert!(matches!(next(&client, TICK, SECOND).await, Next::End));
    let (client, far) = connection();
    drop(far);
    assert!(matches!(next(&client, 60 * SECOND, SECOND).await, Next::End));
}

#[tokio::test]
async fn http_2_is_known_by_its_preface_in_any_pieces() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for split in 0..preface.len() {
        let (client, mut far) = connection();
        far.write_all(&preface[..split]).await.unwrap();
        let rest = tokio::spawn(async move {
            tokio::task::yield_now().await;
            far.write_all(&preface[split..]).await.unwrap();
            far
        });
        assert!(matches!(next(&client, SECOND, SECOND).await, Next::Http2), "{split}");
        assert_eq!(&client.take().unwrap().1[..], preface);
        rest.await.unwrap();
    }
    let (client, mut far) = connection();
    far.write_all(b"PRI * HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    assert_eq!(request(&client).await.parts.method.as_str(), "PRI", "whoever only begins like it is answered");
}

#[tokio::test]
async fn what_is_no_request_is_named() {
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(next(&client, SECOND, SECOND).await, Next::Bad(RequestError::Host)));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_one_that_goes_on_is_not_read_without_end() {
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    far.write_all(&[b'x'; 60_000]).await.unwrap();
    let gone = poll_fn(|cx| Poll::Ready(client.poll_gone(cx).is_ready())).await;
    assert!(!gone);
    let held = client.take().unwrap().1.len();
    assert!((4096..=8192).contains(&held), "{held}");
    let (client, mut far) = connection();
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    drop(far);
    let error = poll_fn(|cx| client.poll_gone(cx)).await;
    assert_eq!(error.etype().as_str(), "ConnectionClosed");
}

#[tokio::test]
async fn a_large_piece_is_written_whole_to_a_client_that_takes_it_in_bits() {
    let (near, mut far) = duplex(1000);
    let client = Client::new(Box::new(near), None, Alarm::default());
    far.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").await.unwrap();
    request(&client).await;
    let large: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    client.head(StatusCode::OK, None, Some(200_005), |_| {});
    client.piece(Bytes::from_static(b"ab"));
    client.piece(Bytes::from(large.clone()));
    client.piece(Bytes::from_static(b"xyz"));
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        let mut buffer = [0; 777];
        while !got.ends_with(b"xyz") {
            let n = far.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        got
    });
    client.flush().await.unwrap();
    let got = reader.await.unwrap();
    let at = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got[at..], [&b"ab"[..], &large, b"xyz"].concat());
}
