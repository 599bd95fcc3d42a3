//! ElectLeaders (43): the leader of every partition is this node already.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, RequestHeader};

use super::{Context, text};

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let mut response = ElectLeadersResponse::default();
    for topic in request.topic_partitions.unwrap_or_default() {
        let result = |index: i32| {
            let known = context.cluster().partition(&topic.topic.0, index).map(|_| ResponseError::ElectionNotNeeded);
            let (Ok(error) | Err(error)) = known;
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(error.code())
                .with_error_message(Some(text(error.to_string())))
        };
        let results = topic.partitions.iter().map(|index| result(*index)).collect();
        response
            .replica_election_results
            .push(ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(results));
    }
    response
}
