//! FindCoordinator (10): it is always this node.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse, RequestHeader};

use super::{Context, code, text};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    // Share groups (type 2) are not served; saying so ends the client's search.
    let result = if matches!(request.key_type, 0 | 1) { Ok(()) } else { Err(ResponseError::InvalidRequest) };
    let message = if result.is_ok() { "NONE" } else { "this broker coordinates consumer groups and transactions only" };
    let (host, port) = context.address();
    if header.request_api_version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code(result))
            .with_error_message(Some(text(message)))
            .with_node_id(context.node_id())
            .with_host(host)
            .with_port(port);
    }
    let coordinator = |key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(code(result))
            .with_error_message(Some(text(message)))
            .with_node_id(context.node_id())
            .with_host(host.clone())
            .with_port(port)
    };
    FindCoordinatorResponse::default()
        .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
}
