//! What the body of a request or an answer costs its record.

use std::hint::black_box;

use weir_filters::body::{Captured, put};
use weir_filters::decode::Encoding;
use weir_filters::mask::Mask;
use weir_filters::meter::Shape;
use weir_filters::route::Operation;

use crate::answers::answers;
use crate::runner::{Case, Work};

/// The secrets of one request: a client's key, and a channel's.
const SECRETS: [&str; 2] =
    ["wk-5f2c1d9a7b3e48600000000000000001", "sk-proj-7mQx0vTz4Jc9LwRfYb2Kd8NeHs6Gu1Pa3Vi5Xo7Zk9Mq0Wr2Ty4"];

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: String, work: Work, operation: Operation, shape: Shape, bytes: Vec<u8>| {
        Case::new(name, work, move || {
            let (bytes, mask) = (bytes.clone(), Mask::new(&SECRETS));
            let mut out = Vec::with_capacity(4 * bytes.len());
            move || {
                out.clear();
                let total = bytes.len() as u64;
                let encoding = Encoding::Identity;
                let body = Captured { operation, shape, encoding, bytes: black_box(&bytes), total, cut: false };
                put(&mut out, &body, 1 << 20, &mask);
                black_box(&mut out);
            }
        })
    };
    let stream = |answer: crate::answers::Answer| {
        let name = format!("record/stream/{}", answer.name);
        case(name, Work::Events(answer.events), answer.operation, answer.shape, answer.body)
    };
    let mut cases: Vec<Case> = answers().into_iter().map(stream).collect();
    let message = r#"{"role":"user","content":"A weir is a low dam."},"#;
    for (name, times) in [("300", 6), ("100k", 2_000)] {
        let body = message.repeat(times).into_bytes();
        let work = Work::Bytes(body.len());
        cases.push(case(format!("record/kept/{name}"), work, Operation::OpenAiChat, Shape::Json, body));
    }
    cases.push(Case::new("record/mask", Work::Calls(1), || {
        || {
            black_box(Mask::new(black_box(&SECRETS)));
        }
    }));
    cases
}
