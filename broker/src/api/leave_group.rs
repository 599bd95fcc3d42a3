//! LeaveGroup (13): one member, or from version 3 on several.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse, RequestHeader};

use super::{Context, code};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group: &str = &request.group_id.0;
    if header.request_api_version < 3 {
        let result = context.handle.leave_group(group, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(result));
    }
    let mut response = LeaveGroupResponse::default();
    if group.is_empty() {
        return response.with_error_code(ResponseError::InvalidGroupId.code());
    }
    for member in request.members {
        let result = context.handle.leave_group(group, &member.member_id, member.group_instance_id.as_deref());
        let answered = MemberResponse::default().with_member_id(member.member_id).with_error_code(code(result));
        response.members.push(answered.with_group_instance_id(member.group_instance_id));
    }
    response
}
