//! Consumer groups: who is in them, what they have committed, and orders to change or delete that.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DeleteGroupsRequest, DescribeGroupsRequest, GroupId,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::{Admin, AdminError, AdminResult, check, text, topic_name};

const GROUP_ID_NOT_FOUND: i16 = 69;

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct ListedGroup {
    /// Its id.
    pub(in crate::cli) id: String,
    /// `consumer` for consumer groups, empty for groups that only store offsets.
    pub(in crate::cli) protocol_type: String,
    /// Its state, by Kafka's word; empty from old brokers.
    pub(in crate::cli) state: String,
    /// `classic` or `consumer`; empty from old brokers.
    pub(in crate::cli) kind: String,
}

/// A group with its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Group {
    /// Its state, by Kafka's word (`Stable`, `Empty`, `Dead`).
    pub(in crate::cli) state: String,
    /// The assignor that the members agreed on.
    pub(in crate::cli) strategy: String,
    /// Its members.
    pub(in crate::cli) members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Member {
    /// The id that the coordinator gave it.
    pub(in crate::cli) id: String,
    /// Its static id, if it has one.
    pub(in crate::cli) instance: Option<String>,
    /// Its client's name.
    pub(in crate::cli) client: String,
    /// Where it runs, as the broker shows it.
    pub(in crate::cli) host: String,
    /// What it reads: topic and partition, sorted.
    pub(in crate::cli) assigned: Vec<(String, i32)>,
}

/// A committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Committed {
    /// The next offset to read.
    pub(in crate::cli) offset: i64,
    /// The leader epoch it was committed with, -1 if unknown.
    pub(in crate::cli) epoch: i32,
}

impl Admin {
    /// All groups of all brokers, sorted by id.
    pub(in crate::cli) async fn groups(&mut self) -> AdminResult<Vec<ListedGroup>> {
        let nodes: Vec<i32> = self.cluster().nodes.iter().map(|node| node.id).collect();
        let mut groups = BTreeMap::new();
        for node in nodes {
            let connection = self.node(node).await?;
            let version = connection.version::<ListGroupsRequest>(5)?;
            let answer = connection.call(version, &ListGroupsRequest::default()).await?;
            check(answer.error_code, None)?;
            groups.extend(answer.groups.into_iter().map(|group| {
                let listed = ListedGroup {
                    id: group.group_id.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    state: group.group_state.to_string(),
                    kind: group.group_type.to_string(),
                };
                (listed.id.clone(), listed)
            }));
        }
        Ok(groups.into_values().collect())
    }

    /// A group and its members; state `Dead` if there is no such group.
    pub(in crate::cli) async fn describe_group(&mut self, group: &str) -> AdminResult<Group> {
        match self.describe_new_group(group).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot be described as a group of the new protocol"),
        }
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let (_, answer) = self.ask_group(group, 6, |_| request).await?;
        let Some(found) = answer.groups.into_iter().next() else {
            return Err(AdminError::Protocol(format!("the broker did not answer for group {group}")));
        };
        if found.error_code == GROUP_ID_NOT_FOUND {
            return Ok(Group { state: "Dead".to_owned(), ..Group::default() });
        }
        check(found.error_code, found.error_message.as_ref())?;
        let members = found.members.into_iter().map(|member| Member {
            id: member.member_id.to_string(),
            instance: member.group_instance_id.map(|id| id.to_string()),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: assigned_partitions(member.member_assignment),
        });
        Ok(Group {
            state: found.group_state.to_string(),
            strategy: found.protocol_data.to_string(),
            members: members.collect(),
        })
    }

    /// A group of the protocol of KIP-848; `None` if the broker does not know such groups, or not this one.
    async fn describe_new_group(&mut self, group: &str) -> AdminResult<Option<Group>> {
        let node = self.coordinator(group).await?;
        let connection = self.node(node).await?;
        let Ok(version) = connection.version::<ConsumerGroupDescribeRequest>(1) else {
            return Ok(None);
        };
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
        let answer = connection.call(version, &request).await?;
        let Some(found) = answer.groups.into_iter().next().filter(|found| found.error_code == 0) else {
            return Ok(None);
        };
        let members = found.members.into_iter().map(|member| {
            let mut assigned: Vec<(String, i32)> = member
                .assignment
                .topic_partitions
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic_name.to_string(), *p)))
                .collect();
            assigned.sort();
            Member {
                id: member.member_id.to_string(),
                instance: member.instance_id.map(|id| id.to_string()),
                client: member.client_id.to_string(),
                host: member.client_host.to_string(),
                assigned,
            }
        });
        Ok(Some(Group {
            state: found.group_state.to_string(),
            strategy: found.assignor_name.to_string(),
            members: members.collect(),
        }))
    }

    /// What a group has committed, by topic and partition.
    pub(in crate::cli) async fn committed(&mut self, group: &str) -> AdminResult<BTreeMap<(String, i32), Committed>> {
        let request = |version: i16| {
            if version >= 8 {
                let asked = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
                OffsetFetchRequest::default().with_groups(vec![asked])
            } else {
                OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None)
            }
        };
        let (version, answer) = self.ask_group(group, 9, request).await?;
        let mut found = BTreeMap::new();
        let mut add = |topic: String, partition: i32, offset: i64, epoch: i32| {
            if offset >= 0 {
                found.insert((topic, partition), Committed { offset, epoch });
            }
        };
        if version >= 8 {
            for group in answer.groups {
                check(group.error_code, None)?;
                for topic in group.topics {
                    for p in topic.partitions {
                        check(p.error_code, None)?;
                        add(topic.name.to_string(), p.partition_index, p.committed_offset, p.committed_leader_epoch);
                    }
                }
            }
        } else {
            check(answer.error_code, None)?;
            for topic in answer.topics {
                for p in topic.partitions {
                    check(p.error_code, None)?;
                    add(topic.name.to_string(), p.partition_index, p.committed_offset, p.committed_leader_epoch);
                }
            }
        }
        Ok(found)
    }

    /// Sets committed offsets of a group without members.
    pub(in crate::cli) async fn commit(
        &mut self,
        group: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> AdminResult<()> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let committed = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()));
            topics.entry(topic).or_default().push(committed);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let (_, answer) = self.ask_group(group, 8, |_| request).await?;
        answer.topics.iter().flat_map(|t| &t.partitions).try_for_each(|result| check(result.error_code, None))
    }

    /// Deletes a group.
    pub(in crate::cli) async fn delete_group(&mut self, group: &str) -> AdminResult<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let (_, answer) = self.ask_group(group, 2, |_| request).await?;
        answer.results.iter().try_for_each(|result| check(result.error_code, None))
    }

    /// Deletes committed offsets: Kafka's error code for each partition, 0 if it is done.
    pub(in crate::cli) async fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> AdminResult<BTreeMap<(String, i32), i16>> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for (topic, partition) in partitions {
            let asked = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
            topics.entry(topic).or_default().push(asked);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
        });
        let request = OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics.collect());
        let (_, answer) = self.ask_group(group, 0, |_| request).await?;
        check(answer.error_code, None)?;
        let results = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |p| ((name.clone(), p.partition_index), p.error_code))
        });
        Ok(results.collect())
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// The partitions in a member's assignment; none if it is not a consumer's.
fn assigned_partitions(mut bytes: Bytes) -> Vec<(String, i32)> {
    if bytes.len() < 2 {
        return Vec::new();
    }
    let version = bytes.get_i16().clamp(0, 3);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut bytes, version) else {
        return Vec::new();
    };
    let mut partitions: Vec<(String, i32)> = assignment
        .assigned_partitions
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)))
        .collect();
    partitions.sort();
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_assignment_and_survives_garbage() {
        let bytes = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\0\xff\xff\xff\xff");
        assert_eq!(assigned_partitions(bytes), vec![("t".to_owned(), 0), ("t".to_owned(), 1)]);
        assert!(assigned_partitions(Bytes::from_static(b"\0")).is_empty());
        assert!(assigned_partitions(Bytes::from_static(b"\0\0\0\x01\0\0")).is_empty());
    }
}
