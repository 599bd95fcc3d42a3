//! The group coordinator: owns all groups and their offsets, writes them to `__consumer_offsets`, runs timers.
//!
//! Records are appended while the groups are locked, so that the log has the order of the events. Answers that
//! show new state leave only when the records are durable.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::offsets::{CommitRequest, Committed, Expiry};
use super::records::{Key, decode_group, decode_offset, encode_group, encode_offset};
use super::state::{Effect, Group, JoinReply, JoinRequest, Limits, Phase, SyncReply, SyncRequest, Token};
use crate::clock::now_ms;
use crate::cluster::{Cluster, OFFSETS_TOPIC};
use crate::config::{BrokerConfig, SyncPolicy};
use crate::log::{Batch, Partition, Syncer};
use crate::wire::batch::{BatchHeader, batches};
use crate::wire::records::{BatchBuilder, decode};

/// Committed offsets by topic and partition, with the place in the log that decides which is newer.
type Offsets = BTreeMap<(String, i32), (Committed, i64)>;

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
}

#[derive(Debug, Default)]
struct Groups {
    entries: HashMap<String, Entry>,
    joining: HashMap<Token, oneshot::Sender<JoinReply>>,
    syncing: HashMap<Token, oneshot::Sender<Result<SyncReply, ResponseError>>>,
    last_token: Token,
}

/// A group as ListGroups and DescribeGroups show it.
#[derive(Debug, Clone)]
pub(crate) struct GroupView {
    pub(crate) id: String,
    pub(crate) phase: Phase,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberView>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone)]
pub(crate) struct MemberView {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Coordinator {
    cluster: Arc<Cluster>,
    syncer: Arc<Syncer>,
    config: Arc<BrokerConfig>,
    tracker: TaskTracker,
    groups: Mutex<Groups>,
    /// When the timer loop wakes next.
    next_wake: AtomicI64,
    timers: Notify,
}

/// Records that were appended, and what they still wait for.
type Written = Option<oneshot::Receiver<Result<(), ResponseError>>>;

impl Coordinator {
    /// Reads all groups back from the log.
    pub(crate) fn load(
        cluster: Arc<Cluster>,
        syncer: Arc<Syncer>,
        config: Arc<BrokerConfig>,
        tracker: TaskTracker,
    ) -> Arc<Self> {
        let mut groups = Groups::default();
        if let Some(topic) = cluster.topic(OFFSETS_TOPIC) {
            for partition in &topic.partitions {
                if let Err(error) = replay(partition, &mut groups) {
                    tracing::error!(partition = partition.index, %error, "cannot read back group offsets");
                }
            }
        }
        Arc::new(Coordinator {
            cluster,
            syncer,
            config,
            tracker,
            groups: Mutex::new(groups),
            next_wake: AtomicI64::new(0),
            timers: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        Limits {
            max_size: self.config.group_max_size,
            initial_delay_ms: i64::from(self.config.group_initial_rebalance_delay_ms),
        }
    }

    /// Joins a group; resolves when the rebalance ends.
    pub(crate) async fn join(self: &Arc<Self>, request: JoinRequest) -> JoinReply {
        let member_id = request.member_id.clone();
        if request.group_id.is_empty() {
            return JoinReply::failed(ResponseError::InvalidGroupId, &member_id);
        }
        let allowed = self.config.group_min_session_timeout_ms..=self.config.group_max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return JoinReply::failed(ResponseError::InvalidSessionTimeout, &member_id);
        }
        let (reply, answer) = oneshot::channel();
        {
            let now = now_ms();
            let mut groups = self.lock();
            if !request.member_id.is_empty() && !groups.entries.contains_key(&request.group_id) {
                return JoinReply::failed(ResponseError::UnknownMemberId, &member_id);
            }
            let token = groups.token();
            groups.joining.insert(token, reply);
            let id = request.group_id.clone();
            let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
            let fresh_id = format!("{prefix}-{}", Uuid::new_v4());
            let limits = self.limits();
            let entry = groups.entry(&id, now);
            let effects = entry.group.join(request, fresh_id, token, now, limits);
            self.settle(&mut groups, &id, effects, now);
        }
        answer.await.unwrap_or_else(|_| JoinReply::failed(ResponseError::NotCoordinator, &member_id))
    }

    /// Hands in or waits for the assignment.
    pub(crate) async fn sync(self: &Arc<Self>, request: SyncRequest) -> Result<SyncReply, ResponseError> {
        let (reply, answer) = oneshot::channel();
        {
            let now = now_ms();
            let mut groups = self.lock();
            let token = groups.token();
            let id = request.group_id.clone();
            let Some(entry) = groups.entries.get_mut(&id) else { return Err(unknown_group(&id)) };
            let effects = entry.group.sync(request, token, now);
            groups.syncing.insert(token, reply);
            self.settle(&mut groups, &id, effects, now);
        }
        answer.await.unwrap_or(Err(ResponseError::NotCoordinator))
    }

    /// A sign of life.
    pub(crate) fn heartbeat(
        &self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let mut groups = self.lock();
        let entry = groups.entries.get_mut(group_id).ok_or_else(|| unknown_group(group_id))?;
        entry.group.heartbeat(member_id, instance_id, generation, now_ms())
    }

    /// Removes a member.
    pub(crate) fn leave(
        self: &Arc<Self>,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        let now = now_ms();
        let mut groups = self.lock();
        let limits = self.limits();
        let entry = groups.entries.get_mut(group_id).ok_or_else(|| unknown_group(group_id))?;
        let (result, effects) = entry.group.leave(member_id, instance_id, now, limits);
        self.settle(&mut groups, group_id, effects, now);
        result
    }

    /// Does what the state machine asks for: writes first, then answers once that is durable.
    fn settle(self: &Arc<Self>, groups: &mut Groups, id: &str, effects: Vec<Effect>, now: i64) {
        let persist = effects.iter().any(|e| matches!(e, Effect::Persist));
        let written = if persist { self.write_group(groups, id, now) } else { Ok(None) };
        let next = groups.entries.get(id).and_then(|entry| entry.group.next_deadline());
        if next.is_some_and(|next| next < self.next_wake.load(Ordering::Relaxed)) {
            self.timers.notify_one();
        }
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Join(token, reply) => {
                    answers.extend(groups.joining.remove(&token).map(|to| Answer::Join(to, reply)));
                }
                Effect::Sync(token, reply) => {
                    answers.extend(groups.syncing.remove(&token).map(|to| Answer::Sync(to, reply)));
                }
                Effect::Persist => {}
            }
        }
        match written {
            Ok(Some(durable)) => {
                // The answers belong to several connections, so none of them may be the one that waits.
                self.tracker.spawn(async move {
                    let result = durable.await.unwrap_or(Err(ResponseError::NotCoordinator));
                    answers.into_iter().for_each(|answer| answer.send(result));
                });
            }
            Ok(None) => answers.into_iter().for_each(|answer| answer.send(Ok(()))),
            Err(error) => answers.into_iter().for_each(|answer| answer.send(Err(error))),
        }
    }

    fn write_group(&self, groups: &Groups, id: &str, now: i64) -> Result<Written, ResponseError> {
        let Some(entry) = groups.entries.get(id) else { return Ok(None) };
        let record = (Key::Group(id.to_owned()).encode(), Some(encode_group(&entry.group)));
        Ok(self.write(id, &[record], now)?.1)
    }

    /// Appends records of a group; answers their offset and what to wait for.
    fn write(
        &self,
        group_id: &str,
        records: &[(Vec<u8>, Option<Vec<u8>>)],
        now: i64,
    ) -> Result<(i64, Written), ResponseError> {
        let partition = self.partition_of(group_id)?;
        let mut builder = BatchBuilder::new(now);
        for (key, value) in records {
            builder.push(now, Some(key), value.as_deref());
        }
        let bytes = builder.build();
        let header = BatchHeader::parse(&bytes).map_err(|_| ResponseError::UnknownServerError)?;
        let unavailable = |_| ResponseError::CoordinatorNotAvailable;
        let appended = partition.log().append(Batch { header, bytes }, now).map_err(unavailable)?;
        let wait = self.config.sync_policy == SyncPolicy::GroupCommit;
        Ok((appended.base_offset, wait.then(|| self.syncer.sync(&partition))))
    }

    fn partition_of(&self, group_id: &str) -> Result<Arc<Partition>, ResponseError> {
        let topic = self.cluster.topic(OFFSETS_TOPIC).ok_or(ResponseError::CoordinatorNotAvailable)?;
        let index = java_hash(group_id).checked_abs().unwrap_or(0) % topic.partitions.len().max(1) as i32;
        topic.partition(index).cloned()
    }

    /// Commits offsets; each gets its own error. Resolves when they are durable.
    pub(crate) async fn commit(&self, mut request: CommitRequest) -> CommitRequest {
        let now = now_ms();
        let outcome = self.append_commit(&mut request, now);
        let (group_id, result) = (
            request.group_id.clone(),
            match outcome {
                Ok(Some((at, written))) => match written {
                    Some(durable) => durable.await.unwrap_or(Err(ResponseError::NotCoordinator)).map(|()| Some(at)),
                    None => Ok(Some(at)),
                },
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
        );
        match result {
            Err(error) => request.offsets.iter_mut().for_each(|o| o.error = o.error.or(Some(error))),
            Ok(None) => {}
            Ok(Some(at)) => {
                let mut groups = self.lock();
                let entry = groups.entry(&group_id, now);
                for commit in request.offsets.iter().filter(|o| o.error.is_none()) {
                    let committed = committed(&request, commit, now);
                    let place = (commit.topic.clone(), commit.partition);
                    if entry.offsets.get(&place).is_none_or(|(_, known)| *known < at) {
                        entry.offsets.insert(place, (committed, at));
                    }
                }
            }
        }
        request
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
        if records.is_empty() { Ok(None) } else { self.write(&request.group_id, &records, now).map(Some) }
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
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let now = now_ms();
        let (results, written) = {
            let mut groups = self.lock();
            let entry = groups.entries.get_mut(group_id).ok_or(ResponseError::GroupIdNotFound)?;
            let consumer = entry.group.protocol_type.as_deref().is_none_or(|t| t == "consumer");
            if !consumer && entry.group.phase != Phase::Empty {
                return Err(ResponseError::NonEmptyGroup);
            }
            let subscribed = if entry.group.phase == Phase::Empty {
                Vec::new()
            } else {
                entry.group.subscribed().unwrap_or_default()
            };
            let mut records = Vec::new();
            let results = places
                .iter()
                .map(|(topic, partition)| {
                    if subscribed.contains(topic) {
                        return Err(ResponseError::GroupSubscribedToTopic);
                    }
                    self.cluster.partition(topic, *partition)?;
                    if entry.offsets.remove(&(topic.clone(), *partition)).is_some() {
                        let (group, topic) = (group_id.to_owned(), topic.clone());
                        records.push((Key::Offset { group, topic, partition: *partition }.encode(), None));
                    }
                    Ok(())
                })
                .collect();
            let written = if records.is_empty() { None } else { self.write(group_id, &records, now)?.1 };
            (results, written)
        };
        if let Some(durable) = written {
            durable.await.unwrap_or(Err(ResponseError::NotCoordinator))?;
        }
        Ok(results)
    }

    /// Deletes a group without members.
    pub(crate) async fn delete_group(&self, group_id: &str) -> Result<(), ResponseError> {
        let written = {
            let mut groups = self.lock();
            let entry = groups.entries.get(group_id).ok_or(ResponseError::GroupIdNotFound)?;
            if entry.group.phase != Phase::Empty {
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
        for (id, entry) in &mut groups.entries {
            let gone: Vec<_> = entry
                .offsets
                .iter()
                .filter(|(place, (committed, _))| goes(&entry.group, place, committed))
                .map(|(place, _)| place.clone())
                .collect();
            let whole = entry.group.phase == Phase::Empty
                && entry.group.next_deadline().is_none()
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

    /// All groups.
    pub(crate) fn list(&self) -> Vec<GroupView> {
        let mut all: Vec<_> = self.lock().entries.iter().map(|(id, entry)| view(id, &entry.group, false)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// One group with its members.
    pub(crate) fn describe(&self, group_id: &str) -> Option<GroupView> {
        self.lock().entries.get(group_id).map(|entry| view(group_id, &entry.group, true))
    }

    /// The timer loop; ends when `stop` is cancelled.
    pub(crate) async fn run_timers(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let now = now_ms();
            let next = {
                let mut groups = self.lock();
                let due: Vec<String> = groups
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.group.next_deadline().is_some_and(|d| d <= now))
                    .map(|(id, _)| id.clone())
                    .collect();
                for id in due {
                    let limits = self.limits();
                    let Some(entry) = groups.entries.get_mut(&id) else { continue };
                    let effects = entry.group.tick(now, limits);
                    self.settle(&mut groups, &id, effects, now);
                }
                let next = groups.entries.values().filter_map(|e| e.group.next_deadline()).min().unwrap_or(i64::MAX);
                self.next_wake.store(next, Ordering::Relaxed);
                next
            };
            let wait = Duration::from_millis(next.saturating_sub(now).clamp(1, 3_600_000) as u64);
            // All three futures are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.timers.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

enum Answer {
    Join(oneshot::Sender<JoinReply>, JoinReply),
    Sync(oneshot::Sender<Result<SyncReply, ResponseError>>, Result<SyncReply, ResponseError>),
}

impl Answer {
    fn send(self, stored: Result<(), ResponseError>) {
        match self {
            Answer::Join(to, reply) => {
                let failed = |error| JoinReply::failed(error, &reply.member_id);
                let _ = to.send(stored.map_or_else(failed, |()| reply.clone()));
            }
            Answer::Sync(to, reply) => {
                let _ = to.send(stored.and(reply));
            }
        }
    }
}

impl Groups {
    fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    fn entry(&mut self, id: &str, now: i64) -> &mut Entry {
        self.entries.entry(id.to_owned()).or_insert_with(|| Entry { group: Group::new(now), offsets: Offsets::new() })
    }
}

fn unknown_group(group_id: &str) -> ResponseError {
    if group_id.is_empty() { ResponseError::InvalidGroupId } else { ResponseError::UnknownMemberId }
}

fn committed(request: &CommitRequest, commit: &super::offsets::OffsetCommit, now: i64) -> Committed {
    Committed {
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata: commit.metadata.clone(),
        commit_timestamp: now,
        expire_timestamp: request.retention_ms.map(|ms| now.saturating_add(ms)),
    }
}

fn tombstones<'a>(
    group: &str,
    places: impl Iterator<Item = &'a (String, i32)>,
    whole: bool,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
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

fn view(id: &str, group: &Group, with_members: bool) -> GroupView {
    let stable = group.phase == Phase::Stable;
    let protocol = if stable { group.protocol.clone().unwrap_or_default() } else { String::new() };
    let member = |m: &super::state::Member| MemberView {
        id: m.id.clone(),
        instance_id: m.instance_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        metadata: if stable { m.metadata(&protocol) } else { Bytes::new() },
        assignment: if stable { m.assignment.clone() } else { Bytes::new() },
    };
    GroupView {
        id: id.to_owned(),
        phase: group.phase,
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: if with_members { group.members.values().map(member).collect() } else { Vec::new() },
        protocol,
    }
}

/// Java's `String.hashCode`, which places a group in the offsets topic.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

fn replay(partition: &Arc<Partition>, groups: &mut Groups) -> Result<(), ResponseError> {
    let now = now_ms();
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
            if header.is_control() {
                continue;
            }
            let Ok(unpacked) = decode(&header, batch) else { continue };
            for record in unpacked.records().map_while(Result::ok) {
                if let Some(key) = record.key.and_then(Key::decode) {
                    apply(groups, key, record.value, record.offset, now);
                }
            }
        }
    }
    Ok(())
}

fn apply(groups: &mut Groups, key: Key, value: Option<&[u8]>, at: i64, now: i64) {
    match (key, value) {
        (Key::Group(id), None) => {
            if let Some(entry) = groups.entries.get_mut(&id) {
                entry.group = Group::new(now);
                if entry.offsets.is_empty() {
                    groups.entries.remove(&id);
                }
            }
        }
        (Key::Group(id), Some(value)) => match decode_group(value, now) {
            Some(group) => groups.entry(&id, now).group = group,
            None => tracing::warn!(group = id, "the state of a group is in an unknown format and was skipped"),
        },
        (Key::Offset { group, topic, partition }, None) => {
            if let Some(entry) = groups.entries.get_mut(&group) {
                entry.offsets.remove(&(topic, partition));
            }
        }
        (Key::Offset { group, topic, partition }, Some(value)) => {
            if let Some(committed) = decode_offset(value) {
                groups.entry(&group, now).offsets.insert((topic, partition), (committed, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_like_java() {
        assert_eq!(
            java_hash("test-group"),
            "test-group".bytes().fold(0i32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()))
        );
        assert_eq!((java_hash(""), java_hash("abc"), java_hash("polygenelubricants")), (0, 96354, i32::MIN));
    }
}
