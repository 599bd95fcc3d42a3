//! What a sink connector and its tasks do for the worker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{ConfigError, Error, Health, Props, Result, SinkRecord, Spec, TopicPartition};

/// A kind of sink. One static value serves every configured connector of its class.
#[async_trait]
pub trait SinkConnector: Send + Sync {
    /// Names, version and config keys.
    fn spec(&self) -> &'static Spec;

    /// Errors across keys that need no connection. Pure.
    fn validate(&self, props: &Props) -> Vec<ConfigError>;

    /// Errors that show only by connecting; called for config/validate and before a connector is created.
    async fn check(&self, props: &Props) -> Vec<ConfigError>;

    /// Values to offer for keys, from what the config leads to so far; called for config/validate only. What can't be
    /// found out is left out.
    async fn recommend(&self, _props: &Props) -> Vec<(&'static str, Vec<String>)> {
        Vec::new()
    }

    /// Opens one task. All tasks of a sink have the connector's config.
    ///
    /// # Errors
    /// Retriable errors are retried with backoff, others make the task FAILED.
    async fn open(&self, props: &Props, context: SinkContext) -> Result<Box<dyn SinkTask>>;

    /// A user sets offsets of the stopped connector over REST (KIP-875), `None` for one forgets it, for all forgets all:
    /// what the target knows of them must follow. Whether it knows any.
    ///
    /// # Errors
    /// Why it cannot.
    async fn alter_offsets(
        &self,
        _props: &Props,
        _group: &ConsumerGroup,
        _offsets: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<bool> {
        Ok(false)
    }
}

/// One running part of a sink.
#[async_trait]
pub trait SinkTask: Send {
    /// These partitions are now this task's, each with the end of its log. Answers where to read on, for each partition
    /// whose progress the target itself knows better than the consumer group (exactly-once); others resume from the
    /// group's offset. An offset beyond the end belongs to an earlier log of that name and means nothing now.
    ///
    /// # Errors
    /// Retriable errors are retried, others make the task FAILED.
    async fn assigned(&mut self, _partitions: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64)>> {
        Ok(Vec::new())
    }

    /// Writes records in their order. Everything not named in the answer is written, or will be by the next
    /// [`Self::flush`]. Called without records now and then, so that time-based flushing works. Records that
    /// follow a rejected one are written all the same.
    ///
    /// # Errors
    /// Retriable: nothing of this call was written, the same records come again. Others make the task FAILED. An error of
    /// the records themselves is passed on, and nothing written.
    async fn put(&mut self, records: &mut dyn SinkRecords) -> Result<Vec<Rejected>>;

    /// Makes everything put so far durable in the target; the group's offsets are committed after it.
    ///
    /// # Errors
    /// As [`Self::put`].
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// These partitions go to another task; everything put is flushed already.
    async fn revoked(&mut self, _partitions: &[TopicPartition]) {}

    /// Releases what the task holds.
    async fn close(self: Box<Self>);
}

/// The records of a put, a piece at a time: they are made when they are asked for, in the memory of the piece before, so
/// that a put may be large.
#[async_trait]
pub trait SinkRecords: Send {
    /// The partitions that the records come from, each with the offset after its last one.
    fn ends(&self) -> &[(TopicPartition, i64)];

    /// Goes on to the next piece, at first to the first one; false after the last.
    ///
    /// # Errors
    /// What ends the put: a record that cannot be read and must not be passed over.
    async fn advance(&mut self) -> Result<bool>;

    /// The records of the piece; none before the first and after the last.
    fn piece(&self) -> &[SinkRecord];

    /// The records of the piece, handed over: the piece is empty after that.
    fn take_piece(&mut self) -> Vec<SinkRecord>;

    /// Goes back before the first piece.
    fn rewind(&mut self);
}

impl dyn SinkRecords + '_ {
    /// All records, from the first on.
    ///
    /// # Errors
    /// As [`SinkRecords::advance`].
    pub async fn all(&mut self) -> Result<Vec<SinkRecord>> {
        self.rewind();
        let mut all = Vec::new();
        while self.advance().await? {
            all.append(&mut self.take_piece());
        }
        Ok(all)
    }
}

/// Records that are at hand, as one piece.
#[derive(Debug)]
pub struct MadeRecords<'a> {
    records: &'a [SinkRecord],
    ends: Vec<(TopicPartition, i64)>,
    begun: bool,
    piece: &'a [SinkRecord],
}

impl<'a> MadeRecords<'a> {
    /// These records.
    pub fn new(records: &'a [SinkRecord]) -> Self {
        let mut ends: Vec<(TopicPartition, i64)> = Vec::new();
        for SinkRecord { origin, .. } in records {
            let next = origin.offset + 1;
            let same = |at: &TopicPartition| at.partition == origin.partition && at.topic == origin.topic;
            match ends.iter_mut().find(|(at, _)| same(at)) {
                Some((_, end)) => *end = next.max(*end),
                None => {
                    ends.push((TopicPartition { topic: Arc::clone(&origin.topic), partition: origin.partition }, next));
                }
            }
        }
        Self { records, ends, begun: false, piece: &[] }
    }
}

#[async_trait]
impl SinkRecords for MadeRecords<'_> {
    fn ends(&self) -> &[(TopicPartition, i64)] {
        &self.ends
    }

    async fn advance(&mut self) -> Result<bool> {
        self.piece = if std::mem::replace(&mut self.begun, true) { &[] } else { self.records };
        Ok(!self.piece.is_empty())
    }

    fn piece(&self) -> &[SinkRecord] {
        self.piece
    }

    fn take_piece(&mut self) -> Vec<SinkRecord> {
        std::mem::take(&mut self.piece).to_vec()
    }

    fn rewind(&mut self) {
        (self.begun, self.piece) = (false, &[]);
    }
}

/// A record that the target refused for what it holds.
#[derive(Debug)]
pub struct Rejected {
    /// Its place among all records given to [`SinkTask::put`].
    pub index: usize,
    /// Why.
    pub error: Error,
}

/// A consumer group of one cluster: the same name elsewhere is another group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// The cluster's id.
    pub cluster: Arc<str>,
    /// The group's name.
    pub name: Arc<str>,
}

/// What a sink task gets from the worker.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The connector's name.
    pub connector: Arc<str>,
    /// The task's number, from 0.
    pub task: usize,
    /// The consumer group that the task reads in.
    pub group: ConsumerGroup,
    /// Cancelled when the task is to stop.
    pub stop: CancellationToken,
    /// What the status shows while the task retries.
    pub health: Health,
}
