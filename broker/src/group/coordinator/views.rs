//! Groups as ListGroups and DescribeGroups show them.

use bytes::Bytes;

use super::Coordinator;
use crate::group::state::{Group, Member, Phase};

/// A group.
#[derive(Debug, Clone)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// `consumer`, `connect` ... empty for a group that only commits offsets.
    pub protocol_type: String,
    /// Chosen assignor, once the group is stable.
    pub protocol: String,
    /// Its members, if they were asked for.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct MemberDescription {
    /// Its id.
    pub id: String,
    /// Static member name.
    pub instance_id: Option<String>,
    /// Client id that it joined with.
    pub client_id: String,
    /// Address that it joined from.
    pub client_host: String,
    /// Metadata for the chosen assignor, once the group is stable.
    pub metadata: Bytes,
    /// What it was assigned, once the group is stable.
    pub assignment: Bytes,
}

impl Coordinator {
    /// All groups.
    pub(crate) fn list(&self) -> Vec<GroupDescription> {
        let mut all: Vec<_> = self.lock().entries.iter().map(|(id, entry)| view(id, &entry.group, false)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// One group with its members.
    pub(crate) fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.lock().entries.get(group_id).map(|entry| view(group_id, &entry.group, true))
    }
}

fn view(id: &str, group: &Group, with_members: bool) -> GroupDescription {
    let stable = group.phase == Phase::Stable;
    let protocol = if stable { group.protocol.clone().unwrap_or_default() } else { String::new() };
    let member = |m: &Member| MemberDescription {
        id: m.id.clone(),
        instance_id: m.instance_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        metadata: if stable { m.metadata(&protocol) } else { Bytes::new() },
        assignment: if stable { m.assignment.clone() } else { Bytes::new() },
    };
    GroupDescription {
        id: id.to_owned(),
        phase: group.phase,
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: if with_members { group.members.values().map(member).collect() } else { Vec::new() },
        protocol,
    }
}
