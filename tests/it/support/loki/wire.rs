//! HTTP/1.1 as far as a push needs it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use rustix::net::sockopt::set_socket_linger;

/// A request, whole.
pub(super) struct Push {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Push {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

/// The next request of a connection; `None`: it was closed.
pub(super) fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Push>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(buffer).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        if let httparse::Status::Complete(end) = parsed {
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).map_err(io::Error::other);
            let headers = request.headers.iter().map(|header| Ok((header.name.to_owned(), text(header.value)?)));
            let mut push = Push {
                method: request.method.unwrap_or_default().to_owned(),
                path: request.path.unwrap_or_default().to_owned(),
                body: Vec::new(),
                headers: headers.collect::<io::Result<_>>()?,
            };
            buffer.drain(..end);
            let length = push.header("content-length").and_then(|length| length.parse().ok());
            // What has no length is chunked, and Loki's own clients never are.
            let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a push without a length"))?;
            while buffer.len() < length {
                if !more(stream, buffer)? {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            push.body = buffer.drain(..length).collect();
            return Ok(Some(push));
        }
        if !more(stream, buffer)? {
            return Ok(None);
        }
    }
}

pub(super) fn write(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) -> io::Result<()> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    stream.write_all(format!("HTTP/1.1 {status} Said\r\n{lines}{length}\r\n{body}").as_bytes())
}

/// Ends a connection as a machine does that has lost it.
pub(super) fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(std::time::Duration::ZERO))?)
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    let read = stream.read(&mut piece)?;
    buffer.extend_from_slice(&piece[..read]);
    Ok(read > 0)
}
