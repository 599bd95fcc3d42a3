//! What a source connector and its tasks do for the worker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{ConfigError, Health, Position, Props, Result, SourceBatch, Spec};

/// A kind of source. One static value serves every configured connector of its class.
#[async_trait]
pub trait SourceConnector: Send + Sync {
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

    /// The configs of at most `max_tasks` tasks. Called at start and whenever [`Self::replan`] resolved.
    ///
    /// # Errors
    /// Retriable errors are retried with backoff, others make the connector FAILED.
    async fn plan(&self, props: &Props, max_tasks: usize, health: &Health) -> Result<Vec<Props>>;

    /// Resolves when the plan made from `props` is stale (a table came or went), for ever pending if it never is.
    /// Dropped when the connector stops.
    async fn replan(&self, props: &Props, current: &[Props]);

    /// Opens one task; its config is one of those that [`Self::plan`] gave.
    ///
    /// # Errors
    /// Retriable errors are retried with backoff, others make the task FAILED.
    async fn open(&self, props: &Props, context: SourceContext) -> Result<Box<dyn SourceTask>>;

    /// Checks offsets that a user wants to set over REST (KIP-875) on the stopped connector, before they are stored; `None`
    /// for one forgets it. Whether the connector knows them all, and nothing else has to be altered.
    ///
    /// # Errors
    /// The reason why they can't be set; one of the offsets themselves is a data error, which is the user's (400).
    fn alter_offsets(&self, _props: &Props, _offsets: &[(Position, Option<Position>)]) -> Result<bool> {
        Ok(false)
    }
}

/// One running part of a source.
#[async_trait]
pub trait SourceTask: Send {
    /// The next records, at least one unless nothing came for about a second (then no batch). Dropped only when the
    /// task is about to be closed.
    ///
    /// # Errors
    /// Retriable: the worker polls again after a backoff. Others make the task FAILED.
    async fn poll(&mut self) -> Result<Vec<SourceBatch>>;

    /// These offsets are stored: everything up to them is in the log.
    async fn committed(&mut self, _offsets: &[(Arc<Position>, Position)]) {}

    /// Releases what the task holds.
    async fn close(self: Box<Self>);
}

/// What a source task gets from the worker.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// The connector's name.
    pub connector: Arc<str>,
    /// The task's number, from 0.
    pub task: usize,
    /// Stored offsets.
    pub offsets: Arc<dyn OffsetReader>,
    /// Cancelled when the task is to stop.
    pub stop: CancellationToken,
    /// What the status shows while the task retries.
    pub health: Health,
}

/// Reads the offsets that earlier runs of the connector stored.
#[async_trait]
pub trait OffsetReader: Send + Sync + std::fmt::Debug {
    /// The stored offset of each partition, in the same order.
    ///
    /// # Errors
    /// Retriable if the log cannot be read now.
    async fn offsets(&self, partitions: &[Position]) -> Result<Vec<Option<Position>>>;
}
