//! Reading record batches, waiting for them; on request only those of transactions that were committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::Handle;
use crate::log::{FetchWaiter, Found, Isolation, Partition};
use crate::wire::committed::committed_only;

/// Recently written bytes that are read without leaving the thread.
const INLINE_BYTES: usize = 2 << 20;

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
    /// Offset after the last record that readers see.
    pub high_watermark: i64,
    /// Offset up to which all transactions have ended.
    pub last_stable_offset: i64,
    /// Where to go on reading: after the last batch, also one that was left out.
    pub next_offset: i64,
}

/// A partition to fetch from, or why it cannot be; the offset; most bytes.
pub(crate) type FetchPlace = (Result<Arc<Partition>, ResponseError>, i64, usize);

impl Handle {
    /// Reads whole batches from several partitions, in the order given, waiting if there is too little. Shows also
    /// batches of open and aborted transactions, and markers. Cancel-safe. An error in one partition ends the wait.
    pub async fn fetch(&self, from: &[FetchFrom], limits: FetchLimits) -> Vec<Result<Fetched, ResponseError>> {
        let found = self.fetch_isolated(from, limits, Isolation::ReadUncommitted).await;
        found.into_iter().map(|result| result.map(Fetched::from)).collect()
    }

    /// Like [`Handle::fetch`], but shows committed data only (KIP-98's `read_committed`): it stops at the first open
    /// transaction, and leaves out markers and what was aborted. Nothing may be left where something was read: go on
    /// from `next_offset`. Cancel-safe.
    pub async fn fetch_committed(
        &self,
        from: &[FetchFrom],
        limits: FetchLimits,
    ) -> Vec<Result<Fetched, ResponseError>> {
        let found = self.fetch_isolated(from, limits, Isolation::ReadCommitted).await;
        let committed = |mut found: Found| {
            found.records = committed_only(&found.records, std::mem::take(&mut found.aborted));
            Fetched::from(found)
        };
        found.into_iter().map(|result| result.map(committed)).collect()
    }

    async fn fetch_isolated(&self, from: &[FetchFrom], limits: FetchLimits, isolation: Isolation) -> FoundEach {
        let place = |f: &FetchFrom| (self.0.cluster.partition(&f.topic, f.partition), f.offset, f.max_bytes);
        let places: Vec<FetchPlace> = from.iter().map(place).collect();
        self.fetch_places(&places, limits, isolation).await
    }

    pub(crate) async fn fetch_places(
        &self,
        places: &[FetchPlace],
        limits: FetchLimits,
        isolation: Isolation,
    ) -> FoundEach {
        let deadline = tokio::time::Instant::now() + limits.max_wait;
        let mut waiter: Option<Arc<FetchWaiter>> = None;
        loop {
            let (found, bytes, failed) = read_all(places, limits.max_bytes, isolation).await;
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
                    if anything_moved(places, &found) {
                        continue;
                    }
                }
                Some(used) => waiter = Some(used),
            }
            if let Some(parked) = &waiter
                && tokio::time::timeout_at(deadline, parked.woken()).await.is_err()
            {
                return read_all(places, limits.max_bytes, isolation).await.0;
            }
            waiter = None;
        }
    }
}

impl From<Found> for Fetched {
    fn from(found: Found) -> Self {
        Fetched {
            records: found.records,
            log_start: found.marks.log_start,
            high_watermark: found.marks.high_watermark,
            last_stable_offset: found.marks.last_stable,
            next_offset: found.next,
        }
    }
}

type FoundEach = Vec<Result<Found, ResponseError>>;
type FoundAll = (FoundEach, usize, bool);

/// Reads where it may block if that is likely to take long.
async fn read_all(places: &[FetchPlace], max_bytes: usize, isolation: Isolation) -> FoundAll {
    let (mut expected, mut cold) = (0, false);
    for (partition, offset, partition_max) in places {
        if let Ok(partition) = partition {
            let (any, is_cold) = partition.unread(*offset, isolation);
            expected += if any { *partition_max } else { 0 };
            cold |= is_cold;
        }
    }
    if !cold && expected.min(max_bytes) <= INLINE_BYTES {
        return read_places(places, max_bytes, isolation);
    }
    let owned = places.to_vec();
    let read = tokio::task::spawn_blocking(move || read_places(&owned, max_bytes, isolation)).await;
    read.unwrap_or_else(|_| (vec![Err(ResponseError::UnknownServerError); places.len()], 0, true))
}

fn read_places(places: &[FetchPlace], max_bytes: usize, isolation: Isolation) -> FoundAll {
    let (mut total, mut failed) = (0, false);
    let mut found = Vec::with_capacity(places.len());
    for (partition, offset, partition_max) in places {
        let left = max_bytes.saturating_sub(total);
        let result = partition
            .as_ref()
            .map_err(|error| *error)
            .and_then(|partition| partition.read_isolated(*offset, left.min(*partition_max), total == 0, isolation));
        match &result {
            Ok(found) => total += found.records.len(),
            Err(_) => failed = true,
        }
        found.push(result);
    }
    (found, total, failed)
}

/// Whether readers may see more of any log than when it was read.
fn anything_moved(places: &[FetchPlace], found: &[Result<Found, ResponseError>]) -> bool {
    places.iter().zip(found).any(|((partition, ..), result)| match (partition, result) {
        (Ok(partition), Ok(found)) => partition.log().watermarks() != found.marks,
        _ => false,
    })
}
