//! Ends of transactions: asked for, overdue, or left half done by a crash.
//!
//! First the data must be on disk. Then the decision is logged and the markers are appended, and all that is synced in
//! one round; the transaction is complete after that.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Coordinator, Entry};
use crate::clock::now_ms;
use crate::cluster::OFFSETS_TOPIC;
use crate::log::Partition;
use crate::transaction::state::{End, Transaction, TransactionState};
use crate::wire::marker::EndMarker;

impl Coordinator {
    /// EndTxn: resolves when the end is durable and, as far as the partitions work, visible. The work goes on if the
    /// caller goes away.
    pub(crate) async fn end(
        self: &Arc<Self>,
        id: &str,
        producer_id: i64,
        epoch: i16,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let entry = self.find(id)?;
        let prepared = {
            let mut transaction = entry.write();
            match transaction.end(producer_id, epoch, commit, now_ms())? {
                End::Done => return Ok(()),
                End::Prepare(prepared) => {
                    transaction.busy = true;
                    prepared
                }
            }
        };
        let coordinator = self.clone();
        let work = self.tracker.spawn(async move { coordinator.finish(&entry, prepared).await });
        work.await.unwrap_or(Err(ResponseError::NotCoordinator))
    }

    /// Decides and carries out the end of a transaction that is marked busy.
    pub(super) async fn finish(&self, entry: &Arc<Entry>, prepared: Transaction) -> Result<(), ResponseError> {
        let decided = async {
            if prepared.state == TransactionState::PrepareCommit {
                self.durable(self.unsynced(&prepared)).await?;
            }
            let mut transaction = entry.write();
            let written = self.write(&entry.id, Some(&prepared))?;
            *transaction = Transaction { busy: true, ..prepared };
            Ok(written)
        };
        match decided.await {
            Ok(written) => self.carry_out(entry, Some(written)).await,
            Err(error) => {
                entry.write().busy = false;
                entry.ended.notify_waiters();
                Err(error)
            }
        }
    }

    /// Partitions of a transaction with data that is not on disk.
    fn unsynced(&self, transaction: &Transaction) -> Vec<Arc<Partition>> {
        let open = |partition: &Arc<Partition>| {
            let log = partition.log();
            !log.is_synced() && log.producer(transaction.producer_id).is_some_and(|p| p.open_from.is_some())
        };
        self.partitions(transaction).filter(open).collect()
    }

    /// The partitions of a transaction that exist.
    fn partitions(&self, transaction: &Transaction) -> impl Iterator<Item = Arc<Partition>> {
        let each = transaction.partitions.iter().flat_map(|(topic, list)| list.iter().map(move |index| (topic, index)));
        each.filter_map(|(topic, index)| self.cluster.partition(topic, *index).ok())
    }

    /// Writes the markers of a prepared transaction that is marked busy, and completes it when they are durable.
    pub(super) async fn carry_out(
        &self,
        entry: &Arc<Entry>,
        decision: Option<Arc<Partition>>,
    ) -> Result<(), ResponseError> {
        let transaction = entry.read().clone();
        let mut broken = None;
        let mut touched = Vec::new();
        for partition in self.partitions(&transaction) {
            match self.mark(&partition, &transaction, &entry.id) {
                Ok(true) => touched.push(partition),
                Ok(false) => {}
                Err(error) => broken = Some(error),
            }
        }
        // The transaction goes the decided way even if only one of these reaches the disk, see recovery.
        let decision = async {
            match decision {
                Some(written) => self.durable([written]).await,
                None => Ok(()),
            }
        };
        let (decision, markers) = tokio::join!(decision, self.durable(touched));
        if decision.is_ok() && markers.is_ok() && broken.is_none() {
            self.complete(entry, &transaction);
        } else {
            let error = broken.or(markers.err()).or(decision.err());
            let error = error.as_ref().map(|e| e as &dyn std::error::Error);
            tracing::warn!(transactional_id = entry.id, error, "a transaction cannot be completed yet");
            entry.write().busy = false;
        }
        entry.ended.notify_waiters();
        decision.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Appends a marker; says whether there was a transaction to end.
    pub(super) fn mark(
        &self,
        partition: &Arc<Partition>,
        transaction: &Transaction,
        id: &str,
    ) -> Result<bool, ResponseError> {
        let marker = EndMarker {
            producer_id: transaction.producer_id,
            epoch: transaction.epoch,
            commit: transaction.state == TransactionState::PrepareCommit,
            coordinator_epoch: self.partition_of(id)?.log().leader_epoch(),
            timestamp: transaction.updated,
        };
        match partition.log().end_transaction(&marker, now_ms()) {
            Ok(appended) => Ok(appended.is_some()),
            // Deleted with its topic, or fenced by an end that is newer than this one.
            Err(
                ResponseError::UnknownTopicOrPartition
                | ResponseError::InvalidProducerEpoch
                | ResponseError::TransactionCoordinatorFenced,
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn complete(&self, entry: &Arc<Entry>, prepared: &Transaction) {
        let commit = prepared.state == TransactionState::PrepareCommit;
        let offsets: Vec<i32> = prepared.partitions.get(OFFSETS_TOPIC).into_iter().flatten().copied().collect();
        self.groups.transaction_ended(prepared.producer_id, commit, &offsets);
        let mut transaction = entry.write();
        let next = prepared.complete(now_ms());
        // Not waited for: recovery sees by the markers that nothing is left to do.
        match self.write(&entry.id, Some(&next)) {
            Ok(_) => *transaction = next,
            Err(error) => {
                transaction.busy = false;
                tracing::warn!(transactional_id = entry.id, %error, "cannot write that a transaction is complete");
            }
        }
    }

    /// Aborts what has lasted too long, and tries again to complete what could not be completed. Does not wait.
    pub(crate) fn abort_overdue(self: &Arc<Self>, now: i64) {
        for entry in self.entries() {
            let prepared = {
                let mut transaction = entry.write();
                let prepared = transaction.timed_out(now);
                transaction.busy |= prepared.is_some();
                prepared
            };
            if let Some(prepared) = prepared {
                tracing::info!(transactional_id = entry.id, "a transaction timed out and is aborted");
                let coordinator = self.clone();
                self.tracker.spawn(async move { coordinator.finish(&entry, prepared).await });
            }
        }
        self.resume_prepared();
    }

    /// Carries out the ends that are decided and that nobody is working on.
    pub(super) fn resume_prepared(self: &Arc<Self>) {
        for entry in self.entries() {
            {
                let mut transaction = entry.write();
                if transaction.busy || !transaction.state.is_prepared() {
                    continue;
                }
                transaction.busy = true;
            }
            let (coordinator, decision) = (self.clone(), self.partition_of(&entry.id).ok());
            self.tracker.spawn(async move { coordinator.carry_out(&entry, decision).await });
        }
    }

    /// Forgets transactional ids that nobody has used for long.
    pub(crate) fn expire_ids(&self, now: i64) {
        let after = self.config.transactional_id_expiration_ms;
        for entry in self.entries() {
            let transaction = entry.write();
            if !transaction.is_expired(now, after) {
                continue;
            }
            if let Err(error) = self.write(&entry.id, None) {
                tracing::warn!(transactional_id = entry.id, %error, "cannot write that a transactional id expired");
                continue;
            }
            let mut directory = self.change_directory();
            directory.by_id.remove(&entry.id);
            directory.by_producer.remove(&transaction.producer_id);
        }
    }
}
