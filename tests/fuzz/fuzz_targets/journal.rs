//! Any bytes as a journal segment: no panic, and what is read is a record or a report of damage.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut seen = 0_usize;
    weir::ledger::decode_segment(data, |_| seen += 1);
    assert!(seen <= data.len() + 1);
});
