//! The registry's `_schemas` topic behind the kafka port: the registry itself knows no Kafka.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use towline_connectors::api::{Error, ErrorKind, Result};
use towline_registry::{LogError, Options, Registry, SchemaLog, WeakRegistry};

use crate::kafka::compacted_log::{CompactedLogs, LogSpec, LogState};
use crate::kafka::{Incoming, Kafka, NewTopic, Outgoing};

/// Hands records of the topic to the registry.
#[derive(Default)]
struct Reader(OnceLock<WeakRegistry>);

impl LogState for Reader {
    fn apply(&self, record: &Incoming) {
        let Some(registry) = self.0.get().and_then(WeakRegistry::upgrade) else { return };
        let key = record.key.as_deref().unwrap_or_default();
        registry.apply(record.offset, record.timestamp.unwrap_or(0), key, record.value.as_deref());
    }
}

/// Appends records of the registry to the topic.
struct Writer {
    topic: Arc<str>,
    logs: OnceLock<CompactedLogs>,
}

#[async_trait]
impl SchemaLog for Writer {
    async fn append(&self, key: Bytes, value: Option<Bytes>) -> Result<i64, LogError> {
        let logs = self.logs.get().ok_or_else(|| LogError::Failed("the schema topic is not open yet".into()))?;
        let appended = logs.append(&self.topic, &key, value.as_deref()).await;
        appended.map(|(_, offset)| offset).map_err(refused)
    }

    async fn append_all(&self, records: Vec<(Bytes, Option<Bytes>)>) -> Result<(), LogError> {
        let logs = self.logs.get().ok_or_else(|| LogError::Failed("the schema topic is not open yet".into()))?;
        let mut batch = Outgoing::new(self.topic.clone());
        records.iter().for_each(|(key, value)| batch.push(Some(key), value.as_deref()));
        logs.append_all(batch).await.map_err(refused)
    }
}

/// The only thing that a log finds wrong with data is its size.
fn refused(error: Error) -> LogError {
    if error.kind() == ErrorKind::Data { LogError::TooLarge } else { LogError::Failed(Box::new(error)) }
}

/// Opens a registry on a topic: creates the topic if it is missing, reads it to its end, then is ready.
///
/// # Errors
/// As [`CompactedLogs::open`].
pub async fn open(
    kafka: &dyn Kafka,
    topic: &str,
    options: Options,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Registry> {
    let reader = Arc::new(Reader::default());
    let writer = Arc::new(Writer { topic: Arc::from(topic), logs: OnceLock::new() });
    let registry = Registry::new(writer.clone(), options);
    let _ = reader.0.set(registry.downgrade());
    let spec = LogSpec {
        topic: NewTopic { name: topic.to_owned(), partitions: 1, replication_factor: 1, configs: Vec::new() },
        named_by: "kafkastore.topic",
        state: reader,
    };
    let logs = CompactedLogs::open(kafka, vec![spec], "towline-registry", tracker, stop).await?;
    let _ = writer.logs.set(logs);
    registry.append_noop().await.map_err(|error| Error::fatal("cannot write to the schema topic").caused_by(error))?;
    registry.set_ready();
    Ok(registry)
}
