//! Appending record batches.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

use super::Handle;
use crate::clock::now_ms;
use crate::cluster::Topic;
use crate::config::SyncPolicy;
use crate::log::{Appended, Batch, Refused};

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nobody waits.
    None,
    /// In the page cache: survives a crash of the process.
    Leader,
    /// On disk, unless the broker is set to page-cache durability.
    All,
}

/// Why an append was refused.
#[derive(Debug, Clone)]
pub struct AppendError {
    /// Kafka's error.
    pub error: ResponseError,
    /// Records at fault, by index in the batch, with the reason.
    pub records: Vec<(i32, &'static str)>,
}

impl From<Refused> for AppendError {
    fn from(refused: Refused) -> Self {
        AppendError { error: refused.error, records: refused.records }
    }
}

impl From<ResponseError> for AppendError {
    fn from(error: ResponseError) -> Self {
        AppendError { error, records: Vec::new() }
    }
}

/// Where a batch was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Offset of its first record; for a duplicate, the original one.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Time that the broker stamped, -1 if the topic keeps the producer's.
    pub log_append_time: i64,
    /// First offset of the log.
    pub log_start: i64,
}

/// A batch that is in the log but perhaps not on disk yet.
#[derive(Debug)]
pub struct PendingAppend {
    outcome: AppendOutcome,
    durable: Option<oneshot::Receiver<Result<(), ResponseError>>>,
}

impl PendingAppend {
    /// Resolves when the batch is as durable as was asked for. Dropping it does not undo the append.
    ///
    /// # Errors
    /// The disk failed; the batch may be lost.
    pub async fn done(self) -> Result<AppendOutcome, ResponseError> {
        if let Some(durable) = self.durable {
            durable.await.unwrap_or(Err(ResponseError::NotLeaderOrFollower))?;
        }
        Ok(self.outcome)
    }
}

impl Handle {
    /// Appends one record batch as a producer sends it (format v2, base offset 0). Returns once it is in the page
    /// cache; await the answer for durability. Calls for one partition take effect in the order they are made.
    ///
    /// # Errors
    /// As Produce answers for the partition; nothing was stored.
    pub fn append(&self, topic: &str, partition: i32, batch: Bytes, acks: Acks) -> Result<PendingAppend, AppendError> {
        let topic = self.0.cluster.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.append_to(&topic, partition, batch, acks)
    }

    pub(crate) fn append_to(
        &self,
        topic: &Topic,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<PendingAppend, AppendError> {
        if self.is_stopping() {
            return Err(ResponseError::NotLeaderOrFollower.into());
        }
        let partition = topic.partition(partition)?;
        let config = &topic.config;
        if topic.is_internal() {
            return Err(ResponseError::InvalidTopicException.into());
        }
        if acks == Acks::All && config.min_insync_replicas > 1 && !self.0.config.clamp_replication_factor {
            return Err(ResponseError::NotEnoughReplicas.into());
        }
        let now = now_ms();
        let batch = Batch::check(batch, config, now)?;
        let header = batch.header;
        let store = || partition.log().append(batch, now);
        let appended = if header.is_transactional() {
            self.0.transactions.append(&header, &topic.name, partition.index, store)?
        } else {
            store()
        };
        let Appended { base_offset, last_offset, log_append_time, log_start, rolled } = appended?;
        let group_commit = self.0.config.sync_policy == SyncPolicy::GroupCommit;
        let waits = group_commit && acks == Acks::All || config.flush_messages == 1;
        let durable = waits.then(|| self.0.syncer.sync(partition));
        // Under group commit readers see what is on disk, so what nobody waits for must get there too.
        if !waits && (rolled || group_commit) {
            if header.is_transactional() {
                // The end of the transaction will wait for it.
                self.0.syncer.sync_gathered(partition);
            } else {
                self.0.syncer.sync_later(partition);
            }
        }
        Ok(PendingAppend { outcome: AppendOutcome { base_offset, last_offset, log_append_time, log_start }, durable })
    }

    /// A new producer id, for an idempotent producer; its epoch is 0.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn init_producer_id(&self) -> Result<i64, ResponseError> {
        self.on_disk(|inner| inner.cluster.next_producer_id()).await
    }
}
