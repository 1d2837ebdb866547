//! Each recorded stream is read alike from every split; what is read can be held against another reader's events.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use weir_filters::sse::Scanner;

/// Where another reader finds what was read.
const WRITTEN: &str = "WEIR_TRUST_SPLITS";

/// Streams that no provider sends, and that the standard has an answer for.
const CROOKED: [(&str, &str); 12] = [
    ("every end of a line", "data: a\r\rdata: b\n\ndata: c\r\n\r\ndata: d\r\n\n"),
    ("several lines of data", "data: a\ndata\ndata:\ndata:  b\n\n"),
    ("an event without data", "event: x\n\ndata: a\n\n"),
    ("a name that is taken back", "event: x\nevent:\ndata: a\n\n"),
    ("comments", ": a\n:\n:data: no\ndata: a\n: b\n\n"),
    ("fields that are none", "datax: a\nDATA: b\n data: c\ndata : d\ndata: e\n\n"),
    ("colons", "data::a\n\ndata: :b\n\ndata:c:d\n\n"),
    ("an end without an empty line", "data: a\n\ndata: b\n"),
    ("an end in a line", "data: a\n\ndata: b"),
    ("ids and times", "id: 1\nretry: 5\ndata: a\n\nid\ndata: b\n\n"),
    ("text beyond ASCII", "data: \u{e9}\u{1f4a5}\u{2028}\u{85}\n\nevent: \u{e9}\ndata: x\n\n"),
    ("only empty lines", "\n\r\n\r\n\n"),
];

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams: Vec<_> =
        CROOKED.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for folder in fs::read_dir(fixtures).expect("the fixtures") {
        for file in fs::read_dir(folder.expect("a folder").path()).expect("a folder") {
            let path = file.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "sse") {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                streams.push((name, fs::read(&path).expect("a stream")));
            }
        }
    }
    streams.sort();
    streams
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scanner = Scanner::new();
    let mut events = Vec::new();
    for piece in pieces {
        scanner.feed(piece, |event| events.push((event.name.to_vec(), event.data.to_vec())));
    }
    events
}

#[test]
fn every_split_of_every_fixture_is_read_alike() {
    let (mut splits, mut written) = (0, serde_json::Map::new());
    let streams = streams();
    assert!(streams.len() > CROOKED.len() + 10, "there are fixtures");
    for (name, stream) in &streams {
        let whole = read([&stream[..]]);
        for at in 0..=stream.len() {
            assert_eq!(read([&stream[..at], &stream[at..]]), whole, "{name} at {at}");
            let after = (at + 1).min(stream.len());
            assert_eq!(read([&stream[..at], &stream[at..after], &stream[after..]]), whole, "{name} around {at}");
        }
        assert_eq!(read(stream.chunks(1)), whole, "{name} octet by octet");
        splits += 2 * (stream.len() + 1) + 1;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let events: Vec<Value> = whole.iter().map(|(name, data)| json!([text(name), text(data)])).collect();
        let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();
        written.insert(name.clone(), json!({ "stream": hex, "events": events }));
    }
    if let Some(path) = std::env::var_os(WRITTEN) {
        fs::write(path, Value::Object(written).to_string()).expect("it can be written");
    }
    println!("trust: {splits} splits of {} streams are read alike", streams.len());
}
