//! One group of the classic protocol as a function of events: no I/O, time is an argument.
//!
//! Mirrors Kafka's group coordinator with KIP-62 (rebalance timeout), KIP-345 (static members), KIP-394 (member
//! id required) and KIP-814 (static leader skips assignment).

use std::collections::HashMap;

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::ResponseError;

/// How long a new member may wait in JoinGroup without any other sign of life.
const NEW_MEMBER_TIMEOUT_MS: i64 = 300_000;

/// Names a parked request.
pub(super) type Token = u64;

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl Phase {
    /// The name in ListGroups and DescribeGroups.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

/// A JoinGroup request.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// Group to join.
    pub group_id: String,
    /// Empty for a new member.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Client id, for descriptions and the member id.
    pub client_id: String,
    /// Address of the client, for descriptions.
    pub client_host: String,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// Milliseconds that the member may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` ...
    pub protocol_type: String,
    /// Supported assignors with their metadata, the preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member must come back with the id that it is given (version 4 on).
    pub require_known_member: bool,
    /// Whether the client understands `skip_assignment` (version 9 on).
    pub can_skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Metadata for the chosen assignor.
    pub metadata: Bytes,
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Why it failed.
    pub error: Option<ResponseError>,
    /// Generation joined, -1 on error.
    pub generation: i32,
    /// `consumer`, `connect` ...
    pub protocol_type: Option<String>,
    /// Chosen assignor.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: String,
    /// The member's own id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
    /// The leader need not assign again.
    pub skip_assignment: bool,
}

impl JoinReply {
    pub(super) fn failed(error: ResponseError, member_id: &str) -> Self {
        JoinReply {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            members: Vec::new(),
            skip_assignment: false,
        }
    }
}

/// A SyncGroup request.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Generation joined.
    pub generation: i32,
    /// Checked if given.
    pub protocol_type: Option<String>,
    /// Checked if given.
    pub protocol: Option<String>,
    /// Assignments by member id, from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// `consumer`, `connect` ...
    pub protocol_type: Option<String>,
    /// Chosen assignor.
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
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

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: i64,
    pub(super) rebalance_timeout: i64,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    expires: i64,
    joining: Option<Token>,
    syncing: Option<Token>,
    owes_sync: bool,
    is_new: bool,
}

impl Member {
    /// A member as it was written to the log.
    pub(super) fn restored(id: String, session_timeout: i64, rebalance_timeout: i64, now: i64) -> Self {
        Member {
            id,
            instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout,
            rebalance_timeout,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            expires: now + session_timeout,
            joining: None,
            syncing: None,
            owes_sync: false,
            is_new: false,
        }
    }

    /// Metadata for an assignor.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }
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

    /// JoinGroup; the answer comes as an effect, now or later.
    pub(super) fn join(&mut self, r: JoinRequest, fresh_id: String, token: Token, now: i64, limits: Limits) -> Effects {
        let refuse = |error| vec![Effect::Join(token, JoinReply::failed(error, &r.member_id))];
        if !self.accepts_protocols(&r) {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        let known = self.members.contains_key(&r.member_id);
        if !known && self.members.len() >= limits.max_size && !self.is_known_instance(&r) {
            return refuse(ResponseError::GroupMaxSizeReached);
        }
        if r.member_id.is_empty() {
            return self.join_new(r, fresh_id, token, now, limits);
        }
        if let Some(instance) = &r.instance_id {
            match self.instances.get(instance) {
                None => return refuse(ResponseError::UnknownMemberId),
                Some(id) if *id != r.member_id => return refuse(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        } else if self.pending.remove(&r.member_id).is_some() {
            let id = r.member_id.clone();
            return self.add(r, id, token, now, limits);
        }
        if !known {
            return refuse(ResponseError::UnknownMemberId);
        }
        self.rejoin(r, token, now, limits)
    }

    fn is_known_instance(&self, r: &JoinRequest) -> bool {
        r.instance_id.as_ref().is_some_and(|i| self.instances.contains_key(i))
    }

    fn accepts_protocols(&self, r: &JoinRequest) -> bool {
        if r.protocol_type.is_empty() || r.protocols.is_empty() {
            return false;
        }
        let others = self.members.values().filter(|m| m.id != r.member_id && !same_instance(m, r));
        let all_support = |name: &String| others.clone().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        self.members.is_empty()
            || (self.protocol_type.as_deref() == Some(&r.protocol_type)
                && r.protocols.iter().any(|(n, _)| all_support(n)))
    }

    fn join_new(&mut self, r: JoinRequest, fresh_id: String, token: Token, now: i64, limits: Limits) -> Effects {
        if let Some(instance) = &r.instance_id {
            return match self.instances.get(instance).cloned() {
                Some(old) => self.replace_static(&old, r, fresh_id, token, now, limits),
                None => self.add(r, fresh_id, token, now, limits),
            };
        }
        if r.require_known_member {
            self.pending.insert(fresh_id.clone(), now + i64::from(r.session_timeout_ms));
            return vec![Effect::Join(token, JoinReply::failed(ResponseError::MemberIdRequired, &fresh_id))];
        }
        self.add(r, fresh_id, token, now, limits)
    }

    fn add(&mut self, r: JoinRequest, id: String, token: Token, now: i64, limits: Limits) -> Effects {
        if self.members.is_empty() {
            self.protocol_type = Some(r.protocol_type.clone());
        }
        if let Some(instance) = &r.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        let mut member = Member::restored(id.clone(), i64::from(r.session_timeout_ms), 0, now);
        update(&mut member, r, token, now);
        member.is_new = true;
        member.expires = now + NEW_MEMBER_TIMEOUT_MS;
        self.members.insert(id.clone(), member);
        if self.leader.is_none() {
            self.leader = Some(id);
        }
        let effects = self.prepare(now, limits);
        if self.phase == Phase::Preparing
            && let (Some(until), Some(deadline)) = (self.initial_until, self.join_deadline)
        {
            // Each newcomer extends the initial delay, up to the longest rebalance timeout.
            self.join_deadline = Some((now + limits.initial_delay_ms).min(until).max(deadline));
        }
        effects
    }

    fn replace_static(
        &mut self,
        old: &str,
        r: JoinRequest,
        id: String,
        token: Token,
        now: i64,
        limits: Limits,
    ) -> Effects {
        let mut effects = Vec::new();
        let Some((at, _, mut member)) = self.members.shift_remove_full(old) else { return effects };
        if let Some(parked) = member.joining.take() {
            effects.push(Effect::Join(parked, JoinReply::failed(ResponseError::FencedInstanceId, old)));
        }
        if let Some(parked) = member.syncing.take() {
            effects.push(Effect::Sync(parked, Err(ResponseError::FencedInstanceId)));
        }
        let before = self.protocol.as_ref().map(|p| member.metadata(p));
        let was_leader = self.leader.as_deref() == Some(old);
        let can_skip = r.can_skip_assignment;
        member.id.clone_from(&id);
        if let Some(instance) = &r.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        update(&mut member, r, token, now);
        let unchanged = before == self.protocol.as_ref().map(|p| member.metadata(p));
        self.members.shift_insert(at.min(self.members.len()), id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.phase != Phase::Stable || !unchanged || self.vote() != self.protocol {
            effects.extend(self.prepare(now, limits));
            return effects;
        }
        let mut reply = self.reply_for(&id);
        if was_leader && can_skip {
            reply.skip_assignment = true;
        } else if was_leader {
            // An older client must not think that it leads, for it would assign again.
            reply.leader = old.to_owned();
            reply.members.clear();
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = None;
        }
        effects.extend([Effect::Persist, Effect::Join(token, reply)]);
        effects
    }

    fn rejoin(&mut self, r: JoinRequest, token: Token, now: i64, limits: Limits) -> Effects {
        let id = r.member_id.clone();
        let is_leader = self.leader.as_deref() == Some(&id);
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        let unchanged = member.protocols == r.protocols;
        let mut effects = Vec::new();
        if let Some(parked) = member.joining.take() {
            // The client asked again on a new connection; the old request must not wait for ever.
            effects.push(Effect::Join(parked, JoinReply::failed(ResponseError::UnknownMemberId, &id)));
        }
        update(member, r, token, now);
        let answer_now = match self.phase {
            Phase::Completing => unchanged,
            Phase::Stable => unchanged && !is_leader,
            Phase::Preparing | Phase::Empty => false,
        };
        if answer_now {
            if let Some(member) = self.members.get_mut(&id) {
                member.joining = None;
            }
            effects.push(Effect::Join(token, self.reply_for(&id)));
        } else {
            effects.extend(self.prepare(now, limits));
        }
        effects
    }

    /// Begins a rebalance unless one is under way, and ends it if all are there already.
    fn prepare(&mut self, now: i64, limits: Limits) -> Effects {
        let mut effects = Vec::new();
        if self.phase != Phase::Preparing {
            for member in self.members.values_mut() {
                member.owes_sync = false;
                if self.phase == Phase::Completing {
                    member.assignment = Bytes::new();
                }
                if let Some(parked) = member.syncing.take() {
                    effects.push(Effect::Sync(parked, Err(ResponseError::RebalanceInProgress)));
                }
            }
            let longest = self.longest_rebalance_timeout();
            if self.phase == Phase::Empty && limits.initial_delay_ms > 0 {
                self.initial_until = Some(now + longest);
                self.join_deadline = Some(now + limits.initial_delay_ms.min(longest));
            } else {
                self.join_deadline = Some(now + longest);
            }
            self.sync_deadline = None;
            (self.phase, self.since) = (Phase::Preparing, now);
        }
        effects.extend(self.complete_if_all_joined(now));
        effects
    }

    fn longest_rebalance_timeout(&self) -> i64 {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or(0)
    }

    fn complete_if_all_joined(&mut self, now: i64) -> Effects {
        let all = self.members.values().all(|m| m.joining.is_some()) && self.pending.is_empty();
        if self.phase == Phase::Preparing && self.initial_until.is_none() && all {
            self.complete(now)
        } else {
            Vec::new()
        }
    }

    /// Ends the join phase with whoever is there.
    fn complete(&mut self, now: i64) -> Effects {
        self.initial_until = None;
        let gone: Vec<String> = self
            .members
            .values()
            .filter(|m| m.joining.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for id in gone {
            self.forget(&id);
        }
        if self.members.is_empty() {
            self.generation += 1;
            (self.phase, self.since) = (Phase::Empty, now);
            (self.protocol, self.leader, self.join_deadline, self.sync_deadline) = (None, None, None, None);
            return vec![Effect::Persist];
        }
        if self.members.values().all(|m| m.joining.is_none()) {
            // Only static members, none of them back yet.
            self.join_deadline = Some(now + self.longest_rebalance_timeout());
            return Vec::new();
        }
        let leads = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = self.members.values().find(|m| m.joining.is_some()).map(|m| m.id.clone());
        }
        self.generation += 1;
        self.protocol = self.vote();
        (self.phase, self.since) = (Phase::Completing, now);
        (self.join_deadline, self.sync_deadline) = (None, Some(now + self.longest_rebalance_timeout()));
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut effects = Vec::new();
        for id in ids {
            let reply = self.reply_for(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.owes_sync = true;
            member.is_new = false;
            member.expires = now + member.session_timeout;
            if let Some(token) = member.joining.take() {
                effects.push(Effect::Join(token, reply));
            }
        }
        effects
    }

    /// The assignor that most members prefer among those that all support.
    fn vote(&self) -> Option<String> {
        let supported = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let mut votes: IndexMap<&str, usize> = IndexMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| supported(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).to_owned())
    }

    fn reply_for(&self, id: &str) -> JoinReply {
        let protocol = self.protocol.clone();
        let is_leader = self.leader.as_deref() == Some(id);
        let member = |m: &Member| JoinedMember {
            member_id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol.as_deref().unwrap_or("")),
        };
        JoinReply {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            members: if is_leader { self.members.values().map(member).collect() } else { Vec::new() },
            skip_assignment: false,
            protocol,
        }
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

    /// SyncGroup; the answer comes as an effect, now or later.
    pub(super) fn sync(&mut self, r: SyncRequest, token: Token, now: i64) -> Effects {
        let refuse = |error| vec![Effect::Sync(token, Err(error))];
        if let Err(error) = self.check(&r.member_id, r.instance_id.as_deref(), r.generation) {
            return refuse(error);
        }
        let differs = |given: &Option<String>, have: &Option<String>| given.is_some() && given != have;
        if differs(&r.protocol_type, &self.protocol_type) || differs(&r.protocol, &self.protocol) {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        let (phase, is_leader) = (self.phase, self.leader.as_deref() == Some(&r.member_id));
        let Some(member) = self.members.get_mut(&r.member_id) else { return refuse(ResponseError::UnknownMemberId) };
        match phase {
            Phase::Empty => refuse(ResponseError::UnknownMemberId),
            Phase::Preparing => refuse(ResponseError::RebalanceInProgress),
            Phase::Stable => {
                member.owes_sync = false;
                member.expires = now + member.session_timeout;
                vec![Effect::Sync(token, Ok(self.synced(&r.member_id)))]
            }
            Phase::Completing => {
                member.owes_sync = false;
                let replaced = member.syncing.replace(token);
                let mut effects: Effects = replaced
                    .map(|parked| Effect::Sync(parked, Err(ResponseError::UnknownMemberId)))
                    .into_iter()
                    .collect();
                if is_leader {
                    effects.extend(self.assign(r.assignments, now));
                }
                effects
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: i64) -> Effects {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::copy_from_slice(&assignment);
            }
        }
        (self.phase, self.since) = (Phase::Stable, now);
        let mut effects = vec![Effect::Persist];
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.synced(&id);
            if let Some(member) = self.members.get_mut(&id)
                && let Some(token) = member.syncing.take()
            {
                member.expires = now + member.session_timeout;
                effects.push(Effect::Sync(token, Ok(reply)));
            }
        }
        effects
    }

    fn synced(&self, id: &str) -> SyncReply {
        SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
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

    /// LeaveGroup of one member, by id or by static name.
    pub(super) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: i64,
        limits: Limits,
    ) -> (Result<(), ResponseError>, Effects) {
        let id = match instance_id {
            Some(instance) => match self.instances.get(instance) {
                None => return (Err(ResponseError::UnknownMemberId), Vec::new()),
                Some(id) if !member_id.is_empty() && id != member_id => {
                    return (Err(ResponseError::FencedInstanceId), Vec::new());
                }
                Some(id) => id.clone(),
            },
            None => member_id.to_owned(),
        };
        if self.pending.remove(&id).is_some() {
            return (Ok(()), self.complete_if_all_joined(now));
        }
        if !self.members.contains_key(&id) {
            return (Err(ResponseError::UnknownMemberId), Vec::new());
        }
        (Ok(()), self.remove(&id, now, limits))
    }

    fn remove(&mut self, id: &str, now: i64, limits: Limits) -> Effects {
        let mut effects = Vec::new();
        if let Some(member) = self.forget(id) {
            if let Some(token) = member.joining {
                effects.push(Effect::Join(token, JoinReply::failed(ResponseError::UnknownMemberId, id)));
            }
            if let Some(token) = member.syncing {
                effects.push(Effect::Sync(token, Err(ResponseError::UnknownMemberId)));
            }
        }
        match self.phase {
            Phase::Stable | Phase::Completing => effects.extend(self.prepare(now, limits)),
            Phase::Preparing => {
                if self.members.is_empty() {
                    effects.extend(self.complete(now));
                } else {
                    effects.extend(self.complete_if_all_joined(now));
                }
            }
            Phase::Empty => {}
        }
        effects
    }

    fn forget(&mut self, id: &str) -> Option<Member> {
        let member = self.members.shift_remove(id)?;
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
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

    /// Applies all timers that are due.
    pub(super) fn tick(&mut self, now: i64, limits: Limits) -> Effects {
        let mut effects = Vec::new();
        let pending = self.pending.len();
        self.pending.retain(|_, expires| *expires > now);
        if self.pending.len() < pending {
            effects.extend(self.complete_if_all_joined(now));
        }
        if self.phase == Phase::Preparing && self.join_deadline.is_some_and(|d| d <= now) {
            effects.extend(self.complete(now));
        }
        if self.sync_deadline.is_some_and(|d| d <= now) {
            self.sync_deadline = None;
            let late: Vec<String> = self.members.values().filter(|m| m.owes_sync).map(|m| m.id.clone()).collect();
            for id in late {
                effects.extend(self.remove(&id, now, limits));
            }
        }
        let expired: Vec<String> =
            self.members.values().filter(|m| m.expires <= now && !m.is_parked()).map(|m| m.id.clone()).collect();
        for id in expired {
            tracing::info!(member = id, "group member expired");
            effects.extend(self.remove(&id, now, limits));
        }
        effects
    }

    /// When [`Group::tick`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        let members = self.members.values().filter(|m| !m.is_parked()).map(|m| m.expires);
        let owed = self.sync_deadline.filter(|_| self.members.values().any(|m| m.owes_sync));
        let joins = self.join_deadline.filter(|_| self.phase == Phase::Preparing);
        members.chain(self.pending.values().copied()).chain(owed).chain(joins).min()
    }

    /// Topics that the members subscribe to; none if the group's metadata is not the consumer's.
    pub(super) fn subscribed(&self) -> Option<Vec<String>> {
        let protocol = self.protocol.as_ref()?;
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let mut topics = Vec::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }
}

impl Member {
    fn is_parked(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

fn same_instance(member: &Member, r: &JoinRequest) -> bool {
    member.instance_id.is_some() && member.instance_id == r.instance_id
}

fn update(member: &mut Member, r: JoinRequest, token: Token, now: i64) {
    member.instance_id = r.instance_id;
    member.client_id = r.client_id;
    member.client_host = r.client_host;
    member.session_timeout = i64::from(r.session_timeout_ms);
    member.rebalance_timeout = i64::from(r.rebalance_timeout_ms);
    member.protocols =
        r.protocols.into_iter().map(|(name, metadata)| (name, Bytes::copy_from_slice(&metadata))).collect();
    member.joining = Some(token);
    member.expires = now + member.session_timeout;
}

fn subscription_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        rest = tail;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_size: 10, initial_delay_ms: 0 };

    fn request(member_id: &str) -> JoinRequest {
        JoinRequest {
            group_id: "g".into(),
            member_id: member_id.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"))],
            ..JoinRequest::default()
        }
    }

    fn joined(effects: Effects) -> Vec<(Token, JoinReply)> {
        effects.into_iter().filter_map(|e| if let Effect::Join(t, r) = e { Some((t, r)) } else { None }).collect()
    }

    fn sync(group: &mut Group, member: &str, token: Token, assignments: Vec<(String, Bytes)>) -> Effects {
        let generation = group.generation;
        group.sync(
            SyncRequest { member_id: member.into(), generation, assignments, ..SyncRequest::default() },
            token,
            0,
        )
    }

    /// A stable group of members a (leader) and b.
    fn stable() -> Group {
        let mut group = Group::new(0);
        assert_eq!(joined(group.join(request(""), "a".into(), 1, 0, LIMITS)).len(), 1);
        assert!(joined(group.join(request(""), "b".into(), 2, 0, LIMITS)).is_empty());
        let replies = joined(group.join(request("a"), String::new(), 3, 0, LIMITS));
        assert_eq!(replies.len(), 2);
        assert_eq!((replies[0].1.members.len(), replies[1].1.members.len()), (2, 0));
        assert!(sync(&mut group, "b", 4, vec![]).is_empty());
        let effects = sync(&mut group, "a", 5, vec![("b".into(), Bytes::from_static(b"x"))]);
        assert!(matches!(effects[0], Effect::Persist));
        assert_eq!(effects.len(), 3);
        assert_eq!((group.phase, group.generation), (Phase::Stable, 2));
        group
    }

    #[test]
    fn two_members_join_sync_and_heartbeat() {
        let mut group = stable();
        assert_eq!(group.heartbeat("a", None, 2, 100), Ok(()));
        assert_eq!(group.heartbeat("a", None, 1, 100), Err(ResponseError::IllegalGeneration));
        assert_eq!(group.heartbeat("z", None, 2, 100), Err(ResponseError::UnknownMemberId));
        assert_eq!(group.subscribed(), Some(vec!["t".to_owned(), "t".to_owned()]));
    }

    #[test]
    fn a_silent_member_is_removed_and_the_rest_rebalances() {
        let mut group = stable();
        group.heartbeat("a", None, 2, 9_000).unwrap();
        assert_eq!(group.next_deadline(), Some(10_000));
        assert!(group.tick(10_000, LIMITS).is_empty());
        assert_eq!((group.phase, group.members.len()), (Phase::Preparing, 1));
        assert_eq!(group.heartbeat("a", None, 2, 10_001), Err(ResponseError::RebalanceInProgress));
        let replies = joined(group.join(request("a"), String::new(), 9, 10_002, LIMITS));
        assert_eq!((replies[0].1.generation, replies[0].1.members.len()), (3, 1));
    }

    #[test]
    fn the_last_to_leave_empties_the_group() {
        let mut group = stable();
        let (result, _) = group.leave("b", None, 5, LIMITS);
        assert_eq!(result, Ok(()));
        let (result, effects) = group.leave("a", None, 6, LIMITS);
        assert_eq!((result, group.phase), (Ok(()), Phase::Empty));
        assert!(matches!(effects.as_slice(), [Effect::Persist]));
        assert_eq!(group.check_commit("", None, -1, 7), Ok(()));
        assert_eq!(group.leave("a", None, 6, LIMITS).0, Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn a_new_member_must_return_with_its_id() {
        let mut group = Group::new(0);
        let asks = JoinRequest { require_known_member: true, ..request("") };
        let replies = joined(group.join(asks, "m".into(), 1, 0, LIMITS));
        assert_eq!((replies[0].1.error, replies[0].1.member_id.as_str()), (Some(ResponseError::MemberIdRequired), "m"));
        assert_eq!(joined(group.join(request("m"), String::new(), 2, 0, LIMITS))[0].1.error, None);
        assert_eq!(
            joined(group.join(request("n"), String::new(), 3, 0, LIMITS))[0].1.error,
            Some(ResponseError::UnknownMemberId)
        );
    }

    #[test]
    fn a_static_member_returns_without_a_rebalance_and_fences_its_old_self() {
        let mut group = Group::new(0);
        let fixed = |id: &str| JoinRequest { instance_id: Some("i".into()), can_skip_assignment: true, ..request(id) };
        group.join(fixed(""), "i-1".into(), 1, 0, LIMITS);
        sync(&mut group, "i-1", 2, vec![("i-1".into(), Bytes::from_static(b"mine"))]);
        let replies = joined(group.join(fixed(""), "i-2".into(), 3, 0, LIMITS));
        let reply = &replies[0].1;
        assert_eq!((reply.generation, reply.skip_assignment, reply.member_id.as_str()), (1, true, "i-2"));
        assert_eq!(group.heartbeat("i-1", Some("i"), 1, 0), Err(ResponseError::FencedInstanceId));
        assert_eq!(group.synced("i-2").assignment, Bytes::from_static(b"mine"));
        assert_eq!(group.leave("", Some("i"), 0, LIMITS).0, Ok(()));
        assert_eq!(group.phase, Phase::Empty);
    }

    #[test]
    fn members_without_a_common_assignor_are_refused() {
        let mut group = stable();
        let other = JoinRequest { protocols: vec![("sticky".into(), Bytes::new())], ..request("") };
        assert_eq!(
            joined(group.join(other, "c".into(), 7, 0, LIMITS))[0].1.error,
            Some(ResponseError::InconsistentGroupProtocol)
        );
        let other = JoinRequest { protocol_type: "connect".into(), ..request("") };
        assert_eq!(
            joined(group.join(other, "c".into(), 8, 0, LIMITS))[0].1.error,
            Some(ResponseError::InconsistentGroupProtocol)
        );
    }

    #[test]
    fn the_join_phase_ends_without_those_who_do_not_return() {
        let mut group = stable();
        assert!(joined(group.join(request(""), "c".into(), 7, 1_000, LIMITS)).is_empty());
        assert!(joined(group.join(request("a"), String::new(), 8, 1_000, LIMITS)).is_empty());
        group.heartbeat("b", None, 2, 60_500).unwrap_err();
        let replies = joined(group.tick(61_000, LIMITS));
        assert_eq!(replies.len(), 2);
        assert!(!group.members.contains_key("b"));
        assert_eq!(group.check_commit("a", None, 3, 61_001), Err(ResponseError::RebalanceInProgress));
    }

    #[test]
    fn a_first_member_waits_for_others_if_told_so() {
        let limits = Limits { initial_delay_ms: 3_000, ..LIMITS };
        let mut group = Group::new(0);
        assert!(group.join(request(""), "a".into(), 1, 0, limits).is_empty());
        assert!(group.join(request(""), "b".into(), 2, 2_000, limits).is_empty());
        assert!(group.tick(3_000, limits).is_empty());
        assert_eq!(joined(group.tick(5_000, limits)).len(), 2);
        assert_eq!(group.generation, 1);
    }
}
