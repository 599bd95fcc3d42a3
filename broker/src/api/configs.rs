//! The settings of topics and of the broker as the config requests show and change them.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::Context;
use crate::cluster::{Refusal, Topic};
use crate::config::{TOPIC_CONFIGS, check_topic_config, find_topic_config, nearest};
use crate::handle::{ConfigSource, Handle, TopicConfigEntry};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_BROKER: i8 = 3;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// One setting with where its value comes from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) source: i8,
    pub(super) kind: i8,
    pub(super) read_only: bool,
    /// Name, value and source of each level that has the setting, the strongest first.
    pub(super) synonyms: Vec<(String, String, i8)>,
}

/// All settings of a topic.
pub(super) fn topic_entries(handle: &Handle, topic: &Topic) -> Vec<Entry> {
    let number = |source| match source {
        ConfigSource::Topic => SOURCE_TOPIC,
        ConfigSource::DynamicBroker => SOURCE_DYNAMIC_BROKER,
        ConfigSource::StaticBroker => SOURCE_STATIC,
        ConfigSource::Default => SOURCE_DEFAULT,
    };
    let entry = |e: TopicConfigEntry| Entry {
        name: e.name.to_owned(),
        value: e.value,
        source: number(e.source),
        kind: e.kind,
        read_only: false,
        synonyms: e.synonyms.into_iter().map(|s| (s.name, s.value, number(s.source))).collect(),
    };
    handle.topic_entries(topic).into_iter().map(entry).collect()
}

/// All settings of the broker: those that are defaults of topics can be changed.
pub(super) fn broker_entries(context: &Context) -> Vec<Entry> {
    let config = &context.handle.0.config;
    let dynamic = context.cluster().broker_configs();
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut add = |name: &str, default: String, kind: i8, read_only: bool| {
        let mut synonyms = Vec::new();
        if let Some(value) = dynamic.get(name) {
            synonyms.push((name.to_owned(), value.clone(), SOURCE_DYNAMIC_BROKER));
        }
        if let Some(value) = config.properties.get(name) {
            synonyms.push((name.to_owned(), value.clone(), SOURCE_STATIC));
        }
        synonyms.push((name.to_owned(), default, SOURCE_DEFAULT));
        let (_, value, source) = synonyms[0].clone();
        entries.insert(name.to_owned(), Entry { name: name.to_owned(), value, source, kind, read_only, synonyms });
    };
    for key in TOPIC_CONFIGS {
        for (synonym, _) in key.synonyms.iter().take(1) {
            add(synonym, key.default.to_owned(), key.kind.code(), false);
        }
    }
    let fixed = [
        ("auto.create.topics.enable", config.auto_create_topics.to_string(), 1),
        ("broker.id", config.node_id.to_string(), 3),
        ("default.replication.factor", config.default_replication_factor.to_string(), 3),
        ("delete.topic.enable", config.delete_topics.to_string(), 1),
        ("fetch.max.bytes", config.fetch_max_bytes.to_string(), 3),
        ("group.initial.rebalance.delay.ms", config.group_initial_rebalance_delay_ms.to_string(), 3),
        ("group.max.session.timeout.ms", config.group_max_session_timeout_ms.to_string(), 3),
        ("group.min.session.timeout.ms", config.group_min_session_timeout_ms.to_string(), 3),
        ("log.dirs", config.data_dir.display().to_string(), 2),
        ("node.id", config.node_id.to_string(), 3),
        ("num.partitions", config.num_partitions.to_string(), 3),
        ("offsets.retention.minutes", (config.offsets_retention_ms / 60_000).to_string(), 3),
        ("offsets.topic.num.partitions", config.offsets_partitions.to_string(), 3),
        ("socket.request.max.bytes", config.max_request_bytes.to_string(), 3),
        ("transaction.max.timeout.ms", config.transaction_max_timeout_ms.to_string(), 3),
    ];
    for (name, value, kind) in fixed {
        add(name, value, kind, true);
    }
    entries.into_values().collect()
}

/// One change to a setting.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) name: String,
    /// 0 set, 1 delete, 2 append, 3 subtract.
    pub(super) operation: i8,
    pub(super) value: Option<String>,
}

/// Changes one resource; with `replace` settings that are not named are removed first.
pub(super) async fn alter(
    context: &Context,
    kind: i8,
    name: &str,
    changes: Vec<Change>,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    for (i, change) in changes.iter().enumerate() {
        if changes[..i].iter().any(|other| other.name == change.name) {
            return Err((ResponseError::InvalidRequest, format!("Duplicate config key {}", change.name)));
        }
    }
    let name = name.to_owned();
    match kind {
        TOPIC => {
            let edit = move |configs: &mut BTreeMap<String, String>| apply(configs, changes, replace, topic_default);
            context.handle.blocking(move |inner| inner.cluster.set_topic_configs(&name, validate_only, edit)).await
        }
        BROKER => {
            if !name.is_empty() && name != context.handle.0.config.node_id.to_string() {
                return Err((
                    ResponseError::InvalidRequest,
                    format!("Unexpected broker id {name}; this is {}", context.node_id().0),
                ));
            }
            let mut configs = context.cluster().broker_configs();
            apply(&mut configs, changes, replace, |_| String::new())?;
            for (key, value) in &configs {
                check_broker(key, value)?;
            }
            if validate_only {
                return Ok(());
            }
            context.handle.blocking(move |inner| inner.cluster.set_broker_configs(configs)).await
        }
        _ => Err((ResponseError::InvalidRequest, format!("Resource type {kind} cannot be changed here"))),
    }
}

fn topic_default(name: &str) -> String {
    find_topic_config(name).map(|key| key.default.to_owned()).unwrap_or_default()
}

fn check_broker(name: &str, value: &str) -> Result<(), Refusal> {
    let key = TOPIC_CONFIGS.iter().find(|key| key.synonyms.iter().any(|(synonym, _)| *synonym == name));
    let Some(key) = key else {
        let known = TOPIC_CONFIGS.iter().flat_map(|key| key.synonyms.iter().map(|(name, _)| *name));
        let near = nearest(name, known).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        return Err((ResponseError::InvalidRequest, format!("{name} cannot be changed while the broker runs{near}")));
    };
    check_topic_config(key.name, value).map_err(|message| (ResponseError::InvalidConfig, message))
}

fn apply(
    configs: &mut BTreeMap<String, String>,
    changes: Vec<Change>,
    replace: bool,
    default: impl Fn(&str) -> String,
) -> Result<(), Refusal> {
    if replace {
        configs.clear();
    }
    for Change { name, operation, value } in changes {
        let missing = || (ResponseError::InvalidRequest, format!("Null value not supported for {name}"));
        match operation {
            0 => {
                let value = value.ok_or_else(missing)?;
                configs.insert(name, value);
            }
            1 => {
                configs.remove(&name);
            }
            2 | 3 => {
                let value = value.ok_or_else(missing)?;
                let now = configs.get(&name).cloned().unwrap_or_else(|| default(&name));
                let mut list: Vec<&str> = now.split(',').map(str::trim).filter(|v| !v.is_empty()).collect();
                for item in value.split(',').map(str::trim) {
                    list.retain(|v| *v != item);
                    if operation == 2 {
                        list.push(item);
                    }
                }
                configs.insert(name, list.join(","));
            }
            other => return Err((ResponseError::InvalidRequest, format!("Unknown operation {other}"))),
        }
    }
    Ok(())
}
