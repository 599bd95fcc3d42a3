//! Topics: what they are, and orders to create, widen and delete them.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataResponse,
};
use uuid::Uuid;

use super::{Admin, AdminError, AdminResult, ORDER_TIMEOUT_MS, check, ids, text, topic_name};

/// A topic as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Topic {
    /// Its name.
    pub(in crate::cli) name: String,
    /// Its id; nil if the cluster has none.
    pub(in crate::cli) id: Uuid,
    /// Kept by the broker for itself.
    pub(in crate::cli) internal: bool,
    /// In order of their numbers.
    pub(in crate::cli) partitions: Vec<TopicPartitionState>,
}

/// A partition as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct TopicPartitionState {
    /// Its number.
    pub(in crate::cli) partition: i32,
    /// The node that serves it, `None` while there is none.
    pub(in crate::cli) leader: Option<i32>,
    /// Nodes that keep it.
    pub(in crate::cli) replicas: Vec<i32>,
    /// Nodes that have all of it.
    pub(in crate::cli) isr: Vec<i32>,
}

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct NewTopic {
    /// Its name.
    pub(in crate::cli) name: String,
    /// Partitions; -1 leaves it to the broker.
    pub(in crate::cli) partitions: i32,
    /// Replicas; -1 leaves it to the broker.
    pub(in crate::cli) replication_factor: i16,
    /// Nodes of each partition, if chosen by hand.
    pub(in crate::cli) assignment: Vec<Vec<i32>>,
    /// Topic configs.
    pub(in crate::cli) configs: Vec<(String, String)>,
}

impl Admin {
    /// All topics, sorted by name.
    pub(in crate::cli) async fn topics(&mut self) -> AdminResult<Vec<Topic>> {
        let answer = self.metadata(None).await?;
        Ok(topics_of(&answer))
    }

    /// Some topics, sorted by name; those that do not exist are left out.
    pub(in crate::cli) async fn topics_named(&mut self, names: &[String]) -> AdminResult<Vec<Topic>> {
        let answer = self.metadata(Some(names)).await?;
        Ok(topics_of(&answer))
    }

    /// Creates a topic.
    pub(in crate::cli) async fn create_topic(&mut self, new: &NewTopic) -> AdminResult<()> {
        let configs = new
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let assignments = (0_i32..).zip(&new.assignment).map(|(partition, nodes)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition)
                .with_broker_ids(nodes.iter().map(|node| BrokerId(*node)).collect())
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(&new.name))
            .with_num_partitions(new.partitions)
            .with_replication_factor(new.replication_factor)
            .with_assignments(assignments.collect())
            .with_configs(configs.collect());
        let connection = self.controller().await?;
        let version = connection.version::<CreateTopicsRequest>(7)?;
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(ORDER_TIMEOUT_MS);
        let answer = connection.call(version, &request).await?;
        let result = answer.topics.first().ok_or_else(|| no_answer(&new.name))?;
        check(result.error_code, result.error_message.as_ref())
    }

    /// Deletes topics; the first refusal is the answer.
    pub(in crate::cli) async fn delete_topics(&mut self, names: &[String]) -> AdminResult<()> {
        let connection = self.controller().await?;
        let version = connection.version::<DeleteTopicsRequest>(6)?;
        let request = DeleteTopicsRequest::default().with_timeout_ms(ORDER_TIMEOUT_MS);
        let request = if version >= 6 {
            let states = names.iter().map(|n| DeleteTopicState::default().with_name(Some(topic_name(n))));
            request.with_topics(states.collect())
        } else {
            request.with_topic_names(names.iter().map(|n| topic_name(n)).collect())
        };
        let answer = connection.call(version, &request).await?;
        answer.responses.iter().try_for_each(|result| check(result.error_code, result.error_message.as_ref()))
    }

    /// Gives topics more partitions; the first refusal is the answer.
    pub(in crate::cli) async fn create_partitions(&mut self, names: &[String], count: i32) -> AdminResult<()> {
        let topics = names.iter().map(|name| {
            CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None)
        });
        let request =
            CreatePartitionsRequest::default().with_topics(topics.collect()).with_timeout_ms(ORDER_TIMEOUT_MS);
        let connection = self.controller().await?;
        let version = connection.version::<CreatePartitionsRequest>(3)?;
        let answer = connection.call(version, &request).await?;
        answer.results.iter().try_for_each(|result| check(result.error_code, result.error_message.as_ref()))
    }
}

fn no_answer(topic: &str) -> AdminError {
    AdminError::Protocol(format!("the broker did not answer for topic {topic}"))
}

fn topics_of(answer: &MetadataResponse) -> Vec<Topic> {
    let mut topics: Vec<Topic> = answer
        .topics
        .iter()
        .filter(|topic| topic.error_code == 0)
        .map(|topic| {
            let mut partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|partition| TopicPartitionState {
                    partition: partition.partition_index,
                    leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                    replicas: ids(&partition.replica_nodes),
                    isr: ids(&partition.isr_nodes),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.partition);
            Topic {
                name: topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
                id: topic.topic_id,
                internal: topic.is_internal,
                partitions,
            }
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}
