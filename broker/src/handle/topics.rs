//! Topics: creating, growing, deleting, settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use tokio::sync::watch;

use super::{Handle, Inner};
use crate::cluster::{Cluster, NewTopic, OFFSETS_TOPIC, Refusal, Topic, is_internal};
use crate::config::{BrokerConfig, TOPIC_CONFIGS, TopicConfigKey};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the broker while it ran.
    DynamicBroker,
    /// Set in the broker's configuration.
    StaticBroker,
    /// The default.
    Default,
}

/// A setting at one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// Its name at that level: a broker's name for it differs from a topic's.
    pub name: String,
    /// Its value there.
    pub value: String,
    /// The level.
    pub source: ConfigSource,
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfigEntry {
    /// Its name.
    pub name: &'static str,
    /// The value in effect.
    pub value: String,
    /// Where that comes from.
    pub source: ConfigSource,
    /// Every level that has the setting, the strongest first; never empty.
    pub synonyms: Vec<ConfigSynonym>,
    /// Kafka's number for the type of the value.
    pub(crate) kind: i8,
}

impl Handle {
    /// Names of all topics, each with its number of partitions.
    pub fn topics(&self) -> Vec<(String, i32)> {
        self.0.cluster.topics().iter().map(|t| (t.name.to_string(), t.partitions.len() as i32)).collect()
    }

    /// A number that changes whenever a topic comes, goes or grows.
    pub fn watch_topics(&self) -> watch::Receiver<u64> {
        self.0.cluster.watch_topics()
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
            topic = internal_topic(&self.0.config, name);
        }
        match self.create(topic, false).await {
            Err((ResponseError::TopicAlreadyExists, message)) => {
                self.0.cluster.topic(name).ok_or((ResponseError::UnknownTopicOrPartition, message))
            }
            other => other,
        }
    }

    /// The number of partitions of a topic. One that is missing is created with the defaults where `may_create` says so
    /// and `auto.create.topics.enable` allows it, as asking for its metadata does.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, or why it cannot be created.
    pub async fn partitions(&self, topic: &str, may_create: bool) -> Result<i32, (ResponseError, String)> {
        let known = match self.0.cluster.topic(topic) {
            Some(known) => known,
            None if may_create && self.0.config.auto_create_topics => self.auto_create(topic).await?,
            None => return Err((ResponseError::UnknownTopicOrPartition, format!("topic {topic} does not exist"))),
        };
        Ok(known.partitions.len() as i32)
    }

    /// Raises the number of partitions of a topic, or only checks that it could be.
    ///
    /// # Errors
    /// As CreatePartitions answers, with the message; INVALID_PARTITIONS if it would not be an increase.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), (ResponseError, String)> {
        let topic = topic.to_owned();
        self.blocking(move |inner| inner.cluster.grow_topic(&topic, count, validate_only)).await
    }

    /// All settings of a topic, sorted by name, with the value in effect and where it comes from.
    ///
    /// # Errors
    /// The topic does not exist.
    pub fn describe_topic_configs(&self, topic: &str) -> Result<Vec<TopicConfigEntry>, ResponseError> {
        let topic = self.0.cluster.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        Ok(self.topic_entries(&topic))
    }

    /// Like [`Handle::describe_topic_configs`], also for a topic that was only checked.
    pub(crate) fn topic_entries(&self, topic: &Topic) -> Vec<TopicConfigEntry> {
        topic_entries(&self.0.cluster, topic)
    }

    /// Sets settings of a topic, or, where the value is none, resets them to the broker's default; or only checks
    /// that it could be done. Settings that are not named stay as they are.
    ///
    /// # Errors
    /// As IncrementalAlterConfigs answers, with the message; nothing was changed.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), (ResponseError, String)> {
        let topic = topic.to_owned();
        let edit = move |configs: &mut BTreeMap<String, String>| {
            for (name, value) in changes {
                match value {
                    Some(value) => configs.insert(name, value),
                    None => configs.remove(&name),
                };
            }
            Ok(())
        };
        self.blocking(move |inner| inner.cluster.set_topic_configs(&topic, validate_only, edit)).await
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
pub(crate) fn internal_topic(config: &BrokerConfig, name: &str) -> NewTopic {
    let (partitions, compression) = if name == OFFSETS_TOPIC {
        (config.offsets_partitions, "producer")
    } else {
        (config.transactions_partitions, "uncompressed")
    };
    let configs = [("cleanup.policy", "compact"), ("compression.type", compression), ("segment.bytes", "104857600")];
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn topic_entries(cluster: &Cluster, topic: &Topic) -> Vec<TopicConfigEntry> {
    let (defaults, dynamic) = (cluster.broker_defaults(), cluster.broker_configs());
    let synonym =
        |name: &str, value: &str, source| ConfigSynonym { name: name.to_owned(), value: value.to_owned(), source };
    let entry = |key: &TopicConfigKey| {
        let own = topic.overrides.get(key.name).map(|value| synonym(key.name, value, ConfigSource::Topic));
        let mut synonyms: Vec<_> = own.into_iter().collect();
        if let (value, Some(from)) = key.broker_value(&defaults) {
            let changed = dynamic.contains_key(from);
            let source = if changed { ConfigSource::DynamicBroker } else { ConfigSource::StaticBroker };
            synonyms.push(synonym(from, &value, source));
        }
        let default_name = key.synonyms.last().map_or(key.name, |(name, _)| name);
        synonyms.push(synonym(default_name, key.default, ConfigSource::Default));
        let (value, source) = (synonyms[0].value.clone(), synonyms[0].source);
        TopicConfigEntry { name: key.name, value, source, synonyms, kind: key.kind.code() }
    };
    TOPIC_CONFIGS.iter().map(entry).collect()
}
