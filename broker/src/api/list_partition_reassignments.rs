//! ListPartitionReassignments (46): on one node there are none.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, RequestHeader};

use super::Context;

pub(super) async fn handle(
    _context: &Context,
    _header: &RequestHeader,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
