//! AlterConfigs (33): replaces the whole set.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse, RequestHeader};

use super::configs::{Change, alter};
use super::{Context, own, text};

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let change = |c: &kafka_protocol::messages::alter_configs_request::AlterableConfig| Change {
            name: c.name.to_string(),
            operation: 0,
            value: own(&c.value),
        };
        let changes = resource.configs.iter().filter(|c| c.value.is_some()).map(change).collect();
        let result =
            alter(context, resource.resource_type, &resource.resource_name, changes, true, request.validate_only).await;
        let mut answered = AlterConfigsResourceResponse::default();
        if let Err((error, message)) = result {
            answered = answered.with_error_code(error.code()).with_error_message(Some(text(message)));
        }
        response
            .responses
            .push(answered.with_resource_type(resource.resource_type).with_resource_name(resource.resource_name));
    }
    response
}
