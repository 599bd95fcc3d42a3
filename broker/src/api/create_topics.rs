//! CreateTopics (19).

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse, RequestHeader};

use super::configs::{Entry, topic_entries};
use super::{Context, text};
use crate::cluster::{NewTopic, Refusal, Topic};

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: HashMap<_, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut response = CreateTopicsResponse::default();
    for topic in request.topics {
        let name = topic.name.clone();
        if times.get(&name).is_some_and(|count| *count > 1) {
            if response.topics.iter().all(|t| t.name != name) {
                response
                    .topics
                    .push(refuse((ResponseError::InvalidRequest, "Duplicate topic name.".to_owned())).with_name(name));
            }
            continue;
        }
        let created = match new_topic(&topic, context.node_id()) {
            Ok(new) => context.handle.create(new, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        let result = match created {
            Ok(topic) => describe(context, &topic, header.request_api_version, request.validate_only),
            Err(refusal) => refuse(refusal),
        };
        response.topics.push(result.with_name(name));
    }
    response
}

fn new_topic(topic: &CreatableTopic, node: BrokerId) -> Result<NewTopic, Refusal> {
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let missing =
            || (ResponseError::InvalidConfig, format!("Null value not supported for topic configs: {}", config.name));
        configs.insert(config.name.to_string(), config.value.as_ref().ok_or_else(missing)?.to_string());
    }
    let mut new = NewTopic {
        name: topic.name.0.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        configs,
    };
    if topic.assignments.is_empty() {
        return Ok(new);
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "Both partitions or replication factor and assignments were given.";
        return Err((ResponseError::InvalidRequest, message.to_owned()));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let dense = indexes.iter().enumerate().all(|(i, index)| i as i32 == *index);
    if !dense || topic.assignments.iter().any(|a| a.broker_ids != [node]) {
        let message = "Each partition from 0 on needs exactly one replica, on this broker.";
        return Err((ResponseError::InvalidReplicaAssignment, message.to_owned()));
    }
    new.partitions = indexes.len() as i32;
    new.replication_factor = 1;
    Ok(new)
}

fn refuse((error, message): Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
        .with_configs(None)
}

fn describe(context: &Context, topic: &Topic, version: i16, validate_only: bool) -> CreatableTopicResult {
    let config = |entry: Entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(Some(text(entry.value)))
            .with_config_source(entry.source)
    };
    let mut result = CreatableTopicResult::default();
    if version >= 5 {
        result = result
            .with_num_partitions(topic.partitions.len() as i32)
            .with_replication_factor(1)
            .with_configs(Some(topic_entries(&context.handle, topic).into_iter().map(config).collect()));
    }
    if version >= 7 && !validate_only {
        result.topic_id = topic.id;
    }
    result
}
