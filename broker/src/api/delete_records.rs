//! DeleteRecords (21): moves the start of logs.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, RequestHeader};

use super::Context;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut answered = DeleteRecordsTopicResult::default();
        for asked in topic.partitions {
            let result = context.handle.delete_records(&topic.name.0, asked.partition_index, asked.offset).await;
            let base = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            answered.partitions.push(match result {
                Ok(start) => base.with_low_watermark(start),
                Err(error) => base.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        response.topics.push(answered.with_name(topic.name));
    }
    response
}
