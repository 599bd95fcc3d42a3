//! Transactions: a producer with a transactional id writes to several partitions, and commits offsets, all or nothing.
//!
//! The order of calls: [`Handle::init_transactional_producer`] once; then for each transaction
//! [`Handle::add_partitions_to_transaction`], [`Handle::append`] of batches built with `BatchBuilder::producer` and
//! `BatchBuilder::transactional`, perhaps [`Handle::commit_offsets_in_transaction`], and [`Handle::end_transaction`].
//! Sequences go on over transactions of one epoch and begin at 0 in a new one.

use kafka_protocol::ResponseError;

use super::Handle;
use crate::group::CommitRequest;
use crate::transaction::{Partitions, TransactionDescription};

impl Handle {
    /// `transaction.max.timeout.ms`: the longest timeout that a producer may ask for.
    pub fn longest_transaction_ms(&self) -> i32 {
        self.0.config.transaction_max_timeout_ms
    }

    /// Registers a producer under a transactional id; answers its producer id and epoch. A predecessor of the same id
    /// is fenced, and what it left open is aborted; resolves when that is done and durable.
    ///
    /// # Errors
    /// As InitProducerId answers: INVALID_TRANSACTION_TIMEOUT for a timeout (milliseconds) outside of what the broker
    /// allows, CONCURRENT_TRANSACTIONS if the predecessor's transaction does not end.
    pub async fn init_transactional_producer(
        &self,
        transactional_id: &str,
        timeout_ms: i32,
    ) -> Result<(i64, i16), ResponseError> {
        self.0.transactions.init(transactional_id, timeout_ms, None).await
    }

    /// Adds partitions to the producer's transaction, beginning one if none is open. Does not wait for the disk.
    ///
    /// # Errors
    /// As AddPartitionsToTxn answers: UNKNOWN_TOPIC_OR_PARTITION (nothing was added), INVALID_PRODUCER_ID_MAPPING,
    /// PRODUCER_FENCED if a newer producer has the id, CONCURRENT_TRANSACTIONS while the last one is ending.
    pub fn add_partitions_to_transaction<'a>(
        &self,
        transactional_id: &str,
        producer_id: i64,
        epoch: i16,
        partitions: impl IntoIterator<Item = (&'a str, i32)>,
    ) -> Result<(), ResponseError> {
        let mut added = Partitions::new();
        for (topic, partition) in partitions {
            self.0.cluster.partition(topic, partition)?;
            added.entry(topic.to_owned()).or_default().insert(partition);
        }
        self.0.transactions.add_partitions(transactional_id, producer_id, epoch, &added)
    }

    /// Commits offsets of a group as part of the producer's transaction, which they join by this call. They are shown
    /// once the transaction is committed. The answer carries an error per offset.
    pub async fn commit_offsets_in_transaction(
        &self,
        transactional_id: &str,
        producer_id: i64,
        epoch: i16,
        mut request: CommitRequest,
    ) -> CommitRequest {
        let transactions = &self.0.transactions;
        match transactions.add_offsets(transactional_id, producer_id, epoch, &request.group_id) {
            Ok(()) => transactions.commit_offsets(transactional_id, (producer_id, epoch), request).await,
            Err(error) => {
                request.offsets.iter_mut().for_each(|o| o.error = Some(error));
                request
            }
        }
    }

    /// Ends the producer's transaction. Resolves when the end is durable (as the broker's sync policy says) and visible
    /// to readers. Appends need not be awaited before: a commit first makes durable what is not, so batches are best
    /// appended with `Acks::None`. Dropping the future does not stop the end.
    ///
    /// # Errors
    /// As EndTxn answers: PRODUCER_FENCED, INVALID_TXN_STATE if no transaction is open or it ended the other way.
    /// KAFKA_STORAGE_ERROR means that data could not be made durable: the transaction is open and can be aborted.
    pub async fn end_transaction(
        &self,
        transactional_id: &str,
        producer_id: i64,
        epoch: i16,
        commit: bool,
    ) -> Result<(), ResponseError> {
        self.0.transactions.end(transactional_id, producer_id, epoch, commit).await
    }

    /// All transactional ids, sorted.
    pub fn list_transactions(&self) -> Vec<TransactionDescription> {
        self.0.transactions.list()
    }

    /// One transactional id; none if it does not exist.
    pub fn describe_transaction(&self, transactional_id: &str) -> Option<TransactionDescription> {
        self.0.transactions.describe(transactional_id)
    }
}
