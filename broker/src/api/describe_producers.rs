//! DescribeProducers (61): idempotent and transactional producers that partitions remember.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId, RequestHeader};

use super::Context;
use crate::log::Producer;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let mut answered = TopicResponse::default();
        for index in topic.partition_indexes {
            let base = PartitionResponse::default().with_partition_index(index);
            answered.partitions.push(match context.cluster().partition(&topic.name.0, index) {
                Err(error) => base.with_error_code(error.code()),
                Ok(partition) => {
                    base.with_active_producers(partition.log().producers().into_iter().map(state).collect())
                }
            });
        }
        response.topics.push(answered.with_name(topic.name));
    }
    response
}

fn state((id, producer): (i64, Producer)) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence())
        .with_last_timestamp(producer.timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.open_from.unwrap_or(-1))
}
