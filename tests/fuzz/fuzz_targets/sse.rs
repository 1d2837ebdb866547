//! Any bytes as an SSE answer: where they are split changes nothing, what is cut for the client is a part
//! of what came, and an error that follows is one event more.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_filters::boundary::Boundary;
use weir_filters::cut::UsageCut;
use weir_filters::decode::Encoding;
use weir_filters::meter::{Meter, Shape};
use weir_filters::route::Operation;
use weir_filters::sse::Scanner;

fuzz_target!(|input: (u8, u16, Vec<u8>)| {
    let (which, split, data) = input;
    let operation = Operation::ALL[usize::from(which) % Operation::ALL.len()];
    let split = usize::from(split).min(data.len());
    let read = |pieces: &[&[u8]]| {
        let mut meter = Meter::new(operation, Shape::Sse, Encoding::Identity);
        pieces.iter().for_each(|piece| meter.feed(piece));
        meter.finish(true, 200, 100)
    };
    let whole = read(&[&data]);
    assert_eq!(whole, read(&[&data[..split], b"", &data[split..]]), "split at {split}");

    let cut = |pieces: &[&[u8]]| {
        let mut cut = UsageCut::new();
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| cut.feed(Bytes::copy_from_slice(piece))).collect();
        out.extend_from_slice(&cut.finish());
        out
    };
    let all = cut(&[&data]);
    assert!(all.len() <= data.len());
    assert_eq!(all, cut(&[&data[..split], &data[split..]]), "cut, split at {split}");

    let end = |pieces: &[&[u8]]| {
        let mut boundary = Boundary::new();
        pieces.iter().for_each(|piece| boundary.feed(piece));
        boundary.end_event()
    };
    let found = end(&[&data]);
    assert_eq!(found, end(&[&data[..split], b"", &data[split..]]), "boundary, split at {split}");
    if let Some(end) = found {
        let events = |bytes: &[u8]| {
            let mut events = Vec::new();
            Scanner::new().feed(bytes, |event| events.push((event.name.to_vec(), event.data.to_vec())));
            events
        };
        let mut expected = events(&data);
        expected.push((b"error".to_vec(), b"1".to_vec()));
        assert_eq!(events(&[&data, end, b"event: error\ndata: 1\n\n"].concat()), expected, "an error follows");
    }
});
