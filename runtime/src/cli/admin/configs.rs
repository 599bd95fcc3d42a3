//! Configs of topics, brokers and groups.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Admin, AdminResult, Connection, check, text};

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// A broker's by id, or the cluster's defaults for all brokers.
    Broker(Option<i32>),
    /// A consumer group's.
    Group(String),
}

impl ConfigResource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) => 4,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> StrBytes {
        match self {
            Self::Topic(name) | Self::Group(name) => text(name),
            Self::Broker(id) => StrBytes::from_string(id.map(|id| id.to_string()).unwrap_or_default()),
        }
    }
}

/// One config as the broker shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct ConfigValue {
    /// The key.
    pub(in crate::cli) name: String,
    /// The value; `None` if it is secret or unset.
    pub(in crate::cli) value: Option<String>,
    /// Where the value comes from, by Kafka's number.
    pub(in crate::cli) source: i8,
    /// Secret.
    pub(in crate::cli) sensitive: bool,
    /// All places that have a value, the one that wins first: source, key, value.
    pub(in crate::cli) synonyms: Vec<(i8, String, Option<String>)>,
}

/// A change to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum ConfigChange {
    /// Gives it a value.
    Set(String, String),
    /// Takes the value away, so that the default counts.
    Delete(String),
}

/// Kafka's name of a config source.
pub(in crate::cli) fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

impl Admin {
    /// The configs of some resources, each sorted by key.
    pub(in crate::cli) async fn configs(&mut self, resources: &[ConfigResource]) -> AdminResult<Vec<Vec<ConfigValue>>> {
        let mut found = Vec::with_capacity(resources.len());
        for resource in resources {
            let asked = DescribeConfigsResource::default()
                .with_resource_type(resource.kind())
                .with_resource_name(resource.name())
                .with_configuration_keys(None);
            let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
            let connection = self.config_node(resource).await?;
            let version = connection.version::<DescribeConfigsRequest>(4)?;
            let answer = connection.call(version, &request).await?;
            let mut values = Vec::new();
            for result in answer.results {
                check(result.error_code, result.error_message.as_ref())?;
                values.extend(result.configs.into_iter().map(|config| {
                    ConfigValue {
                        name: config.name.to_string(),
                        value: config.value.map(|value| value.to_string()),
                        source: config.config_source,
                        sensitive: config.is_sensitive,
                        synonyms: config
                            .synonyms
                            .into_iter()
                            .map(|s| (s.source, s.name.to_string(), s.value.map(|value| value.to_string())))
                            .collect(),
                    }
                }));
            }
            values.sort_by(|a, b| a.name.cmp(&b.name));
            found.push(values);
        }
        Ok(found)
    }

    /// Changes configs of one resource.
    pub(in crate::cli) async fn alter_configs(
        &mut self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
    ) -> AdminResult<()> {
        let configs = changes.iter().map(|change| match change {
            ConfigChange::Set(key, value) => {
                AlterableConfig::default().with_name(text(key)).with_config_operation(0).with_value(Some(text(value)))
            }
            ConfigChange::Delete(key) => {
                AlterableConfig::default().with_name(text(key)).with_config_operation(1).with_value(None)
            }
        });
        let altered = AlterConfigsResource::default()
            .with_resource_type(resource.kind())
            .with_resource_name(resource.name())
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![altered]);
        let connection = self.config_node(resource).await?;
        let version = connection.version::<IncrementalAlterConfigsRequest>(1)?;
        let answer = connection.call(version, &request).await?;
        answer.responses.iter().try_for_each(|result| check(result.error_code, result.error_message.as_ref()))
    }

    /// A broker's own configs are known to that broker only.
    async fn config_node(&mut self, resource: &ConfigResource) -> AdminResult<&mut Connection> {
        match resource {
            ConfigResource::Broker(Some(id)) => self.node(*id).await,
            _ => self.controller().await,
        }
    }
}
