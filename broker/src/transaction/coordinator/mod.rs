//! The transaction coordinator: owns all transactional ids, writes them to `__transaction_state`, and the markers.
//!
//! All partitions are in this process, which allows what a coordinator elsewhere cannot do: a batch is checked and
//! appended while its transaction cannot end, markers are appended at once, and an end costs one round of syncs for
//! what its data still lacks and one for decision and markers together. See [`recovery`] for why that is safe.

mod ending;
mod recovery;
#[cfg(test)]
mod tests;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub use views::TransactionDescription;

use super::records::{encode, encode_key};
use super::state::{Init, Partitions, Transaction};
use crate::clock::now_ms;
use crate::cluster::{Cluster, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::config::{BrokerConfig, SyncPolicy};
use crate::group::{self, CommitRequest, place_of};
use crate::log::{Batch, Partition, Syncer};
use crate::wire::batch::BatchHeader;
use crate::wire::records::BatchBuilder;

/// How long InitProducerId waits for a transaction that is just ending.
const ENDING_WAIT: Duration = Duration::from_secs(20);

/// One transactional id.
#[derive(Debug)]
struct Entry {
    id: String,
    /// Read-locked while a batch is checked and appended, so that no transaction ends in between.
    transaction: RwLock<Transaction>,
    /// Told when a transaction has ended.
    ended: Notify,
}

impl Entry {
    fn read(&self) -> RwLockReadGuard<'_, Transaction> {
        self.transaction.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Transaction> {
        self.transaction.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Directory {
    by_id: HashMap<String, Arc<Entry>>,
    by_producer: HashMap<i64, Arc<Entry>>,
}

impl Directory {
    fn insert(&mut self, id: &str, transaction: Transaction) -> Arc<Entry> {
        let producer_id = transaction.producer_id;
        let transaction = RwLock::new(transaction);
        let entry = Arc::new(Entry { id: id.to_owned(), transaction, ended: Notify::new() });
        self.by_id.insert(id.to_owned(), entry.clone());
        self.by_producer.insert(producer_id, entry.clone());
        entry
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Coordinator {
    cluster: Arc<Cluster>,
    syncer: Arc<Syncer>,
    config: Arc<BrokerConfig>,
    groups: Arc<group::Coordinator>,
    tracker: TaskTracker,
    directory: RwLock<Directory>,
}

impl Coordinator {
    /// Reads all transactional ids back from the log. `clean` says that the last stop was a clean one.
    pub(crate) fn load(
        cluster: Arc<Cluster>,
        syncer: Arc<Syncer>,
        config: Arc<BrokerConfig>,
        groups: Arc<group::Coordinator>,
        tracker: TaskTracker,
        clean: bool,
    ) -> Arc<Self> {
        let directory = recovery::replay_all(&cluster);
        let directory = RwLock::new(directory);
        let coordinator = Arc::new(Coordinator { cluster, syncer, config, groups, tracker, directory });
        if !clean {
            coordinator.reconcile();
        }
        coordinator.resume_prepared();
        coordinator
    }

    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_directory(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Entry>, ResponseError> {
        self.directory().by_id.get(id).cloned().ok_or(ResponseError::InvalidProducerIdMapping)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.directory().by_id.values().cloned().collect()
    }

    /// InitProducerId with a transactional id: fences the producer before, aborts what it left open, and answers once
    /// that is durable. The work goes on if the caller goes away.
    pub(crate) async fn init(
        self: &Arc<Self>,
        id: &str,
        timeout_ms: i32,
        known: Option<(i64, i16)>,
    ) -> Result<(i64, i16), ResponseError> {
        // The log's format has 15 bits for the length of an id.
        if id.is_empty() || id.len() > i16::MAX as usize {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=self.config.transaction_max_timeout_ms).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let (coordinator, id) = (self.clone(), id.to_owned());
        let work = self.tracker.spawn(async move { coordinator.init_now(&id, timeout_ms, known).await });
        work.await.unwrap_or(Err(ResponseError::NotCoordinator))
    }

    async fn init_now(
        self: &Arc<Self>,
        id: &str,
        timeout_ms: i32,
        mut known: Option<(i64, i16)>,
    ) -> Result<(i64, i16), ResponseError> {
        let entry = self.find_or_create(id).await?;
        loop {
            let ended = entry.ended.notified();
            let exhausted = entry.read().is_exhausted();
            let fresh = if exhausted { Some(self.fresh_id().await?) } else { None };
            match self.begin_init(&entry, timeout_ms, known, fresh) {
                Ok(Begun::Ready(producer, written)) => {
                    self.durable([written]).await?;
                    return Ok(producer);
                }
                Ok(Begun::Fence(prepared)) => {
                    self.finish(&entry, prepared).await?;
                    // It was asked who it is before its transaction was aborted.
                    known = None;
                }
                Err(ResponseError::ConcurrentTransactions) => {
                    let waited = tokio::time::timeout(ENDING_WAIT, ended).await;
                    waited.map_err(|_| ResponseError::ConcurrentTransactions)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn begin_init(
        &self,
        entry: &Arc<Entry>,
        timeout_ms: i32,
        known: Option<(i64, i16)>,
        fresh: Option<i64>,
    ) -> Result<Begun, ResponseError> {
        let mut transaction = entry.write();
        if !self.find(&entry.id).is_ok_and(|found| Arc::ptr_eq(&found, entry)) {
            // It expired at this very moment.
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        match transaction.init(timeout_ms, known, fresh, now_ms())? {
            Init::Fence(prepared) => {
                transaction.busy = true;
                Ok(Begun::Fence(prepared))
            }
            Init::Ready(next) => {
                let written = self.write(&entry.id, Some(&next))?;
                let producer = (next.producer_id, next.epoch);
                let mut directory = self.change_directory();
                directory.by_producer.remove(&transaction.producer_id);
                directory.by_producer.insert(next.producer_id, entry.clone());
                *transaction = next;
                Ok(Begun::Ready(producer, written))
            }
        }
    }

    async fn find_or_create(&self, id: &str) -> Result<Arc<Entry>, ResponseError> {
        if let Ok(entry) = self.find(id) {
            return Ok(entry);
        }
        let fresh = self.fresh_id().await?;
        let mut directory = self.change_directory();
        if let Some(entry) = directory.by_id.get(id) {
            return Ok(entry.clone());
        }
        Ok(directory.insert(id, Transaction::new(fresh, now_ms())))
    }

    async fn fresh_id(&self) -> Result<i64, ResponseError> {
        let cluster = self.cluster.clone();
        let id = tokio::task::spawn_blocking(move || cluster.next_producer_id()).await;
        id.unwrap_or(Err(ResponseError::NotCoordinator))
    }

    /// AddPartitionsToTxn. Not waited for: what a power cut takes of it, recovery notices by the data.
    pub(crate) fn add_partitions(
        &self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        partitions: &Partitions,
    ) -> Result<(), ResponseError> {
        let entry = self.find(id)?;
        let mut transaction = entry.write();
        if let Some(next) = transaction.add(producer_id, epoch, partitions, now_ms())? {
            let written = self.write(&entry.id, Some(&next))?;
            if self.config.sync_policy == SyncPolicy::GroupCommit {
                self.syncer.sync_gathered(&written);
            }
            *transaction = next;
        }
        Ok(())
    }

    /// AddOffsetsToTxn.
    pub(crate) fn add_offsets(
        &self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        group_id: &str,
    ) -> Result<(), ResponseError> {
        let partition = self.groups.offsets_partition(group_id)?;
        let partitions = Partitions::from([(OFFSETS_TOPIC.to_owned(), [partition].into())]);
        self.add_partitions(id, producer_id, epoch, &partitions)
    }

    /// TxnOffsetCommit: resolves when the offsets are in the log; each gets its own error.
    pub(crate) async fn commit_offsets(
        &self,
        id: &str,
        producer: (i64, i16),
        mut request: CommitRequest,
    ) -> CommitRequest {
        let appended = self.find(id).and_then(|entry| {
            let partition = self.groups.offsets_partition(&request.group_id)?;
            let transaction = entry.read();
            transaction.verify(producer.0, producer.1, OFFSETS_TOPIC, partition)?;
            self.groups.append_transactional(&mut request, producer)
        });
        let result = match appended {
            Ok(Some(durable)) => durable.await.unwrap_or(Err(ResponseError::NotCoordinator)),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            request.offsets.iter_mut().for_each(|o| o.error = o.error.or(Some(error)));
        }
        request
    }

    /// Does `append` while the transaction that the batch claims to be part of cannot end; refuses a batch of which
    /// the coordinator does not know, so that no transaction is left hanging (KIP-890, part 1).
    pub(crate) fn append<T>(
        &self,
        header: &BatchHeader,
        topic: &str,
        partition: i32,
        append: impl FnOnce() -> T,
    ) -> Result<T, ResponseError> {
        let entry = self.directory().by_producer.get(&header.producer_id).cloned();
        let entry = entry.ok_or(ResponseError::InvalidProducerIdMapping)?;
        let transaction = entry.read();
        transaction.verify(header.producer_id, header.producer_epoch, topic, partition)?;
        Ok(append())
    }

    /// Whether a producer belongs to that transactional id.
    pub(crate) fn owns(&self, id: &str, producer_id: i64) -> bool {
        self.find(id).is_ok_and(|entry| entry.read().producer_id == producer_id)
    }

    /// Appends the state of a transactional id, or that it is forgotten; answers what is to be synced.
    fn write(&self, id: &str, transaction: Option<&Transaction>) -> Result<Arc<Partition>, ResponseError> {
        let partition = self.partition_of(id)?;
        let now = now_ms();
        let mut builder = BatchBuilder::new(now);
        builder.push(now, Some(&encode_key(id)), transaction.map(encode).as_deref());
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).map_err(|_| ResponseError::UnknownServerError)?;
        let unavailable = |_| ResponseError::CoordinatorNotAvailable;
        partition.log().append(Batch { header, bytes }, now).map_err(unavailable)?;
        Ok(partition)
    }

    fn partition_of(&self, id: &str) -> Result<Arc<Partition>, ResponseError> {
        let topic = self.cluster.topic(TRANSACTIONS_TOPIC).ok_or(ResponseError::CoordinatorNotAvailable)?;
        topic.partition(place_of(id, topic.partitions.len())).cloned()
    }

    /// Resolves when all that was appended to these partitions is as durable as the broker promises.
    async fn durable(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) -> Result<(), ResponseError> {
        if self.config.sync_policy != SyncPolicy::GroupCommit {
            return Ok(());
        }
        // All are asked for before the first is awaited: they share the time.
        let waiting: Vec<_> = partitions.into_iter().map(|partition| self.syncer.sync(&partition)).collect();
        let mut result = Ok(());
        for waits in waiting {
            result = result.and(waits.await.unwrap_or(Err(ResponseError::NotCoordinator)));
        }
        result
    }
}

/// How InitProducerId began.
enum Begun {
    /// The producer, and what makes it durable.
    Ready((i64, i16), Arc<Partition>),
    /// What was left open must be aborted.
    Fence(Transaction),
}
