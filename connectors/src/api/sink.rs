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
    /// [`Self::flush`]. Called with an empty slice now and then, so that time-based flushing works. Records that
    /// follow a rejected one are written all the same.
    ///
    /// # Errors
    /// Retriable: nothing of this call was written, the same records come again. Others make the task FAILED.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<Vec<Rejected>>;

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

/// A record that the target refused for what it holds.
#[derive(Debug)]
pub struct Rejected {
    /// Its place in the slice given to [`SinkTask::put`].
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
