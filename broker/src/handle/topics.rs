//! Topics: creating, growing, deleting, settings.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Handle, Inner};
use crate::cluster::{NewTopic, OFFSETS_TOPIC, Refusal, Topic, is_internal};
use crate::config::BrokerConfig;

impl Handle {
    /// Names of all topics, each with its number of partitions.
    pub fn topics(&self) -> Vec<(String, i32)> {
        self.0.cluster.topics().iter().map(|t| (t.name.to_string(), t.partitions.len() as i32)).collect()
    }

    /// Creates a topic, or only checks that it could be; answers its number of partitions.
    ///
    /// # Errors
    /// As CreateTopics answers, with the message.
    pub async fn create_topic(&self, topic: NewTopic, validate_only: bool) -> Result<i32, (ResponseError, String)> {
        self.create(topic, validate_only).await.map(|topic| topic.partitions.len() as i32)
    }

    pub(crate) async fn create(&self, topic: NewTopic, validate_only: bool) -> Result<Arc<Topic>, Refusal> {
        self.blocking(move |inner| inner.cluster.create_topic(&topic, validate_only)).await
    }

    /// Creates a topic with the defaults, as asking for its metadata does; an existing one is answered.
    pub(crate) async fn auto_create(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let mut topic =
            NewTopic { name: name.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() };
        if is_internal(name) {
            topic = offsets_topic(&self.0.config, name);
        }
        match self.create(topic, false).await {
            Err((ResponseError::TopicAlreadyExists, message)) => {
                self.0.cluster.topic(name).ok_or((ResponseError::UnknownTopicOrPartition, message))
            }
            other => other,
        }
    }

    /// Deletes a topic and the offsets that groups have committed for it.
    ///
    /// # Errors
    /// As DeleteTopics answers.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ResponseError> {
        let name = name.to_owned();
        let delete = move |inner: &Inner| {
            inner.cluster.delete_topic(&name)?;
            inner.coordinator.topic_deleted(&name);
            Ok(())
        };
        self.on_disk(delete).await
    }

    /// Moves the start of a log; -1 for its end. Answers the new start.
    ///
    /// # Errors
    /// As DeleteRecords answers for the partition.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ResponseError> {
        let topic = self.0.cluster.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if topic.is_internal() {
            return Err(ResponseError::InvalidTopicException);
        }
        if !topic.config.delete {
            return Err(ResponseError::PolicyViolation);
        }
        let partition = topic.partition(partition)?.clone();
        let delete = move |inner: &Inner| {
            let start = partition.log().delete_records(offset)?;
            inner.cluster.checkpoint().map_err(|_| ResponseError::KafkaStorageError)?;
            Ok(start)
        };
        self.on_disk(delete).await
    }
}

/// The settings with which an internal topic is created.
pub(crate) fn offsets_topic(config: &BrokerConfig, name: &str) -> NewTopic {
    let configs = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    let partitions = if name == OFFSETS_TOPIC { config.offsets_partitions } else { 50 };
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}
