//! Background work: checkpoints, retention, compaction, expiry of offsets, producers and transactions.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_ms;
use crate::handle::{Handle, Inner};

const CHECKPOINT_MS: u64 = 60_000;
const PRODUCER_CHECK_MS: u64 = 600_000;

/// Starts all loops; they end when `stop` is cancelled.
pub(crate) fn spawn(handle: &Handle, tracker: &TaskTracker, stop: &CancellationToken) {
    let config = handle.0.config.clone();
    let every = |millis: u64, work: fn(&Inner)| {
        tracker.spawn(repeat(handle.clone(), Duration::from_millis(millis.max(1)), stop.clone(), work));
    };
    every(CHECKPOINT_MS, checkpoint);
    every(config.retention_check_interval_ms, retire);
    if config.cleaner_enable {
        every(config.cleaner_backoff_ms, compact);
    }
    every(config.offsets_retention_check_interval_ms, |inner| inner.coordinator.expire_offsets(now_ms()));
    every(PRODUCER_CHECK_MS, expire_producers);
    every(config.transaction_abort_interval_ms, |inner| inner.transactions.abort_overdue(now_ms()));
    every(config.transactional_id_check_interval_ms, |inner| inner.transactions.expire_ids(now_ms()));
}

async fn repeat(handle: Handle, every: Duration, stop: CancellationToken, work: fn(&Inner)) {
    loop {
        // Both futures are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let inner = handle.0.clone();
        let Some(lock) = inner.lock.upgrade() else { return };
        let work = move || {
            work(&inner);
            drop(lock);
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(error = &error as &dyn std::error::Error, "background work failed");
        }
    }
}

fn checkpoint(inner: &Inner) {
    for topic in inner.cluster.topics() {
        for partition in &topic.partitions {
            partition.log().close_idle_files();
        }
    }
    if let Err(error) = inner.cluster.checkpoint() {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot write checkpoints");
    }
}

fn retire(inner: &Inner) {
    let mut count = 0;
    for topic in inner.cluster.topics() {
        for partition in &topic.partitions {
            match partition.log().retire(now_ms()) {
                Ok(retired) => count += retired,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(topic = %topic.name, partition = partition.index, error, "cannot apply retention");
                }
            }
        }
    }
    if count > 0 {
        tracing::info!(segments = count, "old segments deleted");
        checkpoint(inner);
    }
}

fn compact(inner: &Inner) {
    for topic in inner.cluster.topics().iter().filter(|topic| topic.config.compact) {
        for partition in &topic.partitions {
            match partition.compact(now_ms()) {
                Ok(None) => {}
                Ok(Some(saved)) => tracing::info!(topic = %topic.name, partition = partition.index, saved, "compacted"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(topic = %topic.name, partition = partition.index, error, "cannot compact");
                }
            }
        }
    }
}

fn expire_producers(inner: &Inner) {
    let before = now_ms().saturating_sub(inner.config.producer_id_expiration_ms);
    for topic in inner.cluster.topics() {
        for partition in &topic.partitions {
            partition.log().expire_producers(before);
        }
    }
}
