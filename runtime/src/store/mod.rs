//! The worker's state: three compacted topics in Connect's own key and value formats, so that a JVM worker could take
//! over, and ours can take over from it.

mod configs;
mod offsets;
mod status;

pub use configs::{ConfigStore, ConnectorState, Connectors, TargetState};
pub use offsets::OffsetStore;
pub use status::{State, Status, StatusStore, TopicUse};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use towline_connectors::api::Result;

use crate::config::WorkerConfig;
use crate::kafka::compacted_log::{CompactedLogs, LogSpec};
use crate::kafka::{Kafka, NewTopic};

/// All three stores.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Connector and task configs, target states.
    pub configs: Arc<ConfigStore>,
    /// Source offsets.
    pub offsets: Arc<OffsetStore>,
    /// What runs, and how it fares.
    pub status: Arc<StatusStore>,
}

impl Stores {
    /// Opens the three topics, creating those that are missing, and reads them to their end.
    ///
    /// # Errors
    /// As [`CompactedLogs::open`].
    pub async fn open(
        kafka: &dyn Kafka,
        config: &WorkerConfig,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let configs = Arc::new(configs::ConfigLog::default());
        let offsets = Arc::new(offsets::OffsetLog::default());
        let statuses = Arc::new(status::StatusLog::default());
        let topic = |kind: &str, partitions: i32| {
            let key = |part: &str| format!("{kind}.storage.{part}");
            NewTopic {
                name: config.text(&key("topic")).to_owned(),
                partitions: config.number(&key("partitions")).unwrap_or(partitions),
                replication_factor: config.number(&key("replication.factor")).unwrap_or(-1),
                configs: Vec::new(),
            }
        };
        let specs = vec![
            LogSpec {
                topic: NewTopic { partitions: 1, ..topic("config", 1) },
                named_by: "config.storage.topic",
                state: configs.clone(),
            },
            LogSpec { topic: topic("offset", 25), named_by: "offset.storage.topic", state: offsets.clone() },
            LogSpec { topic: topic("status", 5), named_by: "status.storage.topic", state: statuses.clone() },
        ];
        let names: Vec<Arc<str>> = specs.iter().map(|spec| Arc::from(spec.topic.name.as_str())).collect();
        let logs = Arc::new(CompactedLogs::open(kafka, specs, "towline-worker", tracker, stop).await?);
        let status = Arc::new(StatusStore::new(statuses, logs.clone(), names[2].clone()));
        tracker.spawn(status.clone().write_notes(stop.clone()));
        Ok(Self {
            configs: Arc::new(ConfigStore::new(configs, logs.clone(), names[0].clone())),
            offsets: Arc::new(OffsetStore::new(offsets, logs, names[1].clone())),
            status,
        })
    }
}

/// The JSON of a record's value; unreadable bytes are told of and skipped, as the Java worker does.
fn json_of(topic: &str, offset: i64, bytes: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!(topic, offset, %error, "record is not JSON and is skipped"))
        .ok()
}
