//! DescribeAcls (29): there is no authorizer, which clients know as SECURITY_DISABLED.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse, RequestHeader};

use super::{Context, text};

pub(super) async fn handle(
    _context: &Context,
    _header: &RequestHeader,
    _request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured on the broker")))
}
