//! The adapter for any Kafka cluster, through librdkafka. rdkafka is named nowhere else.

mod admin;
mod group;
mod producer;
mod reader;

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::{ClientSettings, GroupConsumer, Kafka, LogReader, NewTopic, Producer, Subscription, TransactionalProducer};

/// A Kafka cluster reached over TCP.
#[derive(Clone)]
pub struct Cluster {
    common: ClientSettings,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.common.get("bootstrap.servers")).finish()
    }
}

impl Cluster {
    /// A cluster by its bootstrap servers and other settings that all clients share (security). Connects lazily.
    ///
    /// # Errors
    /// A config error if a setting is refused.
    pub fn new(common: ClientSettings) -> Result<Self> {
        let config = client_config(&common, &ClientSettings::from([("client.id".to_owned(), "towline".to_owned())]));
        let admin = config.create().map_err(|error| refused("cannot open a Kafka admin client", error))?;
        Ok(Self { common, admin: Arc::new(admin) })
    }

    /// Reads one partition from some offset on, outside of any group. Not part of the port: only the console consumer
    /// wants it, and it always speaks to a cluster over TCP.
    ///
    /// # Errors
    /// A config error if a setting is refused.
    pub fn partition_reader(
        &self,
        at: &TopicPartition,
        start: Start,
        settings: &ClientSettings,
    ) -> Result<Box<dyn LogReader>> {
        let start = match start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
            Start::At(offset) => Offset::Offset(offset),
        };
        Ok(Box::new(reader::ClusterLogReader::open_at(&self.common, settings, at, start)?))
    }
}

/// Where to start in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At its oldest record.
    Beginning,
    /// At what is written from now on.
    End,
    /// At an offset.
    At(i64),
}

#[async_trait]
impl Kafka for Cluster {
    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn Producer>> {
        Ok(Box::new(producer::ClusterProducer::open(&self.common, settings)?))
    }

    async fn transactional_producer(
        &self,
        _id: &str,
        _settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>> {
        Err(Error::config(
            "exactly.once.source.support=enabled works with the broker in the same process (towline up) only so far: \
             leave the key out of the worker's settings",
        ))
    }

    async fn ends(&self, topic: &str) -> Result<Vec<(TopicPartition, i64)>> {
        reader::ends(&self.common, topic).await
    }

    fn group_consumer(&self, subscription: &Subscription, settings: &ClientSettings) -> Result<Box<dyn GroupConsumer>> {
        Ok(Box::new(group::ClusterGroupConsumer::join(&self.common, subscription, settings)?))
    }

    async fn log_reader(&self, topics: &[String]) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(reader::ClusterLogReader::open(&self.common, topics).await?))
    }

    async fn cluster_id(&self) -> Result<String> {
        admin::cluster_id(&self.admin).await
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<bool> {
        admin::create_topic(&self.admin, topic).await
    }

    async fn partitions(&self, topic: &str) -> Result<Option<usize>> {
        admin::partitions(&self.admin, topic).await
    }

    async fn topic_config(&self, topic: &str, key: &str) -> Result<Option<String>> {
        admin::topic_config(&self.admin, topic, key).await
    }

    async fn group_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>> {
        admin::group_offsets(&self.common, &self.admin, group).await
    }

    async fn alter_group_offsets(&self, group: &str, offsets: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        admin::alter_group_offsets(&self.common, &self.admin, group, offsets).await
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        admin::delete_group(&self.admin, group).await
    }
}

/// Settings that only the Java clients have; librdkafka would refuse them, and nothing is lost without them.
const JAVA_ONLY: &[&str] = &[
    "max.block.ms",
    "buffer.memory",
    "max.poll.records",
    "key.serializer",
    "value.serializer",
    "key.deserializer",
    "value.deserializer",
    "partitioner.class",
    "interceptor.classes",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "delivery.timeout.ms",
    "default.api.timeout.ms",
    "fetch.max.wait.ms",
    "exclude.internal.topics",
    "send.buffer.bytes",
    "receive.buffer.bytes",
    "request.timeout.ms",
    "connections.max.idle.ms",
    "partition.assignment.strategy",
    "client.dns.lookup",
    "group.protocol",
];

/// A librdkafka config: shared settings, then the client's own.
fn client_config(common: &ClientSettings, own: &ClientSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("log_level", "3").set("socket.nagle.disable", "true").set("reconnect.backoff.max.ms", "1000");
    for (key, value) in common.iter().chain(own) {
        match key.as_str() {
            "max.request.size" => config.set("message.max.bytes", value),
            "fetch.max.wait.ms" => config.set("fetch.wait.max.ms", value),
            "delivery.timeout.ms" => config.set("message.timeout.ms", if value == "2147483647" { "0" } else { value }),
            key if JAVA_ONLY.contains(&key) => {
                tracing::debug!(key, "setting has no meaning for this client and is ignored");
                &mut config
            }
            key => config.set(key, value),
        };
    }
    config
}

/// A client that cannot be opened: its settings are wrong.
fn refused(what: &str, error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, description, key, value) => Error::config(format!(
            "{what}: {description}; property {key}={value} is not understood by this client, correct or remove it"
        )),
        other => Error::config(what.to_owned()).caused_by(other),
    }
}

/// A request that failed: passing troubles are retriable, the rest is not.
fn failed(what: String, error: KafkaError) -> Error {
    let passing = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::NoOffset
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::Resolve
        )
    );
    let error_of = if passing { Error::retriable } else { Error::fatal };
    error_of(format!("{what}: {error}")).caused_by(error)
}
