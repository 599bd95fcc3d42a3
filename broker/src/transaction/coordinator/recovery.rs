//! Reading transactional ids back at the start, and making them agree with the logs after a crash.
//!
//! A process crash loses nothing: what was prepared is carried out, what was ongoing goes on or times out. A power cut
//! may take the end of `__transaction_state` while partitions keep more, since only these things are waited for: the
//! data before the decision, and decision and markers before the answer. So at most one transaction of an id is beyond
//! what the coordinator's log knows, and nobody was told of its end. Its markers, if any reached the disk, are younger
//! than all that the log knows of the id: then it ends everywhere as they say, else it is aborted. Open transactions
//! of producers that nobody knows are aborted too, so that none is left hanging.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Coordinator, Directory, Entry};
use crate::clock::now_ms;
use crate::cluster::{Cluster, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::log::{Partition, Producer};
use crate::transaction::records::{decode, decode_key};
use crate::transaction::state::{Transaction, TransactionState};
use crate::wire::batch::batches;
use crate::wire::marker::EndMarker;
use crate::wire::records;

/// What a producer has left in a partition.
struct Trace {
    topic: Arc<str>,
    partition: Arc<Partition>,
    producer_id: i64,
    producer: Producer,
}

/// Reads all partitions of `__transaction_state`.
pub(super) fn replay_all(cluster: &Cluster) -> Directory {
    let mut found = HashMap::new();
    for partition in cluster.topic(TRANSACTIONS_TOPIC).iter().flat_map(|topic| &topic.partitions) {
        if let Err(error) = replay(partition, &mut found) {
            tracing::error!(partition = partition.index, %error, "cannot read back transactions");
        }
    }
    let mut directory = Directory::default();
    for (id, transaction) in found {
        directory.insert(&id, transaction);
    }
    directory
}

fn replay(partition: &Arc<Partition>, found: &mut HashMap<String, Transaction>) -> Result<(), ResponseError> {
    let (mut offset, end) = {
        let log = partition.log();
        (log.log_start(), log.end())
    };
    while offset < end {
        let (_, bytes) = partition.read(offset, 1 << 20, true)?;
        if bytes.is_empty() {
            break;
        }
        for (header, batch) in batches(&bytes) {
            offset = header.last_offset() + 1;
            let Ok(unpacked) = records::decode(&header, batch) else { continue };
            for record in unpacked.records().map_while(Result::ok) {
                let Some(id) = record.key.and_then(decode_key) else { continue };
                match record.value.map(decode) {
                    Some(Some(transaction)) => found.insert(id, transaction),
                    None => found.remove(&id),
                    Some(None) => {
                        tracing::warn!(
                            transactional_id = id,
                            "the state of a transaction is in an unknown format and was skipped"
                        );
                        None
                    }
                };
            }
        }
    }
    Ok(())
}

impl Coordinator {
    /// Makes the coordinator's log and the partitions agree, see the module.
    pub(super) fn reconcile(&self) {
        let mut traces: HashMap<i64, Vec<Trace>> = HashMap::new();
        for topic in self.cluster.topics() {
            for partition in &topic.partitions {
                for (producer_id, producer) in partition.log().producers() {
                    let (topic, partition) = (topic.name.clone(), partition.clone());
                    traces.entry(producer_id).or_default().push(Trace { topic, partition, producer_id, producer });
                }
            }
        }
        for entry in self.entries() {
            let producer_id = entry.read().producer_id;
            self.reconcile_id(&entry, traces.remove(&producer_id).unwrap_or_default());
        }
        for orphan in traces.into_values().flatten().filter(Trace::is_open) {
            self.end_orphan(&orphan, None, now_ms());
        }
    }

    fn reconcile_id(&self, entry: &Entry, traces: Vec<Trace>) {
        let mut transaction = entry.write();
        let mut next = transaction.clone();
        let ongoing = next.state == TransactionState::Ongoing;
        let known_until = if ongoing { next.started } else { next.updated };
        let (open, ended): (Vec<_>, Vec<_>) = traces.into_iter().partition(Trace::is_open);
        let decided = ended.iter().find_map(|trace| trace.younger_marker(known_until));
        let (own, orphans): (Vec<_>, Vec<_>) = open.into_iter().partition(|open| open.belongs_to(&transaction));
        for open in own.iter().filter(|_| ongoing) {
            next.partitions.entry(open.topic.to_string()).or_default().insert(open.partition.index);
        }
        if let Some(marker) = decided.filter(|_| ongoing) {
            next = next.decided(marker.commit, marker.epoch, marker.timestamp);
        }
        let decided = decided.filter(|_| !ongoing);
        let at = decided.map_or_else(|| now_ms().max(next.updated + 1), |marker| marker.timestamp);
        for orphan in &orphans {
            self.end_orphan(orphan, decided, at);
            next.epoch = next.epoch.max(orphan.producer.epoch);
            next.updated = next.updated.max(at);
        }
        if let Some(marker) = decided {
            next.epoch = next.epoch.max(marker.epoch);
            next.updated = next.updated.max(marker.timestamp);
        }
        if next != *transaction {
            tracing::info!(transactional_id = entry.id, state = next.state.name(), "a transaction was recovered");
            match self.write(&entry.id, Some(&next)) {
                Ok(written) => self.syncer.sync_later(&written),
                Err(error) => {
                    tracing::error!(transactional_id = entry.id, %error, "cannot write a recovered transaction");
                }
            }
            *transaction = next;
        }
    }

    /// Ends a transaction of which the coordinator's log knows nothing.
    fn end_orphan(&self, open: &Trace, decided: Option<EndMarker>, timestamp: i64) {
        let (topic, partition) = (&*open.topic, open.partition.index);
        let commit = decided.is_some_and(|marker| marker.commit);
        let marker = EndMarker {
            producer_id: open.producer_id,
            epoch: decided.map_or(open.producer.epoch, |marker| marker.epoch.max(open.producer.epoch)),
            commit,
            coordinator_epoch: open.producer.coordinator_epoch.max(0),
            timestamp,
        };
        if let Err(error) = open.partition.log().end_transaction(&marker, now_ms()) {
            tracing::error!(topic, partition, %error, "cannot end a transaction that was left open");
            return;
        }
        tracing::info!(topic, partition, commit, "a transaction that was left open was ended");
        if topic == OFFSETS_TOPIC {
            self.groups.transaction_ended(open.producer_id, commit, &[partition]);
        }
        self.syncer.sync_later(&open.partition);
    }
}

impl Trace {
    fn is_open(&self) -> bool {
        self.producer.open_from.is_some()
    }

    /// The producer's last marker here, if it is younger than what the coordinator's log knows.
    fn younger_marker(&self, known_until: i64) -> Option<EndMarker> {
        if self.producer.last_marker.is_some_and(|at| at <= known_until) {
            return None;
        }
        let marker = self.partition.last_marker_before(self.producer_id, i64::MAX).ok().flatten();
        marker.filter(|marker| marker.timestamp > known_until)
    }

    /// Whether what is open here is the transaction that the coordinator's log tells of, not a later one.
    fn belongs_to(&self, transaction: &Transaction) -> bool {
        let last_marker = self.producer.last_marker.unwrap_or_else(|| {
            let first = self.producer.open_from.unwrap_or(0);
            let found = self.partition.last_marker_before(self.producer_id, first);
            found.ok().flatten().map_or(i64::MIN, |marker| marker.timestamp)
        });
        let added =
            || transaction.partitions.get(&*self.topic).is_some_and(|list| list.contains(&self.partition.index));
        match transaction.state {
            TransactionState::Ongoing => last_marker <= transaction.started,
            state if state.is_prepared() => added() && last_marker < transaction.updated,
            _ => false,
        }
    }
}
