//! The five codecs of a record batch. Only compaction, time look-ups and `compression.type` need them.
//!
//! Output is limited, so that a small batch cannot unpack into all of memory.

use std::borrow::Cow;
use std::io::{Read, Write};

use super::batch::BatchError;

/// A codec, with its number in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Compression {
    /// None.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy, in the blocks that Java's library writes.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

/// No batch may unpack to more than this.
const MAX_UNPACKED: usize = 256 << 20;
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Unpacks the record section of a batch.
pub(crate) fn unpack(codec: u8, data: &[u8]) -> Result<Cow<'_, [u8]>, BatchError> {
    match codec {
        0 => Ok(Cow::Borrowed(data)),
        1 => read_limited(flate2::read::MultiGzDecoder::new(data)),
        2 => unpack_snappy(data),
        3 => read_limited(lz4_flex::frame::FrameDecoder::new(data)),
        4 => read_limited(zstd::stream::read::Decoder::new(data).map_err(|_| BatchError::Codec)?),
        _ => Err(BatchError::Codec),
    }
}

fn read_limited<'a>(reader: impl Read) -> Result<Cow<'a, [u8]>, BatchError> {
    let mut out = Vec::new();
    let read = reader.take(MAX_UNPACKED as u64 + 1).read_to_end(&mut out).map_err(|_| BatchError::Codec)?;
    if read > MAX_UNPACKED { Err(BatchError::Codec) } else { Ok(Cow::Owned(out)) }
}

fn unpack_snappy(data: &[u8]) -> Result<Cow<'_, [u8]>, BatchError> {
    let mut out = Vec::new();
    if let Some(rest) = data.strip_prefix(XERIAL_MAGIC) {
        let mut rest = rest.get(8..).ok_or(BatchError::Codec)?;
        while !rest.is_empty() {
            let (len, tail) = rest.split_first_chunk::<4>().ok_or(BatchError::Codec)?;
            let (block, tail) = tail.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(BatchError::Codec)?;
            snappy_block(block, &mut out)?;
            rest = tail;
        }
    } else {
        snappy_block(data, &mut out)?;
    }
    Ok(Cow::Owned(out))
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let len = snap::raw::decompress_len(block).map_err(|_| BatchError::Codec)?;
    // A snappy block unpacks to at most about 21 times its size, so a larger claim is a lie.
    if out.len() + len > MAX_UNPACKED || len > block.len().saturating_mul(32) + 64 {
        return Err(BatchError::Codec);
    }
    let at = out.len();
    out.resize(at + len, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[at..]).map_err(|_| BatchError::Codec)?;
    Ok(())
}

/// Packs a record section.
pub(crate) fn pack(codec: u8, data: &[u8]) -> Result<Vec<u8>, BatchError> {
    let failed = |_| BatchError::Codec;
    match codec {
        0 => Ok(data.to_vec()),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
        2 => {
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            for chunk in data.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(chunk).map_err(|_| BatchError::Codec)?;
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            Ok(out)
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(data).map_err(failed)?;
            encoder.finish().map_err(|_| BatchError::Codec)
        }
        4 => zstd::stream::encode_all(data, 3).map_err(failed),
        _ => Err(BatchError::Codec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_packs_and_unpacks() {
        let data: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in 0..5 {
            let packed = pack(codec, &data).unwrap();
            assert_eq!(unpack(codec, &packed).unwrap().as_ref(), data.as_slice(), "codec {codec}");
            if codec > 0 {
                assert!(unpack(codec, &packed[..packed.len() / 2]).is_err(), "codec {codec} cut short");
            }
        }
        let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(unpack(2, &raw).unwrap().as_ref(), data.as_slice());
        assert!(unpack(7, &data).is_err());
    }
}
