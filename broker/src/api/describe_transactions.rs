//! DescribeTransactions (65).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, RequestHeader, TransactionalId,
};

use super::{Context, text, topic_name};
use crate::transaction::TransactionDescription;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let describe = |id: TransactionalId| {
        let found = match context.handle.describe_transaction(&id.0) {
            _ if id.0.is_empty() => Err(ResponseError::InvalidRequest),
            None => Err(ResponseError::TransactionalIdNotFound),
            Some(found) => Ok(found),
        };
        let base = TransactionState::default().with_transactional_id(id);
        match found {
            Err(error) => base.with_error_code(error.code()),
            Ok(found) => filled(base, found),
        }
    };
    DescribeTransactionsResponse::default()
        .with_transaction_states(request.transactional_ids.into_iter().map(describe).collect())
}

fn filled(base: TransactionState, found: TransactionDescription) -> TransactionState {
    let topic = |(topic, partitions): (String, Vec<i32>)| {
        TopicData::default().with_topic(topic_name(&topic)).with_partitions(partitions)
    };
    base.with_transaction_state(text(found.state.name()))
        .with_transaction_timeout_ms(found.timeout_ms)
        .with_transaction_start_time_ms(found.started)
        .with_producer_id(ProducerId(found.producer_id))
        .with_producer_epoch(found.epoch)
        .with_topics(found.partitions.into_iter().map(topic).collect())
}
