//! Offsets that a transaction commits: in the log at once, shown once the transaction is committed (KIP-98).

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::ResponseError;

use super::{Coordinator, Groups, Offsets, Written};
use crate::clock::now_ms;
use crate::group::offsets::CommitRequest;

/// Offsets that wait for the end of their transaction: by producer and group.
pub(super) type Pending = HashMap<i64, BTreeMap<String, Offsets>>;

impl Coordinator {
    /// The partition of the offsets topic that a group's offsets go to.
    pub(crate) fn offsets_partition(&self, group_id: &str) -> Result<i32, ResponseError> {
        self.partition_of(group_id).map(|partition| partition.index)
    }

    /// Appends offsets as part of a producer's transaction. The caller makes sure that it is open and includes the
    /// group's partition, and stays so during the call.
    pub(crate) fn append_transactional(
        &self,
        request: &mut CommitRequest,
        producer: (i64, i16),
    ) -> Result<Written, ResponseError> {
        let now = now_ms();
        let mut groups = self.lock();
        match groups.entries.get_mut(&request.group_id) {
            None if request.generation >= 0 => return Err(ResponseError::IllegalGeneration),
            None => {}
            Some(entry) => {
                let (member, instance) = (&request.member_id, request.instance_id.as_deref());
                entry.group.check_transactional_commit(member, instance, request.generation)?;
            }
        }
        let records = self.offset_records(request, now);
        if records.is_empty() {
            return Ok(None);
        }
        let (at, written) = self.write_as(&request.group_id, &records, now, Some(producer))?;
        let pending = groups.pending.entry(producer.0).or_default().entry(request.group_id.clone()).or_default();
        for commit in request.offsets.iter().filter(|o| o.error.is_none()) {
            pending.insert(
                (commit.topic.clone(), commit.partition),
                (super::commits::committed(request, commit, now), at),
            );
        }
        Ok(written)
    }

    /// Shows or forgets the offsets of a producer's transaction in these partitions of the offsets topic.
    pub(crate) fn transaction_ended(&self, producer_id: i64, commit: bool, partitions: &[i32]) {
        if partitions.is_empty() {
            return;
        }
        let now = now_ms();
        let of = |group: &str| self.offsets_partition(group).is_ok_and(|partition| partitions.contains(&partition));
        self.lock().end_transaction(producer_id, commit, now, of);
    }

    /// Whether a transaction that is open has offsets for that place.
    pub(crate) fn is_unstable(&self, group_id: &str, place: &(String, i32)) -> bool {
        let groups = self.lock();
        groups.pending.values().any(|of| of.get(group_id).is_some_and(|offsets| offsets.contains_key(place)))
    }
}

impl Groups {
    /// Whether a transaction that is open has offsets for the group.
    pub(super) fn has_pending(&self, group_id: &str) -> bool {
        self.pending.values().any(|of| of.contains_key(group_id))
    }

    /// Forgets what is pending for a topic that is gone.
    pub(super) fn forget_pending(&mut self, topic: &str) {
        for offsets in self.pending.values_mut().flat_map(BTreeMap::values_mut) {
            offsets.retain(|(name, _), _| name != topic);
        }
    }

    /// Ends a producer's transaction for the groups that `of` names.
    pub(super) fn end_transaction(&mut self, producer_id: i64, commit: bool, now: i64, of: impl Fn(&str) -> bool) {
        let Some(pending) = self.pending.remove(&producer_id) else { return };
        let (ended, open): (BTreeMap<_, _>, BTreeMap<_, _>) = pending.into_iter().partition(|(group, _)| of(group));
        if !open.is_empty() {
            self.pending.insert(producer_id, open);
        }
        if !commit {
            return;
        }
        for (group, offsets) in ended {
            let entry = self.entry(&group, now);
            for (place, (committed, at)) in offsets {
                if entry.offsets.get(&place).is_none_or(|(_, known)| *known < at) {
                    entry.offsets.insert(place, (committed, at));
                }
            }
        }
    }
}
