//! Transactional ids as ListTransactions and DescribeTransactions show them.

use super::{Coordinator, Entry};
use crate::transaction::state::TransactionState;

/// A transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The id.
    pub id: String,
    /// Id of its producer.
    pub producer_id: i64,
    /// Epoch of its producer.
    pub epoch: i16,
    /// Where its transaction stands.
    pub state: TransactionState,
    /// After how many milliseconds an open transaction is aborted.
    pub timeout_ms: i32,
    /// When the transaction began, milliseconds since 1970; -1 if there is none.
    pub started: i64,
    /// Topics and partitions of the open transaction.
    pub partitions: Vec<(String, Vec<i32>)>,
}

impl Coordinator {
    /// All transactional ids, sorted.
    pub(crate) fn list(&self) -> Vec<TransactionDescription> {
        let mut all: Vec<_> = self.entries().iter().map(|entry| view(entry)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// One transactional id.
    pub(crate) fn describe(&self, id: &str) -> Option<TransactionDescription> {
        self.find(id).ok().map(|entry| view(&entry))
    }
}

fn view(entry: &Entry) -> TransactionDescription {
    let transaction = entry.read();
    let running = transaction.state == TransactionState::Ongoing || transaction.state.is_prepared();
    let list =
        |(topic, list): (&String, &std::collections::BTreeSet<i32>)| (topic.clone(), list.iter().copied().collect());
    TransactionDescription {
        id: entry.id.clone(),
        producer_id: transaction.producer_id,
        epoch: transaction.epoch,
        state: transaction.state,
        timeout_ms: transaction.timeout_ms,
        started: if running { transaction.started } else { -1 },
        partitions: transaction.partitions.iter().map(list).collect(),
    }
}
