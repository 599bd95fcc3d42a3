//! OffsetForLeaderEpoch (23): where an epoch ended, so that consumers notice lost records.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, RequestHeader};

use super::Context;
use super::fetch::check_epoch;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut answered = OffsetForLeaderTopicResult::default();
        for asked in topic.partitions {
            let base = EpochEndOffset::default().with_partition(asked.partition);
            answered.partitions.push(match find(context, &topic.topic.0, &asked) {
                Ok((epoch, end)) => base.with_leader_epoch(epoch).with_end_offset(end),
                Err(error) => base.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
            });
        }
        response.topics.push(answered.with_topic(topic.topic));
    }
    response
}

fn find(context: &Context, topic: &str, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ResponseError> {
    let partition = context.cluster().partition(topic, asked.partition)?;
    let log = partition.log();
    check_epoch(asked.current_leader_epoch, log.leader_epoch())?;
    Ok(log.end_of_epoch(asked.leader_epoch))
}
