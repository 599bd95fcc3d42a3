//! AddOffsetsToTxn (25): the offsets of a group become part of a transaction.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, RequestHeader};

use super::{Context, code, fenced_since};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let (id, group) = (&request.transactional_id.0, &request.group_id.0);
    let transactions = &context.handle.0.transactions;
    let added = transactions.add_offsets(id, request.producer_id.0, request.producer_epoch, group);
    let added = added.map_err(|error| fenced_since(2, header, error));
    AddOffsetsToTxnResponse::default().with_error_code(code(added))
}
