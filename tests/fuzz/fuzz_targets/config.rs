//! Any bytes as a configuration: no panic, and every mistake has a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weir::config::fuzz_entry(data));
