//! Reading `server.properties`: each known key with its default, warnings for the rest.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::broker::{BrokerConfig, Endpoint, SyncPolicy};
use super::topic::{TOPIC_CONFIGS, check};
use crate::error::Error;

/// Keys that are read here, beside the defaults of topics.
const READ: &[&str] = &[
    "advertised.listeners",
    "auto.create.topics.enable",
    "broker.id",
    "broker.rack",
    "cluster.id",
    "connections.max.idle.ms",
    "default.replication.factor",
    "delete.topic.enable",
    "fetch.max.bytes",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "listeners",
    "log.cleaner.backoff.ms",
    "log.cleaner.enable",
    "log.dir",
    "log.dirs",
    "log.retention.check.interval.ms",
    "max.connections",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "producer.id.expiration.ms",
    "socket.request.max.bytes",
    "towline.clamp.replication.factor",
    "towline.durability",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    "transaction.max.timeout.ms",
    "transaction.remove.expired.transaction.cleanup.interval.ms",
    "transaction.state.log.num.partitions",
    "transactional.id.expiration.ms",
];

/// Keys of Kafka that have no meaning on one built-in node; accepted without a word each.
const QUIET: &[&str] = &[
    "background.threads",
    "inter.broker.",
    "control.plane.listener.name",
    "listener.security.protocol.map",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.",
    "log.cleaner.threads",
    "log.flush.offset.checkpoint.interval.ms",
    "log.flush.scheduler.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms",
    "metric.reporters",
    "kafka.metrics.",
    "metrics.",
    "confluent.",
    "controller.",
    "process.roles",
    "metadata.",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.",
    "offsets.",
    "queued.",
    "quota.",
    "replica.",
    "request.timeout.ms",
    "share.coordinator.",
    "socket.",
    "transaction.",
    "unclean.leader.election.enable",
    "group.consumer.",
    "group.coordinator.",
    "group.share.",
    "max.connections.per.ip",
    "max.incremental.fetch.session.cache.slots",
    "auto.leader.rebalance.enable",
    "leader.imbalance.",
];

struct Reader<'a> {
    properties: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn parse<T: FromStr>(&self, key: &str, into: &mut T) -> Result<(), Error> {
        if let Some(value) = self.text(key) {
            *into = value.parse().map_err(|_| invalid(key, value, "it must be a number in range, or true or false"))?;
        }
        Ok(())
    }
}

fn invalid(key: &str, value: &str, reason: &'static str) -> Error {
    Error::InvalidConfig { key: key.to_owned(), value: value.to_owned(), reason }
}

/// See [`BrokerConfig::from_properties`].
pub(super) fn read(properties: &BTreeMap<String, String>) -> Result<(BrokerConfig, Vec<String>), Error> {
    let reader = Reader { properties };
    let mut warnings = unknown_keys(properties);
    let dirs = reader.text("log.dirs").or_else(|| reader.text("log.dir")).unwrap_or("/tmp/kafka-logs");
    let mut dirs = dirs.split(',').map(str::trim);
    let mut config = BrokerConfig::new(dirs.next().unwrap_or_default());
    if dirs.next().is_some() {
        warnings.push("log.dirs names several directories; only the first is used".to_owned());
    }
    config.listeners = endpoints("listeners", reader.text("listeners").unwrap_or("PLAINTEXT://:9092"))?;
    if let Some(controller) = reader.text("controller.listener.names") {
        config.listeners.retain(|l| !controller.split(',').any(|name| name.trim() == l.name));
    }
    if config.listeners.is_empty() {
        return Err(invalid("listeners", reader.text("listeners").unwrap_or(""), "no listener is left for clients"));
    }
    if let Some(advertised) = reader.text("advertised.listeners") {
        config.advertised_listeners = endpoints("advertised.listeners", advertised)?;
    }
    reader.parse("broker.id", &mut config.node_id)?;
    reader.parse("node.id", &mut config.node_id)?;
    config.cluster_id = reader.text("cluster.id").map(str::to_owned);
    config.rack = reader.text("broker.rack").map(str::to_owned);
    numbers(&reader, &mut config)?;
    config.sync_policy = match reader.text("towline.durability") {
        None | Some("group-commit") => SyncPolicy::GroupCommit,
        Some("page-cache") => SyncPolicy::PageCache,
        Some(other) => return Err(invalid("towline.durability", other, "it must be group-commit or page-cache")),
    };
    topic_defaults(properties)?;
    config.properties = properties.clone();
    Ok((config, warnings))
}

fn numbers(reader: &Reader<'_>, config: &mut BrokerConfig) -> Result<(), Error> {
    reader.parse("auto.create.topics.enable", &mut config.auto_create_topics)?;
    reader.parse("delete.topic.enable", &mut config.delete_topics)?;
    reader.parse("num.partitions", &mut config.num_partitions)?;
    reader.parse("default.replication.factor", &mut config.default_replication_factor)?;
    reader.parse("towline.clamp.replication.factor", &mut config.clamp_replication_factor)?;
    reader.parse("socket.request.max.bytes", &mut config.max_request_bytes)?;
    reader.parse("fetch.max.bytes", &mut config.fetch_max_bytes)?;
    reader.parse("connections.max.idle.ms", &mut config.connections_max_idle_ms)?;
    reader.parse("max.connections", &mut config.max_connections)?;
    reader.parse("log.retention.check.interval.ms", &mut config.retention_check_interval_ms)?;
    reader.parse("log.cleaner.backoff.ms", &mut config.cleaner_backoff_ms)?;
    reader.parse("log.cleaner.enable", &mut config.cleaner_enable)?;
    reader.parse("offsets.topic.num.partitions", &mut config.offsets_partitions)?;
    let mut minutes = config.offsets_retention_ms / 60_000;
    reader.parse("offsets.retention.minutes", &mut minutes)?;
    config.offsets_retention_ms = minutes.saturating_mul(60_000);
    reader.parse("offsets.retention.check.interval.ms", &mut config.offsets_retention_check_interval_ms)?;
    reader.parse("offset.metadata.max.bytes", &mut config.offset_metadata_max_bytes)?;
    reader.parse("group.min.session.timeout.ms", &mut config.group_min_session_timeout_ms)?;
    reader.parse("group.max.session.timeout.ms", &mut config.group_max_session_timeout_ms)?;
    reader.parse("group.initial.rebalance.delay.ms", &mut config.group_initial_rebalance_delay_ms)?;
    reader.parse("group.max.size", &mut config.group_max_size)?;
    reader.parse("producer.id.expiration.ms", &mut config.producer_id_expiration_ms)?;
    reader.parse("transaction.max.timeout.ms", &mut config.transaction_max_timeout_ms)?;
    reader.parse("transaction.state.log.num.partitions", &mut config.transactions_partitions)?;
    reader.parse(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        &mut config.transaction_abort_interval_ms,
    )?;
    reader.parse("transactional.id.expiration.ms", &mut config.transactional_id_expiration_ms)?;
    reader.parse(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        &mut config.transactional_id_check_interval_ms,
    )?;
    for (key, number) in [
        ("num.partitions", config.num_partitions),
        ("offsets.topic.num.partitions", config.offsets_partitions),
        ("transaction.state.log.num.partitions", config.transactions_partitions),
    ] {
        if number < 1 {
            return Err(invalid(key, &number.to_string(), "it must be at least 1"));
        }
    }
    Ok(())
}

/// Checks the broker keys that are defaults of topics.
fn topic_defaults(properties: &BTreeMap<String, String>) -> Result<(), Error> {
    for key in TOPIC_CONFIGS {
        let (value, synonym) = key.broker_value(properties);
        if let Some(synonym) = synonym
            && check(key.name, &value).is_err()
        {
            return Err(invalid(synonym, &value, "it is not a value that this setting can have"));
        }
    }
    Ok(())
}

fn endpoints(key: &str, list: &str) -> Result<Vec<Endpoint>, Error> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| endpoint(key, entry)).collect()
}

fn endpoint(key: &str, entry: &str) -> Result<Endpoint, Error> {
    const FORM: &str = "each entry must be NAME://host:port";
    let (name, address) = entry.split_once("://").unwrap_or(("PLAINTEXT", entry));
    let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid(key, entry, FORM))?;
    let port = port.parse().map_err(|_| invalid(key, entry, FORM))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host == "0.0.0.0" && key == "listeners" { "" } else { host };
    Ok(Endpoint { name: name.to_owned(), host: host.to_owned(), port })
}

fn unknown_keys(properties: &BTreeMap<String, String>) -> Vec<String> {
    let mut warnings = Vec::new();
    let synonyms: Vec<&str> = TOPIC_CONFIGS.iter().flat_map(|key| key.synonyms.iter().map(|(name, _)| *name)).collect();
    for key in properties.keys() {
        let known = READ.contains(&key.as_str())
            || synonyms.contains(&key.as_str())
            || QUIET.iter().any(|quiet| key == quiet || (quiet.ends_with('.') && key.starts_with(quiet)));
        if known {
            continue;
        }
        if key.starts_with("zookeeper.") {
            if key == "zookeeper.connect" {
                warnings.push("zookeeper.connect is ignored: metadata is built in".to_owned());
            }
            continue;
        }
        if ["sasl.", "ssl.", "authorizer.", "super.users", "listener.name."].iter().any(|p| key.starts_with(p)) {
            warnings.push(format!("{key} is ignored: this version has no authentication, encryption or ACLs"));
            continue;
        }
        warnings.push(match nearest(key, READ.iter().chain(&synonyms).copied()) {
            Some(near) => format!("unknown setting {key} is ignored; did you mean {near}?"),
            None => format!("unknown setting {key} is ignored"),
        });
    }
    warnings
}

/// The known name that is few letters away, if any.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 4).clamp(1, 6);
    known.map(|k| (distance(name, k), k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<String>), Error> {
        BrokerConfig::from_properties(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn reads_kafka_keys_and_warns_of_unknown_ones() {
        let (config, warnings) = read_pairs(&[
            ("listeners", "INSIDE://0.0.0.0:19092,OUTSIDE://[::1]:29092,CONTROLLER://:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("advertised.listeners", "INSIDE://broker:19092"),
            ("log.dirs", "/data/a,/data/b"),
            ("num.partition", "3"),
            ("zookeeper.connect", "zk:2181"),
            ("num.io.threads", "8"),
            ("offsets.retention.minutes", "5"),
            ("log.retention.hours", "2"),
        ])
        .unwrap();
        assert_eq!(config.listeners.len(), 2);
        assert_eq!((config.listeners[0].host.as_str(), config.listeners[1].host.as_str()), ("", "::1"));
        assert_eq!(config.data_dir.to_str(), Some("/data/a"));
        assert_eq!((config.num_partitions, config.offsets_retention_ms), (1, 300_000));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.ends_with("did you mean num.partitions?")));
    }

    #[test]
    fn refuses_values_that_cannot_be_used() {
        for pair in [
            ("num.partitions", "0"),
            ("listeners", "nonsense"),
            ("towline.durability", "x"),
            ("log.segment.bytes", "-4"),
        ] {
            assert!(read_pairs(&[pair]).is_err(), "{pair:?}");
        }
    }
}
