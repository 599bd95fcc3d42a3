//! OffsetCommit (8).

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, RequestHeader};

use super::{Context, own};
use crate::group::{CommitRequest, OffsetCommit};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let version = header.request_api_version;
    let mut commit = CommitRequest {
        group_id: request.group_id.0.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: own(&request.group_instance_id),
        generation: request.generation_id_or_member_epoch,
        retention_ms: Some(request.retention_time_ms).filter(|ms| (2..=4).contains(&version) && *ms >= 0),
        knows_group_not_found: version >= 9,
        offsets: Vec::new(),
    };
    for topic in &request.topics {
        commit.offsets.extend(topic.partitions.iter().map(|p| OffsetCommit {
            topic: topic.name.0.to_string(),
            partition: p.partition_index,
            offset: p.committed_offset,
            leader_epoch: p.committed_leader_epoch,
            metadata: own(&p.committed_metadata).unwrap_or_default(),
            error: None,
        }));
    }
    let committed = context.handle.commit_offsets(commit).await;
    let mut results = committed.offsets.into_iter();
    let mut response = OffsetCommitResponse::default();
    for topic in request.topics {
        let mut answered = OffsetCommitResponseTopic::default().with_name(topic.name);
        for (asked, result) in topic.partitions.iter().zip(&mut results) {
            let code = result.error.map_or(0, |e| e.code());
            let partition = OffsetCommitResponsePartition::default().with_partition_index(asked.partition_index);
            answered.partitions.push(partition.with_error_code(code));
        }
        response.topics.push(answered);
    }
    response
}
