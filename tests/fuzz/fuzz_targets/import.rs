//! Any bytes as a line to import: no panic, no figure beyond its cap, no time beyond the day, and a line break, a byte
//! order mark or white space around it changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_filters::import::{Line, read};

/// 2026-11-30T00:00:00Z.
const NOW: u64 = 1_796_000_000_000;

fuzz_target!(|line: &[u8]| {
    let found = read(line, NOW);
    if let Ok(Some(Line::Event { entry, .. } | Line::Record { entry, .. })) = &found {
        assert!(entry.usage.total() <= 3_000_000_000, "{:?}", entry.usage);
        assert!(entry.time_ms <= NOW + 86_400_000 && !entry.key_id.is_empty());
    }
    if found.is_ok() && !line.starts_with(b"\xef\xbb\xbf") {
        assert_eq!(read(&[b"\xef\xbb\xbf", line, b"\r"].concat(), NOW), found);
    }
});
