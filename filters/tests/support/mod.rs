//! Recorded answers and what they must come to.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use weir_filters::decode::Encoding;
use weir_filters::meter::{Meter, Reading, Shape};
use weir_filters::route::Operation;

/// One recorded answer, cut and ended in one way.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) shape: Shape,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
    pub(crate) status: u16,
    pub(crate) prompt_bytes: u64,
    pub(crate) expected: Value,
}

/// Every run of every fixture: `<case>.<provider>.<ext>` beside `<case>.<provider>.expected.json`.
pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut cases = Vec::new();
    for protocol in ["openai", "anthropic", "gemini", "ollama"] {
        let mut files: Vec<_> = fs::read_dir(root.join(protocol))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.to_string_lossy().ends_with(".expected.json"))
            .collect();
        files.sort();
        for file in files {
            let expected = fs::read(file.with_extension("expected.json")).unwrap();
            let expected: Value = serde_json::from_slice(&expected).unwrap();
            let body = fs::read(&file).unwrap();
            for (index, run) in expected["runs"].as_array().unwrap().iter().enumerate() {
                let end = match run["cut_after"].as_str() {
                    Some(mark) => {
                        let text = std::str::from_utf8(&body).unwrap();
                        text.find(mark).expect("the mark is in the fixture") + mark.len()
                    }
                    None => body.len(),
                };
                cases.push(Case {
                    name: format!("{protocol}/{:?} run {index}", file.file_name().unwrap()),
                    operation: expected["operation"].as_str().unwrap().parse().unwrap(),
                    shape: shape(expected["shape"].as_str().unwrap()),
                    body: body[..end].to_vec(),
                    complete: run["complete"].as_bool().unwrap(),
                    status: u16::try_from(run["status"].as_u64().unwrap()).unwrap(),
                    prompt_bytes: run["prompt_bytes"].as_u64().unwrap(),
                    expected: run["reading"].clone(),
                });
            }
        }
    }
    assert!(cases.len() > 70, "the fixtures are there: {}", cases.len());
    cases
}

fn shape(name: &str) -> Shape {
    match name {
        "sse" => Shape::Sse,
        "json" => Shape::Json,
        "json_array" => Shape::JsonArray,
        "ndjson" => Shape::Ndjson,
        other => panic!("no shape {other}"),
    }
}

impl Case {
    /// Reads the case's body from the pieces given.
    pub(crate) fn read<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
        self.read_encoded(Encoding::Identity, pieces)
    }

    pub(crate) fn read_encoded<'a>(&self, encoding: Encoding, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
        let mut meter = Meter::new(self.operation, self.shape, encoding);
        for piece in pieces {
            meter.feed(piece);
        }
        meter.finish(self.complete, self.status, self.prompt_bytes)
    }
}

/// A reading as the expected files spell it.
pub(crate) fn as_json(reading: &Reading) -> Value {
    let usage = &reading.usage;
    serde_json::json!({
        "usage": {
            "input_uncached": usage.input_uncached,
            "cache_read": usage.cache_read,
            "cache_write_5m": usage.cache_write_5m,
            "cache_write_1h": usage.cache_write_1h,
            "output": usage.output,
            "reasoning": usage.reasoning,
            "source": usage.source.name(),
        },
        "events": reading.events,
        "invalid": reading.invalid,
        "raw": reading.raw,
        "model": reading.model,
        "failed": reading.failed,
    })
}

/// `bytes` in pieces that end at the places given, each taken modulo the length left.
pub(crate) fn pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at(size % (bytes.len() + 1));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}
