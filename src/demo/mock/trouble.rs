//! Trouble on request: what `x-mock-…` headers make the mock do.
//!
//! | header | effect |
//! | --- | --- |
//! | `x-mock-status: N` | an error of that status in the provider's shape |
//! | `x-mock-delay-ms: N` | a pause before every piece (for a stream: every event) |
//! | `x-mock-cut-after: N` | the connection breaks after N events, or in the middle of a plain answer |
//! | `x-mock-gzip`, `x-mock-br`, `x-mock-zstd` | the answer is compressed, whatever was accepted |
//! | `x-mock-chunk: N` | at most N bytes are written at a time |
//! | `x-mock-words: N` | the answer has N words |
//!
//! Knows nothing of what is answered.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::HeaderMap;

/// Longest pause before a piece: a typing error must not hold a test for hours.
const MAX_DELAY_MS: u64 = 60_000;
/// Most words of an answer: about 20 MB of events.
const MAX_WORDS: usize = 100_000;
/// Fast settings: the mock's compression is there to be undone.
const BROTLI_BUFFER: usize = 4096;

/// What a request asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Trouble {
    pub(super) status: Option<u16>,
    pub(super) delay: Option<Duration>,
    pub(super) cut_after: Option<u64>,
    pub(super) coding: Option<Coding>,
    pub(super) chunk: Option<usize>,
    pub(super) words: Option<usize>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Trouble {
    /// What cannot be read is not asked for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let small = |name: &str| number(name).and_then(|n| usize::try_from(n).ok());
        let coding = [("x-mock-gzip", Coding::Gzip), ("x-mock-br", Coding::Brotli), ("x-mock-zstd", Coding::Zstd)];
        Self {
            status: number("x-mock-status").and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n)),
            delay: number("x-mock-delay-ms").map(|ms| Duration::from_millis(ms.min(MAX_DELAY_MS))),
            cut_after: number("x-mock-cut-after"),
            coding: coding.into_iter().find(|(name, _)| headers.contains_key(*name)).map(|(_, coding)| coding),
            chunk: small("x-mock-chunk").filter(|n| *n > 0),
            words: small("x-mock-words").map(|n| n.min(MAX_WORDS)),
        }
    }
}

impl Coding {
    /// The name in `content-encoding`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }
}

/// Compresses piece by piece; every piece can be read as soon as it has arrived.
pub(super) enum Coder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Coder {
    pub(super) fn new(coding: Option<Coding>) -> io::Result<Self> {
        Ok(match coding {
            None => Self::Identity,
            Some(Coding::Gzip) => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Some(Coding::Brotli) => {
                Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER, 1, 18)))
            }
            Some(Coding::Zstd) => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    pub(super) fn write(&mut self, piece: &Bytes) -> io::Result<Bytes> {
        let out = match self {
            Self::Identity => return Ok(piece.clone()),
            Self::Gzip(coder) => {
                coder.write_all(piece)?;
                coder.flush()?;
                coder.get_mut()
            }
            Self::Brotli(coder) => {
                coder.write_all(piece)?;
                coder.flush()?;
                coder.get_mut()
            }
            Self::Zstd(coder) => {
                coder.write_all(piece)?;
                coder.flush()?;
                coder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What ends the compressed body.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        Ok(match std::mem::replace(self, Self::Identity) {
            Self::Identity => Bytes::new(),
            Self::Gzip(coder) => coder.finish()?.into(),
            Self::Brotli(coder) => coder.into_inner().into(),
            Self::Zstd(coder) => coder.finish()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn headers_say_what_goes_wrong() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-mock-status", "503"), ("x-mock-delay-ms", "99999999"), ("x-mock-cut-after", "2")] {
            headers.insert(name, value.parse().expect("plain ASCII"));
        }
        headers.insert("x-mock-zstd", "1".parse().expect("plain ASCII"));
        headers.insert("x-mock-chunk", "0".parse().expect("plain ASCII"));
        let expected = Trouble {
            status: Some(503),
            delay: Some(Duration::from_secs(60)),
            cut_after: Some(2),
            coding: Some(Coding::Zstd),
            chunk: None,
            words: None,
        };
        assert_eq!(Trouble::of(&headers), expected);
        assert_eq!(Trouble::of(&HeaderMap::new()), Trouble::default());
    }

    #[test]
    fn every_coding_can_be_undone() {
        let pieces = [Bytes::from_static(b"data: one\n\n"), Bytes::from_static(b"data: two\n\n")];
        for coding in [None, Some(Coding::Gzip), Some(Coding::Brotli), Some(Coding::Zstd)] {
            let mut coder = Coder::new(coding).expect("memory is no IO");
            let mut sent = Vec::new();
            for piece in &pieces {
                let out = coder.write(piece).expect("memory is no IO");
                assert!(!out.is_empty(), "{coding:?} holds a piece back");
                sent.extend_from_slice(&out);
            }
            sent.extend_from_slice(&coder.finish().expect("memory is no IO"));
            let mut plain = Vec::new();
            match coding {
                None => plain = sent,
                Some(Coding::Gzip) => {
                    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).expect("whole gzip");
                }
                Some(Coding::Brotli) => {
                    brotli::Decompressor::new(&sent[..], 4096).read_to_end(&mut plain).expect("whole brotli");
                }
                Some(Coding::Zstd) => plain = zstd::decode_all(&sent[..]).expect("whole zstd"),
            }
            assert_eq!(plain, b"data: one\n\ndata: two\n\n", "{coding:?}");
        }
    }
}
