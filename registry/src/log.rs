//! The boundary to storage: the registry's state is a log of records, and this crate does not
//! know that the log is a Kafka topic.

use async_trait::async_trait;
use bytes::Bytes;

/// Why a record could not be appended.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The record is larger than the log takes.
    #[error("record is too large for the schemas topic")]
    TooLarge,
    /// No answer in time; the record may or may not have been written.
    #[error("timed out while appending to the schemas topic")]
    TimedOut,
    /// Anything else.
    #[error("appending to the schemas topic failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The `_schemas` log. The registry calls it, one call at a time.
#[async_trait]
pub trait SchemaLog: Send + Sync + 'static {
    /// Appends a record and returns its offset.
    ///
    /// Resolves only when the record is durable *and* has been handed back to the registry through
    /// [`Registry::apply`](crate::Registry::apply), so that no answer is ever ahead of the log.
    /// Not called again before it has resolved. After an error the record may be in the log or not:
    /// the registry then appends a NOOP, behind which whatever was taken has been handed back.
    async fn append(&self, key: Bytes, value: Option<Bytes>) -> Result<i64, LogError>;

    /// Appends records in their order, as [`Self::append`] does one; after an error some may be in the log.
    async fn append_all(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<(), LogError> {
        for (key, value) in records {
            self.append(key, value).await?;
        }
        Ok(())
    }
}
