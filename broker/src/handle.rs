//! The broker's functions on decoded values: request handlers call them after decoding, and so may code in the
//! same process. Nothing here knows of sockets or frames.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

use crate::clock::now_ms;
use crate::cluster::{Cluster, NewTopic, OFFSETS_TOPIC, Refusal, Topic, is_internal};
use crate::config::{BrokerConfig, SyncPolicy};
use crate::group::{CommitRequest, Committed, Coordinator, JoinReply, JoinRequest, SyncReply, SyncRequest};
use crate::log::{Appended, Batch, FetchWaiter, Partition, Refused, Syncer, Watermarks};

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nobody waits.
    None,
    /// In the page cache: survives a crash of the process.
    Leader,
    /// On disk, unless the broker is set to page-cache durability.
    All,
}

/// Why an append was refused.
#[derive(Debug, Clone)]
pub struct AppendError {
    /// Kafka's error.
    pub error: ResponseError,
    /// Records at fault, by index in the batch, with the reason.
    pub records: Vec<(i32, &'static str)>,
}

impl From<Refused> for AppendError {
    fn from(refused: Refused) -> Self {
        AppendError { error: refused.error, records: refused.records }
    }
}

impl From<ResponseError> for AppendError {
    fn from(error: ResponseError) -> Self {
        AppendError { error, records: Vec::new() }
    }
}

/// Where a batch was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Offset of its first record; for a duplicate, the original one.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Time that the broker stamped, -1 if the topic keeps the producer's.
    pub log_append_time: i64,
    /// First offset of the log.
    pub log_start: i64,
}

/// A batch that is in the log but perhaps not on disk yet.
#[derive(Debug)]
pub struct PendingAppend {
    outcome: AppendOutcome,
    durable: Option<oneshot::Receiver<Result<(), ResponseError>>>,
}

impl PendingAppend {
    /// Resolves when the batch is as durable as was asked for. Dropping it does not undo the append.
    ///
    /// # Errors
    /// The disk failed; the batch may be lost.
    pub async fn done(self) -> Result<AppendOutcome, ResponseError> {
        if let Some(durable) = self.durable {
            durable.await.unwrap_or(Err(ResponseError::NotLeaderOrFollower))?;
        }
        Ok(self.outcome)
    }
}

/// A place to fetch from.
#[derive(Debug, Clone)]
pub struct FetchFrom {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
    /// Most bytes of this partition.
    pub max_bytes: usize,
}

/// How much to fetch and how long to wait for it.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Most bytes in all; the first batch comes whole even if it is larger.
    pub max_bytes: usize,
    /// Answer as soon as there are this many.
    pub min_bytes: usize,
    /// Answer at the latest after this time.
    pub max_wait: Duration,
}

/// What a fetch found in one partition.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole record batches; the first may begin before the offset that was asked for.
    pub records: Bytes,
    /// First offset of the log.
    pub log_start: i64,
    /// Offset after the last record.
    pub high_watermark: i64,
    /// Offset up to which all transactions have ended.
    pub last_stable_offset: i64,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first of the log.
    Earliest,
    /// That of the next record.
    Latest,
    /// That of the record with the largest time.
    MaxTimestamp,
    /// That of the first record at or after a time.
    Timestamp(i64),
}

/// An offset that was asked for; all fields are -1 if no record matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// Time of the record, if asked for by time.
    pub timestamp: i64,
    /// Leader epoch of the record.
    pub leader_epoch: i32,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) syncer: Arc<Syncer>,
    pub(crate) cluster_id: String,
    pub(crate) stopping: AtomicBool,
}

/// The broker's functions; cheap to clone, usable as long as the broker runs.
#[derive(Debug, Clone)]
pub struct Handle(pub(crate) Arc<Inner>);

/// A partition to fetch from, or why it cannot be.
pub(crate) type FetchPlace = (Result<Arc<Partition>, ResponseError>, i64, usize);

impl Handle {
    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.0.cluster_id
    }

    /// Names of all topics, each with its number of partitions.
    pub fn topics(&self) -> Vec<(String, i32)> {
        self.0.cluster.topics().iter().map(|t| (t.name.to_string(), t.partitions.len() as i32)).collect()
    }

    /// Appends one record batch as a producer sends it (format v2, base offset 0). Returns once it is in the page
    /// cache; await the answer for durability. Calls for one partition take effect in the order they are made.
    ///
    /// # Errors
    /// As Produce answers for the partition; nothing was stored.
    pub fn append(&self, topic: &str, partition: i32, batch: Bytes, acks: Acks) -> Result<PendingAppend, AppendError> {
        let topic = self.0.cluster.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.append_to(&topic, partition, batch, acks)
    }

    pub(crate) fn append_to(
        &self,
        topic: &Topic,
        partition: i32,
        batch: Bytes,
        acks: Acks,
    ) -> Result<PendingAppend, AppendError> {
        let partition = topic.partition(partition)?;
        let config = &topic.config;
        if topic.is_internal() {
            return Err(ResponseError::InvalidTopicException.into());
        }
        if acks == Acks::All && config.min_insync_replicas > 1 && !self.0.config.clamp_replication_factor {
            return Err(ResponseError::NotEnoughReplicas.into());
        }
        let now = now_ms();
        let batch = Batch::check(batch, config, now)?;
        if batch.header.is_transactional() {
            return Err(ResponseError::InvalidTxnState.into());
        }
        let Appended { base_offset, last_offset, log_append_time, log_start, rolled } =
            partition.log().append(batch, now)?;
        let sync =
            self.0.config.sync_policy == SyncPolicy::GroupCommit && acks == Acks::All || config.flush_messages == 1;
        let durable = sync.then(|| self.0.syncer.sync(partition));
        if rolled && !sync {
            self.0.syncer.sync_later(partition);
        }
        Ok(PendingAppend { outcome: AppendOutcome { base_offset, last_offset, log_append_time, log_start }, durable })
    }

    /// Reads whole batches from several partitions, in the order given, waiting if there is too little.
    /// Cancel-safe. An error in one partition ends the wait.
    pub async fn fetch(&self, from: &[FetchFrom], limits: FetchLimits) -> Vec<Result<Fetched, ResponseError>> {
        let place = |f: &FetchFrom| (self.0.cluster.partition(&f.topic, f.partition), f.offset, f.max_bytes);
        let places: Vec<FetchPlace> = from.iter().map(place).collect();
        let found = self.fetch_places(&places, limits).await;
        let fetched = |(marks, records): (Watermarks, Bytes)| Fetched {
            records,
            log_start: marks.log_start,
            high_watermark: marks.high_watermark,
            last_stable_offset: marks.last_stable,
        };
        found.into_iter().map(|result| result.map(fetched)).collect()
    }

    pub(crate) async fn fetch_places(
        &self,
        places: &[FetchPlace],
        limits: FetchLimits,
    ) -> Vec<Result<(Watermarks, Bytes), ResponseError>> {
        let deadline = tokio::time::Instant::now() + limits.max_wait;
        let mut waiter: Option<Arc<FetchWaiter>> = None;
        loop {
            let (found, bytes, failed) = read_all(places, limits.max_bytes);
            if failed || bytes >= limits.min_bytes || limits.max_wait.is_zero() || places.is_empty() {
                return found;
            }
            match waiter.take() {
                None => {
                    // Registered first, then read again, so that no append in between is missed.
                    let new = FetchWaiter::new((limits.min_bytes - bytes) as i64);
                    for partition in places.iter().filter_map(|(partition, ..)| partition.as_ref().ok()) {
                        partition.log().register(&new);
                    }
                    waiter = Some(new);
                    if read_all_grew(places, &found) {
                        continue;
                    }
                }
                Some(used) => waiter = Some(used),
            }
            if let Some(parked) = &waiter
                && tokio::time::timeout_at(deadline, parked.woken()).await.is_err()
            {
                return read_all(places, limits.max_bytes).0;
            }
            waiter = None;
        }
    }

    /// Looks up an offset.
    ///
    /// # Errors
    /// As ListOffsets answers for the partition.
    pub fn find_offset(&self, topic: &str, partition: i32, spec: OffsetSpec) -> Result<FoundOffset, ResponseError> {
        let partition = self.0.cluster.partition(topic, partition)?;
        let by_time = |found: Option<(i64, i64, i32)>| match found {
            Some((timestamp, offset, leader_epoch)) => FoundOffset { offset, timestamp, leader_epoch },
            None => FoundOffset { offset: -1, timestamp: -1, leader_epoch: -1 },
        };
        match spec {
            OffsetSpec::MaxTimestamp => partition.max_time().map(by_time),
            OffsetSpec::Timestamp(time) => partition.find_time(time).map(by_time),
            OffsetSpec::Earliest | OffsetSpec::Latest => {
                let log = partition.log();
                let offset = if spec == OffsetSpec::Earliest { log.log_start() } else { log.end() };
                Ok(FoundOffset { offset, timestamp: -1, leader_epoch: log.epoch_at(offset) })
            }
        }
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
        self.blocking(move |inner| delete(inner).map_err(|error| (error, String::new())))
            .await
            .map_err(|(error, _)| error)
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
        self.blocking(move |inner| delete(inner).map_err(|error: ResponseError| (error, String::new())))
            .await
            .map_err(|(error, _)| error)
    }

    /// A new producer id, for an idempotent producer; its epoch is 0.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn init_producer_id(&self) -> Result<i64, ResponseError> {
        let next = |inner: &Inner| inner.cluster.next_producer_id().map_err(|error| (error, String::new()));
        self.blocking(next).await.map_err(|(error, _)| error)
    }

    /// Joins a group; resolves when the rebalance ends.
    pub async fn join_group(&self, request: JoinRequest) -> JoinReply {
        self.0.coordinator.join(request).await
    }

    /// Hands in (leader) or waits for (follower) the assignment.
    ///
    /// # Errors
    /// As SyncGroup answers.
    pub async fn sync_group(&self, request: SyncRequest) -> Result<SyncReply, ResponseError> {
        self.0.coordinator.sync(request).await
    }

    /// A sign of life of a group member.
    ///
    /// # Errors
    /// As Heartbeat answers; REBALANCE_IN_PROGRESS means rejoin.
    pub fn heartbeat(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.0.coordinator.heartbeat(group, member, instance, generation)
    }

    /// Removes a member from a group.
    ///
    /// # Errors
    /// As LeaveGroup answers for the member.
    pub fn leave_group(&self, group: &str, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        self.0.coordinator.leave(group, member, instance)
    }

    /// Commits offsets; resolves when they are durable. The answer carries an error per offset.
    pub async fn commit_offsets(&self, request: CommitRequest) -> CommitRequest {
        self.0.coordinator.commit(request).await
    }

    /// Committed offsets of a group, by topic and partition.
    pub fn committed_offsets(&self, group: &str) -> BTreeMap<(String, i32), Committed> {
        self.0.coordinator.offsets(group)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Runs what blocks on the disk where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|_| Err((ResponseError::UnknownServerError, "the broker is stopping".to_owned())))
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

type FoundAll = (Vec<Result<(Watermarks, Bytes), ResponseError>>, usize, bool);

fn read_all(places: &[FetchPlace], max_bytes: usize) -> FoundAll {
    let (mut total, mut failed) = (0, false);
    let mut found = Vec::with_capacity(places.len());
    for (partition, offset, partition_max) in places {
        let left = max_bytes.saturating_sub(total);
        let result = partition
            .as_ref()
            .map_err(|error| *error)
            .and_then(|partition| partition.read(*offset, left.min(*partition_max), total == 0));
        match &result {
            Ok((_, records)) => total += records.len(),
            Err(_) => failed = true,
        }
        found.push(result);
    }
    (found, total, failed)
}

/// Whether any log grew since it was read.
fn read_all_grew(places: &[FetchPlace], found: &[Result<(Watermarks, Bytes), ResponseError>]) -> bool {
    places.iter().zip(found).any(|((partition, ..), result)| match (partition, result) {
        (Ok(partition), Ok((marks, _))) => partition.log().end() != marks.high_watermark,
        _ => false,
    })
}
