//! Any bytes as a body that is recorded: a JSON object that its readers know, never longer than the cap, and
//! without the secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_filters::body::{self, Captured};
use weir_filters::decode::Encoding;
use weir_filters::mask::Mask;
use weir_filters::meter::Shape;
use weir_filters::route::Operation;

const SECRET: &str = "sk-abcdef";

fuzz_target!(|input: (u8, u8, u8, u8, bool, Vec<u8>)| {
    let (which, shape, encoding, cap, cut, data) = input;
    let operation = Operation::ALL[usize::from(which) % Operation::ALL.len()];
    let shape = [Shape::Sse, Shape::Ndjson, Shape::JsonArray, Shape::Json, Shape::Opaque][usize::from(shape) % 5];
    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd]
        [usize::from(encoding) % 5];
    // Caps that cut most inputs, and one that cuts none.
    let cap = if cap == u8::MAX { 1 << 20 } else { usize::from(cap) * 4 };
    let total = data.len() as u64;
    let mut out = Vec::new();
    let captured = Captured { operation, shape, encoding, bytes: &data, total, cut };
    body::put(&mut out, &captured, cap, &Mask::new(&[SECRET]));

    let json: Value = serde_json::from_slice(&out).expect("JSON");
    let object = json.as_object().expect("an object");
    assert_eq!(object.len(), 5);
    let text = object["text"].as_str().expect("a string");
    let is_base64 = match object["encoding"].as_str() {
        Some("utf-8") => false,
        Some("base64") => true,
        other => panic!("no encoding: {other:?}"),
    };
    let reassembled = object["reassembled"].as_bool().expect("a truth");
    assert_eq!(object["bytes"].as_u64(), Some(total));
    assert!(object["truncated"].as_bool().expect("a truth") || !cut);
    assert!(text.len() <= if is_base64 { cap.div_ceil(3) * 4 } else { cap });
    assert!(is_base64 || !text.contains(SECRET));
    let is_stream = matches!(shape, Shape::Sse | Shape::Ndjson | Shape::JsonArray);
    assert!(!reassembled || !is_base64 && is_stream);
});
