//! The topic settings: one table of names, kinds, defaults and broker synonyms, and their resolved form.

use std::collections::BTreeMap;

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Int(i64),
    Long(i64),
    Double,
    Text,
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    AnyList,
}

impl Kind {
    /// The number that DescribeConfigs gives it.
    pub(crate) fn code(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::OneOf(_) => 2,
            Kind::Int(_) => 3,
            Kind::Long(_) => 5,
            Kind::Double => 6,
            Kind::ListOf(_) | Kind::AnyList => 7,
        }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Kind::Bool => matches!(value, "true" | "false"),
            Kind::Int(min) => value.parse::<i32>().is_ok_and(|v| i64::from(v) >= min),
            Kind::Long(min) => value.parse::<i64>().is_ok_and(|v| v >= min),
            Kind::Double => value.parse::<f64>().is_ok_and(|v| (0.0..=1.0).contains(&v)),
            Kind::Text | Kind::AnyList => true,
            Kind::OneOf(names) => names.contains(&value),
            Kind::ListOf(names) => value.is_empty() || value.split(',').all(|v| names.contains(&v.trim())),
        }
    }
}

/// One setting of a topic.
#[derive(Debug)]
pub(crate) struct TopicConfigKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The broker settings that give the default, the strongest first, with the factor to the topic's unit.
    pub(crate) synonyms: &'static [(&'static str, i64)],
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonyms: &'static [(&'static str, i64)],
) -> TopicConfigKey {
    TopicConfigKey { name, kind, default, synonyms }
}

/// A setting that is accepted and reported, without effect here.
const fn inert(name: &'static str, kind: Kind, default: &'static str) -> TopicConfigKey {
    TopicConfigKey { name, kind, default, synonyms: &[] }
}

const MAX: &str = "9223372036854775807";
const CODECS: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];

/// All settings of a topic, sorted by name.
pub(crate) static TOPIC_CONFIGS: &[TopicConfigKey] = &[
    key("cleanup.policy", Kind::ListOf(&["delete", "compact"]), "delete", &[("log.cleanup.policy", 1)]),
    inert("compression.gzip.level", Kind::Int(-1), "-1"),
    inert("compression.lz4.level", Kind::Int(1), "9"),
    key("compression.type", Kind::OneOf(CODECS), "producer", &[("compression.type", 1)]),
    inert("compression.zstd.level", Kind::Int(-131_072), "3"),
    key("delete.retention.ms", Kind::Long(0), "86400000", &[("log.cleaner.delete.retention.ms", 1)]),
    key("file.delete.delay.ms", Kind::Long(0), "60000", &[("log.segment.delete.delay.ms", 1)]),
    key("flush.messages", Kind::Long(1), MAX, &[("log.flush.interval.messages", 1)]),
    key("flush.ms", Kind::Long(0), MAX, &[("log.flush.interval.ms", 1)]),
    inert("follower.replication.throttled.replicas", Kind::AnyList, ""),
    key("index.interval.bytes", Kind::Int(0), "4096", &[("log.index.interval.bytes", 1)]),
    inert("leader.replication.throttled.replicas", Kind::AnyList, ""),
    inert("local.retention.bytes", Kind::Long(-2), "-2"),
    inert("local.retention.ms", Kind::Long(-2), "-2"),
    key("max.compaction.lag.ms", Kind::Long(1), MAX, &[("log.cleaner.max.compaction.lag.ms", 1)]),
    key("max.message.bytes", Kind::Int(0), "1048588", &[("message.max.bytes", 1)]),
    inert("message.downconversion.enable", Kind::Bool, "true"),
    inert("message.format.version", Kind::Text, "3.0-IV1"),
    key("message.timestamp.after.max.ms", Kind::Long(0), "3600000", &[("log.message.timestamp.after.max.ms", 1)]),
    key("message.timestamp.before.max.ms", Kind::Long(0), MAX, &[("log.message.timestamp.before.max.ms", 1)]),
    key(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        &[("log.message.timestamp.type", 1)],
    ),
    key("min.cleanable.dirty.ratio", Kind::Double, "0.5", &[("log.cleaner.min.cleanable.ratio", 1)]),
    key("min.compaction.lag.ms", Kind::Long(0), "0", &[("log.cleaner.min.compaction.lag.ms", 1)]),
    key("min.insync.replicas", Kind::Int(1), "1", &[("min.insync.replicas", 1)]),
    inert("preallocate", Kind::Bool, "false"),
    inert("remote.log.copy.disable", Kind::Bool, "false"),
    inert("remote.log.delete.on.disable", Kind::Bool, "false"),
    key("remote.storage.enable", Kind::OneOf(&["false"]), "false", &[]),
    key("retention.bytes", Kind::Long(i64::MIN), "-1", &[("log.retention.bytes", 1)]),
    key(
        "retention.ms",
        Kind::Long(-1),
        "604800000",
        &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)],
    ),
    key("segment.bytes", Kind::Int(14), "1073741824", &[("log.segment.bytes", 1)]),
    key("segment.index.bytes", Kind::Int(4), "10485760", &[("log.index.size.max.bytes", 1)]),
    inert("segment.jitter.ms", Kind::Long(0), "0"),
    key("segment.ms", Kind::Long(1), "604800000", &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)]),
    inert("unclean.leader.election.enable", Kind::Bool, "false"),
];

/// The setting of that name.
pub(crate) fn find_topic_config(name: &str) -> Option<&'static TopicConfigKey> {
    TOPIC_CONFIGS.iter().find(|key| key.name == name)
}

impl TopicConfigKey {
    /// The value on a broker with these settings, and the broker key that it comes from.
    pub(crate) fn broker_value(&self, broker: &BTreeMap<String, String>) -> (String, Option<&'static str>) {
        for (synonym, factor) in self.synonyms {
            if let Some(value) = broker.get(*synonym) {
                let scaled = match value.parse::<i64>() {
                    Ok(number) if *factor != 1 && number >= 0 => number.saturating_mul(*factor).to_string(),
                    _ => value.clone(),
                };
                return (scaled, Some(synonym));
            }
        }
        (self.default.to_owned(), None)
    }
}

/// Checks one setting of a topic.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(key) = find_topic_config(name) else { return Err(format!("Unknown topic config name: {name}")) };
    if key.kind.accepts(value.trim()) { Ok(()) } else { Err(format!("Invalid value {value} for configuration {name}")) }
}

/// The settings of a topic, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicConfig {
    pub(crate) delete: bool,
    pub(crate) compact: bool,
    /// Codec to which batches must be recompressed; none for the producer's choice.
    pub(crate) compression: Option<u8>,
    pub(crate) delete_retention_ms: i64,
    pub(crate) flush_messages: i64,
    pub(crate) index_interval_bytes: u64,
    pub(crate) log_append_time: bool,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) max_message_bytes: i64,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) min_insync_replicas: i64,
    pub(crate) retention_bytes: i64,
    pub(crate) retention_ms: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    pub(crate) timestamp_before_max_ms: i64,
}

impl TopicConfig {
    /// Resolves a topic's own settings over the broker's over the defaults; an unusable value counts as absent.
    pub(crate) fn resolve(overrides: &BTreeMap<String, String>, broker: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| -> String {
            let own = overrides.get(name).filter(|value| check(name, value).is_ok());
            let key = find_topic_config(name);
            own.cloned()
                .or_else(|| key.map(|k| k.broker_value(broker).0).filter(|value| check(name, value).is_ok()))
                .or_else(|| key.map(|k| k.default.to_owned()))
                .unwrap_or_default()
        };
        let number = |name: &str| text(name).trim().parse::<i64>().unwrap_or(0);
        let policy = text("cleanup.policy");
        let has = |name: &str| policy.split(',').any(|p| p.trim() == name);
        let codec = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];
        let compression = text("compression.type");
        TopicConfig {
            delete: has("delete"),
            compact: has("compact"),
            compression: codec.iter().position(|name| *name == compression).map(|codec| codec as u8),
            delete_retention_ms: number("delete.retention.ms"),
            flush_messages: number("flush.messages"),
            index_interval_bytes: number("index.interval.bytes") as u64,
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            max_message_bytes: number("max.message.bytes"),
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            min_insync_replicas: number("min.insync.replicas"),
            retention_bytes: number("retention.bytes"),
            retention_ms: number("retention.ms"),
            segment_bytes: number("segment.bytes") as u64,
            segment_ms: number("segment.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|key| key.name));
        for key in TOPIC_CONFIGS {
            assert_eq!(check(key.name, key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn a_topic_overrides_the_broker_which_overrides_the_default() {
        let broker = map(&[("log.retention.hours", "1"), ("message.max.bytes", "5000")]);
        let config =
            TopicConfig::resolve(&map(&[("max.message.bytes", "9"), ("cleanup.policy", "compact, delete")]), &broker);
        assert_eq!((config.retention_ms, config.max_message_bytes), (3_600_000, 9));
        assert!(config.compact && config.delete && config.compression.is_none());
        let broker = map(&[("log.retention.hours", "1"), ("log.retention.ms", "7")]);
        assert_eq!(TopicConfig::resolve(&map(&[("compression.type", "zstd")]), &broker).retention_ms, 7);
        assert!(check("dummy.doesntexist", "1").is_err() && check("segment.bytes", "-1").is_err());
    }
}
