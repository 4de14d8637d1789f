//! How a block's bytes become a frame's payload: raw, or one zstd frame; in packs of deltas also in terms of other chunks.

use std::io::Read;

use cairn_delta::prefix;
use zstd::bulk;
use zstd::zstd_safe::{CParameter, Strategy};

use super::{BLOCK_MAX, FrameError};

/// How a payload is encoded. The numbers are in every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// The plain bytes.
    Raw = 0,
    /// One zstd frame (RFC 8878), without checksum and dictionary.
    Zstd = 1,
    /// zstd that copies from base chunks, too: [`cairn_delta::prefix`]. In packs of deltas alone.
    Prefix = 2,
    /// What is left of executables after they were predicted from others: [`cairn_delta::reloc`]. In packs of deltas alone.
    Relocation = 3,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Prefix),
            3 => Some(Self::Relocation),
            _ => None,
        }
    }

    /// Whether it takes other chunks to decode it.
    #[must_use]
    pub fn has_bases(self) -> bool {
        match self {
            Self::Raw | Self::Zstd => false,
            Self::Prefix | Self::Relocation => true,
        }
    }
}

/// zstd parameters for blocks of 512 KiB: double-fast with tables that stay in a core's second-level cache. Measured on
/// 80 MB of a Rust executable, and on small text files, per core: level 3 0.437 at 293 MB/s; these 0.439 and 0.235 at
/// 333 and 423 MB/s. The `fast` strategy is a fifth faster on executables and 1 to 5 % larger.
const PARAMETERS: [CParameter; 7] = [
    CParameter::CompressionLevel(3),
    CParameter::Strategy(Strategy::ZSTD_dfast),
    CParameter::WindowLog(19),
    CParameter::HashLog(16),
    CParameter::ChainLog(15),
    CParameter::MinMatch(5),
    CParameter::TargetLength(0),
];

/// A compression context and its output buffer, to be used for many blocks by one thread.
pub struct Compressor {
    context: bulk::Compressor<'static>,
    output: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        let mut context = bulk::Compressor::default();
        for parameter in PARAMETERS {
            context.set_parameter(parameter).expect("the parameters are within zstd's bounds");
        }
        Self { context, output: Vec::with_capacity(zstd::zstd_safe::compress_bound(BLOCK_MAX)) }
    }
}

impl Compressor {
    /// The smaller of the plain and the compressed bytes.
    pub(super) fn compress(&mut self, plain: &[u8]) -> (Codec, Vec<u8>) {
        self.output.clear();
        match self.context.compress_to_buffer(plain, &mut self.output) {
            Ok(len) if len < plain.len() => (Codec::Zstd, self.output[..len].to_vec()),
            // zstd fails only for want of room, which compress_bound excludes; raw is right in any case.
            _ => (Codec::Raw, plain.to_vec()),
        }
    }
}

/// A decompression context, to be used for many blocks by one thread.
#[derive(Default)]
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
    /// Where frames are read to.
    scratch: Vec<u8>,
    unfolding: prefix::Decoder,
}

impl Decompressor {
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn give_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    /// Decodes a payload that stands on nothing to exactly `plain_len` bytes (at most [`BLOCK_MAX`], which the header's
    /// decoder checked).
    pub(super) fn decompress(
        &mut self,
        codec: Codec,
        payload: &[u8],
        plain_len: usize,
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>, FrameError> {
        buffer.clear();
        match codec {
            Codec::Raw => buffer.extend_from_slice(payload),
            Codec::Zstd => {
                // zstd writes into the vector's capacity and fails where a frame holds more.
                buffer.reserve(plain_len);
                self.context
                    .decompress_to_buffer(payload, &mut buffer)
                    .map_err(|_| FrameError::Decompress)?;
            }
            Codec::Prefix | Codec::Relocation => return Err(FrameError::Codec(codec as u8)),
        }
        if buffer.len() == plain_len { Ok(buffer) } else { Err(FrameError::Lengths) }
    }

    /// The same of a payload that is behind a prefix.
    pub(super) fn decompress_behind(
        &mut self,
        prefix: &[u8],
        payload: &[u8],
        plain_len: usize,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>, FrameError> {
        self.unfolding.decode(prefix, payload, plain_len, buffer).map_err(|_| FrameError::Decompress)
    }
}

/// As many bytes of a damaged payload as decode, then zeros up to `plain_len`. Nothing says that they are right.
pub(super) fn decompress_damaged(
    codec: Codec,
    payload: &[u8],
    plain_len: usize,
    mut buffer: Vec<u8>,
) -> Vec<u8> {
    buffer.clear();
    match codec {
        Codec::Raw => buffer.extend_from_slice(&payload[..payload.len().min(plain_len)]),
        Codec::Zstd => {
            buffer.resize(plain_len, 0);
            let mut at = 0;
            if let Ok(mut decoder) = zstd::stream::read::Decoder::with_buffer(payload) {
                // zstd gives out what it has decoded before it meets what it cannot decode.
                while let Ok(read @ 1..) = decoder.read(&mut buffer[at..]) {
                    at += read;
                }
            }
        }
        // One bit that is wrong is copied on and on, and reading bases for that is not worth while.
        Codec::Prefix | Codec::Relocation => {}
    }
    buffer.resize(plain_len, 0);
    buffer
}
