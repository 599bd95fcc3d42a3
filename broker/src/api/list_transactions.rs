//! ListTransactions (66), with filters by state, producer and, from version 1 on, duration.

use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, RequestHeader, TransactionalId,
};

use super::{Context, text};
use crate::clock::now_ms;
use crate::transaction::{TransactionDescription, TransactionState};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let unknown = request.state_filters.iter().filter(|name| TransactionState::from_name(name).is_none());
    let unknown = unknown.cloned().collect();
    let longer_than = Some(request.duration_filter).filter(|ms| header.request_api_version >= 1 && *ms >= 0);
    let now = now_ms();
    let wanted = |found: &TransactionDescription| {
        let (states, producers) = (&request.state_filters, &request.producer_id_filters);
        (states.is_empty() || states.iter().any(|name| **name == *found.state.name()))
            && (producers.is_empty() || producers.contains(&ProducerId(found.producer_id)))
            && longer_than.is_none_or(|ms| found.started >= 0 && now.saturating_sub(found.started) > ms)
    };
    let listed = |found: TransactionDescription| {
        ListedTransaction::default()
            .with_transactional_id(TransactionalId(text(found.id)))
            .with_producer_id(ProducerId(found.producer_id))
            .with_transaction_state(text(found.state.name()))
    };
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(context.handle.list_transactions().into_iter().filter(wanted).map(listed).collect())
}
