//! HTTP/1.1 messages as bytes: where a head ends, where a body ends. Deliberately not the gateway's own code.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads until `buffer` holds a whole head and takes it; `None` if the other side closes before.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Some(String::from_utf8(head).expect("a head of ASCII"));
        }
        more(stream, buffer).await?;
    }
}

/// The values of a header, as they stand in the head.
pub(super) fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Where its framing says.
    Whole,
    /// Before that.
    Cut,
}

/// Takes the body that belongs to `head`, without its framing, and says how it ended.
pub(super) async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    head: &str,
    until_close: bool,
) -> (Vec<u8>, End) {
    if values(head, "transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return chunks(stream, buffer).await;
    }
    let length = values(head, "content-length").first().map(|length| length.parse::<usize>().expect("a length"));
    match length {
        Some(length) => exactly(stream, buffer, length).await,
        None if until_close => {
            while more(stream, buffer).await.is_some() {}
            (std::mem::take(buffer), End::Whole)
        }
        None => (Vec::new(), End::Whole),
    }
}

async fn exactly(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, length: usize) -> (Vec<u8>, End) {
    while buffer.len() < length {
        if more(stream, buffer).await.is_none() {
            return (std::mem::take(buffer), End::Cut);
        }
    }
    (buffer.drain(..length).collect(), End::Whole)
}

async fn chunks(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> (Vec<u8>, End) {
    let mut body = Vec::new();
    loop {
        let Some(size) = line(stream, buffer).await else { return (body, End::Cut) };
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).expect("a chunk's size");
        let (chunk, end) = exactly(stream, buffer, size).await;
        body.extend_from_slice(&chunk);
        if end == End::Cut {
            return (body, end);
        }
        // What follows the last chunk is an empty line, as no trailers are ever sent here.
        match line(stream, buffer).await {
            Some(empty) => assert_eq!(empty, "", "a chunk ends in CRLF"),
            None => return (body, End::Cut),
        }
        if size == 0 {
            return (body, End::Whole);
        }
    }
}

async fn line(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..at + 2).collect();
            return Some(String::from_utf8(line[..at].to_vec()).expect("a line of ASCII"));
        }
        more(stream, buffer).await?;
    }
}

/// Reads once; `None` at the end or on a reset.
pub(super) async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await;
    read.ok().filter(|read| *read > 0).map(|_| ())
}
