//! `connect-offsets`: where each source partition of each connector stands.
//!
//! Key: the JSON array `["connector",{partition}]`; value: the offset object, or null to forget it. The key's bytes are
//! what compaction compares, so the order of the partition's entries is the connector's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use towline_connectors::api::{OffsetReader, Position, Result};

use super::json_of;
use crate::kafka::compacted_log::{CompactedLogs, LogState};
use crate::kafka::{Incoming, Kafka, Outgoing};

#[derive(Default)]
pub(super) struct OffsetLog(Mutex<HashMap<String, Vec<(Position, Position)>>>);

impl LogState for OffsetLog {
    fn apply(&self, record: &Incoming) {
        let Some(key) = record.key.as_deref().and_then(|key| json_of(&record.topic, record.offset, key)) else {
            return;
        };
        let (Some(connector), Some(partition)) =
            (key.get(0).and_then(Value::as_str), key.get(1).and_then(|json| Position::from_json(json).ok()))
        else {
            tracing::warn!(topic = %record.topic, offset = record.offset, "key is not [connector, partition], skipped");
            return;
        };
        let offset = record
            .value
            .as_deref()
            .and_then(|bytes| json_of(&record.topic, record.offset, bytes))
            .and_then(|json| Position::from_json(&json).ok());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(connector.to_owned()).or_default();
        known.retain(|(p, _)| *p != partition);
        if let Some(offset) = offset {
            known.push((partition, offset));
        }
    }
}

/// Reads and writes source offsets.
pub struct OffsetStore {
    log: Arc<OffsetLog>,
    logs: Arc<CompactedLogs>,
    topic: Arc<str>,
}

impl std::fmt::Debug for OffsetStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OffsetStore").field(&self.topic).finish()
    }
}

impl OffsetStore {
    pub(super) fn new(log: Arc<OffsetLog>, logs: Arc<CompactedLogs>, topic: Arc<str>) -> Self {
        Self { log, logs, topic }
    }

    /// All offsets of a connector.
    pub fn of_connector(&self, connector: &str) -> Vec<(Position, Position)> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).get(connector).cloned().unwrap_or_default()
    }

    /// Writes offsets, durably; `None` forgets one.
    ///
    /// # Errors
    /// Retriable if the log did not take them.
    pub async fn put(&self, connector: &str, offsets: &[(Position, Option<Position>)]) -> Result<()> {
        let batch = self.batch(connector, offsets);
        if batch.records.is_empty() { Ok(()) } else { self.logs.append_all(batch).await }
    }

    /// The records that set offsets, for a producer that writes them in a transaction of its own.
    pub fn batch(&self, connector: &str, offsets: &[(Position, Option<Position>)]) -> Outgoing {
        let known = self.of_connector(connector);
        let mut batch = Outgoing::new(self.topic.clone());
        for (partition, offset) in offsets {
            // A partition that is known under another order of entries keeps its key.
            let partition = known.iter().map(|(p, _)| p).find(|p| *p == partition).unwrap_or(partition).to_json();
            let key = Value::Array(vec![Value::from(connector), partition]).to_string();
            let value = offset.as_ref().map(|offset| offset.to_json().to_string());
            batch.push(Some(key.as_bytes()), value.as_ref().map(String::as_bytes));
        }
        batch
    }

    /// Waits until everything that is committed to the topic by now has been read.
    ///
    /// # Errors
    /// Retriable if the topic's ends cannot be learnt.
    pub async fn catch_up(&self, kafka: &dyn Kafka) -> Result<()> {
        self.logs.reached(&kafka.ends(&self.topic).await?).await
    }

    /// The offsets of one connector, as its tasks read them.
    pub fn reader(self: &Arc<Self>, connector: &str) -> Arc<dyn OffsetReader> {
        Arc::new(ConnectorOffsets { store: self.clone(), connector: Arc::from(connector) })
    }
}

#[derive(Debug)]
struct ConnectorOffsets {
    store: Arc<OffsetStore>,
    connector: Arc<str>,
}

#[async_trait]
impl OffsetReader for ConnectorOffsets {
    async fn offsets(&self, partitions: &[Position]) -> Result<Vec<Option<Position>>> {
        let known = self.store.of_connector(&self.connector);
        Ok(partitions
            .iter()
            .map(|wanted| known.iter().find(|(partition, _)| partition == wanted).map(|(_, offset)| offset.clone()))
            .collect())
    }
}
