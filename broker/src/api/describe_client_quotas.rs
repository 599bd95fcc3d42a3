//! DescribeClientQuotas (48): there are none.

use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse, RequestHeader};

use super::Context;

pub(super) async fn handle(
    _context: &Context,
    _header: &RequestHeader,
    _request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default().with_entries(Some(Vec::new()))
}
