//! Events are what the WHATWG rules make of a stream, however it is split.

mod support;

use proptest::prelude::*;
use support::pieces;
use weir_filters::sse::{MAX_EVENT_BYTES, MAX_NAME_BYTES, Scanner};

type Owned = (Vec<u8>, Vec<u8>);

/// The algorithm of the standard, word for word, on the whole stream at once.
fn reference(stream: &[u8]) -> Vec<Owned> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut lines = Vec::new();
    let (mut line, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        match stream[at] {
            b'\r' => {
                lines.push(std::mem::take(&mut line));
                at += usize::from(stream.get(at + 1) == Some(&b'\n'));
            }
            b'\n' => lines.push(std::mem::take(&mut line)),
            byte => line.push(byte),
        }
        at += 1;
    }
    let (mut data, mut name, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push((name.clone(), data.clone()));
            }
            data.clear();
            name.clear();
            continue;
        }
        let colon = line.iter().position(|&b| b == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            _ => {}
        }
    }
    events
}

fn scan(pieces: &[&[u8]]) -> Vec<Owned> {
    let mut scanner = Scanner::new();
    let mut events = Vec::new();
    for piece in pieces {
        scanner.feed(piece, |event| {
            assert!(event.whole);
            events.push((event.name.to_vec(), event.data.to_vec()));
        });
    }
    events
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "\r\r",
        "data",
        "data:",
        "data: ",
        "data:  ",
        "event: x",
        "event",
        "event:",
        ": comment",
        "id: 1",
        "retry: 5",
        "datax: no",
        " data: no",
        ":",
        " ",
        "{\"a\":1}",
        "[DONE]",
        "\u{feff}",
        "é",
        "x",
    ]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn events_equal_those_of_the_standard(
        stream in stream(),
        sizes in prop::collection::vec(0..12usize, 0..30),
    ) {
        let expected = reference(&stream);
        prop_assert_eq!(&scan(&[&stream]), &expected);
        prop_assert_eq!(&scan(&pieces(&stream, &sizes)), &expected);
        prop_assert_eq!(&scan(&stream.chunks(1).collect::<Vec<_>>()), &expected);
    }
}

#[test]
fn comments_and_lone_fields_are_no_events() {
    let stream = b": c\n\nevent: x\n\nid: 1\nretry: 3\n\n\n\ndata\n\ndata:\n\nevent: y\ndata: 1\ndata: 2\n\n";
    let expected: Vec<Owned> = vec![(vec![], vec![]), (vec![], vec![]), (b"y".to_vec(), b"1\n2".to_vec())];
    assert_eq!(scan(&[stream]), expected);
}

#[test]
fn of_a_long_name_the_beginning_is_kept() {
    let stream = format!("event: {}\ndata: 1\n\n", "x".repeat(5000));
    for size in [100, stream.len()] {
        let pieces: Vec<_> = stream.as_bytes().chunks(size).collect();
        assert_eq!(scan(&pieces), [(vec![b'x'; MAX_NAME_BYTES], b"1".to_vec())]);
    }
}

#[test]
fn an_open_event_is_left_over_at_the_end() {
    for stream in [&b"data: 1\n\ndata: 2"[..], b"data: 1\n\ndata: 2\n", b"data: 1\n\ndata: 2\r"] {
        let mut scanner = Scanner::new();
        let (mut events, mut rest) = (0, Vec::new());
        scanner.feed(stream, |_| events += 1);
        scanner.finish(|event| rest.push(event.data.to_vec()));
        assert_eq!((events, rest), (1, vec![b"2".to_vec()]));
    }
}

#[test]
fn a_long_event_is_cut_at_the_cap_whatever_the_split() {
    let cap = MAX_EVENT_BYTES;
    let streams = [
        (format!("data: {}\n\ndata: 2\n\n", "x".repeat(cap)), cap, true),
        (format!("data: {}\n\ndata: 2\n\n", "x".repeat(cap + 1)), cap, false),
        (format!("data: {}\n\ndata: 2\n\n", "x".repeat(cap + 4000)), cap, false),
        (format!("data: {0}\ndata: {0}\n\ndata: 2\n\n", "x".repeat(cap / 2)), cap, false),
        (format!("data: 1\ndata: {}\ndata: 3\n\ndata: 2\n\n", "x".repeat(cap - 4)), cap, true),
        (format!(": {}\ndata: 1\n\ndata: 2\n\n", "x".repeat(2 * cap)), 1, true),
    ];
    for (stream, length, whole) in streams {
        for size in [777, 65536, stream.len()] {
            let mut scanner = Scanner::new();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                scanner.feed(piece, |event| events.push((event.data.len(), event.whole)));
            }
            assert_eq!(events, [(length, whole), (1, true)], "by {size}");
        }
    }
}
