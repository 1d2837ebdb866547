//! Any bytes as a request body: the same facts and the same conversation for every split, and edits that
//! leave valid JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_filters::request::{BodyScanner, apply, ask_for_usage, edited_len, set_model, without_model_and_stream};
use weir_filters::sticky::conversation;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (split, data) = input;
    let split = usize::from(split).min(data.len());
    let read = |pieces: &[&[u8]]| {
        let mut scanner = BodyScanner::new();
        pieces.iter().for_each(|piece| scanner.feed(piece));
        scanner.finish()
    };
    let facts = read(&[&data]);
    assert_eq!(facts, read(&[&data[..split], b"", &data[split..]]), "split at {split}");
    let Ok(facts) = facts else { return };
    let body = [Bytes::copy_from_slice(&data[..split]), Bytes::copy_from_slice(&data[split..])];
    let whole = [Bytes::copy_from_slice(&data)];
    assert_eq!(conversation("key", None, &body), conversation("key", None, &whole), "split at {split}");
    let mut both: Vec<_> = set_model(&facts, "other \"model\"").into_iter().collect();
    both.extend(ask_for_usage(&facts));
    for edits in [both, without_model_and_stream(&facts)] {
        let edited = apply(&body, &edits).concat();
        assert_eq!(edited.len(), edited_len(data.len(), &edits));
        read(&[&edited]).expect("an edited body is still an object");
    }
});
