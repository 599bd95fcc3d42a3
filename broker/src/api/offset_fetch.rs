//! OffsetFetch (9): what a group has committed. An unknown group or partition is offset -1 without an error.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, RequestHeader};

use super::{Context, text, topic_name};
use crate::group::Committed;

type Asked = Option<Vec<(String, Vec<i32>)>>;
type Found = Vec<(String, Vec<(i32, Option<Committed>)>)>;

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = header.request_api_version;
    let mut response = OffsetFetchResponse::default();
    if version < 8 {
        let asked = request
            .topics
            .map(|topics| topics.into_iter().map(|t| (t.name.0.to_string(), t.partition_indexes)).collect());
        let group = &request.group_id.0;
        for (name, partitions) in find(context, group, asked) {
            let error = |index| unstable(context, group, request.require_stable, &name, index);
            let old = |(index, committed)| old_partition(index, committed, version).with_error_code(error(index));
            let partitions = partitions.into_iter().map(old).collect();
            response
                .topics
                .push(OffsetFetchResponseTopic::default().with_name(topic_name(&name)).with_partitions(partitions));
        }
        return response;
    }
    for group in request.groups {
        let asked = group
            .topics
            .map(|topics| topics.into_iter().map(|t| (t.name.0.to_string(), t.partition_indexes)).collect());
        let mut answered = OffsetFetchResponseGroup::default();
        let group_id = &group.group_id.0;
        for (name, partitions) in find(context, group_id, asked) {
            let error = |index| unstable(context, group_id, request.require_stable, &name, index);
            let new = |(index, committed)| new_partition(index, committed).with_error_code(error(index));
            let partitions = partitions.into_iter().map(new).collect();
            answered
                .topics
                .push(OffsetFetchResponseTopics::default().with_name(topic_name(&name)).with_partitions(partitions));
        }
        response.groups.push(answered.with_group_id(group.group_id));
    }
    response
}

fn find(context: &Context, group: &str, asked: Asked) -> Found {
    let mut committed = context.handle.committed_offsets(group);
    let Some(asked) = asked else {
        let mut topics: BTreeMap<String, Vec<(i32, Option<Committed>)>> = BTreeMap::new();
        for ((topic, partition), offset) in committed {
            topics.entry(topic).or_default().push((partition, Some(offset)));
        }
        return topics.into_iter().collect();
    };
    let mut take = |topic: &str, partition: i32| (partition, committed.remove(&(topic.to_owned(), partition)));
    asked
        .into_iter()
        .map(|(topic, list)| (topic.clone(), list.into_iter().map(|p| take(&topic, p)).collect()))
        .collect()
}

/// UNSTABLE_OFFSET_COMMIT where a transaction may still change the offset and the client wants to wait for that.
fn unstable(context: &Context, group: &str, require_stable: bool, topic: &str, partition: i32) -> i16 {
    let place = (topic.to_owned(), partition);
    let unstable = require_stable && context.handle.0.coordinator.is_unstable(group, &place);
    if unstable { ResponseError::UnstableOffsetCommit.code() } else { 0 }
}

fn old_partition(index: i32, committed: Option<Committed>, version: i16) -> OffsetFetchResponsePartition {
    let (offset, epoch, metadata) = fields(committed);
    OffsetFetchResponsePartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(if version >= 5 { epoch } else { -1 })
        .with_metadata(Some(text(metadata)))
}

fn new_partition(index: i32, committed: Option<Committed>) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata) = fields(committed);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(text(metadata)))
}

fn fields(committed: Option<Committed>) -> (i64, i32, String) {
    committed.map_or((-1, -1, String::new()), |c| (c.offset, c.leader_epoch, c.metadata))
}
