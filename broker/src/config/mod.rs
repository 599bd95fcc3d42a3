//! Settings of the broker and of topics: Kafka's names, defaults and rules.

mod broker;
mod properties;
mod topic;

pub use broker::{BrokerConfig, Endpoint, SyncPolicy};
pub(crate) use properties::nearest;
pub(crate) use topic::{TOPIC_CONFIGS, TopicConfig, TopicConfigKey, check as check_topic_config, find_topic_config};
