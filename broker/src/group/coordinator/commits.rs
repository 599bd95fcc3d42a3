//! Committed offsets: written, read, deleted, expired.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::ResponseError;

use super::{Coordinator, Record, Written};
use crate::clock::now_ms;
use crate::group::offsets::{CommitRequest, Committed, Expiry, OffsetCommit};
use crate::group::records::{Key, encode_offset};
use crate::group::state::{Group, Phase};

/// What became of each offset that was to be deleted.
type Deletions = Vec<Result<(), ResponseError>>;

impl Coordinator {
    /// Commits offsets; each gets its own error. Resolves when they are durable.
    pub(crate) async fn commit(&self, mut request: CommitRequest) -> CommitRequest {
        let now = now_ms();
        let stored = match self.append_commit(&mut request, now) {
            Ok(Some((at, Some(durable)))) => {
                durable.await.unwrap_or(Err(ResponseError::NotCoordinator)).map(|()| Some(at))
            }
            Ok(Some((at, None))) => Ok(Some(at)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match stored {
            Err(error) => request.offsets.iter_mut().for_each(|o| o.error = o.error.or(Some(error))),
            Ok(Some(at)) => self.apply_commit(&request, at, now),
            Ok(None) => {}
        }
        request
    }

    /// Shows committed offsets, unless later ones became durable first.
    fn apply_commit(&self, request: &CommitRequest, at: i64, now: i64) {
        let mut groups = self.lock();
        let entry = groups.entry(&request.group_id, now);
        for commit in request.offsets.iter().filter(|o| o.error.is_none()) {
            let place = (commit.topic.clone(), commit.partition);
            if entry.offsets.get(&place).is_none_or(|(_, known)| *known < at) {
                entry.offsets.insert(place, (committed(request, commit, now), at));
            }
        }
    }

    fn append_commit(&self, request: &mut CommitRequest, now: i64) -> Result<Option<(i64, Written)>, ResponseError> {
        let mut groups = self.lock();
        match groups.entries.get_mut(&request.group_id) {
            None if request.generation >= 0 && request.knows_group_not_found => {
                return Err(ResponseError::GroupIdNotFound);
            }
            None if request.generation >= 0 => return Err(ResponseError::IllegalGeneration),
            None => {}
            Some(entry) => {
                entry.group.check_commit(
                    &request.member_id,
                    request.instance_id.as_deref(),
                    request.generation,
                    now,
                )?;
            }
        }
        let records = self.offset_records(request, now);
        if records.is_empty() { Ok(None) } else { self.write(&request.group_id, &records, now).map(Some) }
    }

    /// The records of the offsets that may be committed; the others get their errors.
    pub(super) fn offset_records(&self, request: &mut CommitRequest, now: i64) -> Vec<Record> {
        let mut records = Vec::new();
        for i in 0..request.offsets.len() {
            let commit = &request.offsets[i];
            let error = if self.cluster.partition(&commit.topic, commit.partition).is_err() {
                Some(ResponseError::UnknownTopicOrPartition)
            } else if commit.metadata.len() > self.config.offset_metadata_max_bytes {
                Some(ResponseError::OffsetMetadataTooLarge)
            } else {
                let (group, topic) = (request.group_id.clone(), commit.topic.clone());
                let key = Key::Offset { group, topic, partition: commit.partition };
                records.push((key.encode(), Some(encode_offset(&committed(request, commit, now)))));
                None
            };
            request.offsets[i].error = error;
        }
        records
    }

    /// Committed offsets of a group, all or those asked for; a missing one is not in the answer.
    pub(crate) fn offsets(&self, group_id: &str) -> BTreeMap<(String, i32), Committed> {
        let groups = self.lock();
        let offsets = groups.entries.get(group_id).map(|e| &e.offsets);
        offsets.into_iter().flatten().map(|(place, (committed, _))| (place.clone(), committed.clone())).collect()
    }

    /// Forgets single offsets; the outer error is for the whole group.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &str,
        places: &[(String, i32)],
    ) -> Result<Deletions, ResponseError> {
        let (results, written) = self.append_deletions(group_id, places)?;
        if let Some(durable) = written {
            durable.await.unwrap_or(Err(ResponseError::NotCoordinator))?;
        }
        Ok(results)
    }

    fn append_deletions(
        &self,
        group_id: &str,
        places: &[(String, i32)],
    ) -> Result<(Deletions, Written), ResponseError> {
        let mut groups = self.lock();
        let entry = groups.entries.get_mut(group_id).ok_or(ResponseError::GroupIdNotFound)?;
        let empty = entry.group.phase == Phase::Empty;
        let consumer = entry.group.protocol_type.as_deref().is_none_or(|t| t == "consumer");
        if !consumer && !empty {
            return Err(ResponseError::NonEmptyGroup);
        }
        let subscribed = if empty { Vec::new() } else { entry.group.subscribed().unwrap_or_default() };
        let check = |(topic, partition): &(String, i32)| {
            if subscribed.contains(topic) {
                return Err(ResponseError::GroupSubscribedToTopic);
            }
            self.cluster.partition(topic, *partition).map(drop)
        };
        let results: Deletions = places.iter().map(check).collect();
        let goes = |(place, result): (_, &Result<(), ResponseError>)| {
            (result.is_ok() && entry.offsets.contains_key(place)).then_some(place)
        };
        let gone: Vec<_> = places.iter().zip(&results).filter_map(goes).collect();
        if gone.is_empty() {
            return Ok((results, None));
        }
        // Written first: what cannot be written must not look deleted.
        let (_, written) = self.write(group_id, &tombstones(group_id, gone.iter().copied(), false), now_ms())?;
        for place in gone {
            entry.offsets.remove(place);
        }
        Ok((results, written))
    }

    /// Deletes a group without members.
    pub(crate) async fn delete_group(&self, group_id: &str) -> Result<(), ResponseError> {
        let written = {
            let mut groups = self.lock();
            let entry = groups.entries.get(group_id).ok_or(ResponseError::GroupIdNotFound)?;
            if entry.group.phase != Phase::Empty || groups.has_pending(group_id) {
                return Err(ResponseError::NonEmptyGroup);
            }
            let records = tombstones(group_id, entry.offsets.keys(), true);
            let written = self.write(group_id, &records, now_ms())?.1;
            groups.entries.remove(group_id);
            written
        };
        match written {
            Some(durable) => durable.await.unwrap_or(Err(ResponseError::NotCoordinator)),
            None => Ok(()),
        }
    }

    /// Forgets all offsets of a deleted topic.
    pub(crate) fn topic_deleted(&self, topic: &str) {
        self.lock().forget_pending(topic);
        self.forget(|_, (name, _), _| name == topic);
    }

    /// Forgets offsets that nobody needs, and groups that have none left.
    pub(crate) fn expire_offsets(&self, now: i64) {
        let retention_ms = self.config.offsets_retention_ms;
        self.forget(|group, (topic, _), committed| {
            let in_use = group.phase != Phase::Empty && group.subscribed().is_none_or(|topics| topics.contains(topic));
            let empty_since = (group.phase == Phase::Empty && group.protocol_type.is_some()).then_some(group.since);
            committed.is_expired(Expiry { now, retention_ms, empty_since, in_use })
        });
    }

    fn forget(&self, goes: impl Fn(&Group, &(String, i32), &Committed) -> bool) {
        let mut groups = self.lock();
        let mut empty = Vec::new();
        let groups = &mut *groups;
        let pending: HashSet<&String> = groups.pending.values().flat_map(BTreeMap::keys).collect();
        for (id, entry) in &mut groups.entries {
            let gone: Vec<_> = entry
                .offsets
                .iter()
                .filter(|(place, (committed, _))| goes(&entry.group, place, committed))
                .map(|(place, _)| place.clone())
                .collect();
            let whole = entry.group.phase == Phase::Empty
                && entry.group.next_deadline().is_none()
                && !pending.contains(id)
                && gone.len() == entry.offsets.len();
            if gone.is_empty() && !whole {
                continue;
            }
            if let Err(error) = self.write(id, &tombstones(id, gone.iter(), whole), now_ms()) {
                tracing::warn!(group = id, %error, "cannot write that offsets expired");
                continue;
            }
            for place in gone {
                entry.offsets.remove(&place);
            }
            if whole {
                empty.push(id.clone());
            }
        }
        for id in empty {
            groups.entries.remove(&id);
        }
    }
}

pub(super) fn committed(request: &CommitRequest, commit: &OffsetCommit, now: i64) -> Committed {
    Committed {
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata: commit.metadata.clone(),
        commit_timestamp: now,
        expire_timestamp: request.retention_ms.map(|ms| now.saturating_add(ms)),
    }
}

fn tombstones<'a>(group: &str, places: impl Iterator<Item = &'a (String, i32)>, whole: bool) -> Vec<Record> {
    let key = |(topic, partition): &(String, i32)| Key::Offset {
        group: group.to_owned(),
        topic: topic.clone(),
        partition: *partition,
    };
    let mut records: Vec<_> = places.map(|place| (key(place).encode(), None)).collect();
    if whole {
        records.push((Key::Group(group.to_owned()).encode(), None));
    }
    records
}
