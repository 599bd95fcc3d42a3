//! TxnOffsetCommit (28): offsets that count once their transaction is committed.

use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{RequestHeader, TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{Context, own};
use crate::group::{CommitRequest, OffsetCommit};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let with_member = header.request_api_version >= 3;
    let mut commit = CommitRequest {
        group_id: request.group_id.0.to_string(),
        member_id: if with_member { request.member_id.to_string() } else { String::new() },
        instance_id: own(&request.group_instance_id),
        generation: if with_member { request.generation_id } else { -1 },
        ..CommitRequest::default()
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
    let producer = (request.producer_id.0, request.producer_epoch);
    let transactions = &context.handle.0.transactions;
    let committed = transactions.commit_offsets(&request.transactional_id.0, producer, commit).await;
    let mut results = committed.offsets.into_iter();
    let mut response = TxnOffsetCommitResponse::default();
    for topic in request.topics {
        let mut answered = TxnOffsetCommitResponseTopic::default().with_name(topic.name);
        for (asked, result) in topic.partitions.iter().zip(&mut results) {
            let code = result.error.map_or(0, |e| e.code());
            let partition = TxnOffsetCommitResponsePartition::default().with_partition_index(asked.partition_index);
            answered.partitions.push(partition.with_error_code(code));
        }
        response.topics.push(answered);
    }
    response
}
