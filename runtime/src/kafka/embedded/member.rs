//! The life of a group member: join, share out if it leads, read until the group rebalances, and again; leave at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use towline_broker::{FetchFrom, FetchLimits, Fetched, Handle, JoinReply, JoinRequest, ResponseError, SyncRequest};
use towline_connectors::api::{Error, Result, TopicPartition};

use super::arrivals::Arrivals;
use super::assignor::{self, Assignment, PROTOCOLS};
use super::group::{GroupSettings, Identity, Read, Reset, Wanted};
use super::leader::Shared;
use super::{failed, incoming};
use crate::kafka::{GroupEvent, IncomingBatch};

/// Reading goes on ahead of the task until this many records wait,
const AHEAD_RECORDS: usize = 40_000;
/// or about this many bytes.
const AHEAD_BYTES: usize = 8 << 20;
const FETCH: FetchLimits = FetchLimits { max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::from_secs(30) };
/// How long a rebalance waits for the task to flush and commit.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause after something failed.
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct Member {
    handle: Handle,
    identity: Arc<Identity>,
    settings: GroupSettings,
    wanted: Wanted,
    /// Given by the coordinator; kept over rebalances.
    member_id: String,
    /// As the leader: what was shared out last.
    shared: Option<Shared>,
    arrivals: Arrivals,
    positions: Vec<Place>,
    waiting: Vec<IncomingBatch>,
    waiting_records: usize,
    waiting_bytes: usize,
}

/// A partition that is read.
struct Place {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
}

/// Why reading ended.
enum Ended {
    /// The group rebalances, or the topics changed.
    Rejoin,
    /// The coordinator does not know the member any more.
    Lost,
    /// Another member has this one's `group.instance.id`.
    Fenced(Error),
    /// The consumer is closed.
    Closed,
}

struct Channels {
    control: mpsc::Sender<GroupEvent>,
    records: mpsc::Sender<Read>,
    paused: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl Member {
    pub(super) fn new(handle: Handle, identity: Arc<Identity>, settings: GroupSettings, wanted: Wanted) -> Self {
        Self {
            handle,
            identity,
            settings,
            wanted,
            member_id: String::new(),
            shared: None,
            arrivals: Arrivals::default(),
            positions: Vec::new(),
            waiting: Vec::new(),
            waiting_records: 0,
            waiting_bytes: 0,
        }
    }

    /// Lives until `stop`.
    pub(super) async fn run(
        mut self,
        control: mpsc::Sender<GroupEvent>,
        records: mpsc::Sender<Read>,
        paused: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let mut channels = Channels { control, records, paused, stop };
        while !channels.stop.is_cancelled() {
            let wanted = self.wanted();
            let joined = tokio::select! {
                () = channels.stop.cancelled() => break,
                joined = self.join(&wanted) => joined,
            };
            let ended = match joined {
                Ok(assignment) => self.take_up(assignment, &wanted, &mut channels).await,
                Err(error) => {
                    let _ = channels.control.try_send(GroupEvent::Failed(error));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            match ended {
                Ended::Closed => break,
                Ended::Fenced(error) => {
                    let _ = channels.control.send(GroupEvent::Failed(error)).await;
                    break;
                }
                Ended::Rejoin => self.give_up(&channels).await,
                Ended::Lost => {
                    self.identity.set_membership(None);
                    self.member_id.clear();
                    self.give_up(&channels).await;
                }
            }
        }
        self.identity.set_membership(None);
        // A static member's place is kept for its return.
        if !self.member_id.is_empty() && self.identity.instance.is_none() {
            let _ = self.handle.leave_group(&self.identity.group, &self.member_id, None);
        }
    }

    /// The topics that this member subscribes to now.
    fn wanted(&self) -> BTreeSet<String> {
        match &self.wanted {
            Wanted::Topics(names) => names.iter().cloned().collect(),
            Wanted::Pattern(pattern) => {
                let all = self.handle.topics().into_iter().map(|(name, _)| name);
                all.filter(|name| !name.starts_with("__") && pattern.is_match(name).unwrap_or(false)).collect()
            }
        }
    }

    /// Whether topics came, went or grew, so that the member must join again. As in Kafka the leader alone looks after
    /// the topics that the group shares: whoever follows gets the same partitions again.
    fn is_outdated(&self, wanted: &BTreeSet<String>) -> bool {
        self.wanted() != *wanted || self.shared.as_ref().is_some_and(|shared| shared.is_outdated(&self.handle))
    }

    /// Whether topics that are wanted may yet come.
    fn expects_more(&self) -> bool {
        matches!(self.wanted, Wanted::Pattern(_))
            || self.shared.as_ref().is_some_and(|shared| shared.expects_more(&self.handle))
    }

    async fn join(&mut self, wanted: &BTreeSet<String>) -> Result<Assignment> {
        self.shared = None;
        let metadata = assignor::subscription(wanted);
        loop {
            let reply = self
                .handle
                .join_group(JoinRequest {
                    group_id: self.identity.group.clone(),
                    member_id: self.member_id.clone(),
                    instance_id: self.identity.instance.clone(),
                    client_id: self.settings.client_id.clone(),
                    client_host: "/127.0.0.1".to_owned(),
                    session_timeout_ms: self.settings.session_timeout,
                    rebalance_timeout_ms: self.settings.rebalance_timeout,
                    protocol_type: "consumer".to_owned(),
                    protocols: PROTOCOLS.iter().map(|name| ((*name).to_owned(), metadata.clone())).collect(),
                    require_known_member: true,
                    can_skip_assignment: true,
                })
                .await;
            match reply.error {
                None => match self.sync(reply).await? {
                    Some(assignment) => return Ok(assignment),
                    None => continue,
                },
                Some(ResponseError::MemberIdRequired) => self.member_id = reply.member_id,
                Some(ResponseError::UnknownMemberId) => self.member_id.clear(),
                Some(ResponseError::RebalanceInProgress) => tokio::time::sleep(RETRY).await,
                Some(error) => return Err(self.refused("join", error)),
            }
        }
    }

    /// Hands in or waits for the assignment; none if the group rebalances again.
    async fn sync(&mut self, joined: JoinReply) -> Result<Option<Assignment>> {
        self.member_id.clone_from(&joined.member_id);
        let mut assignments = Vec::new();
        if joined.skip_assignment {
            self.shared = Some(Shared::as_it_is(&self.handle, &self.identity.group, &joined));
        } else if joined.leader == joined.member_id {
            let shared;
            (shared, assignments) = Shared::out(&self.handle, &joined);
            self.shared = Some(shared);
        }
        let request = SyncRequest {
            group_id: self.identity.group.clone(),
            member_id: joined.member_id.clone(),
            instance_id: self.identity.instance.clone(),
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments,
        };
        match self.handle.sync_group(request).await {
            Ok(reply) => {
                self.identity.set_membership(Some((joined.member_id, joined.generation)));
                Ok(Some(assignor::assigned(reply.assignment)))
            }
            Err(ResponseError::UnknownMemberId) => {
                self.member_id.clear();
                Ok(None)
            }
            Err(ResponseError::RebalanceInProgress | ResponseError::IllegalGeneration) => Ok(None),
            Err(error) => Err(self.refused("join", error)),
        }
    }

    fn refused(&self, what: &str, error: ResponseError) -> Error {
        let group = &self.identity.group;
        match error {
            ResponseError::FencedInstanceId => Error::fatal(format!(
                "cannot {what} group {group}: another member has group.instance.id {}; give each its own",
                self.identity.instance.as_deref().unwrap_or_default()
            )),
            error => failed(&format!("cannot {what} group {group}"), error),
        }
    }

    /// Asks the task where to start, then reads until something ends it.
    async fn take_up(&mut self, assignment: Assignment, wanted: &BTreeSet<String>, channels: &mut Channels) -> Ended {
        let mut beat = ticks(self.settings.heartbeat);
        let mut partitions = Vec::new();
        for (topic, own) in assignment {
            let topic: Arc<str> = topic.into();
            partitions.extend(own.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        let mut starts = Vec::new();
        if !partitions.is_empty() {
            let (reply, answer) = oneshot::channel();
            // An end that is not to be learnt now is taken as far away: it then forbids no offset.
            let end =
                |at: &TopicPartition| self.handle.log_offsets(&at.topic, at.partition).map_or(i64::MAX, |m| m.end);
            let with_ends = partitions.iter().map(|at| (at.clone(), end(at))).collect();
            self.identity.next_assignment();
            // However long it takes (a database may be away): nothing is read before the answer.
            match self.ask(GroupEvent::Assigned(with_ends, reply), answer, channels, &mut beat, None).await {
                Some(answer) => starts = answer,
                None => return Ended::Closed,
            }
        }
        match self.places(&partitions, &starts) {
            Ok(places) => self.positions = places,
            Err(error) => {
                let _ = channels.control.send(GroupEvent::Failed(error)).await;
                return Ended::Closed;
            }
        }
        self.read(wanted, channels, &mut beat).await
    }

    /// Where each partition is read on: as the task says, else as committed, else by `auto.offset.reset`.
    fn places(&self, partitions: &[TopicPartition], starts: &[(TopicPartition, i64)]) -> Result<Vec<Place>> {
        let committed = self.handle.committed_offsets(&self.identity.group);
        partitions
            .iter()
            .map(|at| {
                let start = starts.iter().find(|(known, _)| known == at).map(|(_, offset)| *offset);
                let known =
                    || committed.get(&(at.topic.to_string(), at.partition)).map(|c| c.offset).filter(|o| *o >= 0);
                let offset = match start.or_else(known) {
                    Some(offset) => offset,
                    None => self.reset(at)?,
                };
                Ok(Place { topic: at.topic.clone(), partition: at.partition, offset })
            })
            .collect()
    }

    fn reset(&self, at: &TopicPartition) -> Result<i64> {
        let marks = self.handle.log_offsets(&at.topic, at.partition);
        match self.settings.reset {
            Reset::Earliest => Ok(marks.map_or(0, |marks| marks.start)),
            Reset::Latest => Ok(marks.map_or(0, |marks| marks.end)),
            Reset::None => Err(Error::fatal(format!(
                "{}-{} has no valid committed offset in group {}, and auto.offset.reset is none",
                at.topic, at.partition, self.identity.group
            ))),
        }
    }

    async fn read(&mut self, wanted: &BTreeSet<String>, channels: &mut Channels, beat: &mut Interval) -> Ended {
        let (handle, group) = (self.handle.clone(), self.identity.group.clone());
        let generation = self.identity.membership().map_or(-1, |(_, generation)| generation);
        let rebalance = handle.rebalance_after(&group, generation);
        tokio::pin!(rebalance);
        let mut topics = handle.watch_topics();
        // Topics may have changed since they were looked up.
        topics.mark_changed();
        let mut not_before = Instant::now();
        loop {
            let paused = *channels.paused.borrow_and_update();
            let room = self.waiting_records < AHEAD_RECORDS && self.waiting_bytes < AHEAD_BYTES;
            let from: Vec<FetchFrom> = if room && !paused { self.from() } else { Vec::new() };
            // Every branch is cancel-safe; what is first comes first.
            tokio::select! {
                biased;
                () = channels.stop.cancelled() => return Ended::Closed,
                _ = beat.tick() => if let Some(ended) = self.heartbeat() { return ended },
                () = &mut rebalance => return self.heartbeat().unwrap_or(Ended::Rejoin),
                Ok(()) = topics.changed() => if self.is_outdated(wanted) {
                    if !self.expects_more() {
                        return Ended::Rejoin;
                    }
                    self.arrivals.changed(Instant::now());
                },
                () = until(self.arrivals.due()) => {
                    let outdated = self.is_outdated(wanted);
                    self.arrivals.settled(outdated, Instant::now());
                    if outdated {
                        return Ended::Rejoin;
                    }
                }
                _ = channels.paused.changed() => {}
                room = channels.records.reserve(), if !self.waiting.is_empty() && !paused => match room {
                    Ok(room) => {
                        room.send((self.identity.epoch(), self.take_waiting()));
                    }
                    Err(_) => return Ended::Closed,
                },
                found = self.fetch(&from, not_before), if !from.is_empty() => {
                    if let Err(error) = self.take_in(found) {
                        let fatal = error.kind() != towline_connectors::api::ErrorKind::Retriable;
                        if fatal {
                            let _ = channels.control.send(GroupEvent::Failed(error)).await;
                            return Ended::Closed;
                        }
                        tracing::debug!(%error, "consumer");
                        not_before = Instant::now() + RETRY;
                    }
                }
            }
        }
    }

    async fn fetch(&self, from: &[FetchFrom], not_before: Instant) -> Vec<Result<Fetched, ResponseError>> {
        if not_before > Instant::now() {
            tokio::time::sleep_until(not_before).await;
        }
        if self.settings.committed_only {
            self.handle.fetch_committed(from, FETCH).await
        } else {
            self.handle.fetch(from, FETCH).await
        }
    }

    fn take_waiting(&mut self) -> Vec<IncomingBatch> {
        (self.waiting_records, self.waiting_bytes) = (0, 0);
        std::mem::take(&mut self.waiting)
    }

    fn from(&mut self) -> Vec<FetchFrom> {
        // Whoever was first comes last, so that a busy partition does not keep the others waiting.
        if self.positions.len() > 1 {
            self.positions.rotate_left(1);
        }
        let from = |place: &Place| FetchFrom {
            topic: place.topic.to_string(),
            partition: place.partition,
            offset: place.offset,
            max_bytes: FETCH.max_bytes,
        };
        self.positions.iter().map(from).collect()
    }

    fn heartbeat(&self) -> Option<Ended> {
        let (member, generation) = self.identity.membership()?;
        let group = &self.identity.group;
        match self.handle.heartbeat(group, &member, self.identity.instance.as_deref(), generation) {
            Ok(()) => None,
            Err(ResponseError::RebalanceInProgress) => Some(Ended::Rejoin),
            Err(error @ ResponseError::FencedInstanceId) => Some(Ended::Fenced(self.refused("stay in", error))),
            Err(error) => {
                tracing::info!(%error, group, "the consumer lost its place in the group and joins again");
                Some(Ended::Lost)
            }
        }
    }

    /// Takes what a fetch found, in the order of the positions. After a failure the others are still taken.
    fn take_in(&mut self, found: Vec<Result<Fetched, ResponseError>>) -> Result<()> {
        let mut outcome = Ok(());
        for (index, fetched) in found.into_iter().enumerate() {
            let Some(place) = self.positions.get_mut(index) else { break };
            let taken = match fetched {
                Ok(fetched) => incoming(&place.topic, place.partition, place.offset, fetched).map(|read| {
                    for batch in read {
                        place.offset = batch.next_offset;
                        self.waiting_records += batch.records.len();
                        self.waiting_bytes += batch.buffer.len();
                        self.waiting.push(batch);
                    }
                }),
                Err(ResponseError::OffsetOutOfRange) => {
                    let at = TopicPartition { topic: place.topic.clone(), partition: place.partition };
                    let wanted = place.offset;
                    self.reset(&at).map(|offset| {
                        tracing::warn!(topic = %at.topic, partition = at.partition, wanted, offset, "the offset is not in the log; reading goes on elsewhere");
                        self.positions[index].offset = offset;
                    })
                }
                Err(error) => Err(failed(&format!("cannot read {}-{}", place.topic, place.partition), error)),
            };
            if outcome.is_ok() {
                outcome = taken;
            }
        }
        outcome
    }

    /// Gives the partitions back: the task flushes and commits, what it has not seen is dropped.
    async fn give_up(&mut self, channels: &Channels) {
        let lost: Vec<TopicPartition> = self
            .positions
            .drain(..)
            .map(|place| TopicPartition { topic: place.topic, partition: place.partition })
            .collect();
        drop(self.take_waiting());
        self.identity.next_epoch();
        if !lost.is_empty() {
            let (reply, answer) = oneshot::channel();
            let mut beat = ticks(self.settings.heartbeat);
            let patience = Some(REBALANCE_PATIENCE);
            let _ = self.ask(GroupEvent::Revoked(lost, reply), answer, channels, &mut beat, patience).await;
        }
    }

    /// Tells the task something and waits for its answer, staying alive in the group; none if it does not answer.
    async fn ask<T>(
        &self,
        event: GroupEvent,
        answer: oneshot::Receiver<T>,
        channels: &Channels,
        beat: &mut Interval,
        patience: Option<Duration>,
    ) -> Option<T> {
        let told = async {
            channels.control.send(event).await.ok()?;
            answer.await.ok()
        };
        let deadline = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(told, deadline);
        loop {
            tokio::select! {
                () = channels.stop.cancelled() => return None,
                answer = &mut told => return answer,
                () = &mut deadline => return None,
                // What it says is heard once the task has answered.
                _ = beat.tick() => drop(self.heartbeat()),
            }
        }
    }
}

/// Sleeps until then; for ever if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
