//! JoinGroup (11).

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, RequestHeader};
use kafka_protocol::protocol::StrBytes;

use super::{Context, own, text};
use crate::group::{JoinRequest, JoinedMember};

pub(super) async fn handle(context: &Context, header: &RequestHeader, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = header.request_api_version;
    let rebalance = if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let join = JoinRequest {
        group_id: request.group_id.0.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: own(&request.group_instance_id),
        client_id: own(&header.client_id).unwrap_or_default(),
        client_host: context.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if rebalance < 0 { request.session_timeout_ms } else { rebalance },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata)).collect(),
        require_known_member: version >= 4,
        can_skip_assignment: version >= 9,
    };
    let reply = context.handle.join_group(join).await;
    let member = |m: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(m.member_id))
            .with_group_instance_id(m.instance_id.map(StrBytes::from_string).filter(|_| version >= 5))
            .with_metadata(m.metadata)
    };
    let protocol = reply.protocol.map(text);
    JoinGroupResponse::default()
        .with_error_code(reply.error.map_or(0, |e| e.code()))
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.map(text))
        // Before version 7 the name may not be null.
        .with_protocol_name(if version >= 7 { protocol } else { Some(protocol.unwrap_or_default()) })
        .with_leader(text(reply.leader))
        .with_member_id(text(reply.member_id))
        .with_members(reply.members.into_iter().map(member).collect())
        .with_skip_assignment(reply.skip_assignment && version >= 9)
}
