//! ListGroups (16), with filters by state (version 4) and type (version 5).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse, RequestHeader};

use super::{Context, text};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let version = header.request_api_version;
    let has = |filter: &[kafka_protocol::protocol::StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
    };
    let mut response = ListGroupsResponse::default();
    for group in context.handle.list_groups() {
        if !has(&request.states_filter, group.phase.name()) || !has(&request.types_filter, "classic") {
            continue;
        }
        let mut listed =
            ListedGroup::default().with_group_id(GroupId(text(group.id))).with_protocol_type(text(group.protocol_type));
        if version >= 4 {
            listed.group_state = text(group.phase.name());
        }
        if version >= 5 {
            listed.group_type = text("classic");
        }
        response.groups.push(listed);
    }
    response
}
