//! What the leader of a group does beside reading: it shares the partitions out and looks after the topics.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use towline_broker::{Handle, JoinReply, JoinedMember};

use super::assignor::{self, Wanting};

/// Partitions by topic.
type Counts = BTreeMap<String, i32>;

/// What a leader shared out.
pub(super) struct Shared {
    /// The topics that members want.
    wanted: BTreeSet<String>,
    /// Those that were there.
    counts: Counts,
}

impl Shared {
    /// Shares the partitions out; each member's share.
    pub(super) fn out(handle: &Handle, joined: &JoinReply) -> (Self, Vec<(String, Bytes)>) {
        let wanting = wanting(joined);
        let wanted = topics_of(&wanting);
        let counts = counts(handle, &wanted);
        let shares = assignor::assign(joined.protocol.as_deref().unwrap_or_default(), &wanting, &counts);
        let members = joined.members.iter().map(|member| member.member_id.clone());
        let shares = members.zip(shares.iter().map(assignor::assignment)).collect();
        (Self { wanted, counts }, shares)
    }

    /// For a static leader that is back in a group that stays as it is (KIP-814): what the members have counts as shared
    /// out, so that topics that came in between are seen too.
    pub(super) fn as_it_is(handle: &Handle, group: &str, joined: &JoinReply) -> Self {
        let mut counts = Counts::new();
        for member in handle.describe_group(group).into_iter().flat_map(|group| group.members) {
            for (topic, partitions) in assignor::assigned(member.assignment) {
                *counts.entry(topic).or_default() += i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            }
        }
        Self { wanted: topics_of(&wanting(joined)), counts }
    }

    /// Whether topics came, went or grew since.
    pub(super) fn is_outdated(&self, handle: &Handle) -> bool {
        counts(handle, &self.wanted) != self.counts
    }

    /// Whether topics that are wanted may yet come.
    pub(super) fn expects_more(&self, handle: &Handle) -> bool {
        counts(handle, &self.wanted).len() < self.wanted.len()
    }
}

fn wanting(joined: &JoinReply) -> Vec<Wanting> {
    let wanting = |member: &JoinedMember| Wanting {
        order: member.instance_id.clone().unwrap_or_else(|| member.member_id.clone()),
        topics: assignor::subscribed(member.metadata.clone()),
    };
    joined.members.iter().map(wanting).collect()
}

fn topics_of(wanting: &[Wanting]) -> BTreeSet<String> {
    wanting.iter().flat_map(|member| &member.topics).cloned().collect()
}

/// Those of these topics that exist, with their partitions.
fn counts(handle: &Handle, wanted: &BTreeSet<String>) -> Counts {
    handle.topics().into_iter().filter(|(name, _)| wanted.contains(name)).collect()
}
