//! The port to the log: everything that the worker wants of Kafka, in Kafka's terms, through a few narrow traits.
//!
//! [`cluster`] is the adapter for any Kafka cluster (rdkafka), [`embedded`] the one for the broker in this process.
//! Nothing above this folder knows which one it has.

pub mod cluster;
pub mod compacted_log;
pub mod embedded;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::sync::oneshot;
use towline_connectors::api::{Result, TopicPartition};

/// Settings of one client, by Kafka's names (`acks`, `auto.offset.reset`).
pub type ClientSettings = BTreeMap<String, String>;

/// A Kafka cluster as the worker sees it.
#[async_trait]
pub trait Kafka: Send + Sync + std::fmt::Debug {
    /// Opens a producer.
    ///
    /// # Errors
    /// A config error if a setting is refused.
    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn Producer>>;

    /// Opens a producer that writes in transactions (KIP-98), under an id. A predecessor with the same id is fenced and
    /// what it left open is aborted.
    ///
    /// # Errors
    /// A config error if a setting is refused, or the adapter has no transactions; retriable while no broker answers.
    async fn transactional_producer(
        &self,
        id: &str,
        settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>>;

    /// Joins a consumer group.
    ///
    /// # Errors
    /// A config error if a setting is refused.
    fn group_consumer(&self, subscription: &Subscription, settings: &ClientSettings) -> Result<Box<dyn GroupConsumer>>;

    /// Reads whole topics from their beginning, for ever, outside of any group.
    ///
    /// # Errors
    /// Retriable if the topics' partitions cannot be learnt.
    async fn log_reader(&self, topics: &[String]) -> Result<Box<dyn LogReader>>;

    /// The longest `transaction.timeout.ms` that the cluster allows, if it says so.
    fn longest_transaction_ms(&self) -> Option<i32> {
        None
    }

    /// The end of what readers see of each partition of a topic: the offset that the next record will have at least.
    ///
    /// # Errors
    /// Retriable while no broker answers.
    async fn ends(&self, topic: &str) -> Result<Vec<(TopicPartition, i64)>>;

    /// The cluster's id.
    ///
    /// # Errors
    /// Retriable while no broker answers.
    async fn cluster_id(&self) -> Result<String>;

    /// Creates a topic unless it exists; whether it was created.
    ///
    /// # Errors
    /// What the broker refuses, in its words.
    async fn create_topic(&self, topic: &NewTopic) -> Result<bool>;

    /// Asks for a topic as a producer's first metadata request does, which creates it where the brokers do that by
    /// themselves. A wish: what fails is told when records are sent.
    async fn auto_create(&self, _topic: &str) {}

    /// The number of partitions of a topic, `None` if it does not exist.
    ///
    /// # Errors
    /// Retriable while no broker answers.
    async fn partitions(&self, topic: &str) -> Result<Option<usize>>;

    /// The value of a topic's config, `None` if it is not to be learnt.
    ///
    /// # Errors
    /// Retriable while no broker answers.
    async fn topic_config(&self, topic: &str, key: &str) -> Result<Option<String>>;

    /// The committed offsets of a group.
    ///
    /// # Errors
    /// Retriable while no broker answers.
    async fn group_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>>;

    /// Sets committed offsets of a group that has no members; `None` deletes one.
    ///
    /// # Errors
    /// What the broker refuses, such as a group that still has members.
    async fn alter_group_offsets(&self, group: &str, offsets: &[(TopicPartition, Option<i64>)]) -> Result<()>;

    /// Deletes a group; one that does not exist is deleted already.
    ///
    /// # Errors
    /// What the broker refuses, such as a group that still has members.
    async fn delete_group(&self, group: &str) -> Result<()>;
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; -1 leaves it to the broker.
    pub partitions: i32,
    /// Replicas of each; -1 leaves it to the broker.
    pub replication_factor: i32,
    /// Topic configs.
    pub configs: Vec<(String, String)>,
}

/// Which topics a group consumer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// These topics.
    Topics(Vec<String>),
    /// Every topic whose whole name matches.
    Pattern(String),
}

/// Resolves when all records of a batch are in the log: the last offset of each partition that got some.
pub type Ack = Pin<Box<dyn Future<Output = Result<Vec<(i32, i64)>>> + Send>>;

/// Appends batches.
#[async_trait]
pub trait Producer: Send + Sync {
    /// Hands a batch over, waiting while the producer's buffer is full. Batches reach each partition in the order of
    /// the calls.
    ///
    /// # Errors
    /// A data error for a record that can never be sent (too large), else what the client says.
    async fn send(&self, batch: Outgoing) -> Result<Ack>;
}

/// Appends batches in transactions: what one transaction holds is seen together, or not at all. Dropping it gives up
/// what is not committed.
#[async_trait]
pub trait TransactionalProducer: Send {
    /// Adds a batch to the transaction, beginning one if none is open.
    ///
    /// # Errors
    /// A data error for a record that can never be sent (too large), else what the client says. The transaction is then
    /// worth nothing.
    async fn send(&mut self, batch: Outgoing) -> Result<()>;

    /// Commits the transaction: resolves when it is durable and seen by readers of committed records.
    ///
    /// # Errors
    /// What the coordinator says, such as that a successor has fenced this producer.
    async fn commit(&mut self) -> Result<()>;
}

/// Records for one topic, encoded one behind the other in one buffer.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// Keys and values.
    pub buffer: BytesMut,
    /// Where each record lies in the buffer.
    pub records: Vec<OutgoingRecord>,
}

/// One record of an [`Outgoing`] batch.
#[derive(Debug, Clone)]
pub struct OutgoingRecord {
    /// The partition; `None` leaves it to the hash of the key.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
    /// The key's bytes; `None` is null.
    pub key: Option<Range<usize>>,
    /// The value's bytes; `None` is null.
    pub value: Option<Range<usize>>,
    /// Headers.
    pub headers: Vec<(ByteString, Option<Bytes>)>,
}

impl Outgoing {
    /// An empty batch.
    pub fn new(topic: Arc<str>) -> Self {
        Self { topic, buffer: BytesMut::new(), records: Vec::new() }
    }

    /// A batch of one record from ready bytes.
    pub fn of_one(topic: Arc<str>, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let mut batch = Self::new(topic);
        batch.push(key, value);
        batch
    }

    /// Adds a record from ready bytes.
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.map(|bytes| self.put(bytes));
        let value = value.map(|bytes| self.put(bytes));
        self.records.push(OutgoingRecord { partition: None, timestamp: None, key, value, headers: Vec::new() });
    }

    /// Appends bytes to the buffer and says where they lie.
    pub fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }
}

/// Records of one partition as consumed, in order, in one buffer.
#[derive(Debug, Clone)]
pub struct IncomingBatch {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Keys and values.
    pub buffer: Bytes,
    /// Where each record lies in the buffer.
    pub records: Vec<IncomingRecord>,
    /// Where reading goes on: between the last record and here there may be offsets without one.
    pub next_offset: i64,
}

/// One record of an [`IncomingBatch`].
#[derive(Debug, Clone)]
pub struct IncomingRecord {
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, if the record has a time.
    pub timestamp: Option<i64>,
    /// The key's bytes; `None` is null.
    pub key: Option<Range<usize>>,
    /// The value's bytes; `None` is null.
    pub value: Option<Range<usize>>,
    /// Headers.
    pub headers: Vec<(ByteString, Option<Bytes>)>,
}

impl IncomingBatch {
    /// What a range of the buffer holds, sharing its memory.
    pub fn slice(&self, range: Option<&Range<usize>>) -> Option<Bytes> {
        range.map(|range| self.buffer.slice(range.clone()))
    }

    /// One record by itself.
    pub fn record(&self, record: &IncomingRecord) -> Incoming {
        Incoming {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: self.slice(record.key.as_ref()),
            value: self.slice(record.value.as_ref()),
            headers: record.headers.clone(),
        }
    }

    /// All records, each by itself.
    pub fn iter(&self) -> impl Iterator<Item = Incoming> {
        self.records.iter().map(|record| self.record(record))
    }

    /// Topic and partition.
    pub fn place(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

/// A consumed record by itself. Key and value share the buffer of their batch.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, if the record has a time.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<(ByteString, Option<Bytes>)>,
}

/// A member of a consumer group. While it is not asked for events it keeps its membership and reads ahead only as far
/// as its bounded queues allow.
#[async_trait]
pub trait GroupConsumer: Send {
    /// What happens next; `None` once the consumer is closed. Cancel-safe.
    async fn next(&mut self) -> Option<GroupEvent>;

    /// As [`Self::next`], without records: they stay where they are.
    async fn next_control(&mut self) -> Option<GroupEvent>;

    /// Commits offsets: for each partition the next one to read.
    ///
    /// # Errors
    /// Retriable if the coordinator did not take them.
    async fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<()>;

    /// Stops or resumes reading of all assigned partitions; membership goes on.
    fn set_paused(&self, paused: bool);

    /// Leaves the group. [`GroupEvent::Revoked`] must have been waited for or is answered at once.
    async fn close(self: Box<Self>);
}

/// What a consumer group tells a member.
#[derive(Debug)]
pub enum GroupEvent {
    /// Partitions are now this member's, each with the end of its log; the answer says where to start those that should
    /// not start at the committed offset. Nothing is read before the answer.
    Assigned(Vec<(TopicPartition, i64)>, oneshot::Sender<Vec<(TopicPartition, i64)>>),
    /// Partitions go to someone else; they are held until the answer.
    Revoked(Vec<TopicPartition>, oneshot::Sender<()>),
    /// Records, in order within each partition.
    Records(Vec<IncomingBatch>),
    /// The consumer met an error; it goes on by itself unless the error is fatal.
    Failed(towline_connectors::api::Error),
}

/// Reads whole topics in order.
#[async_trait]
pub trait LogReader: Send {
    /// The next records; `None` once closed. Cancel-safe.
    async fn next(&mut self) -> Option<Vec<IncomingBatch>>;

    /// The end of each partition as it was when the reader was opened: the offset that the next record would have got.
    fn ends(&self) -> &[(TopicPartition, i64)];
}

/// How long single requests to the cluster may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
