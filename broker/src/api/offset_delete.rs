//! OffsetDelete (47).

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, RequestHeader};

use super::{Context, code};

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut places = Vec::new();
    for topic in &request.topics {
        places.extend(topic.partitions.iter().map(|p| (topic.name.0.to_string(), p.partition_index)));
    }
    let mut response = OffsetDeleteResponse::default();
    let results = match context.handle.delete_group_offsets(&request.group_id.0, &places).await {
        Ok(results) => results,
        Err(error) => return response.with_error_code(error.code()),
    };
    let mut results = results.into_iter();
    for topic in request.topics {
        let mut answered = OffsetDeleteResponseTopic::default().with_name(topic.name);
        for (asked, result) in topic.partitions.iter().zip(&mut results) {
            let partition = OffsetDeleteResponsePartition::default().with_partition_index(asked.partition_index);
            answered.partitions.push(partition.with_error_code(code(result)));
        }
        response.topics.push(answered);
    }
    response
}
