//! Any bytes as a JSON, JSON array, NDJSON or compressed answer: no panic, the same for every split,
//! and no figure beyond its cap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_filters::decode::Encoding;
use weir_filters::meter::{Meter, Shape};
use weir_filters::route::Operation;

fuzz_target!(|input: (u8, u8, u8, u16, Vec<u8>)| {
    let (which, shape, encoding, split, data) = input;
    let operation = Operation::ALL[usize::from(which) % Operation::ALL.len()];
    let shape = [Shape::Json, Shape::JsonArray, Shape::Ndjson, Shape::Opaque][usize::from(shape) % 4];
    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd]
        [usize::from(encoding) % 5];
    let split = usize::from(split).min(data.len());
    let read = |pieces: &[&[u8]]| {
        let mut meter = Meter::new(operation, shape, encoding);
        pieces.iter().for_each(|piece| meter.feed(piece));
        meter.finish(true, 200, 100)
    };
    let whole = read(&[&data]);
    if encoding == Encoding::Identity {
        assert_eq!(whole, read(&[&data[..split], &data[split..]]), "split at {split}");
    }
    assert_eq!(whole.body_bytes, data.len() as u64);
    assert!(whole.usage.total() <= 8_000_000_000, "{:?}", whole.usage);
});
