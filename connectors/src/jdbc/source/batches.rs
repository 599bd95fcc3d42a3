//! The queue between the reader and the worker: bounded by about so many bytes, so that a reader of many small tables
//! goes on as far as one of large pages.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::api::{Result, SourceBatch};
use crate::data::Value;

/// What the queue holds, in units.
const ROOM: usize = 8 << 20;
/// A unit of room in bytes.
const UNIT: usize = 1 << 10;
/// Rows that are looked at to learn the size of a batch's rows.
const SAMPLES: usize = 8;

type Entry = (Result<SourceBatch>, OwnedSemaphorePermit);

/// The reader's end.
#[derive(Debug)]
pub(super) struct Batches {
    queue: mpsc::UnboundedSender<Entry>,
    room: Arc<Semaphore>,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Received {
    queue: mpsc::UnboundedReceiver<Entry>,
    room: Arc<Semaphore>,
    /// An error that came behind batches.
    error: Option<crate::api::Error>,
}

/// The worker's end is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed;

/// A new queue.
pub(super) fn queue() -> (Batches, Received) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM / UNIT));
    (Batches { queue: sender, room: room.clone() }, Received { queue: receiver, room, error: None })
}

impl Batches {
    /// Hands a batch over, waiting for room.
    pub(super) async fn send(&self, batch: Result<SourceBatch>) -> Result<(), Closed> {
        let size = batch.as_ref().map_or(0, about_bytes);
        let units = (size / UNIT).clamp(1, ROOM / UNIT);
        let permit = self.room.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        self.queue.send((batch, permit.map_err(|_| Closed)?)).map_err(|_| Closed)
    }
}

impl Received {
    /// The next batch, and what is there behind it, together up to about so many rows; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self, rows: usize) -> Option<Result<Vec<SourceBatch>>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let first = match self.queue.recv().await?.0 {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        let mut size = about_bytes(&first);
        let mut count = first.records.len();
        let mut batches = vec![first];
        while count < rows
            && size < ROOM / 8
            && let Ok((next, _)) = self.queue.try_recv()
        {
            match next {
                Ok(batch) => {
                    count += batch.records.len();
                    size += about_bytes(&batch);
                    batches.push(batch);
                }
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        Some(Ok(batches))
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Whoever waits for room learns that none will come.
        self.room.close();
    }
}

/// About how many bytes a batch holds, by some of its rows.
fn about_bytes(batch: &SourceBatch) -> usize {
    let records = &batch.records;
    let step = (records.len() / SAMPLES).max(1);
    let samples = records.iter().step_by(step);
    let looked_at = samples.clone().count().max(1);
    let bytes: usize = samples.map(|record| bytes_of(&record.key) + bytes_of(&record.value)).sum();
    bytes / looked_at * records.len()
}

fn bytes_of(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(values) | Value::Struct(values) => values.iter().map(bytes_of).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| bytes_of(key) + bytes_of(value)).sum(),
        _ => 0,
    };
    inner + size_of::<Value>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Error, SourceRecord};

    fn batch(topic: &str, rows: usize, bytes: usize) -> Result<SourceBatch> {
        let row = || SourceRecord::of_value(Value::Bytes(vec![0; bytes].into()));
        Ok(SourceBatch {
            topic: topic.into(),
            key_schema: None,
            value_schema: None,
            records: (0..rows).map(|_| row()).collect(),
            source_partition: Arc::new(super::super::progress::query_partition()),
            source_offset: None,
        })
    }

    #[tokio::test]
    async fn small_batches_come_together_and_an_error_after_those_before_it() {
        let (batches, mut received) = queue();
        for topic in ["a", "b", "c", "d"] {
            batches.send(batch(topic, 10, 10)).await.unwrap();
        }
        batches.send(Err(Error::retriable("away"))).await.unwrap();
        let topics = |batches: Vec<SourceBatch>| batches.iter().map(|b| b.topic.to_string()).collect::<Vec<_>>();
        assert_eq!(topics(received.next(15).await.unwrap().unwrap()), ["a", "b"]);
        assert_eq!(topics(received.next(100).await.unwrap().unwrap()), ["c", "d"]);
        assert!(received.next(100).await.unwrap().is_err());
        drop(batches);
        assert!(received.next(100).await.is_none());
    }

    #[tokio::test]
    async fn a_full_queue_waits_for_room_and_ends_with_the_worker() {
        let (batches, mut received) = queue();
        batches.send(batch("a", 1, ROOM * 2)).await.unwrap();
        let more = batches.send(batch("b", 1, 10));
        tokio::pin!(more);
        assert!(futures_util::poll!(&mut more).is_pending());
        assert_eq!(received.next(1).await.unwrap().unwrap().len(), 1);
        more.await.unwrap();
        let large = batches.send(batch("c", 1, ROOM));
        tokio::pin!(large);
        assert!(futures_util::poll!(&mut large).is_pending());
        drop(received);
        large.await.unwrap_err();
    }
}
