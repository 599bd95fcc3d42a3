//! Topics that a task writes to or reads from: creation by the connector's rules (KIP-158) and tracking (KIP-558).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fancy_regex::Regex;
use futures_util::StreamExt;
use towline_connectors::api::{Error, ErrorKind, Props, Result};

use super::chain::entries;
use super::{TaskContext, now_ms};
use crate::kafka::NewTopic;
use crate::store::TopicUse;

/// The `topic.creation.*` groups of a connector; none if it leaves creation to the broker.
#[derive(Debug, Default)]
pub struct TopicRules {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    partitions: i32,
    replication_factor: i32,
    configs: BTreeMap<String, String>,
}

const PREFIX: &str = "topic.creation.";

impl TopicRules {
    /// Reads the rules of a source connector's config.
    ///
    /// # Errors
    /// A config error with Kafka's text.
    pub fn read(props: &Props) -> Result<Self> {
        let keys: BTreeMap<&str, &str> =
            props.iter().filter_map(|(k, v)| Some((k.strip_prefix(PREFIX)?, v.trim()))).collect();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let number = |group: &str, what: &str, fallback: Option<i32>| match keys.get(format!("{group}.{what}").as_str())
        {
            Some(text) => match text.parse::<i32>() {
                Ok(n) if n >= 1 || n == -1 => Ok(n),
                _ => Err(Error::config(format!(
                    "Invalid value {text} for configuration {PREFIX}{group}.{what}: must be at least 1, or -1 for the \
                     broker's default"
                ))),
            },
            None => fallback.ok_or_else(|| {
                Error::config(format!(
                    "Missing required configuration \"{PREFIX}{group}.{what}\" which has no default value."
                ))
            }),
        };
        let replication_factor = number("default", "replication.factor", None)?;
        let partitions = number("default", "partitions", None)?;
        let patterns = |group: &str, what: &str| {
            let text = keys.get(format!("{group}.{what}").as_str()).map(|text| (*text).to_owned());
            entries(text.as_ref())
                .map(|pattern| {
                    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
                        Error::config(format!("Invalid regex in {PREFIX}{group}.{what}: {pattern}")).caused_by(error)
                    })
                })
                .collect::<Result<Vec<_>>>()
        };
        let configs = |group: &str| {
            let prefix = format!("{group}.");
            let own = ["include", "exclude", "partitions", "replication.factor"];
            keys.iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, *value)))
                .filter(|(key, _)| !own.contains(key))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let mut groups = Vec::new();
        let names = keys.get("groups").map(|text| (*text).to_owned());
        for name in entries(names.as_ref()).filter(|name| *name != "default") {
            let include = patterns(name, "include")?;
            if include.is_empty() {
                return Err(Error::config(format!(
                    "Missing required configuration \"{PREFIX}{name}.include\" which has no default value."
                )));
            }
            groups.push(Group {
                include,
                exclude: patterns(name, "exclude")?,
                partitions: number(name, "partitions", Some(partitions))?,
                replication_factor: number(name, "replication.factor", Some(replication_factor))?,
                configs: configs(name),
            });
        }
        let all = Group {
            include: Vec::new(),
            exclude: Vec::new(),
            partitions,
            replication_factor,
            configs: configs("default"),
        };
        groups.push(all);
        Ok(Self { groups })
    }

    /// How to create a topic; `None` if that is left to the broker.
    pub fn topic(&self, name: &str) -> Option<NewTopic> {
        let matches = |patterns: &[Regex]| patterns.iter().any(|p| p.is_match(name).unwrap_or(false));
        let last = self.groups.len().checked_sub(1)?;
        let group = self.groups[..last].iter().find(|g| matches(&g.include) && !matches(&g.exclude));
        let group = group.unwrap_or(&self.groups[last]);
        Some(NewTopic {
            name: name.to_owned(),
            partitions: group.partitions,
            replication_factor: group.replication_factor,
            configs: group.configs.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }
}

/// So many topics are created at once, each of which may hold a thread while the disk writes.
const SIDE_BY_SIDE: usize = 16;

/// Remembers which topics are known to exist and are tracked.
#[derive(Debug, Default)]
pub(super) struct Topics {
    rules: TopicRules,
    known: HashSet<Arc<str>>,
}

impl Topics {
    pub(super) fn new(rules: TopicRules) -> Self {
        Self { rules, known: HashSet::new() }
    }

    pub(super) fn is_known(&self, topic: &str) -> bool {
        self.known.contains(topic)
    }

    /// Creates the topic by the rules if it is missing, and notes its use. Once per topic.
    pub(super) async fn ensure(&mut self, context: &TaskContext, topic: &Arc<str>) -> Result<()> {
        if self.known.contains(topic) {
            return Ok(());
        }
        self.create(context, topic).await?;
        if context.worker.boolean("topic.tracking.enable") {
            let used = TopicUse { topic: topic.to_string(), task: context.task };
            context.stores.status.note_topic(&context.connector, &used, now_ms());
        }
        self.known.insert(topic.clone());
        Ok(())
    }

    /// Creates the topic by the rules if it is missing.
    async fn create(&self, context: &TaskContext, topic: &Arc<str>) -> Result<()> {
        let Some(new) = self.rules.topic(topic) else { return Ok(()) };
        if context.kafka.partitions(topic).await?.is_none() {
            let created = context.kafka.create_topic(&new).await.map_err(|error| match error.kind() {
                ErrorKind::Retriable => error,
                _ => Error::fatal(format!(
                    "Task failed to create new topic (name={topic}, numPartitions={}, replicationFactor={}): {error}. \
                     Ensure that the task is authorized to create topics or that the topic exists and restart the task",
                    new.partitions, new.replication_factor
                ))
                .caused_by(error),
            })?;
            if created {
                tracing::info!(connector = %context.connector, task = context.task, %topic, partitions = new.partitions, "created topic");
            }
        }
        Ok(())
    }

    /// Creates those of these topics that are missing, side by side, so that they share the broker's work, and groups
    /// that wait for them rebalance once; `here` if records go to the worker's own cluster, which may create them by
    /// itself. What fails is told by [`Self::ensure`] when a record needs the topic.
    pub(super) async fn create_together<'a>(
        &self,
        context: &TaskContext,
        topics: impl Iterator<Item = &'a Arc<str>>,
        here: bool,
    ) {
        let mut new: Vec<&Arc<str>> = topics.filter(|topic| !topic.is_empty() && !self.is_known(topic)).collect();
        new.sort_unstable();
        new.dedup();
        let create = |topic: &'a Arc<str>| async move {
            if self.rules.topic(topic).is_some() {
                if let Err(error) = self.create(context, topic).await {
                    tracing::debug!(%topic, %error, "topic is not created yet");
                }
            } else if here {
                context.kafka.auto_create(topic).await;
            }
        };
        futures_util::stream::iter(new).for_each_concurrent(SIDE_BY_SIDE, create).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(entries: &[(&str, &str)]) -> Props {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_first_matching_group_wins_and_inherits() {
        let rules = TopicRules::read(&props(&[
            ("topic.creation.default.partitions", "1"),
            ("topic.creation.default.replication.factor", "1"),
            ("topic.creation.groups", "logs"),
            ("topic.creation.logs.include", "log-.*"),
            ("topic.creation.logs.exclude", "log-x"),
            ("topic.creation.logs.partitions", "5"),
            ("topic.creation.logs.cleanup.policy", "compact"),
        ]))
        .unwrap();
        let logs = rules.topic("log-a").unwrap();
        assert_eq!((logs.partitions, logs.replication_factor), (5, 1));
        assert_eq!(logs.configs, [("cleanup.policy".to_owned(), "compact".to_owned())]);
        assert_eq!(rules.topic("log-x").unwrap().partitions, 1);
        assert_eq!(rules.topic("xlog-a").unwrap().partitions, 1);
        assert!(TopicRules::read(&Props::new()).unwrap().topic("t").is_none());
        let missing = TopicRules::read(&props(&[("topic.creation.default.partitions", "1")])).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "Missing required configuration \"topic.creation.default.replication.factor\" which has no default value."
        );
    }
}
