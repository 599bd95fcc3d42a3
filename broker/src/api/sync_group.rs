//! SyncGroup (14).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{RequestHeader, SyncGroupRequest, SyncGroupResponse};

use super::{Context, own, text};
use crate::group::SyncRequest;

pub(super) async fn handle(context: &Context, header: &RequestHeader, request: SyncGroupRequest) -> SyncGroupResponse {
    let refuse = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    if header.request_api_version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refuse(ResponseError::InconsistentGroupProtocol);
    }
    let sync = SyncRequest {
        group_id: request.group_id.0.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: own(&request.group_instance_id),
        generation: request.generation_id,
        protocol_type: own(&request.protocol_type),
        protocol: own(&request.protocol_name),
        assignments: request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment)).collect(),
    };
    match context.handle.sync_group(sync).await {
        Err(error) => refuse(error),
        Ok(reply) => SyncGroupResponse::default()
            .with_protocol_type(reply.protocol_type.map(text))
            .with_protocol_name(reply.protocol.map(text))
            .with_assignment(reply.assignment),
    }
}
