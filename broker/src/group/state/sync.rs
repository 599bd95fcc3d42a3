//! SyncGroup: followers wait for the leader's assignment.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::{Effect, Effects, Group, Phase, Token};
use crate::group::requests::{SyncReply, SyncRequest};

impl Group {
    /// SyncGroup; the answer comes as an effect, now or later.
    pub(crate) fn sync(&mut self, r: SyncRequest, token: Token, now: i64) -> Effects {
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

    pub(super) fn synced(&self, id: &str) -> SyncReply {
        SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}
