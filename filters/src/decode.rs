//! A decompressed side copy of an answer, read as it passes and never kept.
//!
//! Decoding is incremental, and bounded in memory (windows of at most 16 MiB) and in work. It
//! verifies no checksum: the client does that, on the bytes that it gets untouched.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation};

/// How much of one answer is decoded. The largest embeddings answer in base64 is below 40 MiB; a
/// bomb costs no more than this, which is a fraction of a second.
pub const MAX_DECODED_BYTES: u64 = 64 << 20;

/// The output buffer: an event or two; larger ones cost memory in every compressed stream.
const OUTPUT_BYTES: usize = 8 << 10;

/// The largest window of zstd as a content coding: 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, of one or more members.
    Gzip,
    /// RFC 1950; raw RFC 1951, which some servers send, is recognised.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// Another coding, or several: bytes can be counted, nothing can be read.
    Unknown,
}

impl Encoding {
    /// The coding that a `Content-Encoding` names.
    pub fn of(content_encoding: Option<&str>) -> Encoding {
        let name = content_encoding.unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Encoding::Identity,
            "gzip" | "x-gzip" => Encoding::Gzip,
            "deflate" => Encoding::Deflate,
            "br" => Encoding::Brotli,
            "zstd" => Encoding::Zstd,
            _ => Encoding::Unknown,
        }
    }
}

/// Why a body is not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It is not what its coding says.
    #[error("the compressed body is corrupt")]
    Corrupt,
    /// It decodes to more than [`MAX_DECODED_BYTES`].
    #[error("the body decodes to more than is read")]
    TooLarge,
}

/// Decodes one body.
pub struct Decoder {
    codec: Codec,
    output: Box<[u8]>,
    decoded: u64,
}

enum Codec {
    Gzip(Gzip),
    /// The first byte tells whether there is a header.
    Deflate(Option<Decompress>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Zstd<'static>),
}

/// Where a gzip body is: flate2 reads single members without their headers.
struct Gzip {
    stage: Stage,
    flags: u8,
    inflate: Decompress,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Bytes of the fixed header read.
    Head(u8),
    ExtraLow,
    ExtraHigh(u8),
    Extra(u16),
    Name,
    Comment,
    /// Bytes of the header's checksum left.
    HeadCheck(u8),
    Body,
    /// Bytes of the trailer left.
    Trailer(u8),
}

/// One step of a codec.
struct Step {
    consumed: usize,
    produced: usize,
    /// Whether the compressed stream is over.
    ended: bool,
}

impl Decoder {
    /// A decoder for a coding; none if there is nothing to decode, or no way to.
    pub fn new(encoding: Encoding) -> Option<Decoder> {
        let codec = match encoding {
            Encoding::Identity | Encoding::Unknown => return None,
            Encoding::Gzip => Codec::Gzip(Gzip { stage: Stage::Head(0), flags: 0, inflate: Decompress::new(false) }),
            Encoding::Deflate => Codec::Deflate(None),
            Encoding::Brotli => {
                let alloc = StandardAlloc::default;
                // The strict form: no windows above 16 MiB.
                Codec::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Encoding::Zstd => {
                let mut zstd = Zstd::new().ok()?;
                zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
                Codec::Zstd(zstd)
            }
        };
        Some(Decoder { codec, output: vec![0; OUTPUT_BYTES].into(), decoded: 0 })
    }

    /// Decodes the next bytes and passes on what they say, in pieces.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Undecodable> {
        let mut rest = chunk;
        // Zstd takes repeated calls without input for a fault.
        while !chunk.is_empty() {
            let step = self.codec.step(rest, &mut self.output)?;
            rest = &rest[step.consumed..];
            self.decoded += step.produced as u64;
            if self.decoded > MAX_DECODED_BYTES {
                return Err(Undecodable::TooLarge);
            }
            if step.produced > 0 {
                each(&self.output[..step.produced]);
            }
            let idle = step.consumed == 0 && step.produced == 0;
            if step.ended || idle || rest.is_empty() && step.produced < self.output.len() {
                break;
            }
        }
        Ok(())
    }
}

impl Codec {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Undecodable> {
        match self {
            Codec::Gzip(gzip) => gzip.step(input, output),
            Codec::Deflate(state) => match (state, input) {
                (Some(inflate), input) => inflate_step(inflate, input, output),
                (None, []) => Ok(Step { consumed: 0, produced: 0, ended: false }),
                (state @ None, [first, ..]) => {
                    // A zlib header names method 8 and a window of at most 32 KiB.
                    let zlib = first & 0x0F == 8 && first >> 4 <= 7;
                    let inflate = state.insert(Decompress::new(zlib));
                    inflate_step(inflate, input, output)
                }
            },
            Codec::Brotli(state) => {
                let (mut left, mut consumed) = (input.len(), 0);
                let (mut room, mut produced) = (output.len(), 0);
                let mut total = 0;
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut consumed,
                    input,
                    &mut room,
                    &mut produced,
                    output,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => Err(Undecodable::Corrupt),
                    result => {
                        let ended = matches!(result, BrotliResult::ResultSuccess);
                        Ok(Step { consumed, produced, ended })
                    }
                }
            }
            // At the end of a frame it goes on with the next.
            Codec::Zstd(zstd) => match zstd.run_on_buffers(input, output) {
                Ok(status) => Ok(Step { consumed: status.bytes_read, produced: status.bytes_written, ended: false }),
                Err(_) => Err(Undecodable::Corrupt),
            },
        }
    }
}

impl Gzip {
    /// Two bytes of identification, and the only method there is.
    const MAGIC: [u8; 3] = [0x1F, 0x8B, 8];
    /// Flags of RFC 1952, 2.3.1.
    const HEAD_CHECK: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Undecodable> {
        let mut at = 0;
        while !matches!(self.stage, Stage::Body) {
            let Some(&byte) = input.get(at) else {
                return Ok(Step { consumed: at, produced: 0, ended: false });
            };
            at += 1;
            self.stage = self.after(byte)?;
        }
        let mut step = inflate_step(&mut self.inflate, &input[at..], output)?;
        step.consumed += at;
        if step.ended {
            // Another member may follow.
            step.ended = false;
            self.inflate.reset(false);
            self.stage = Stage::Trailer(8);
        }
        Ok(step)
    }

    fn after(&mut self, byte: u8) -> Result<Stage, Undecodable> {
        Ok(match self.stage {
            Stage::Head(read) => {
                let magic = Gzip::MAGIC.get(usize::from(read));
                if magic.is_some_and(|&magic| byte != magic) {
                    return Err(Undecodable::Corrupt);
                }
                if read == 3 {
                    self.flags = byte;
                }
                if read < 9 { Stage::Head(read + 1) } else { self.optional(Gzip::EXTRA) }
            }
            Stage::ExtraLow => Stage::ExtraHigh(byte),
            Stage::ExtraHigh(low) => match u16::from_le_bytes([low, byte]) {
                0 => self.optional(Gzip::NAME),
                length => Stage::Extra(length),
            },
            Stage::Extra(left) if left > 1 => Stage::Extra(left - 1),
            Stage::Extra(_) => self.optional(Gzip::NAME),
            Stage::Name if byte != 0 => Stage::Name,
            Stage::Name => self.optional(Gzip::COMMENT),
            Stage::Comment if byte != 0 => Stage::Comment,
            Stage::Comment => self.optional(Gzip::HEAD_CHECK),
            Stage::HeadCheck(left) if left > 1 => Stage::HeadCheck(left - 1),
            Stage::HeadCheck(_) | Stage::Body => Stage::Body,
            Stage::Trailer(left) if left > 1 => Stage::Trailer(left - 1),
            Stage::Trailer(_) => Stage::Head(0),
        })
    }

    /// The first part of the header that is there, from `part` on, in the order of the format.
    fn optional(&self, part: u8) -> Stage {
        let order = [
            (Gzip::EXTRA, Stage::ExtraLow),
            (Gzip::NAME, Stage::Name),
            (Gzip::COMMENT, Stage::Comment),
            (Gzip::HEAD_CHECK, Stage::HeadCheck(2)),
        ];
        order
            .into_iter()
            .skip_while(|(flag, _)| *flag != part)
            .find(|(flag, _)| self.flags & flag != 0)
            .map_or(Stage::Body, |(_, stage)| stage)
    }
}

fn inflate_step(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> Result<Step, Undecodable> {
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None).map_err(|_| Undecodable::Corrupt)?;
    // Neither can exceed its buffer, so both fit.
    let consumed = usize::try_from(inflate.total_in() - before.0).unwrap_or(input.len());
    let produced = usize::try_from(inflate.total_out() - before.1).unwrap_or(output.len());
    Ok(Step { consumed, produced, ended: status == Status::StreamEnd })
}
