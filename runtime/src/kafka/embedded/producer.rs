//! Producing into the broker of this process: one record batch a partition and send, built once from the encoded
//! records, appended in the order of the calls.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::future::join_all;
use towline_broker::{Acks, AppendError, BatchBuilder, Compression, Handle, PendingAppend, ResponseError};
use towline_connectors::api::{Error, Result};

use super::failed;
use super::partitioner::partition_of;
use crate::kafka::{Ack, ClientSettings, Outgoing, OutgoingRecord, Producer};

/// A batch is appended when it has about this many bytes: a topic takes a little over 1 MiB unless set otherwise.
const BATCH_BYTES: usize = 960_000;
/// Lengths, deltas and attributes of a record take at most about this many bytes.
const RECORD_OVERHEAD: usize = 24;
/// The broker's disk may be full for a while: the pause before the next attempt.
const RETRY: Duration = Duration::from_millis(200);

/// Appends to the broker's logs, with or without a transaction.
pub(super) struct Appender {
    handle: Handle,
    acks: Acks,
    compression: Compression,
    largest: usize,
    /// Where the next records without a key go.
    turn: AtomicI32,
}

/// Who writes, on batches of a transaction: producer id, epoch, and the next sequence number of each partition.
#[derive(Debug)]
pub(super) struct Stamps {
    pub(super) producer: (i64, i16),
    pub(super) sequences: HashMap<(Arc<str>, i32), i32>,
}

pub(super) struct EmbeddedProducer(Appender);

impl EmbeddedProducer {
    pub(super) fn open(handle: Handle, settings: &ClientSettings) -> Result<Self> {
        Appender::open(handle, settings).map(Self)
    }
}

impl Appender {
    pub(super) fn open(handle: Handle, settings: &ClientSettings) -> Result<Self> {
        let text = |key: &str| settings.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let wrong = |key: &str, value: &str, right: &str| {
            Error::config(format!("cannot open a producer: {key}={value} is not understood, it is one of {right}"))
        };
        let acks = match text("acks") {
            None | Some("all" | "-1") => Acks::All,
            Some("1") => Acks::Leader,
            Some("0") => Acks::None,
            Some(other) => return Err(wrong("acks", other, "all, 1, 0")),
        };
        let compression = match text("compression.type").or(text("compression.codec")) {
            None | Some("none") => Compression::None,
            Some("gzip") => Compression::Gzip,
            Some("snappy") => Compression::Snappy,
            Some("lz4") => Compression::Lz4,
            Some("zstd") => Compression::Zstd,
            Some(other) => return Err(wrong("compression.type", other, "none, gzip, snappy, lz4, zstd")),
        };
        let largest = match text("max.request.size") {
            None => usize::MAX,
            Some(size) => size.parse().map_err(|_| wrong("max.request.size", size, "the numbers of bytes"))?,
        };
        Ok(Self { handle, acks, compression, largest, turn: AtomicI32::new(0) })
    }

    /// The same, for a transaction: its commit waits for the disk, not each append.
    pub(super) fn in_transactions(self) -> Self {
        Self { acks: Acks::None, ..self }
    }

    /// How many partitions the topic has; it is created if that is allowed.
    pub(super) async fn partitions(&self, topic: &str) -> Result<i32> {
        let count = self.handle.partitions(topic, true).await;
        count.map_err(|(error, said)| failed(&format!("cannot write to topic {topic}: {said}"), error))
    }

    /// Appends the records of each partition, in their order.
    pub(super) async fn append_all(
        &self,
        batch: &Outgoing,
        parts: &[(i32, Vec<usize>)],
        mut stamps: Option<&mut Stamps>,
    ) -> Sent {
        let mut sent = Sent::default();
        for (partition, records) in parts {
            let mut fit = records.clone();
            fit.retain(|index| size_of(&batch.records[*index]) <= self.largest);
            if fit.len() < records.len() {
                sent.refused.get_or_insert(too_large(&batch.topic));
            }
            if !fit.is_empty() {
                self.append(batch, *partition, &fit, stamps.as_deref_mut(), &mut sent).await;
            }
        }
        sent
    }

    /// The records of each partition, in their order.
    pub(super) fn by_partition(&self, batch: &Outgoing, count: i32) -> Vec<(i32, Vec<usize>)> {
        let keyless = self.turn.fetch_add(1, Ordering::Relaxed).rem_euclid(count);
        let mut parts: Vec<(i32, Vec<usize>)> = Vec::new();
        for (index, record) in batch.records.iter().enumerate() {
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of(&batch.buffer[key.clone()], count),
                (None, None) => keyless,
            };
            match parts.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, records)) => records.push(index),
                None => parts.push((partition, vec![index])),
            }
        }
        parts
    }

    /// Appends records of one partition: in batches of moderate size, smaller ones if the topic takes no larger.
    async fn append(
        &self,
        batch: &Outgoing,
        partition: i32,
        records: &[usize],
        mut stamps: Option<&mut Stamps>,
        sent: &mut Sent,
    ) {
        let mut parts = in_batches(batch, records);
        parts.reverse();
        while let Some(part) = parts.pop() {
            let stamp = stamps.as_deref_mut().map(|stamps| stamps.next(&batch.topic, partition));
            let built = build(batch, part, self.compression, stamp);
            match self.append_patiently(&batch.topic, partition, built).await {
                Ok(pending) => {
                    sent.pending.push((partition, pending));
                    if let Some(stamps) = &mut stamps {
                        stamps.used(&batch.topic, partition, part.len());
                    }
                }
                Err(refused) if refused.error == ResponseError::MessageTooLarge && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Err(refused) => {
                    let reason = refused.records.first().map_or("", |(_, reason)| reason);
                    sent.refused.get_or_insert(refused_by_broker(&batch.topic, refused.error, reason));
                    if refused.error != ResponseError::MessageTooLarge {
                        return;
                    }
                }
            }
        }
    }

    /// Appends one batch, again and again while the disk is full.
    async fn append_patiently(
        &self,
        topic: &str,
        partition: i32,
        built: bytes::Bytes,
    ) -> Result<PendingAppend, AppendError> {
        loop {
            match self.handle.append(topic, partition, built.clone(), self.acks) {
                Err(refused) if refused.error == ResponseError::KafkaStorageError => {
                    tracing::warn!(topic, partition, "the broker cannot write to its disk, trying again");
                    tokio::time::sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }
}

impl Stamps {
    fn next(&self, topic: &Arc<str>, partition: i32) -> (i64, i16, i32) {
        let sequence = self.sequences.get(&(topic.clone(), partition)).copied().unwrap_or(0);
        (self.producer.0, self.producer.1, sequence)
    }

    /// After 2^31-1 comes 0.
    fn used(&mut self, topic: &Arc<str>, partition: i32, count: usize) {
        let sequence = self.sequences.entry((topic.clone(), partition)).or_insert(0);
        let next = (i64::from(*sequence) + i64::try_from(count).unwrap_or(0)) & 0x7fff_ffff;
        *sequence = i32::try_from(next).unwrap_or(0);
    }
}

/// What became of a send so far.
#[derive(Default)]
pub(super) struct Sent {
    pending: Vec<(i32, PendingAppend)>,
    pub(super) refused: Option<Error>,
}

/// Runs of records that make batches of moderate size.
fn in_batches<'r>(batch: &Outgoing, records: &'r [usize]) -> Vec<&'r [usize]> {
    let mut parts = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (at, index) in records.iter().enumerate() {
        let own = size_of(&batch.records[*index]);
        if size + own > BATCH_BYTES && at > start {
            parts.push(&records[start..at]);
            (start, size) = (at, 0);
        }
        size += own;
    }
    parts.push(&records[start..]);
    parts
}

/// What a range of a batch's buffer holds.
fn bytes<'a>(batch: &'a Outgoing, range: Option<&Range<usize>>) -> Option<&'a [u8]> {
    range.map(|range| &batch.buffer[range.clone()])
}

fn build(
    batch: &Outgoing,
    records: &[usize],
    compression: Compression,
    stamp: Option<(i64, i16, i32)>,
) -> bytes::Bytes {
    let now = now_ms();
    let records = records.iter().map(|index| &batch.records[*index]);
    let base = records.clone().next().and_then(|record| record.timestamp).unwrap_or(now);
    let size = records.clone().map(size_of).sum();
    let mut builder = BatchBuilder::with_capacity(base, size);
    if let Some((id, epoch, sequence)) = stamp {
        builder = builder.producer(id, epoch, sequence).transactional();
    }
    for record in records {
        let (key, value) = (bytes(batch, record.key.as_ref()), bytes(batch, record.value.as_ref()));
        let timestamp = record.timestamp.unwrap_or(now);
        if record.headers.is_empty() {
            builder.push(timestamp, key, value);
        } else {
            let headers = record.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
            builder.push_with_headers(timestamp, key, value, headers);
        }
    }
    builder.build_packed(compression)
}

fn size_of(record: &OutgoingRecord) -> usize {
    let length = |range: &Option<Range<usize>>| range.as_ref().map_or(0, ExactSizeIterator::len);
    let headers: usize =
        record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, bytes::Bytes::len) + 10).sum();
    length(&record.key) + length(&record.value) + headers + RECORD_OVERHEAD
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn refused_by_broker(topic: &str, error: ResponseError, reason: &str) -> Error {
    let what = format!("cannot write to topic {topic}");
    match error {
        ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge => too_large(topic),
        ResponseError::InvalidRecord => Error::data(format!("{what}: {error} {reason}")),
        error if reason.is_empty() => failed(&what, error),
        error => failed(&format!("{what}: {reason}"), error),
    }
}

fn too_large(topic: &str) -> Error {
    Error::data(format!(
        "cannot write to topic {topic}: the record is larger than the broker accepts; raise the topic's \
         max.message.bytes and the producer.override.max.request.size of the connector"
    ))
    .with_class("org.apache.kafka.common.errors.RecordTooLargeException")
}

#[async_trait]
impl Producer for EmbeddedProducer {
    async fn send(&self, batch: Outgoing) -> Result<Ack> {
        if batch.records.is_empty() {
            return Ok(Box::pin(async { Ok(Vec::new()) }));
        }
        let parts = self.0.by_partition(&batch, self.0.partitions(&batch.topic).await?);
        let Sent { pending, refused } = self.0.append_all(&batch, &parts, None).await;
        let topic = batch.topic;
        Ok(Box::pin(async move {
            let waits = pending.into_iter().map(async |(partition, pending)| (partition, pending.done().await));
            let mut ends: Vec<(i32, i64)> = Vec::new();
            for (partition, outcome) in join_all(waits).await {
                let last = outcome.map_err(|error| refused_by_broker(&topic, error, ""))?.last_offset;
                match ends.iter_mut().find(|(known, _)| *known == partition) {
                    Some((_, end)) => *end = last.max(*end),
                    None => ends.push((partition, last)),
                }
            }
            refused.map_or(Ok(ends), Err)
        }))
    }
}
