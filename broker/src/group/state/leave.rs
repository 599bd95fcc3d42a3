//! How members go: on their own, in silence, or by not coming back.

use kafka_protocol::ResponseError;

use super::{Effect, Effects, Group, Limits, Member, Phase};
use crate::group::requests::JoinReply;

impl Group {
    /// LeaveGroup of one member, by id or by static name.
    pub(crate) fn leave(
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

    pub(super) fn forget(&mut self, id: &str) -> Option<Member> {
        let member = self.members.shift_remove(id)?;
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Applies all timers that are due.
    pub(crate) fn tick(&mut self, now: i64, limits: Limits) -> Effects {
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
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let members = self.members.values().filter(|m| !m.is_parked()).map(|m| m.expires);
        let owed = self.sync_deadline.filter(|_| self.members.values().any(|m| m.owes_sync));
        let joins = self.join_deadline.filter(|_| self.phase == Phase::Preparing);
        members.chain(self.pending.values().copied()).chain(owed).chain(joins).min()
    }
}
