//! What compaction must know of transactions: which records were aborted, and which markers have no data left.
//!
//! Mirrors Kafka's cleaner: aborted records go at once; a marker stays while a batch of its transaction is there, and
//! then for `delete.retention.ms`, so that readers which are on their way still meet it.

use std::collections::{HashSet, VecDeque};

use super::transactions::Aborted;
use crate::wire::batch::BatchHeader;
use crate::wire::marker::EndMarker;

/// Follows the transactions of a log that is walked from its start.
#[derive(Debug)]
pub(super) struct CleanedTransactions {
    /// Aborted transactions that have not begun yet, by first offset.
    coming: VecDeque<Aborted>,
    aborted: HashSet<i64>,
    /// Producers of whose running transaction a batch was met.
    with_data: HashSet<i64>,
}

impl CleanedTransactions {
    /// Starts before the first batch, with all transactions that were aborted.
    pub(super) fn new(aborted: &[Aborted]) -> Self {
        let mut coming = aborted.to_vec();
        coming.sort_unstable_by_key(|entry| entry.first_offset);
        CleanedTransactions { coming: coming.into(), aborted: HashSet::new(), with_data: HashSet::new() }
    }

    /// Passes a batch of data; says whether its records were aborted.
    pub(super) fn pass_data(&mut self, header: &BatchHeader) -> bool {
        self.begin(header);
        if !header.is_transactional() {
            return false;
        }
        self.with_data.insert(header.producer_id);
        self.aborted.contains(&header.producer_id)
    }

    /// Passes a marker; says whether all data of its transaction is gone.
    pub(super) fn pass_marker(&mut self, header: &BatchHeader, marker: &EndMarker) -> bool {
        self.begin(header);
        if !marker.commit {
            self.aborted.remove(&header.producer_id);
        }
        !self.with_data.remove(&header.producer_id)
    }

    fn begin(&mut self, header: &BatchHeader) {
        while self.coming.front().is_some_and(|entry| entry.first_offset <= header.last_offset()) {
            self.aborted.extend(self.coming.pop_front().map(|entry| entry.producer_id));
        }
    }
}
