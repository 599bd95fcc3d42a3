//! Offsets of a log: its ends, and those found by time.

use kafka_protocol::ResponseError;

use super::Handle;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first of the log.
    Earliest,
    /// The high watermark: that of the next record, or, under group commit, of the first that is not on disk.
    Latest,
    /// The last stable offset: the high watermark, or where the first transaction that is open began.
    LatestStable,
    /// That of the record with the largest time.
    MaxTimestamp,
    /// That of the first record at or after a time.
    Timestamp(i64),
}

/// An offset that was asked for; all fields are -1 if no record matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// Time of the record, if asked for by time.
    pub timestamp: i64,
    /// Leader epoch of the record.
    pub leader_epoch: i32,
}

/// Offsets of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first that can be read.
    pub start: i64,
    /// High watermark: readers see what is before. Under group commit that is what is on disk.
    pub end: i64,
    /// Up to here all transactions have ended.
    pub last_stable: i64,
    /// Up to here everything is known to be on disk.
    pub durable: i64,
}

impl Handle {
    /// Looks up an offset.
    ///
    /// # Errors
    /// As ListOffsets answers for the partition.
    pub async fn find_offset(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, ResponseError> {
        let partition = self.0.cluster.partition(topic, partition)?;
        let visible = partition.log().visible_end();
        let by_time = |found: Option<(i64, i64, i32)>| match found {
            Some((timestamp, offset, leader_epoch)) if offset < visible => {
                FoundOffset { offset, timestamp, leader_epoch }
            }
            _ => FoundOffset { offset: -1, timestamp: -1, leader_epoch: -1 },
        };
        match spec {
            OffsetSpec::MaxTimestamp => self.on_disk(move |_| partition.max_time()).await.map(by_time),
            OffsetSpec::Timestamp(time) => self.on_disk(move |_| partition.find_time(time)).await.map(by_time),
            OffsetSpec::Earliest | OffsetSpec::Latest | OffsetSpec::LatestStable => {
                let log = partition.log();
                let offset = match spec {
                    OffsetSpec::Earliest => log.log_start(),
                    OffsetSpec::LatestStable => log.last_stable(),
                    _ => log.visible_end(),
                };
                Ok(FoundOffset { offset, timestamp: -1, leader_epoch: log.epoch_at(offset) })
            }
        }
    }

    /// Offsets of a partition's log as they are now.
    ///
    /// # Errors
    /// The partition does not exist.
    pub fn log_offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, ResponseError> {
        let partition = self.0.cluster.partition(topic, partition)?;
        let log = partition.log();
        let marks = log.watermarks();
        Ok(LogOffsets {
            start: marks.log_start,
            end: marks.high_watermark,
            last_stable: marks.last_stable,
            durable: log.synced_end(),
        })
    }
}
