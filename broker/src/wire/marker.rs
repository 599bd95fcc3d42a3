//! Transaction markers: the control batch of one record that ends a transaction in a partition (KIP-98).
//!
//! Key: version, type (0 abort, 1 commit); value: version, coordinator epoch.

use bytes::Bytes;

use super::batch::{BatchHeader, mark_control};
use super::records::{BatchBuilder, decode};

/// What ends the transaction of a producer in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndMarker {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
    pub(crate) timestamp: i64,
}

impl EndMarker {
    /// The control batch, with base offset 0.
    pub(crate) fn batch(&self) -> Bytes {
        let mut builder = BatchBuilder::new(self.timestamp).producer(self.producer_id, self.epoch, -1);
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        builder.push(self.timestamp, Some(&[0, 0, 0, u8::from(self.commit)]), Some(&value));
        mark_control(builder.build())
    }

    /// Reads a control batch; none if it holds something else, or nothing any more.
    pub(crate) fn parse(header: &BatchHeader, bytes: &[u8]) -> Option<Self> {
        if !header.is_control() {
            return None;
        }
        let unpacked = decode(header, bytes).ok()?;
        let record = unpacked.records().next()?.ok()?;
        let [_, _, 0, kind @ (0 | 1)] = *record.key? else { return None };
        let epoch = record.value.and_then(|value| value.get(2..6));
        let coordinator_epoch = epoch.map_or(0, |e| i32::from_be_bytes([e[0], e[1], e[2], e[3]]));
        Some(EndMarker {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            commit: kind == 1,
            coordinator_epoch,
            timestamp: record.timestamp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::verify;

    #[test]
    fn a_marker_reads_back() {
        for commit in [true, false] {
            let marker = EndMarker { producer_id: 7, epoch: 3, commit, coordinator_epoch: 9, timestamp: 50 };
            let bytes = marker.batch();
            let header = BatchHeader::parse(&bytes).unwrap();
            verify(&bytes, &header).unwrap();
            assert!(header.is_control() && header.is_transactional() && header.base_sequence == -1);
            assert_eq!((header.record_count, EndMarker::parse(&header, &bytes)), (1, Some(marker)));
            for cut in 0..bytes.len() {
                let _ = EndMarker::parse(&header, &bytes[..cut]);
            }
        }
    }
}
