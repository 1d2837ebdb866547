//! Any payloads in a journal segment, then any damage to it: no panic, each sound frame is a record, a
//! reservation or a report, and damage to one frame takes no other with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::ledger::{decode_segment, is_reservation, segment_around};

fuzz_target!(|input: (Vec<Vec<u8>>, Vec<(u16, u8)>, Vec<u8>)| {
    let (payloads, damage, raw) = input;
    // What is longer than the largest record, or empty, is no frame.
    let payloads: Vec<_> = payloads.into_iter().filter(|p| (1..4096).contains(&p.len())).take(64).collect();
    let count = |bytes: &[u8]| {
        let (mut records, mut reports) = (0_usize, 0_usize);
        decode_segment(bytes, |found| if found.is_ok() { records += 1 } else { reports += 1 });
        (records, reports)
    };
    let mut segment = segment_around(&payloads);
    let (records, reports) = count(&segment);
    let reservations = payloads.iter().filter(|payload| is_reservation(payload)).count();
    assert_eq!(records + reports + reservations, payloads.len());

    let size = segment.len();
    for (at, with) in &damage {
        segment[usize::from(*at) % size] ^= with;
    }
    let (left, _) = count(&segment);
    if damage.len() == 1 {
        assert!(left <= records && left + 1 >= records, "{left} of {records}");
    }
    count(&raw);
});
