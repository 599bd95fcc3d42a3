//! The queue between the reader and the worker: bounded by about so many bytes, so that a reader of many small tables
//! goes on as far as one of large pages.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::api::{Error, Result, SourceBatch};

/// What the queue holds, in units.
const ROOM: usize = 8 << 20;
/// A unit of room in bytes.
const UNIT: usize = 1 << 10;
/// How much something holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

type Entry = (Result<(SourceBatch, Size)>, OwnedSemaphorePermit);

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
    error: Option<Error>,
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
    pub(super) async fn send(&self, batch: SourceBatch, size: Size) -> Result<(), Closed> {
        self.put(Ok((batch, size)), size.bytes).await
    }

    /// Tells why there will be no more.
    pub(super) async fn fail(&self, error: Error) -> Result<(), Closed> {
        self.put(Err(error), 0).await
    }

    async fn put(&self, entry: Result<(SourceBatch, Size)>, bytes: usize) -> Result<(), Closed> {
        let units = (bytes / UNIT).clamp(1, ROOM / UNIT);
        let permit = self.room.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        self.queue.send((entry, permit.map_err(|_| Closed)?)).map_err(|_| Closed)
    }
}

impl Received {
    /// The next batch, and what is there behind it, together up to about so many rows; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self, rows: usize) -> Option<Result<Vec<SourceBatch>>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let (first, mut size) = match self.queue.recv().await?.0 {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        let mut batches = vec![first];
        while size.rows < rows
            && size.bytes < ROOM / 8
            && let Ok((next, _)) = self.queue.try_recv()
        {
            match next {
                Ok((batch, more)) => {
                    size.rows += more.rows;
                    size.bytes += more.bytes;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SourceRecords;

    fn batch(topic: &str) -> SourceBatch {
        SourceBatch {
            topic: topic.into(),
            key_schema: None,
            value_schema: None,
            records: SourceRecords::Made(Vec::new()),
            source_partition: Arc::new(super::super::progress::query_partition()),
            source_offset: None,
        }
    }

    fn size(rows: usize, bytes: usize) -> Size {
        Size { rows, bytes }
    }

    #[tokio::test]
    async fn small_batches_come_together_and_an_error_after_those_before_it() {
        let (batches, mut received) = queue();
        for topic in ["a", "b", "c", "d"] {
            batches.send(batch(topic), size(10, 100)).await.unwrap();
        }
        batches.fail(Error::retriable("away")).await.unwrap();
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
        batches.send(batch("a"), size(1, ROOM * 2)).await.unwrap();
        let more = batches.send(batch("b"), size(1, 10));
        tokio::pin!(more);
        assert!(futures_util::poll!(&mut more).is_pending());
        assert_eq!(received.next(1).await.unwrap().unwrap().len(), 1);
        more.await.unwrap();
        let large = batches.send(batch("c"), size(1, ROOM));
        tokio::pin!(large);
        assert!(futures_util::poll!(&mut large).is_pending());
        drop(received);
        large.await.unwrap_err();
    }
}
