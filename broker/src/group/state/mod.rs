//! One group of the classic protocol as a function of events: no I/O, time is an argument.
//!
//! Mirrors Kafka's group coordinator with KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member
//! id required) and KIP-814 (static leader skips assignment).

mod join;
mod leave;
mod member;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use indexmap::IndexMap;
use kafka_protocol::ResponseError;

pub(super) use member::Member;

use super::requests::{JoinReply, SyncReply};

/// Names a parked request.
pub(super) type Token = u64;

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Waiting for members to rejoin.
    Preparing,
    /// Waiting for the leader's assignment.
    Completing,
    /// Every member has its assignment.
    Stable,
}

impl Phase {
    /// The name in ListGroups and DescribeGroups.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}
/// What the coordinator must do after an event.
#[derive(Debug)]
pub(super) enum Effect {
    Join(Token, JoinReply),
    Sync(Token, Result<SyncReply, ResponseError>),
    /// Write the group's state to the log before the answers leave.
    Persist,
}

/// Limits that the broker's settings give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_size: usize,
    pub(super) initial_delay_ms: i64,
}

/// What comes with a JoinGroup besides the request: an id should one be needed, how the request waits, the time.
#[derive(Debug, Clone)]
pub(super) struct JoinContext {
    pub(super) fresh_id: String,
    pub(super) token: Token,
    pub(super) now: i64,
    pub(super) limits: Limits,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: IndexMap<String, Member>,
    /// When the phase began.
    pub(super) since: i64,
    instances: HashMap<String, String>,
    pending: HashMap<String, i64>,
    join_deadline: Option<i64>,
    sync_deadline: Option<i64>,
    /// End of the initial delay at the latest, while it lasts.
    initial_until: Option<i64>,
}

type Effects = Vec<Effect>;

impl Group {
    /// A group without members.
    pub(super) fn new(now: i64) -> Self {
        Group {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            since: now,
            instances: HashMap::new(),
            pending: HashMap::new(),
            join_deadline: None,
            sync_deadline: None,
            initial_until: None,
        }
    }

    /// Adds a member read from the log.
    pub(super) fn restore(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), member.id.clone());
        }
        self.phase = Phase::Stable;
        self.members.insert(member.id.clone(), member);
    }

    /// Who a request comes from, or why it is refused.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(id) if id != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn check(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), ResponseError> {
        self.check_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// Heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: i64,
    ) -> Result<(), ResponseError> {
        self.check(member_id, instance_id, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = now + member.session_timeout;
        }
        if self.phase == Phase::Preparing { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether a commit is allowed; it counts as a sign of life.
    pub(super) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: i64,
    ) -> Result<(), ResponseError> {
        if generation < 0 && member_id.is_empty() {
            return if self.phase == Phase::Empty { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check(member_id, instance_id, generation)?;
        if self.phase == Phase::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = now + member.session_timeout;
        }
        Ok(())
    }

    /// Whether a commit within a transaction is allowed: its producer may not say which member it is.
    pub(super) fn check_transactional_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let anonymous = generation < 0 && member_id.is_empty() && instance_id.is_none();
        if anonymous || (generation < 0 && self.phase == Phase::Empty) {
            return Ok(());
        }
        self.check(member_id, instance_id, generation)
    }

    /// Topics that the members subscribe to; none if the group's metadata is not the consumer's.
    pub(super) fn subscribed(&self) -> Option<Vec<String>> {
        let protocol = self.protocol.as_ref()?;
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let mut topics = Vec::new();
        for member in self.members.values() {
            topics.extend(member.subscription(protocol)?);
        }
        Some(topics)
    }
}
