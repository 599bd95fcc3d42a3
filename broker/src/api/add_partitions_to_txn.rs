//! AddPartitionsToTxn (24), as clients send it (versions up to 3): all partitions are added, or none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, RequestHeader};

use super::{Context, code, fenced_since};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let known = |topic: &str, partition: i32| match context.cluster().topic(topic) {
        Some(topic) if topic.is_internal() => Err(ResponseError::TopicAuthorizationFailed),
        Some(topic) => topic.partition(partition).map(drop),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    let topics = &request.v3_and_below_topics;
    let all = || topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&*t.name.0, *p)));
    if all().any(|(topic, partition)| known(topic, partition).is_err()) {
        let attempted = |topic: &str, partition| known(topic, partition).and(Err(ResponseError::OperationNotAttempted));
        return answer(topics, attempted);
    }
    let added = context.handle.add_partitions_to_transaction(
        &request.v3_and_below_transactional_id.0,
        request.v3_and_below_producer_id.0,
        request.v3_and_below_producer_epoch,
        all(),
    );
    let added = added.map_err(|error| fenced_since(2, header, error));
    answer(topics, |_, _| added)
}

fn answer(
    topics: &[AddPartitionsToTxnTopic],
    result: impl Fn(&str, i32) -> Result<(), ResponseError>,
) -> AddPartitionsToTxnResponse {
    let topic = |asked: &AddPartitionsToTxnTopic| {
        let partition = |index: &i32| {
            let error = code(result(&asked.name.0, *index));
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(error)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(asked.name.clone())
            .with_results_by_partition(asked.partitions.iter().map(partition).collect())
    };
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.iter().map(topic).collect())
}
