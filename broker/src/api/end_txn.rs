//! EndTxn (26), version 1 of the protocol: answered when the end is durable and carried out.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, RequestHeader};

use super::{Context, code, fenced_since};

pub(super) async fn handle(context: &Context, header: &RequestHeader, request: EndTxnRequest) -> EndTxnResponse {
    let (id, producer_id, epoch) = (&request.transactional_id.0, request.producer_id.0, request.producer_epoch);
    let ended = context.handle.end_transaction(id, producer_id, epoch, request.committed).await;
    let ended = ended.map_err(|error| match error {
        // A client cannot tell this one from its own mistake; the coordinator's it knows to repeat.
        ResponseError::KafkaStorageError => ResponseError::CoordinatorNotAvailable,
        error => fenced_since(2, header, error),
    });
    EndTxnResponse::default().with_error_code(code(ended))
}
