//! A rebalance: who must rejoin, when the join phase ends, which assignor wins, who leads.

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::ResponseError;

use super::{Effect, Effects, Group, Limits, Member, Phase};
use crate::group::requests::{JoinReply, JoinedMember};

impl Group {
    /// Begins a rebalance unless one is under way, and ends it if all are there already.
    pub(super) fn prepare(&mut self, now: i64, limits: Limits) -> Effects {
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

    pub(super) fn complete_if_all_joined(&mut self, now: i64) -> Effects {
        let all = self.members.values().all(|m| m.joining.is_some()) && self.pending.is_empty();
        if self.phase == Phase::Preparing && self.initial_until.is_none() && all {
            self.complete(now)
        } else {
            Vec::new()
        }
    }

    /// Ends the join phase with whoever is there.
    pub(super) fn complete(&mut self, now: i64) -> Effects {
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
        self.begin_sync(now)
    }

    /// Opens the next generation: all members get its answer and owe a SyncGroup.
    fn begin_sync(&mut self, now: i64) -> Effects {
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
    pub(super) fn vote(&self) -> Option<String> {
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

    pub(super) fn reply_for(&self, id: &str) -> JoinReply {
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
}
