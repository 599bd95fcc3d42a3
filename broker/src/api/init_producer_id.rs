//! InitProducerId (22): an id for an idempotent producer, or id and epoch for a transactional one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestHeader};

use super::{Context, fenced_since};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(context, &request).await.map_err(|error| fenced_since(4, header, error)) {
        Ok((id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        }
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

async fn init(context: &Context, request: &InitProducerIdRequest) -> Result<(i64, i16), ResponseError> {
    let Some(id) = &request.transactional_id else {
        return context.handle.init_producer_id().await.map(|id| (id, 0));
    };
    let known = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (id, epoch) if id >= 0 && epoch >= 0 => Some((id, epoch)),
        _ => return Err(ResponseError::InvalidRequest),
    };
    context.handle.0.transactions.init(&id.0, request.transaction_timeout_ms, known).await
}
