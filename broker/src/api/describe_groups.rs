//! DescribeGroups (15).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, RequestHeader};

use super::{Context, text};

/// Read, delete and describe.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let version = header.request_api_version;
    let mut response = DescribeGroupsResponse::default();
    for id in request.groups {
        let mut answered = DescribedGroup::default();
        match context.handle.describe_group(&id.0) {
            None => {
                answered.group_state = text("Dead");
                if version >= 6 {
                    answered.error_code = ResponseError::GroupIdNotFound.code();
                    answered.error_message = Some(text(format!("Group {} not found.", id.0)));
                }
            }
            Some(group) => {
                let member = |m: crate::group::MemberDescription| {
                    DescribedGroupMember::default()
                        .with_member_id(text(m.id))
                        .with_group_instance_id(m.instance_id.map(text).filter(|_| version >= 4))
                        .with_client_id(text(m.client_id))
                        .with_client_host(text(m.client_host))
                        .with_member_metadata(m.metadata)
                        .with_member_assignment(m.assignment)
                };
                answered = answered
                    .with_group_state(text(group.phase.name()))
                    .with_protocol_type(text(group.protocol_type))
                    .with_protocol_data(text(group.protocol))
                    .with_members(group.members.into_iter().map(member).collect());
                if request.include_authorized_operations {
                    answered.authorized_operations = GROUP_OPERATIONS;
                }
            }
        }
        response.groups.push(answered.with_group_id(id));
    }
    response
}
