//! Heartbeat (12).

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse, RequestHeader};

use super::{Context, code};

pub(super) async fn handle(context: &Context, _header: &RequestHeader, request: HeartbeatRequest) -> HeartbeatResponse {
    let instance = request.group_instance_id.as_deref();
    let result = context.handle.heartbeat(&request.group_id.0, &request.member_id, instance, request.generation_id);
    HeartbeatResponse::default().with_error_code(code(result))
}
