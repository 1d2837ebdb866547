//! Owns how a push is written: `logproto.PushRequest` of Loki's `push.proto` in a block of snappy, or JSON, compressed
//! or not. Refuses to decide what belongs into one push.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::labels::{Labels, Stream};
use super::{Class, Entry};

/// The most that the records of one push may [`cost`]. Loki's parts refuse messages of more than 4 MiB among each
/// other (`grpc_server_max_recv_msg_size`), with a status that would let the push be sent again for ever, and add
/// some labels and metadata of their own.
pub const MAX_PUSH: usize = 7 << 19;

/// Beside line and labels: tags, lengths and the timestamp are 30 bytes at most in protobuf and 26 in JSON, and
/// Loki adds the level that it finds in a line.
const EACH_RECORD: usize = 64;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Protobuf, in snappy.
    Protobuf,
    /// JSON.
    Json {
        /// Whether it is compressed.
        gzip: bool,
    },
}

/// The body of a push and what its head says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// `Content-Type`
    pub content_type: &'static str,
    /// `Content-Encoding`
    pub content_encoding: Option<&'static str>,
    /// The body.
    pub bytes: Vec<u8>,
}

/// What a record adds to a push at most, in bytes before compression.
pub fn cost(line: &str) -> usize {
    // In JSON, where a record's own quotes are escaped. Protobuf has them as they are.
    line.len() + memchr::memchr2_iter(b'"', b'\\', line.as_bytes()).count() + EACH_RECORD
}

/// What a stream adds to a push at most, beside its records.
pub fn stream_cost(route: &str, class: Class, labels: &Labels) -> usize {
    // The frames of both forms; JSON needs quotes around a name and none of the spaces.
    Stream { labels, route, class }.selector().len() + EACH_RECORD
}

/// Writes a push of `entries`, in their order in each stream.
pub fn body<'a>(entries: impl Iterator<Item = Entry<'a>>, labels: &Labels, format: Format) -> Body {
    let streams = by_stream(entries);
    match format {
        Format::Protobuf => {
            let plain = protobuf(&streams, labels);
            // What is below 4 GiB always has a block.
            let bytes = snap::raw::Encoder::new().compress_vec(&plain).unwrap_or_default();
            Body { content_type: "application/x-protobuf", content_encoding: None, bytes }
        }
        Format::Json { gzip } => {
            let plain = json(&streams, labels);
            let (content_encoding, bytes) = if gzip { (Some("gzip"), gzipped(&plain)) } else { (None, plain) };
            Body { content_type: "application/json", content_encoding, bytes }
        }
    }
}

/// Streams in the order of their first records.
type Streams<'a> = Vec<((&'a str, Class), Vec<Entry<'a>>)>;

fn by_stream<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Streams<'a> {
    let (mut streams, mut places) = (Streams::new(), HashMap::new());
    for entry in entries {
        let key = (entry.route, entry.class);
        let place = *places.entry(key).or_insert(streams.len());
        if place == streams.len() {
            streams.push((key, Vec::new()));
        }
        streams[place].1.push(entry);
    }
    streams
}

fn protobuf(streams: &Streams<'_>, labels: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut stream, mut entry, mut time) = (Vec::new(), Vec::new(), Vec::new());
    for ((route, class), entries) in streams {
        stream.clear();
        put_bytes(&mut stream, 1, Stream { labels, route, class: *class }.selector().as_bytes());
        for Entry { time_ns, line, .. } in entries {
            time.clear();
            put_number(&mut time, 1, time_ns / 1_000_000_000);
            put_number(&mut time, 2, time_ns % 1_000_000_000);
            entry.clear();
            put_bytes(&mut entry, 1, &time);
            put_bytes(&mut entry, 2, line.as_bytes());
            put_bytes(&mut stream, 2, &entry);
        }
        put_bytes(&mut out, 1, &stream);
    }
    out
}

/// A field of bytes, a text or a message.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field of a number; 0 is left out, as proto3 has it.
fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn json(streams: &Streams<'_>, labels: &Labels) -> Vec<u8> {
    let mut out = b"{\"streams\":[".to_vec();
    for (n, ((route, class), entries)) in streams.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"{\"stream\":" } else { b",{\"stream\":" });
        put_json(&mut out, &Stream { labels, route, class: *class });
        out.extend_from_slice(b",\"values\":[");
        for (n, Entry { time_ns, line, .. }) in entries.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"[\"" } else { b",[\"" });
            out.extend_from_slice(itoa::Buffer::new().format(*time_ns).as_bytes());
            out.extend_from_slice(b"\",");
            put_json(&mut out, line);
            out.push(b']');
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    out
}

fn put_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Texts and maps of texts are always written.
    let _ = serde_json::to_writer(out, value);
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use loki_api::logproto::{EntryAdapter, PushRequest, StreamAdapter};
    use loki_api::prost::Message;
    use loki_api::prost_types::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn labels() -> Labels {
        Labels::new([("env".to_owned(), "a\"b".to_owned())])
    }

    fn entry<'a>(time_ns: u64, route: &'a str, status: u16, line: &'a str) -> Entry<'a> {
        Entry { time_ns, class: Class::of(status), route, line }
    }

    fn entries() -> [Entry<'static>; 4] {
        [
            entry(1_795_248_115_042_000_000, "/v1/messages", 200, r#"{"id":"1"}"#),
            entry(1_795_248_115_043_000_001, "/v1/messages", 500, "zwei\n"),
            entry(1_795_248_115_000_000_000, "/v1/messages", 201, "\u{1}ü"),
            entry(0, "/", 0, ""),
        ]
    }

    fn decoded(body: &Body) -> PushRequest {
        assert_eq!((body.content_type, body.content_encoding), ("application/x-protobuf", None));
        let plain = snap::raw::Decoder::new().decompress_vec(&body.bytes).expect("a block of snappy");
        let push = PushRequest::decode(&plain[..]).expect("a PushRequest");
        assert_eq!(push.encode_to_vec(), plain, "nothing but what these types know");
        push
    }

    #[test]
    fn protobuf_is_what_an_independent_client_decodes() {
        let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let stream = |labels: &str, entries: &[(Option<Timestamp>, &str)]| StreamAdapter {
            labels: labels.to_owned(),
            entries: entries
                .iter()
                .map(|(timestamp, line)| EntryAdapter { timestamp: *timestamp, line: (*line).to_owned() })
                .collect(),
            hash: 0,
        };
        let expected = PushRequest {
            streams: vec![
                stream(
                    r#"{env="a\"b", route="/v1/messages", service="weir", status="2xx"}"#,
                    &[(at(1_795_248_115, 42_000_000), r#"{"id":"1"}"#), (at(1_795_248_115, 0), "\u{1}ü")],
                ),
                stream(
                    r#"{env="a\"b", route="/v1/messages", service="weir", status="5xx"}"#,
                    &[(at(1_795_248_115, 43_000_001), "zwei\n")],
                ),
                stream(r#"{env="a\"b", route="/", service="weir", status="none"}"#, &[(at(0, 0), "")]),
            ],
        };
        // An empty text is left out by proto3, and so is no part of what these types write.
        let mut push = decoded_loosely(&body(entries().into_iter(), &labels(), Format::Protobuf));
        assert_eq!(push, expected);
        push = decoded(&body(entries().into_iter().take(3), &labels(), Format::Protobuf));
        assert_eq!(push.streams, expected.streams[..2]);
    }

    fn decoded_loosely(body: &Body) -> PushRequest {
        PushRequest::decode(&snap::raw::Decoder::new().decompress_vec(&body.bytes).unwrap()[..]).unwrap()
    }

    #[test]
    fn json_is_what_the_documents_of_loki_show() {
        let expected = json!({"streams": [
            {
                "stream": {"env": "a\"b", "route": "/v1/messages", "service": "weir", "status": "2xx"},
                "values": [["1795248115042000000", "{\"id\":\"1\"}"], ["1795248115000000000", "\u{1}ü"]],
            },
            {
                "stream": {"env": "a\"b", "route": "/v1/messages", "service": "weir", "status": "5xx"},
                "values": [["1795248115043000001", "zwei\n"]],
            },
            {"stream": {"env": "a\"b", "route": "/", "service": "weir", "status": "none"}, "values": [["0", ""]]},
        ]});
        let plain = body(entries().into_iter(), &labels(), Format::Json { gzip: false });
        assert_eq!((plain.content_type, plain.content_encoding), ("application/json", None));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&plain.bytes).unwrap(), expected);
        let packed = body(entries().into_iter(), &labels(), Format::Json { gzip: true });
        assert_eq!((packed.content_type, packed.content_encoding), ("application/json", Some("gzip")));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.bytes);
    }

    proptest! {
        #[test]
        fn no_push_is_larger_than_its_records_cost(
            lines in prop::collection::vec(("[a-z\"\\\\]{0,40}", 0_usize..3, 0_u16..600, any::<u64>()), 1..20),
        ) {
            let routes = ["/", "/v1/chat/completions", "a\"\\\u{7}ü"];
            let entries: Vec<_> = lines.iter().map(|(l, r, s, t)| entry(*t % (1 << 62), routes[*r], *s, l)).collect();
            let mut seen = std::collections::HashSet::new();
            let of_stream = |e: &Entry<'_>| stream_cost(e.route, e.class, &labels());
            let cost: usize = entries
                .iter()
                .map(|e| cost(e.line) + if seen.insert((e.route, e.class)) { of_stream(e) } else { 0 })
                .sum();
            let streams = by_stream(entries.iter().copied());
            prop_assert!(protobuf(&streams, &labels()).len() <= cost);
            prop_assert!(json(&streams, &labels()).len() <= cost);
            let push = decoded_loosely(&body(entries.iter().copied(), &labels(), Format::Protobuf));
            prop_assert_eq!(push.streams.iter().map(|s| s.entries.len()).sum::<usize>(), entries.len());
        }
    }
}
