//! Maps of header lines, used again.
//!
//! Pingora's sessions want a head as a map. A client writes the same names in the same order each time, so
//! a map that has them needs only the new values: no name is read, hashed or put in a second time.

use std::cell::RefCell;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::lines::Lines;

/// How many maps a thread keeps. Requests under way have theirs; these wait for the next ones.
const SPARE: usize = 32;
/// The most lines of a map that is kept: one with more is rare, and large.
const MAX_LINES: usize = 32;

thread_local!(static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) });

/// A name or value that no header can have.
pub(super) struct BadLine(pub(super) httparse::Error);

/// The lines as a map: repeated names in their order, names in small letters.
pub(super) fn map_of(lines: &Lines) -> Result<HeaderMap, BadLine> {
    let mut map = MAPS.with_borrow_mut(Vec::pop).unwrap_or_default();
    if fill(&mut map, lines)? {
        return Ok(map);
    }
    map.clear();
    map.reserve(lines.len());
    for (name, value) in lines.shared() {
        let name = HeaderName::from_bytes(name).map_err(|_| BadLine(httparse::Error::HeaderName))?;
        map.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| BAD_VALUE)?);
    }
    Ok(map)
}

/// Keeps the map for another head. Its values, which may be credentials, go now.
pub(crate) fn give_back(mut map: HeaderMap) {
    if map.is_empty() || map.len() > MAX_LINES {
        return;
    }
    for value in map.values_mut() {
        *value = HeaderValue::from_static("");
    }
    MAPS.with_borrow_mut(|maps| {
        if maps.len() < SPARE {
            maps.push(map);
        }
    });
}

const BAD_VALUE: BadLine = BadLine(httparse::Error::HeaderValue);

/// Puts the lines' values into a map that has their names in their order; `false` if it has others.
fn fill(map: &mut HeaderMap, lines: &Lines) -> Result<bool, BadLine> {
    if map.len() != lines.len() {
        return Ok(false);
    }
    for ((name, value), (line, text)) in map.iter_mut().zip(lines.shared()) {
        if !line.eq_ignore_ascii_case(name.as_str().as_bytes()) {
            return Ok(false);
        }
        *value = HeaderValue::from_maybe_shared(text).map_err(|_| BAD_VALUE)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::take_request;
    use super::*;

    fn map(head: &str) -> HeaderMap {
        let mut input = BytesMut::from(head);
        let request = take_request(&mut input, &mut 0, 64 * 1024).ok().flatten().expect("a whole head");
        request.parts.headers
    }

    fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
        map.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
    }

    #[test]
    fn a_head_is_the_same_whatever_head_came_before_it() {
        let heads = [
            "GET / HTTP/1.1\r\nhost: w\r\nx-a: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: v\r\nX-A: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: w\r\nx-b: 3\r\n\r\n",
            "GET / HTTP/1.1\r\nx-a: 4\r\nhost: w\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: w\r\nx-a: 5\r\nx-a: 6\r\n\r\n",
            "GET / HTTP/1.1\r\nx-a: 7\r\nhost: w\r\nx-a: 8\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: w\r\n\r\n",
        ];
        let fresh = heads.map(|head| {
            MAPS.with_borrow_mut(Vec::clear);
            map(head)
        });
        assert_eq!(lines(&fresh[1]), [("host", "v"), ("x-a", "2")]);
        for before in heads {
            for (head, fresh) in heads.iter().zip(&fresh) {
                MAPS.with_borrow_mut(Vec::clear);
                give_back(map(before));
                assert_eq!(lines(&map(head)), lines(fresh), "{head} after {before}");
            }
        }
    }

    #[test]
    fn what_is_kept_holds_no_value() {
        MAPS.with_borrow_mut(Vec::clear);
        give_back(map("GET / HTTP/1.1\r\nhost: w\r\nauthorization: Bearer sk-1\r\nx: 1\r\nx: 2\r\n\r\n"));
        MAPS.with_borrow(|maps| {
            assert_eq!(lines(&maps[0]), [("host", ""), ("authorization", ""), ("x", ""), ("x", "")]);
        });
    }

    #[test]
    fn a_thread_keeps_few_maps_and_no_large_one() {
        MAPS.with_borrow_mut(Vec::clear);
        let large = format!("GET / HTTP/1.1\r\nhost: w\r\n{}\r\n", "x: y\r\n".repeat(MAX_LINES));
        give_back(map(&large));
        assert_eq!(MAPS.with_borrow(Vec::len), 0);
        let small: Vec<_> = (0..2 * SPARE).map(|_| map("GET / HTTP/1.1\r\nhost: w\r\n\r\n")).collect();
        small.into_iter().for_each(give_back);
        assert_eq!(MAPS.with_borrow(Vec::len), SPARE);
    }
}
