//! What a new topic must satisfy.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Cluster, MAX_PARTITIONS, NewTopic, Refusal, Topic};
use crate::config::check_topic_config;

impl Cluster {
    /// Checks a topic that is to be created after those that are `staged`; answers its number of partitions.
    pub(super) fn check_new(&self, new: &NewTopic, staged: &[Arc<Topic>]) -> Result<i32, Refusal> {
        check_name(&new.name)?;
        if self.topic(&new.name).is_some() || staged.iter().any(|topic| *topic.name == *new.name) {
            return Err((ResponseError::TopicAlreadyExists, format!("Topic '{}' already exists.", new.name)));
        }
        let collides = |name: &Arc<str>| name.replace('.', "_") == new.name.replace('.', "_");
        let there = self.read(|state| state.topics.keys().find(|n| collides(n)).cloned());
        if let Some(other) = there.or_else(|| staged.iter().map(|topic| topic.name.clone()).find(collides)) {
            let message = format!("Topic '{}' collides with existing topics: {other}", new.name);
            return Err((ResponseError::InvalidTopicException, message));
        }
        let partitions = if new.partitions == -1 { self.config.num_partitions } else { new.partitions };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err((ResponseError::InvalidPartitions, message.to_owned()));
        }
        self.check_replication(new)?;
        for (name, value) in &new.configs {
            check_topic_config(name, value).map_err(|message| (ResponseError::InvalidConfig, message))?;
        }
        Ok(partitions)
    }

    fn check_replication(&self, new: &NewTopic) -> Result<(), Refusal> {
        let given = new.replication_factor;
        let factor = if given == -1 { self.config.default_replication_factor } else { given };
        if factor == 1 {
            return Ok(());
        }
        if factor > 1 && self.config.clamp_replication_factor {
            tracing::info!(topic = new.name, asked = factor, "replication factor lowered to 1: this is the only node");
            return Ok(());
        }
        let message = if factor > 1 {
            format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only 1 broker(s) are registered."
            )
        } else {
            "Replication factor must be larger than 0, or -1 to use the default value.".to_owned()
        };
        Err((ResponseError::InvalidReplicationFactor, message))
    }
}

/// Kafka's rule for topic names.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(legal) {
        return Ok(());
    }
    let message =
        format!("Topic name is invalid: '{name}' must be 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'");
    Err((ResponseError::InvalidTopicException, message))
}
