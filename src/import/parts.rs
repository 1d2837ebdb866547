//! A file in parts of whole lines, unpacked if it is packed.
//!
//! Owns the cutting and the numbers of lines. Refuses to know what stands on them.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::MAX_LINE;

/// Bytes of a part, unless its first line alone is longer: some thousands of lines, which the gateway counts in a few
/// milliseconds.
const PART_BYTES: usize = 1 << 20;

/// Lines of a part: so few that a report can list every one.
const PART_LINES: u64 = super::MAX_LISTED as u64;

/// What a file begins with that was packed by gzip (RFC 1952, section 2.3.1).
pub(crate) const GZIP: &[u8] = &[0x1f, 0x8b];

/// Some whole lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// The number of the first line, from 1.
    pub(crate) first: u64,
    /// The numbers of lines that are too long; there is nothing in their place.
    pub(crate) too_long: Vec<u64>,
}

/// The parts of a file, in order.
pub(crate) struct Parts<'a> {
    source: Box<dyn BufRead + 'a>,
    /// The number of the next line.
    next: u64,
    max_line: usize,
    /// Why there is no more, to be said behind the lines that came before.
    failed: Option<io::Error>,
    /// That was said.
    is_over: bool,
}

impl<'a> Parts<'a> {
    /// Of what `source` holds, or unpacks to.
    pub(crate) fn of(source: impl Read + 'a) -> io::Result<Self> {
        let mut head = Vec::new();
        let mut source = BufReader::new(source);
        source.by_ref().take(GZIP.len() as u64).read_to_end(&mut head)?;
        let is_packed = head == GZIP;
        let source = io::Cursor::new(head).chain(source);
        let source: Box<dyn BufRead> =
            if is_packed { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) };
        Ok(Self { source, next: 1, max_line: MAX_LINE, failed: None, is_over: false })
    }

    fn part(&mut self) -> io::Result<Option<Part>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut part = Part { bytes: Vec::new(), first: self.next, too_long: Vec::new() };
        while part.bytes.len() < PART_BYTES && self.next - part.first < PART_LINES {
            let begun = part.bytes.len();
            match self.line(&mut part) {
                Ok(true) => self.next += 1,
                Ok(false) => break,
                Err(error) => {
                    // What there is of the line is not the line.
                    part.bytes.truncate(begun);
                    self.failed = Some(error);
                    break;
                }
            }
        }
        match self.failed.take_if(|_| self.next == part.first) {
            Some(error) => Err(error),
            None => Ok((self.next > part.first).then_some(part)),
        }
    }

    /// Adds a line with its end; whether there is one.
    fn line(&mut self, part: &mut Part) -> io::Result<bool> {
        let begun = part.bytes.len();
        // One byte more than a line may have tells that it has more.
        let most = self.max_line as u64 + 1;
        if self.source.by_ref().take(most).read_until(b'\n', &mut part.bytes)? == 0 {
            return Ok(false);
        }
        if part.bytes.len() - begun > self.max_line && !part.bytes.ends_with(b"\n") {
            part.bytes.truncate(begun);
            self.source.skip_until(b'\n')?;
            part.too_long.push(self.next);
        }
        if part.bytes.len() == begun || !part.bytes.ends_with(b"\n") {
            part.bytes.push(b'\n');
        }
        Ok(true)
    }
}

impl Iterator for Parts<'_> {
    type Item = io::Result<Part>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = if self.is_over { None } else { self.part().transpose() };
        self.is_over = !matches!(part, Some(Ok(_)));
        part
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn parts(bytes: &[u8], max_line: usize) -> Vec<Part> {
        let parts = Parts { max_line, ..Parts::of(bytes).unwrap() };
        parts.collect::<io::Result<_>>().unwrap()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn the_parts_are_the_file_and_each_line_keeps_its_number(
            lines in prop::collection::vec("[a-z]{0,12}", 0..40),
            has_end: bool,
            is_packed: bool,
        ) {
            let mut text = lines.join("\n");
            if has_end && !text.is_empty() {
                text.push('\n');
            }
            let file = if is_packed { packed(text.as_bytes()) } else { text.clone().into_bytes() };
            let parts = parts(&file, 8);
            let expected: Vec<&str> = text.lines().collect();
            let mut seen = 0;
            for part in &parts {
                prop_assert_eq!(part.first, seen + 1);
                for line in part.bytes.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n') {
                    let whole = expected[usize::try_from(seen).unwrap()];
                    seen += 1;
                    prop_assert_eq!(part.too_long.contains(&seen), whole.len() > 8);
                    prop_assert_eq!(line, if whole.len() > 8 { "" } else { whole }.as_bytes());
                }
            }
            prop_assert_eq!(seen, expected.len() as u64);
        }
    }

    #[test]
    fn a_part_ends_at_its_bytes_and_at_its_lines() {
        let long = format!("{}\n", "x".repeat(PART_BYTES / 4 - 1)).repeat(6);
        let cut: Vec<_> = parts(long.as_bytes(), MAX_LINE).iter().map(|p| (p.first, p.bytes.len())).collect();
        assert_eq!(cut, [(1, PART_BYTES), (5, PART_BYTES / 2)]);
        let short = "\n".repeat(super::super::MAX_LISTED + 3);
        let cut: Vec<_> = parts(short.as_bytes(), MAX_LINE).iter().map(|p| (p.first, p.bytes.len())).collect();
        assert_eq!(cut, [(1, super::super::MAX_LISTED), (10_001, 3)]);
    }

    #[test]
    fn files_that_were_packed_one_behind_the_other_are_one() {
        let file = [packed(b"a\nb\n"), packed(b"c")].concat();
        let expected = Part { bytes: b"a\nb\nc\n".to_vec(), first: 1, too_long: vec![] };
        assert_eq!(parts(&file, 8), [expected]);
        assert_eq!(parts(b"", 8), []);
        assert_eq!(parts(b"\x1f", 8)[0].bytes, b"\x1f\n");
    }

    #[test]
    fn a_packed_file_that_is_cut_gives_what_it_has_and_an_error() {
        let lines: String = (0..25_000_u64).map(|n| format!("{}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let file = packed(lines.as_bytes());
        for cut in [file.len() / 2, file.len() - 4] {
            let (mut whole, mut failed) = (Vec::new(), None);
            for part in Parts::of(&file[..cut]).unwrap() {
                assert!(failed.is_none(), "the error comes last");
                match part {
                    Ok(part) => whole.extend_from_slice(&part.bytes),
                    Err(e) => failed = Some(e.kind()),
                }
            }
            assert_eq!(failed, Some(io::ErrorKind::UnexpectedEof));
            assert!(lines.as_bytes().starts_with(&whole) && whole.ends_with(b"\n"), "whole lines, in order");
            let is_half = (lines.len() / 3..lines.len() * 2 / 3).contains(&whole.len());
            assert!(is_half || cut > file.len() / 2 && whole.len() == lines.len(), "{} bytes", whole.len());
        }
    }
}
