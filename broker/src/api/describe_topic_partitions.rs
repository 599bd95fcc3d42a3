//! DescribeTopicPartitions (75): topics in pages.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, RequestHeader};

use super::metadata::TOPIC_OPERATIONS;
use super::{Context, topic_name};
use crate::cluster::{Topic, check_name};

const MAX_PARTITIONS: i32 = 2000;

pub(super) async fn handle(
    context: &Context,
    _header: &RequestHeader,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let mut names: Vec<String> = if all {
        context.cluster().topics().iter().map(|t| t.name.to_string()).collect()
    } else {
        request.topics.iter().map(|t| t.name.0.to_string()).collect()
    };
    names.sort();
    names.dedup();
    let (from, mut first) =
        request.cursor.map_or((String::new(), 0), |c| (c.topic_name.0.to_string(), c.partition_index));
    names.retain(|name| *name >= from);
    let mut left = request.response_partition_limit.clamp(1, MAX_PARTITIONS) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if *name != from {
            first = 0;
        }
        let Some(topic) = context.cluster().topic(&name) else {
            let error = check_name(&name).map_or_else(|(error, _)| error, |()| ResponseError::UnknownTopicOrPartition);
            let unknown = DescribeTopicPartitionsResponseTopic::default().with_error_code(error.code());
            response.topics.push(unknown.with_name(Some(topic_name(&name))));
            continue;
        };
        let skip = usize::try_from(first).unwrap_or(0);
        if left == 0 {
            response.next_cursor =
                Some(Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(first.max(0)));
            break;
        }
        let described = describe(context, &topic, skip, left);
        let count = described.partitions.len();
        left -= count;
        response.topics.push(described);
        if skip + count < topic.partitions.len() {
            let next = (skip + count) as i32;
            response.next_cursor =
                Some(Cursor::default().with_topic_name(topic_name(&name)).with_partition_index(next));
            break;
        }
    }
    response
}

fn describe(context: &Context, topic: &Arc<Topic>, skip: usize, limit: usize) -> DescribeTopicPartitionsResponseTopic {
    let node = context.node_id();
    let partition = |partition: &Arc<crate::log::Partition>| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(partition.index)
            .with_leader_id(node)
            .with_leader_epoch(partition.log().leader_epoch())
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            // Java's admin client cannot read null here.
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
        .with_partitions(topic.partitions.iter().skip(skip).take(limit).map(partition).collect())
}
