//! The group coordinator: owns all groups and their offsets, writes them to `__consumer_offsets`, runs timers.
//!
//! Records are appended while the groups are locked, so that the log has the order of the events. Answers that
//! show new state leave only when the records are durable.

mod commits;
mod replay;
mod transactional;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use views::{GroupDescription, MemberDescription};

use super::offsets::Committed;
use super::records::{Key, encode_group};
use super::requests::{JoinReply, JoinRequest, SyncReply, SyncRequest};
use super::state::{Effect, Group, JoinContext, Limits, Phase, Token};
use crate::clock::now_ms;
use crate::cluster::{Cluster, OFFSETS_TOPIC};
use crate::config::{BrokerConfig, SyncPolicy};
use crate::log::{Batch, Partition, Syncer};
use crate::wire::batch::BatchHeader;
use crate::wire::records::BatchBuilder;

/// One record of the offsets topic: key, and value or tombstone.
type Record = (Vec<u8>, Option<Vec<u8>>);

/// Committed offsets by topic and partition, with the place in the log that decides which is newer.
type Offsets = BTreeMap<(String, i32), (Committed, i64)>;

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
    /// Where the group stands, for members in this process.
    stand: watch::Sender<(Phase, i32)>,
}

#[derive(Debug, Default)]
struct Groups {
    entries: HashMap<String, Entry>,
    pending: transactional::Pending,
    joining: HashMap<Token, oneshot::Sender<JoinReply>>,
    syncing: HashMap<Token, oneshot::Sender<Result<SyncReply, ResponseError>>>,
    last_token: Token,
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
                if let Err(error) = replay::replay(partition, topic.partitions.len(), &mut groups) {
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
            let context = JoinContext { fresh_id, token, now, limits: self.limits() };
            let effects = groups.entry(&id, now).group.join(request, context);
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

    /// Resolves when the group rebalances, has got beyond a generation, or is gone. Cancel-safe.
    pub(crate) async fn rebalance_after(&self, group_id: &str, generation: i32) {
        let stand = self.lock().entries.get(group_id).map(|entry| entry.stand.subscribe());
        if let Some(mut stand) = stand {
            let _ = stand.wait_for(|(phase, now)| *phase == Phase::Preparing || *now != generation).await;
        }
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
        let entry = groups.entries.get(id);
        if let Some(Entry { group, stand, .. }) = entry {
            let now = (group.phase, group.generation);
            stand.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
        let next = entry.and_then(|entry| entry.group.next_deadline());
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
    fn write(&self, group_id: &str, records: &[Record], now: i64) -> Result<(i64, Written), ResponseError> {
        self.write_as(group_id, records, now, None)
    }

    /// Like [`Coordinator::write`], as part of the transaction of a producer, by id and epoch.
    fn write_as(
        &self,
        group_id: &str,
        records: &[Record],
        now: i64,
        producer: Option<(i64, i16)>,
    ) -> Result<(i64, Written), ResponseError> {
        let partition = self.partition_of(group_id)?;
        let mut builder = BatchBuilder::new(now);
        if let Some((id, epoch)) = producer {
            builder = builder.producer(id, epoch, -1).transactional();
        }
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
        topic.partition(place_of(group_id, topic.partitions.len())).cloned()
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
        self.entries.entry(id.to_owned()).or_insert_with(|| {
            let group = Group::new(now);
            let stand = watch::Sender::new((group.phase, group.generation));
            Entry { group, offsets: Offsets::new(), stand }
        })
    }
}

fn unknown_group(group_id: &str) -> ResponseError {
    if group_id.is_empty() { ResponseError::InvalidGroupId } else { ResponseError::UnknownMemberId }
}

/// The partition, of so many, that the records of a group or a transactional id go to.
pub(crate) fn place_of(id: &str, partitions: usize) -> i32 {
    java_hash(id).checked_abs().unwrap_or(0) % partitions.max(1) as i32
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
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
