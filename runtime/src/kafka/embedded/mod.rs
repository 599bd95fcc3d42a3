//! The adapter for the broker in this process: the port's calls become calls of the broker's own functions, the same
//! that its request handlers use after decoding. Nothing is bypassed but sockets and frames.

mod arrivals;
mod assignor;
mod group;
mod leader;
mod member;
mod partitioner;
mod producer;
mod reader;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use towline_broker::{
    BatchReader, CommitRequest, Fetched, Handle, OffsetCommit, ReadBatch, RecordAt, ResponseError, TransactionState,
    UnreadableBatch,
};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::cluster::Cluster;
use super::{
    ClientSettings, GroupConsumer, IncomingBatch, IncomingRecord, Kafka, LogReader, NewTopic, Producer, Subscription,
    TransactionalProducer,
};

/// The broker of this process.
#[derive(Debug, Clone)]
pub struct Embedded(Handle);

impl Embedded {
    /// The broker behind a handle.
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Aborts what producers whose ids begin so have left open when the process before this one ended: some of them may
    /// never come back, and readers wait for open transactions.
    pub async fn abort_left_open(&self, prefix: &str) {
        let timeout = transaction::TIMEOUT_MS.min(self.0.longest_transaction_ms());
        for left in self.0.list_transactions() {
            let id = left.id;
            if id.starts_with(prefix)
                && left.state == TransactionState::Ongoing
                && let Err(error) = self.0.init_transactional_producer(&id, timeout).await
            {
                tracing::warn!(id, %error, "a transaction that was left open could not be aborted; its timeout will");
            }
        }
    }
}

/// A client whose own settings name another cluster (`producer.override.bootstrap.servers`) goes there.
fn elsewhere(settings: &ClientSettings) -> Option<Result<Cluster>> {
    settings.contains_key("bootstrap.servers").then(|| Cluster::new(settings.clone()))
}

#[async_trait]
impl Kafka for Embedded {
    fn producer(&self, settings: &ClientSettings) -> Result<Box<dyn Producer>> {
        match elsewhere(settings) {
            Some(cluster) => cluster?.producer(settings),
            None => Ok(Box::new(producer::EmbeddedProducer::open(self.0.clone(), settings)?)),
        }
    }

    async fn transactional_producer(
        &self,
        id: &str,
        settings: &ClientSettings,
    ) -> Result<Box<dyn TransactionalProducer>> {
        match elsewhere(settings) {
            Some(cluster) => cluster?.transactional_producer(id, settings).await,
            None => Ok(Box::new(transaction::EmbeddedTransactionalProducer::open(self.0.clone(), id, settings).await?)),
        }
    }

    fn longest_transaction_ms(&self) -> Option<i32> {
        Some(self.0.longest_transaction_ms())
    }

    async fn ends(&self, topic: &str) -> Result<Vec<(TopicPartition, i64)>> {
        reader::ends(&self.0, topic).await
    }

    fn group_consumer(&self, subscription: &Subscription, settings: &ClientSettings) -> Result<Box<dyn GroupConsumer>> {
        match elsewhere(settings) {
            Some(cluster) => cluster?.group_consumer(subscription, settings),
            None => Ok(Box::new(group::EmbeddedGroupConsumer::join(self.0.clone(), subscription, settings)?)),
        }
    }

    async fn log_reader(&self, topics: &[String]) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(reader::EmbeddedLogReader::open(self.0.clone(), topics).await?))
    }

    async fn cluster_id(&self) -> Result<String> {
        Ok(self.0.cluster_id().to_owned())
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<bool> {
        let new = towline_broker::NewTopic {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: i16::try_from(topic.replication_factor).unwrap_or(-1),
            configs: topic.configs.iter().cloned().collect::<BTreeMap<_, _>>(),
        };
        match self.0.create_topic(new, false).await {
            Ok(_) => Ok(true),
            Err((ResponseError::TopicAlreadyExists, _)) => Ok(false),
            Err((error, said)) => Err(failed(&format!("cannot create topic {}: {said}", topic.name), error)),
        }
    }

    async fn auto_create(&self, topic: &str) {
        if let Err((error, said)) = self.0.partitions(topic, true).await {
            tracing::debug!(topic, %error, said, "topic is not there yet");
        }
    }

    async fn partitions(&self, topic: &str) -> Result<Option<usize>> {
        Ok(self.0.partitions(topic, false).await.ok().and_then(|count| usize::try_from(count).ok()))
    }

    async fn topic_config(&self, topic: &str, key: &str) -> Result<Option<String>> {
        let entries = self.0.describe_topic_configs(topic).unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry.name == key).map(|entry| entry.value))
    }

    async fn group_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>> {
        let committed = self.0.committed_offsets(group).into_iter();
        Ok(committed
            .map(|((topic, partition), committed)| {
                (TopicPartition { topic: topic.into(), partition }, committed.offset)
            })
            .collect())
    }

    async fn alter_group_offsets(&self, group: &str, offsets: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        let what = || format!("cannot set the offsets of group {group}; are its members stopped?");
        let deleted: Vec<(String, i32)> = offsets
            .iter()
            .filter(|(_, offset)| offset.is_none())
            .map(|(at, _)| (at.topic.to_string(), at.partition))
            .collect();
        if !deleted.is_empty() {
            match self.0.delete_group_offsets(group, &deleted).await {
                Err(ResponseError::GroupIdNotFound) => {}
                outcome => {
                    let refused = outcome.map_or_else(Some, |each| each.into_iter().find_map(Result::err));
                    refused.map_or(Ok(()), |error| Err(failed(&what(), error)))?;
                }
            }
        }
        let set: Vec<_> = offsets.iter().filter_map(|(at, offset)| Some((at.clone(), (*offset)?))).collect();
        commit(&self.0, outside_commit(group), &set).await.map_err(|error| failed(&what(), error))
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        match self.0.delete_group(group).await {
            Ok(()) | Err(ResponseError::GroupIdNotFound) => Ok(()),
            Err(error) => Err(failed(&format!("cannot delete group {group}; are its members stopped?"), error)),
        }
    }
}

/// A commit that comes from no member.
fn outside_commit(group: &str) -> CommitRequest {
    CommitRequest { group_id: group.to_owned(), generation: -1, ..CommitRequest::default() }
}

/// Commits offsets; the first error of any of them.
async fn commit(
    handle: &Handle,
    mut request: CommitRequest,
    offsets: &[(TopicPartition, i64)],
) -> Result<(), ResponseError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let committed = |(at, offset): &(TopicPartition, i64)| OffsetCommit {
        topic: at.topic.to_string(),
        partition: at.partition,
        offset: *offset,
        leader_epoch: -1,
        metadata: String::new(),
        error: None,
    };
    request.offsets = offsets.iter().map(committed).collect();
    let answer = handle.commit_offsets(request).await;
    answer.offsets.into_iter().find_map(|offset| offset.error).map_or(Ok(()), Err)
}

/// A call that failed: passing troubles are retriable, the rest is not.
fn failed(what: &str, error: ResponseError) -> Error {
    let passing = matches!(
        error,
        ResponseError::NotLeaderOrFollower
            | ResponseError::UnknownTopicOrPartition
            | ResponseError::CoordinatorLoadInProgress
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::NotCoordinator
            | ResponseError::RebalanceInProgress
            | ResponseError::IllegalGeneration
            | ResponseError::UnknownMemberId
            | ResponseError::RequestTimedOut
    );
    let error_of = if passing { Error::retriable } else { Error::fatal };
    error_of(format!("{what}: {error}"))
}

/// Decodes fetched batches into the port's, from an offset on.
fn incoming(topic: &Arc<str>, partition: i32, from: i64, fetched: Fetched) -> Result<Vec<IncomingBatch>> {
    incoming_but(topic, partition, from, fetched, |error| {
        Err(Error::fatal(format!("cannot read {topic}-{partition}: {error}")).caused_by(error))
    })
}

/// As [`incoming`]; what cannot be read is passed over, with the rest of its batch, if `judge` says so.
fn incoming_but(
    topic: &Arc<str>,
    partition: i32,
    from: i64,
    fetched: Fetched,
    judge: impl Fn(UnreadableBatch) -> Result<()>,
) -> Result<Vec<IncomingBatch>> {
    let mut batches = Vec::new();
    for batch in BatchReader::new(fetched.records) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                judge(error)?;
                continue;
            }
        };
        // The count comes from whoever wrote the batch: no record takes less than seven bytes.
        let mut records = Vec::with_capacity(batch.len().min(batch.data.len() / 7));
        for record in batch.records() {
            match record {
                Ok(record) if record.offset < from => {}
                Ok(record) => records.push(incoming_record(&batch, record)),
                Err(error) => judge(error)?,
            }
        }
        let next_offset = batch.next_offset.max(from);
        batches.push(IncomingBatch { topic: topic.clone(), partition, buffer: batch.data, records, next_offset });
    }
    // What was aborted, and markers, come not at all: only where to go on tells of them.
    let next_offset = fetched.next_offset;
    match batches.last_mut() {
        Some(last) => last.next_offset = next_offset.max(last.next_offset),
        None if next_offset > from => {
            let (topic, buffer, records) = (topic.clone(), Bytes::new(), Vec::new());
            batches.push(IncomingBatch { topic, partition, buffer, records, next_offset });
        }
        None => {}
    }
    Ok(batches)
}

fn incoming_record(batch: &ReadBatch, record: RecordAt) -> IncomingRecord {
    let mut headers = Vec::with_capacity(record.headers.len());
    for (name, value) in record.headers {
        // As Java's clients read names that are not UTF-8.
        let name = ByteString::try_from(batch.data.slice(name.clone()))
            .unwrap_or_else(|_| String::from_utf8_lossy(&batch.data[name]).into_owned().into());
        headers.push((name, value.map(|value| batch.data.slice(value))));
    }
    IncomingRecord {
        offset: record.offset,
        timestamp: (record.timestamp >= 0).then_some(record.timestamp),
        key: record.key,
        value: record.value,
        headers,
    }
}
