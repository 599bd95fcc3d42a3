//! ListConfigResources (74): version 0 lists client metrics only, of which there are none.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse, RequestHeader};

use super::configs::{BROKER, BROKER_LOGGER, GROUP, TOPIC};
use super::{Context, text};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let mut response = ListConfigResourcesResponse::default();
    if header.request_api_version == 0 {
        return response;
    }
    let asked = |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let mut add = |kind: i8, name: String| {
        response
            .config_resources
            .push(ConfigResource::default().with_resource_type(kind).with_resource_name(text(name)));
    };
    if asked(TOPIC) {
        context.cluster().topics().iter().for_each(|topic| add(TOPIC, topic.name.to_string()));
    }
    for kind in [BROKER, BROKER_LOGGER] {
        if asked(kind) {
            add(kind, context.node_id().0.to_string());
        }
    }
    if asked(GROUP) {
        context.handle.0.coordinator.list().into_iter().for_each(|group| add(GROUP, group.id));
    }
    response
}
