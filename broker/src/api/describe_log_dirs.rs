//! DescribeLogDirs (35): sizes of partitions.

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, RequestHeader};

use super::{Context, text, topic_name};
use crate::log::Partition;

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let dir = context.handle.0.config.data_dir.clone();
    let mut result = DescribeLogDirsResult::default().with_log_dir(text(dir.display().to_string()));
    for topic in context.cluster().topics() {
        let asked = request.topics.as_ref().map(|all| all.iter().find(|t| *t.topic.0 == *topic.name));
        let wanted = |partition: &Partition| match &asked {
            None => true,
            Some(asked) => asked.is_some_and(|t| t.partitions.is_empty() || t.partitions.contains(&partition.index)),
        };
        let partitions: Vec<_> = topic.partitions.iter().filter(|p| wanted(p)).map(|p| size(p)).collect();
        if !partitions.is_empty() {
            result
                .topics
                .push(DescribeLogDirsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions));
        }
    }
    if header.request_api_version >= 4 {
        result.total_bytes = fs4::total_space(&dir).map_or(-1, |bytes| bytes as i64);
        result.usable_bytes = fs4::available_space(&dir).map_or(-1, |bytes| bytes as i64);
    }
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn size(partition: &Partition) -> DescribeLogDirsPartition {
    let size = partition.log().size();
    DescribeLogDirsPartition::default().with_partition_index(partition.index).with_partition_size(size as i64)
}
