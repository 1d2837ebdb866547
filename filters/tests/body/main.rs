//! What the record of a request shows of its bodies.

mod generated;
mod kept;
#[path = "../support/mod.rs"]
mod support;
mod written;

use serde_json::Value;
use weir_filters::body::{self, Captured};
use weir_filters::decode::Encoding;
use weir_filters::mask::Mask;
use weir_filters::meter::Shape;
use weir_filters::route::Operation;

/// More than any text here has.
const MUCH: usize = 1 << 20;

/// A body's object, read again.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    text: String,
    is_base64: bool,
    bytes: u64,
    truncated: bool,
    reassembled: bool,
}

fn put(body: &Captured<'_>, cap: usize, mask: &Mask) -> Body {
    let mut out = b"before ".to_vec();
    body::put(&mut out, body, cap, mask);
    let json: Value = serde_json::from_slice(out.strip_prefix(b"before ").unwrap()).expect("one JSON value");
    let object = json.as_object().expect("an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["bytes", "encoding", "reassembled", "text", "truncated"]);
    Body {
        text: object["text"].as_str().expect("a string").to_owned(),
        is_base64: match object["encoding"].as_str() {
            Some("utf-8") => false,
            Some("base64") => true,
            other => panic!("no encoding: {other:?}"),
        },
        bytes: object["bytes"].as_u64().expect("a whole number"),
        truncated: object["truncated"].as_bool().expect("a truth"),
        reassembled: object["reassembled"].as_bool().expect("a truth"),
    }
}

/// All of a body that was not compressed.
fn whole(operation: Operation, shape: Shape, bytes: &[u8]) -> Captured<'_> {
    let total = bytes.len() as u64;
    Captured { operation, shape, encoding: Encoding::Identity, bytes, total, cut: false }
}

fn no_secrets() -> Mask {
    Mask::new(&[])
}
