//! A consumer group member through librdkafka. A thread of its own polls, so that heartbeats and rebalances go on
//! whatever the task does; records are handed over in batches through a bounded queue.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::reader::blocking;
use super::{ClientSettings, client_config, failed, refused};
use crate::kafka::{GroupConsumer, GroupEvent, IncomingBatch, IncomingRecord, REQUEST_TIMEOUT, Subscription};

/// At most this many records are handed over at once.
const BATCH_RECORDS: usize = 10_000;
/// At most about this many bytes are handed over at once.
const BATCH_BYTES: usize = 8 << 20;
/// How long a rebalance waits for the task to flush and commit.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct ClusterGroupConsumer {
    consumer: Arc<BaseConsumer<Member>>,
    /// Rebalances and errors: never held up by records.
    control: mpsc::Receiver<GroupEvent>,
    records: mpsc::Receiver<GroupEvent>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ClusterGroupConsumer {
    pub(super) fn join(
        common: &ClientSettings,
        subscription: &Subscription,
        settings: &ClientSettings,
    ) -> Result<Self> {
        let mut all = ClientSettings::from(
            [
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "earliest"),
                ("queued.max.messages.kbytes", "16384"),
                ("queued.min.messages", "100000"),
                ("fetch.message.max.bytes", "4194304"),
                ("fetch.wait.max.ms", "500"),
                // By default it reads nothing for a second once its queue was full.
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.error.backoff.ms", "50"),
                ("topic.metadata.refresh.interval.ms", "500"),
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "3000"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        all.extend(settings.clone());
        let (sender, records) = mpsc::channel(1);
        // A member has at most one rebalance under way; errors are dropped while nobody listens.
        let (control_sender, control) = mpsc::channel(4);
        let consumer: BaseConsumer<Member> = client_config(common, &all)
            .create_with_context(Member { control: control_sender.clone(), revoked: AtomicBool::new(false) })
            .map_err(|e| refused("cannot open a consumer", e))?;
        let names: Vec<String> = match subscription {
            Subscription::Topics(topics) => topics.clone(),
            // librdkafka takes a name that starts with ^ as a pattern.
            Subscription::Pattern(pattern) => vec![format!("^({pattern})$")],
        };
        consumer
            .subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>())
            .map_err(|e| failed(format!("cannot subscribe to {names:?}"), e))?;
        let consumer = Arc::new(consumer);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("group-consumer".to_owned())
            .spawn({
                let (consumer, stop) = (consumer.clone(), stop.clone());
                move || {
                    let ran = catch_unwind(AssertUnwindSafe(|| consume(&consumer, &stop, &sender, &control_sender)));
                    if ran.is_err() {
                        // rdkafka panics over a header whose name is not UTF-8.
                        let error = Error::fatal("the consumer cannot read a record; is a header's name not UTF-8?");
                        let _ = control_sender.blocking_send(GroupEvent::Failed(error));
                    }
                }
            })
            .map_err(|e| Error::fatal("cannot start a thread for a consumer").caused_by(e))?;
        Ok(Self { consumer, control, records, stop, thread: Some(thread) })
    }
}

/// Polls until told to stop, collecting while the task is busy.
fn consume(
    consumer: &BaseConsumer<Member>,
    stop: &AtomicBool,
    sender: &mpsc::Sender<GroupEvent>,
    control: &mpsc::Sender<GroupEvent>,
) {
    let mut drain = Drain::default();
    let mut stalled: Option<Instant> = None;
    let mut held = false;
    while !stop.load(Ordering::Acquire) {
        let patience = if drain.is_empty() { Duration::from_millis(100) } else { Duration::from_millis(1) };
        match consumer.poll(patience) {
            Some(Ok(message)) => drain.add_owned(consumer, &message),
            Some(Err(error)) => {
                if !tell(consumer, error, control) {
                    return;
                }
            }
            None => drain.forget_revoked(consumer),
        }
        while drain.has_room() {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => drain.add_owned(consumer, &message),
                Some(Err(_)) | None => break,
            }
        }
        drain.forget_revoked(consumer);
        if !drain.is_empty() {
            match sender.try_reserve() {
                Ok(permit) => {
                    permit.send(GroupEvent::Records(drain.take()));
                    stalled = None;
                    if std::mem::take(&mut held) {
                        set_paused(consumer, false);
                    }
                }
                Err(mpsc::error::TrySendError::Closed(())) => return,
                Err(mpsc::error::TrySendError::Full(())) if drain.has_room() => {}
                Err(mpsc::error::TrySendError::Full(())) => {
                    // The task is slow: hold the partitions after a while and keep polling, so that the member stays
                    // in its group for as long as the task needs.
                    let since = *stalled.get_or_insert_with(Instant::now);
                    if !held && since.elapsed() > Duration::from_secs(20) {
                        held = true;
                        set_paused(consumer, true);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                    if held {
                        // Serves rebalances; paused partitions give no records, and one that slips through is kept.
                        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                            drain.add_owned(consumer, &message);
                        }
                        drain.forget_revoked(consumer);
                    }
                    continue;
                }
            }
        }
    }
}

/// Tells the task of an error; false once nobody listens any more.
fn tell(consumer: &BaseConsumer<Member>, error: KafkaError, control: &mpsc::Sender<GroupEvent>) -> bool {
    if let Some((code, reason)) = consumer.client().fatal_error() {
        let error = Error::fatal(format!("the consumer cannot go on: {reason} ({code})"));
        return control.blocking_send(GroupEvent::Failed(error)).is_ok();
    }
    let what = "cannot consume".to_owned();
    let event = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::PartitionEOF) => return true,
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed,
        ) => GroupEvent::Failed(failed(what, error)),
        // Whatever else librdkafka tells of, it goes on by itself.
        _ => GroupEvent::Failed(Error::retriable(format!("{what}: {error}")).caused_by(error)),
    };
    !matches!(control.try_send(event), Err(mpsc::error::TrySendError::Closed(_)))
}

fn set_paused<C: ConsumerContext>(consumer: &BaseConsumer<C>, paused: bool) {
    let done = consumer
        .assignment()
        .and_then(|assigned| if paused { consumer.pause(&assigned) } else { consumer.resume(&assigned) });
    if let Err(error) = done {
        tracing::warn!(%error, paused, "cannot pause or resume the consumer");
    }
}

#[async_trait]
impl GroupConsumer for ClusterGroupConsumer {
    async fn next(&mut self) -> Option<GroupEvent> {
        // Both are cancel-safe. The control channel closes first.
        tokio::select! {
            biased;
            event = self.control.recv() => event,
            event = self.records.recv() => event,
        }
    }

    async fn next_control(&mut self) -> Option<GroupEvent> {
        self.control.recv().await
    }

    async fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = offset_list(offsets)?;
        let consumer = self.consumer.clone();
        blocking(move || {
            consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|e| failed("cannot commit offsets to the group's coordinator".to_owned(), e))
        })
        .await
    }

    fn set_paused(&self, paused: bool) {
        set_paused(&self.consumer, paused);
    }

    async fn close(mut self: Box<Self>) {
        self.stop.store(true, Ordering::Release);
        self.control.close();
        self.records.close();
        while self.control.recv().await.is_some() {}
        let (consumer, thread) = (self.consumer.clone(), self.thread.take());
        drop(self);
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            drop(consumer);
        })
        .await;
    }
}

impl Drop for ClusterGroupConsumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

pub(super) fn offset_list(offsets: &[(TopicPartition, i64)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (at, offset) in offsets {
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*offset))
            .map_err(|e| failed(format!("cannot name offset {offset} of {}-{}", at.topic, at.partition), e))?;
    }
    Ok(list)
}

/// Hands rebalances to the task and waits for its answer.
struct Member {
    control: mpsc::Sender<GroupEvent>,
    /// Set by a revocation: records that were polled before it are somebody else's now.
    revoked: AtomicBool,
}

impl ClientContext for Member {}

impl Member {
    /// Sends an event and waits for the answer, on the polling thread; gives up when the task is gone or too slow.
    fn ask<T>(&self, event: GroupEvent, answer: oneshot::Receiver<T>) -> Option<T> {
        self.control.blocking_send(event).ok()?;
        let mut answer = answer;
        let deadline = Instant::now() + REBALANCE_PATIENCE;
        loop {
            match answer.try_recv() {
                Ok(value) => return Some(value),
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() > deadline => return None,
                Err(oneshot::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions_of(list);
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let outcome = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let (reply, answer) = oneshot::channel();
                let with_end = |at: TopicPartition| {
                    // An end that is not to be learnt now is taken as far away: it then forbids no offset.
                    let end = consumer.fetch_watermarks(&at.topic, at.partition, REQUEST_TIMEOUT);
                    (at, end.map_or(i64::MAX, |(_, end)| end))
                };
                let partitions = partitions.into_iter().map(with_end).collect();
                for (at, offset) in self.ask(GroupEvent::Assigned(partitions, reply), answer).unwrap_or_default() {
                    let _ = list.set_partition_offset(&at.topic, at.partition, Offset::Offset(offset));
                }
                if cooperative { consumer.incremental_assign(list) } else { consumer.assign(list) }
            }
            _ => {
                let (reply, answer) = oneshot::channel();
                if !partitions.is_empty() {
                    let _ = self.ask(GroupEvent::Revoked(partitions, reply), answer);
                }
                self.revoked.store(true, Ordering::Release);
                if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "the consumer could not take its assignment");
        }
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|e| TopicPartition { topic: Arc::from(e.topic()), partition: e.partition() }).collect()
}

/// Copies records out of librdkafka's memory into one buffer a batch and partition.
#[derive(Default)]
pub(super) struct Drain {
    batches: Vec<Drained>,
    count: usize,
    bytes: usize,
    topics: HashMap<String, Arc<str>>,
}

/// Records of one partition.
struct Drained {
    topic: Arc<str>,
    partition: i32,
    buffer: BytesMut,
    records: Vec<IncomingRecord>,
}

impl Drained {
    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }
}

impl Drain {
    pub(super) fn has_room(&self) -> bool {
        self.count < BATCH_RECORDS && self.bytes < BATCH_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a record, after dropping what was collected for partitions that are revoked by now.
    fn add_owned(&mut self, consumer: &BaseConsumer<Member>, message: &BorrowedMessage<'_>) {
        self.forget_revoked(consumer);
        self.add(message);
    }

    fn forget_revoked(&mut self, consumer: &BaseConsumer<Member>) {
        if consumer.context().revoked.swap(false, Ordering::AcqRel) {
            drop(self.take());
        }
    }

    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) {
        let same = |batch: &Drained| batch.partition == message.partition() && *batch.topic == *message.topic();
        // Records mostly come in runs of one partition.
        let index = match self.batches.iter().rposition(same) {
            Some(index) => index,
            None => {
                let topic = self.topic(message.topic());
                let partition = message.partition();
                self.batches.push(Drained { topic, partition, buffer: BytesMut::new(), records: Vec::new() });
                self.batches.len() - 1
            }
        };
        let batch = &mut self.batches[index];
        let before = batch.buffer.len();
        let key = message.key().map(|bytes| batch.keep(bytes));
        let value = message.payload().map(|bytes| batch.keep(bytes));
        let headers = message.headers().map(|headers| {
            headers.iter().map(|h| (ByteString::from(h.key), h.value.map(Bytes::copy_from_slice))).collect()
        });
        batch.records.push(IncomingRecord {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key,
            value,
            headers: headers.unwrap_or_default(),
        });
        self.bytes += batch.buffer.len() - before;
        self.count += 1;
    }

    fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(topic) = self.topics.get(name) {
            return topic.clone();
        }
        let topic: Arc<str> = Arc::from(name);
        self.topics.insert(name.to_owned(), topic.clone());
        topic
    }

    pub(super) fn take(&mut self) -> Vec<IncomingBatch> {
        (self.count, self.bytes) = (0, 0);
        let next_offset = |records: &[IncomingRecord]| records.last().map_or(0, |record| record.offset + 1);
        self.batches
            .drain(..)
            .map(|batch| IncomingBatch {
                topic: batch.topic,
                partition: batch.partition,
                buffer: batch.buffer.freeze(),
                next_offset: next_offset(&batch.records),
                records: batch.records,
            })
            .collect()
    }
}
