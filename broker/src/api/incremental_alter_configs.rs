//! IncrementalAlterConfigs (44): single changes.

use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, RequestHeader};

use super::configs::{Change, alter};
use super::{Context, own, text};

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let change = |c: &kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig| Change {
            name: c.name.to_string(),
            operation: c.config_operation,
            value: own(&c.value),
        };
        let changes = resource.configs.iter().map(change).collect();
        let result =
            alter(context, resource.resource_type, &resource.resource_name, changes, false, request.validate_only)
                .await;
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
