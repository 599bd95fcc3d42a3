//! CreatePartitions (37).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, RequestHeader};

use super::{Context, text};
use crate::cluster::Refusal;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for topic in request.topics {
        let mut answered = CreatePartitionsTopicResult::default();
        if let Err((error, message)) = grow(context, &topic, request.validate_only).await {
            answered = answered.with_error_code(error.code()).with_error_message(Some(text(message)));
        }
        response.results.push(answered.with_name(topic.name));
    }
    response
}

async fn grow(context: &Context, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let (name, count) = (topic.name.0.to_string(), topic.count);
    if let (Some(assignments), Some(known)) = (&topic.assignments, context.cluster().topic(&name)) {
        let added = i64::from(count) - known.partitions.len() as i64;
        let here = assignments.iter().all(|a| a.broker_ids == [context.node_id()]);
        if added > 0 && (assignments.len() as i64 != added || !here) {
            let message = "Each new partition needs exactly one replica, on this broker.".to_owned();
            return Err((ResponseError::InvalidReplicaAssignment, message));
        }
    }
    context.handle.create_partitions(&name, count, validate_only).await
}
