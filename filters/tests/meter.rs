//! What recorded answers come to, however they arrive.

mod support;

use std::io::Write as _;

use proptest::prelude::*;
use support::{as_json, cases, pieces};
use weir_filters::decode::Encoding;
use weir_filters::meter::{Meter, Shape};
use weir_filters::route::Operation;
use weir_filters::sse::MAX_EVENT_BYTES;
use weir_filters::usage::{Source, Usage};

#[test]
fn recorded_answers_come_to_what_their_providers_say() {
    for case in cases() {
        let reading = case.read([case.body.as_slice()]);
        assert_eq!(as_json(&reading), case.expected, "{}", case.name);
        assert_eq!(reading.body_bytes, case.body.len() as u64, "{}", case.name);
    }
}

#[test]
fn usage_survives_every_split_in_two() {
    for case in cases() {
        let whole = case.read([case.body.as_slice()]);
        // Every place of a short answer; the places of a long one in steps, and its end.
        let step = case.body.len() / 1500 + 1;
        for at in (0..=case.body.len()).rev().step_by(step) {
            let (head, tail) = case.body.split_at(at);
            assert_eq!(case.read([head, b"", tail]), whole, "{} at {at}", case.name);
        }
    }
}

#[test]
fn usage_survives_single_bytes() {
    for case in cases() {
        let whole = case.read([case.body.as_slice()]);
        assert_eq!(case.read(case.body.chunks(1)), whole, "{}", case.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn usage_survives_any_chunking(sizes in prop::collection::vec(prop_oneof![0..3usize, 0..400usize], 0..40)) {
        for case in cases() {
            let whole = case.read([case.body.as_slice()]);
            prop_assert_eq!(case.read(pieces(&case.body, &sizes)), whole, "{}", case.name);
        }
    }

    #[test]
    fn no_bytes_make_a_meter_panic(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ \n\rdatusge0-".to_vec())], 0..600),
        sizes in prop::collection::vec(0..50usize, 0..12),
    ) {
        for operation in Operation::ALL {
            for shape in [Shape::Sse, Shape::Json, Shape::JsonArray, Shape::Ndjson, Shape::Opaque] {
                let read = |pieces: Vec<&[u8]>| {
                    let mut meter = Meter::new(operation, shape, Encoding::Identity);
                    for piece in pieces {
                        meter.feed(piece);
                    }
                    meter.finish(true, 200, 10)
                };
                prop_assert_eq!(read(pieces(&bytes, &sizes)), read(vec![&bytes]));
            }
            for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd] {
                let mut meter = Meter::new(operation, Shape::Sse, encoding);
                for piece in pieces(&bytes, &sizes) {
                    meter.feed(piece);
                }
                meter.finish(false, 200, 10);
            }
        }
    }
}

fn compressed(body: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
    let gzip = |body: &[u8]| {
        let mut coder = flate2::GzBuilder::new()
            .filename("answer")
            .comment("recorded")
            .extra(vec![1, 2, 3])
            .write(Vec::new(), flate2::Compression::default());
        coder.write_all(body).unwrap();
        coder.finish().unwrap()
    };
    let level = flate2::Compression::default();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
    zlib.write_all(body).unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), level);
    raw.write_all(body).unwrap();
    let mut brotli = Vec::new();
    brotli::CompressorWriter::new(&mut brotli, 4096, 5, 20).write_all(body).unwrap();
    let (head, tail) = body.split_at(body.len() / 2);
    let zstd = |body: &[u8]| zstd::encode_all(body, 3).unwrap();
    vec![
        (Encoding::Gzip, gzip(body)),
        (Encoding::Gzip, [gzip(head), gzip(tail)].concat()),
        (Encoding::Deflate, zlib.finish().unwrap()),
        (Encoding::Deflate, raw.finish().unwrap()),
        (Encoding::Brotli, brotli),
        (Encoding::Zstd, zstd(body)),
        (Encoding::Zstd, [zstd(head), zstd(tail)].concat()),
    ]
}

#[test]
fn compression_hides_nothing() {
    for case in cases().into_iter().filter(|case| !case.body.is_empty()) {
        let plain = case.read([case.body.as_slice()]);
        for (encoding, bytes) in compressed(&case.body) {
            for size in [1, 7, bytes.len()] {
                let mut reading = case.read_encoded(encoding, bytes.chunks(size));
                assert_eq!(reading.body_bytes, bytes.len() as u64, "{}", case.name);
                reading.body_bytes = plain.body_bytes;
                assert_eq!(reading, plain, "{} as {encoding:?} by {size}", case.name);
            }
        }
    }
}

#[test]
fn a_compressed_token_is_seen_as_soon_as_it_is_flushed() {
    let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"H\"}}]}\n\n";
    let level = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(event).unwrap();
    gzip.flush().unwrap();
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    brotli.write_all(event).unwrap();
    brotli.flush().unwrap();
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.write_all(event).unwrap();
    zstd.flush().unwrap();
    for (encoding, bytes) in
        [(Encoding::Gzip, gzip.get_ref()), (Encoding::Brotli, brotli.get_ref()), (Encoding::Zstd, zstd.get_ref())]
    {
        let mut meter = Meter::new(Operation::OpenAiChat, Shape::Sse, encoding);
        let (last, head) = bytes.split_last().unwrap();
        meter.feed(&head[..head.len() / 2]);
        assert!(!meter.has_first_token(), "{encoding:?}");
        meter.feed(&head[head.len() / 2..]);
        meter.feed(&[*last]);
        assert!(meter.has_first_token(), "{encoding:?}");
    }
}

fn estimated(input: u64, output: u64) -> Usage {
    Usage { input_uncached: input, output, source: Source::Estimated, ..Usage::default() }
}

#[test]
fn what_cannot_be_decoded_is_estimated() {
    let mut corrupt = Meter::new(Operation::OpenAiChat, Shape::Sse, Encoding::Gzip);
    corrupt.feed(b"this is no gzip body");
    assert!(corrupt.has_first_token());
    assert_eq!(corrupt.finish(true, 200, 40).usage, estimated(10, 5));

    let mut unknown = Meter::new(Operation::OpenAiChat, Shape::Json, Encoding::Unknown);
    assert!(!unknown.has_first_token());
    unknown.feed(&[0; 100]);
    assert!(unknown.has_first_token());
    assert_eq!(unknown.finish(true, 200, 40).usage, estimated(10, 25));
}

#[test]
fn a_bomb_is_not_read_to_its_end() {
    let mut bomb = Vec::new();
    let mut coder = flate2::write::GzEncoder::new(&mut bomb, flate2::Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..65 {
        coder.write_all(&zeros).unwrap();
    }
    coder.write_all(br#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#).unwrap();
    coder.finish().unwrap();
    let mut meter = Meter::new(Operation::OpenAiChat, Shape::Json, Encoding::Gzip);
    meter.feed(&bomb);
    let usage = meter.finish(true, 200, 4).usage;
    assert_eq!(usage, estimated(1, (bomb.len() as u64).div_ceil(4)));
}

#[test]
fn an_event_above_the_cap_is_not_read_but_estimated() {
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"pad":""#;
    let mut body = usage.as_bytes().to_vec();
    body.resize(body.len() + MAX_EVENT_BYTES, b'x');
    body.extend_from_slice(b"\"}}\n\n");
    for size in [1000, 4096, body.len()] {
        let mut meter = Meter::new(Operation::OpenAiChat, Shape::Sse, Encoding::Identity);
        body.chunks(size).for_each(|chunk| meter.feed(chunk));
        let reading = meter.finish(true, 200, 40);
        assert_eq!((reading.usage, reading.events), (estimated(10, 1), 1), "by {size}");

        let mut later = Meter::new(Operation::OpenAiChat, Shape::Sse, Encoding::Identity);
        body.chunks(size).for_each(|chunk| later.feed(chunk));
        later.feed(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n");
        let reading = later.finish(true, 200, 40);
        assert_eq!((reading.usage.output, reading.usage.source), (4, Source::Upstream));
        assert_eq!(reading.events, 2);
    }
}

#[test]
fn a_usage_object_above_its_cap_is_kept_in_part_and_refused() {
    let mut body = br#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":3,"pad":""#.to_vec();
    body.resize(body.len() + (20 << 10), b'x');
    body.extend_from_slice(b"\"}}");
    let mut meter = Meter::new(Operation::OpenAiChat, Shape::Json, Encoding::Identity);
    body.chunks(1000).for_each(|chunk| meter.feed(chunk));
    let reading = meter.finish(true, 200, 40);
    assert_eq!((reading.usage, reading.invalid), (estimated(10, 1), 1));
    assert_eq!(reading.raw.unwrap().len(), 16 << 10);
}

#[test]
fn the_first_token_is_the_first_generated_output() {
    let steps: [(Operation, Shape, &[(&str, bool)]); 6] = [
        (
            Operation::OpenAiChat,
            Shape::Sse,
            &[
                (": OPENROUTER PROCESSING\n\n", false),
                ("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", false),
                ("data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Hm\"}}]}", false),
                ("\n\n", true),
            ],
        ),
        (
            Operation::OpenAiChat,
            Shape::Sse,
            &[
                ("data: {\"choices\":[{\"delta\":{\"content\":null,\"tool_calls\":[]}}]}\n\n", false),
                ("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n", true),
            ],
        ),
        (
            Operation::AnthropicMessages,
            Shape::Sse,
            &[
                (
                    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":1}}}\n\n",
                    false,
                ),
                (
                    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
                    false,
                ),
                ("event: ping\ndata: {\"type\":\"ping\"}\n\n", false),
                (
                    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\"}}\n\n",
                    true,
                ),
            ],
        ),
        (
            Operation::GeminiStream,
            Shape::JsonArray,
            &[
                ("[{\"usageMetadata\":{\"promptTokenCount\":3}}\n,", false),
                ("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":", false),
                ("{", true),
            ],
        ),
        (
            Operation::OllamaChat,
            Shape::Ndjson,
            &[("{\"message\":{\"content\":\"\"},\"done\":false}\n", false), ("{\"message\":{\"content\":\"H", true)],
        ),
        (Operation::OpenAiChat, Shape::Json, &[("", false), ("{", true)]),
    ];
    for (operation, shape, steps) in steps {
        let mut meter = Meter::new(operation, shape, Encoding::Identity);
        for (bytes, begun) in steps {
            meter.feed(bytes.as_bytes());
            assert_eq!(meter.has_first_token(), *begun, "{operation} after {bytes}");
        }
    }
}

#[test]
fn delivered_answers_are_never_free() {
    for operation in Operation::ALL.into_iter().filter(|o| o.is_billed()) {
        if operation == Operation::OpenAiOther {
            continue;
        }
        for shape in [Shape::Sse, Shape::Json, Shape::JsonArray, Shape::Ndjson, Shape::Opaque] {
            let mut meter = Meter::new(operation, shape, Encoding::Identity);
            meter.feed(b"x");
            let usage = meter.finish(false, 200, 0).usage;
            assert_eq!(usage.source, Source::Estimated, "{operation} {shape:?}");
            assert!(usage.total() > 0, "{operation} {shape:?}");
        }
    }
}

#[test]
fn the_shape_follows_the_content_type() {
    for (content_type, shape) in [
        (Some("text/event-stream"), Shape::Sse),
        (Some("Text/Event-Stream; charset=utf-8"), Shape::Sse),
        (Some("application/x-ndjson"), Shape::Ndjson),
        (Some("application/ndjson"), Shape::Ndjson),
        (Some("application/jsonl"), Shape::Ndjson),
        (Some("application/json; charset=UTF-8"), Shape::Json),
        (Some("application/problem+JSON"), Shape::Json),
        (Some("text/plain"), Shape::Opaque),
        (Some(""), Shape::Opaque),
        (Some("é+json"), Shape::Json),
        (Some("+jsoné"), Shape::Opaque),
        (None, Shape::Opaque),
    ] {
        assert_eq!(Shape::of(Operation::OpenAiChat, content_type), shape, "{content_type:?}");
    }
    let array = Shape::of(Operation::GeminiStream, Some("application/json"));
    assert_eq!(array, Shape::JsonArray);
    assert_eq!(Shape::of(Operation::GeminiStream, Some("text/event-stream")), Shape::Sse);
}

#[test]
fn the_encoding_follows_the_header() {
    for (header, encoding) in [
        (None, Encoding::Identity),
        (Some("identity"), Encoding::Identity),
        (Some(" GZIP "), Encoding::Gzip),
        (Some("x-gzip"), Encoding::Gzip),
        (Some("deflate"), Encoding::Deflate),
        (Some("br"), Encoding::Brotli),
        (Some("zstd"), Encoding::Zstd),
        (Some("compress"), Encoding::Unknown),
        (Some("gzip, br"), Encoding::Unknown),
    ] {
        assert_eq!(Encoding::of(header), encoding, "{header:?}");
    }
}

#[test]
fn a_meter_may_move_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Meter>();
    shared::<weir_filters::cut::UsageCut>();
}
