//! InitProducerId (22): an id for an idempotent producer. Transactional ids are refused until transactions exist.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestHeader};

use super::Context;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let result = match &request.transactional_id {
        None => context.handle.init_producer_id().await,
        Some(id) if id.0.is_empty() => Err(ResponseError::InvalidRequest),
        Some(_) => Err(ResponseError::UnsupportedVersion),
    };
    match result {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}
