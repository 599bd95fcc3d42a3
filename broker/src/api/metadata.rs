//! Metadata (3): brokers and topics; asking for an unknown topic may create it, and then at once.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, RequestHeader};

use super::{Context, text, topic_name};
use crate::cluster::{Topic, check_name};

/// All operations on a topic: read, write, create, delete, alter, describe, their configs.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000 & !(1 << 9);
/// All operations on a cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000 & !(1 << 6);

pub(super) async fn handle(context: &Context, header: &RequestHeader, request: MetadataRequest) -> MetadataResponse {
    let version = header.request_api_version;
    let (host, port) = context.address();
    let broker = MetadataResponseBroker::default().with_node_id(context.node_id()).with_host(host).with_port(port);
    let mut response = MetadataResponse::default()
        .with_brokers(vec![broker.with_rack(context.rack())])
        .with_cluster_id(Some(text(context.handle.cluster_id())))
        .with_controller_id(context.node_id());
    if request.include_cluster_authorized_operations && (8..=10).contains(&version) {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    response.topics = match asked {
        None => context.cluster().topics().iter().map(|topic| describe(context, topic)).collect(),
        Some(asked) => {
            let may_create = request.allow_auto_topic_creation || version < 4;
            let mut topics = Vec::with_capacity(asked.len());
            for topic in asked {
                topics.push(one(context, topic, may_create, version).await);
            }
            topics
        }
    };
    if request.include_topic_authorized_operations && version >= 8 {
        for topic in response.topics.iter_mut().filter(|t| t.error_code == 0) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    response
}

async fn one(context: &Context, asked: MetadataRequestTopic, may_create: bool, version: i16) -> MetadataResponseTopic {
    let refuse = |error: ResponseError| {
        let name = asked.name.clone().or_else(|| (version < 12).then(|| topic_name("")));
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(asked.topic_id)
    };
    if !asked.topic_id.is_nil() {
        if version < 12 {
            return refuse(ResponseError::InvalidRequest);
        }
        return match context.cluster().topic_by_id(&asked.topic_id) {
            Some(topic) => describe(context, &topic),
            None => refuse(ResponseError::UnknownTopicId),
        };
    }
    let Some(name) = &asked.name else { return refuse(ResponseError::InvalidRequest) };
    if let Some(topic) = context.cluster().topic(&name.0) {
        return describe(context, &topic);
    }
    if let Err((error, _)) = check_name(&name.0) {
        return refuse(error);
    }
    if !(may_create && context.handle.0.config.auto_create_topics) {
        return refuse(ResponseError::UnknownTopicOrPartition);
    }
    match context.handle.auto_create(&name.0).await {
        Ok(topic) => describe(context, &topic),
        Err((error, _)) => refuse(error),
    }
}

fn describe(context: &Context, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let node = context.node_id();
    let partition = |partition: &Arc<crate::log::Partition>| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.index)
            .with_leader_id(node)
            .with_leader_epoch(partition.log().leader_epoch())
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal())
        .with_partitions(topic.partitions.iter().map(partition).collect())
}
