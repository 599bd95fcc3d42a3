//! JoinGroup: new members, static members that return, members that ask again.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::{Effect, Effects, Group, JoinContext, Member, Phase};
use crate::group::requests::{JoinReply, JoinRequest};

/// How long a new member may wait in JoinGroup without any other sign of life.
const NEW_MEMBER_TIMEOUT_MS: i64 = 300_000;

impl Group {
    /// JoinGroup; the answer comes as an effect, now or later.
    pub(crate) fn join(&mut self, r: JoinRequest, c: JoinContext) -> Effects {
        let refuse = |error| vec![Effect::Join(c.token, JoinReply::failed(error, &r.member_id))];
        if !self.accepts_protocols(&r) {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        let known = self.members.contains_key(&r.member_id);
        if !known && self.members.len() >= c.limits.max_size && !self.is_known_instance(&r) {
            return refuse(ResponseError::GroupMaxSizeReached);
        }
        if r.member_id.is_empty() {
            return self.join_new(r, c);
        }
        if let Some(instance) = &r.instance_id {
            match self.instances.get(instance) {
                None => return refuse(ResponseError::UnknownMemberId),
                Some(id) if *id != r.member_id => return refuse(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        } else if self.pending.remove(&r.member_id).is_some() {
            let fresh_id = r.member_id.clone();
            return self.add(r, JoinContext { fresh_id, ..c });
        }
        if !known {
            return refuse(ResponseError::UnknownMemberId);
        }
        self.rejoin(r, &c)
    }

    fn is_known_instance(&self, r: &JoinRequest) -> bool {
        r.instance_id.as_ref().is_some_and(|i| self.instances.contains_key(i))
    }

    fn accepts_protocols(&self, r: &JoinRequest) -> bool {
        if r.protocol_type.is_empty() || r.protocols.is_empty() {
            return false;
        }
        let others = self.members.values().filter(|m| m.id != r.member_id && !m.is_same_instance(r));
        let all_support = |name: &String| others.clone().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        self.members.is_empty()
            || (self.protocol_type.as_deref() == Some(&r.protocol_type)
                && r.protocols.iter().any(|(n, _)| all_support(n)))
    }

    fn join_new(&mut self, r: JoinRequest, c: JoinContext) -> Effects {
        if let Some(instance) = &r.instance_id {
            return match self.instances.get(instance).cloned() {
                Some(old) => self.replace_static(&old, r, &c),
                None => self.add(r, c),
            };
        }
        if r.require_known_member {
            self.pending.insert(c.fresh_id.clone(), c.now + i64::from(r.session_timeout_ms));
            return vec![Effect::Join(c.token, JoinReply::failed(ResponseError::MemberIdRequired, &c.fresh_id))];
        }
        self.add(r, c)
    }

    fn add(&mut self, r: JoinRequest, c: JoinContext) -> Effects {
        let JoinContext { fresh_id: id, token, now, limits } = c;
        if self.members.is_empty() {
            self.protocol_type = Some(r.protocol_type.clone());
        }
        if let Some(instance) = &r.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        let mut member = Member::restored(id.clone(), i64::from(r.session_timeout_ms), 0, now);
        member.update(r, token, now);
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

    /// A static member came back without its id: it gets a new one, and the old one is fenced.
    fn replace_static(&mut self, old: &str, r: JoinRequest, c: &JoinContext) -> Effects {
        let Some((at, _, mut member)) = self.members.shift_remove_full(old) else { return Vec::new() };
        let mut effects = fence(&mut member, old);
        let before = self.interest(&member);
        let was_leader = self.leader.as_deref() == Some(old);
        let can_skip = r.can_skip_assignment;
        let id = &c.fresh_id;
        member.id.clone_from(id);
        if let Some(instance) = &r.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        member.update(r, c.token, c.now);
        let unchanged = before == self.interest(&member);
        self.members.shift_insert(at.min(self.members.len()), id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.phase != Phase::Stable || !unchanged || self.vote() != self.protocol {
            effects.extend(self.prepare(c.now, c.limits));
            return effects;
        }
        let mut reply = self.reply_for(id);
        if was_leader && can_skip {
            reply.skip_assignment = true;
        } else if was_leader {
            // An older client must not think that it leads, for it would assign again.
            old.clone_into(&mut reply.leader);
            reply.members.clear();
        }
        self.stop_waiting(id);
        effects.extend([Effect::Persist, Effect::Join(c.token, reply)]);
        effects
    }

    /// What of a member's metadata an assignment depends on: a consumer's topics, not the generation and partitions
    /// that it remembers; of any other protocol, everything.
    fn interest(&self, member: &Member) -> (BTreeSet<String>, Bytes) {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let consumer = self.protocol_type.as_deref() == Some("consumer");
        match member.subscription(protocol).filter(|_| consumer) {
            Some(topics) => (topics.into_iter().collect(), Bytes::new()),
            None => (BTreeSet::new(), member.metadata(protocol)),
        }
    }

    fn rejoin(&mut self, r: JoinRequest, c: &JoinContext) -> Effects {
        let id = r.member_id.clone();
        let is_leader = self.leader.as_deref() == Some(&id);
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        let unchanged = member.protocols == r.protocols;
        let mut effects = Vec::new();
        if let Some(parked) = member.joining.take() {
            // The client asked again on a new connection; the old request must not wait for ever.
            effects.push(Effect::Join(parked, JoinReply::failed(ResponseError::UnknownMemberId, &id)));
        }
        member.update(r, c.token, c.now);
        let answer_now = match self.phase {
            Phase::Completing => unchanged,
            Phase::Stable => unchanged && !is_leader,
            Phase::Preparing | Phase::Empty => false,
        };
        if answer_now {
            self.stop_waiting(&id);
            effects.push(Effect::Join(c.token, self.reply_for(&id)));
        } else {
            effects.extend(self.prepare(c.now, c.limits));
        }
        effects
    }

    fn stop_waiting(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.joining = None;
        }
    }
}

/// Ends the requests of a static member's former self.
fn fence(member: &mut Member, old: &str) -> Effects {
    let mut effects = Vec::new();
    if let Some(parked) = member.joining.take() {
        effects.push(Effect::Join(parked, JoinReply::failed(ResponseError::FencedInstanceId, old)));
    }
    if let Some(parked) = member.syncing.take() {
        effects.push(Effect::Sync(parked, Err(ResponseError::FencedInstanceId)));
    }
    effects
}
