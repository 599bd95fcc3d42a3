//! The 61-byte header of a record batch, format v2: reading it, walking from batch to batch, and its CRC.
//!
//! Base offset and leader epoch are outside the CRC, so the log may rewrite them without touching the rest.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// Bytes before the first record of a batch.
pub(crate) const HEADER_LEN: usize = 61;
/// Bytes before the part that `batchLength` counts.
pub(crate) const LENGTH_OVERHEAD: usize = 12;
/// Where the part that the CRC covers begins.
pub(crate) const CRC_START: usize = 21;

const TIMESTAMP_TYPE: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// Why bytes are not a usable batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BatchError {
    /// Fewer bytes than the header or the length field asks for.
    #[error("the batch is cut short")]
    Truncated,
    /// Only format v2 exists here.
    #[error("unsupported magic {0}")]
    Magic(i8),
    /// A length that cannot hold a header, or a negative count.
    #[error("impossible batch length {0}")]
    Length(i32),
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Crc,
    /// The records inside do not parse.
    #[error("the records are malformed")]
    Records,
    /// Compressed with something unknown, or the codec failed.
    #[error("the compressed records cannot be read")]
    Codec,
}

/// A decoded batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    pub(crate) batch_length: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

fn i16_at(b: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([b[at], b[at + 1]])
}
fn i32_at(b: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn i64_at(b: &[u8], at: usize) -> i64 {
    (i64::from(i32_at(b, at)) << 32) | (i64::from(i32_at(b, at + 4)) & 0xffff_ffff)
}

impl BatchHeader {
    /// Reads the header at the start of `b`; the records need not be there.
    pub(crate) fn parse(b: &[u8]) -> Result<Self, BatchError> {
        if b.len() < HEADER_LEN {
            return Err(BatchError::Truncated);
        }
        let magic = b[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let header = BatchHeader {
            base_offset: i64_at(b, 0),
            batch_length: i32_at(b, 8),
            leader_epoch: i32_at(b, 12),
            crc: i32_at(b, 17) as u32,
            attributes: i16_at(b, 21),
            last_offset_delta: i32_at(b, 23),
            base_timestamp: i64_at(b, 27),
            max_timestamp: i64_at(b, 35),
            producer_id: i64_at(b, 43),
            producer_epoch: i16_at(b, 51),
            base_sequence: i32_at(b, 53),
            record_count: i32_at(b, 57),
        };
        if header.batch_length < (HEADER_LEN - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(BatchError::Length(header.record_count));
        }
        Ok(header)
    }

    /// Writes the header to the front of `out`, except for the CRC (see [`seal`]).
    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = 2;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Size of the whole batch on the wire and on disk.
    pub(crate) fn total_len(&self) -> usize {
        self.batch_length as usize + LENGTH_OVERHEAD
    }
    /// Offset of the last record (that there was before compaction).
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
    /// Codec number in the attributes.
    pub(crate) fn codec(&self) -> u8 {
        (self.attributes & 7) as u8
    }
    /// Whether the broker stamped the time.
    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE != 0
    }
    /// Whether the batch belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
    /// Whether the batch holds markers, not data.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
    /// When its tombstones may go, if compaction has met it before.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
    /// Marks the batch as stamped by the broker.
    pub(crate) fn set_log_append_time(&mut self, now: i64) {
        self.attributes |= TIMESTAMP_TYPE;
        self.max_timestamp = now;
    }
    /// Marks from when on tombstones may go.
    pub(crate) fn set_delete_horizon(&mut self, at: i64) {
        self.attributes |= DELETE_HORIZON;
        self.base_timestamp = at;
    }
    /// Whether an idempotent or transactional producer wrote it.
    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
    /// Sequence of the last record, wrapping as Kafka does.
    pub(crate) fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 { -1 } else { add_sequence(self.base_sequence, self.last_offset_delta) }
    }
}

/// Adds to a sequence number; after 2^31-1 comes 0.
pub(crate) fn add_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & 0x7fff_ffff) as i32
}

/// Checks length and CRC of the batch that `b` begins with.
pub(crate) fn verify(b: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    if b.len() < header.total_len() {
        return Err(BatchError::Truncated);
    }
    if crc32c::crc32c(&b[CRC_START..header.total_len()]) == header.crc { Ok(()) } else { Err(BatchError::Crc) }
}

/// Computes the CRC of a finished batch and writes it into its header.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Sets the attributes of a control batch in a finished batch.
pub(crate) fn mark_control(batch: Bytes) -> Bytes {
    with_attributes(batch, TRANSACTIONAL | CONTROL)
}

fn with_attributes(batch: Bytes, attributes: i16) -> Bytes {
    let mut out = BytesMut::from(batch);
    let all = i16_at(&out, 21) | attributes;
    out[21..23].copy_from_slice(&all.to_be_bytes());
    seal(&mut out);
    out.freeze()
}

/// Length of the longest prefix of `b` that is whole batches which begin below the offset `before`, and the offset
/// after the last of them.
pub(crate) fn whole_batches(b: &[u8], before: i64) -> (usize, i64) {
    let (mut at, mut end) = (0, i64::MIN);
    while let Ok(header) = BatchHeader::parse(&b[at..]) {
        if b.len() - at < header.total_len() || header.base_offset >= before {
            break;
        }
        at += header.total_len();
        end = header.last_offset().saturating_add(1);
    }
    (at, end)
}

/// Walks the whole batches of `b`; stops at the first that is cut short or malformed.
pub(crate) fn batches(b: &[u8]) -> impl Iterator<Item = (BatchHeader, &[u8])> {
    let mut rest = b;
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(rest).ok()?;
        let (batch, tail) = rest.split_at_checked(header.total_len())?;
        rest = tail;
        Some((header, batch))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::records::{BatchBuilder, decode};

    #[test]
    fn a_built_batch_reads_back() {
        let mut builder = BatchBuilder::new(1000);
        builder.push(1000, Some(b"k"), Some(b"v"));
        builder.push(1005, None, None);
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.total_len(), bytes.len());
        assert_eq!((header.last_offset(), header.record_count, header.max_timestamp), (1, 2, 1005));
        verify(&bytes, &header).unwrap();
        assert_eq!(whole_batches(&bytes, 1), (bytes.len(), 2));
        assert_eq!(whole_batches(&bytes, 0).0, 0);
        assert_eq!(whole_batches(&bytes[..bytes.len() - 1], 1).0, 0);
    }

    #[test]
    fn a_sequence_wraps_to_zero() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(header) = BatchHeader::parse(&bytes) {
                let _ = verify(&bytes, &header);
            }
            let _ = whole_batches(&bytes, i64::MAX);
            let _ = batches(&bytes).count();
        }

        #[test]
        fn a_damaged_batch_never_panics_and_is_noticed(at in 16usize..120, with in any::<u8>(), codec in 0u8..8) {
            let mut builder = BatchBuilder::new(5);
            for i in 0..6u8 {
                builder.push(5 + i64::from(i), Some(&[i; 4]), Some(&[i; 9]));
            }
            let mut bytes = builder.build().to_vec();
            let before = bytes[at % bytes.len()];
            let index = at % bytes.len();
            bytes[index] = with;
            if let Ok(mut header) = BatchHeader::parse(&bytes) {
                if with != before {
                    prop_assert!(verify(&bytes, &header).is_err());
                }
                header.attributes = (header.attributes & !7) | i16::from(codec);
                let _ = decode(&header, &bytes);
            }
        }
    }
}
