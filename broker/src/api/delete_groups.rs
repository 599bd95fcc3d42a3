//! DeleteGroups (42).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, RequestHeader};

use super::{Context, code};

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut response = DeleteGroupsResponse::default();
    for id in request.groups_names {
        let result = context.handle.delete_group(&id.0).await;
        response.results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code(result)));
    }
    response
}
