//! DeleteTopics (20): by name, from version 6 on also by id.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, RequestHeader};

use super::{Context, code, topic_name};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let version = header.request_api_version;
    let mut response = DeleteTopicsResponse::default();
    for name in request.topic_names {
        let result = context.handle.delete_topic(&name.0).await;
        response.responses.push(DeletableTopicResult::default().with_name(Some(name)).with_error_code(code(result)));
    }
    for asked in request.topics {
        let found = match &asked.name {
            Some(name) => context.cluster().topic(&name.0).ok_or(ResponseError::UnknownTopicOrPartition),
            None => context.cluster().topic_by_id(&asked.topic_id).ok_or(ResponseError::UnknownTopicId),
        };
        let name = found.as_ref().map(|topic| topic_name(&topic.name)).ok().or(asked.name);
        let id = found.as_ref().map_or(asked.topic_id, |topic| topic.id);
        let result = match found {
            Ok(topic) => context.handle.delete_topic(&topic.name).await,
            Err(error) => Err(error),
        };
        let answered = DeletableTopicResult::default().with_name(name).with_error_code(code(result));
        response.responses.push(if version >= 6 { answered.with_topic_id(id) } else { answered });
    }
    response
}
