//! The keys that every connector has, whatever its class, in Kafka Connect's order.

use std::collections::HashSet;

use towline_connectors::api::{ConfigDef, ConfigKey, ConfigType, Importance, Validator, Width};

use super::plugins::PluginKind;

const COMMON: &str = "Common";
const TRANSFORMS_GROUP: &str = "Transforms";
const PREDICATES_GROUP: &str = "Predicates";
const ERRORS: &str = "Error Handling";

/// The keys that every connector has, and those of its kind, in Kafka Connect's order.
pub(super) fn framework(kind: PluginKind) -> ConfigDef {
    let low = |key: ConfigKey| key.importance(Importance::Low);
    let common = ConfigDef::new()
        .with(
            ConfigKey::required("name", ConfigType::String)
                .check(Validator::Check(name_is_valid))
                .doc("Globally unique name to use for this connector.")
                .group(COMMON)
                .width(Width::Medium)
                .display("Connector name"),
        )
        .with(
            ConfigKey::required("connector.class", ConfigType::String)
                .doc("Class name, simple name or alias of the connector.")
                .group(COMMON)
                .width(Width::Long)
                .display("Connector class"),
        )
        .with(
            ConfigKey::with_default("tasks.max", ConfigType::Int, "1")
                .importance(Importance::High)
                .check(Validator::AtLeast(1))
                .doc("Maximum number of tasks to use for this connector.")
                .group(COMMON)
                .width(Width::Short)
                .display("Tasks max"),
        )
        .with(low(ConfigKey::with_default("tasks.max.enforce", ConfigType::Boolean, "true")
            .doc("Whether a connector that generates more than tasks.max tasks fails.")
            .group(COMMON)
            .width(Width::Short)
            .display("Enforce tasks max")))
        .with(low(converter_key("key.converter", "Key converter class")))
        .with(low(converter_key("value.converter", "Value converter class")))
        .with(low(converter_key("header.converter", "Header converter class")))
        .with(low(ConfigKey::with_default("transforms", ConfigType::List, "")
            .check(Validator::Check(no_duplicates))
            .doc("Aliases of the transformations to apply to records, in order.")
            .group(TRANSFORMS_GROUP)
            .width(Width::Long)
            .display("Transforms")))
        .with(low(ConfigKey::with_default("predicates", ConfigType::List, "")
            .check(Validator::Check(no_duplicates))
            .doc("Aliases of the predicates that transformations refer to.")
            .group(PREDICATES_GROUP)
            .width(Width::Long)
            .display("Predicates")))
        .with(low(ConfigKey::with_default("config.action.reload", ConfigType::String, "restart")
            .check(Validator::OneOfAnyCase(&["none", "restart"]))
            .doc("What to do when values from config providers change.")
            .group(COMMON)
            .width(Width::Medium)
            .display("Reload Action")))
        .with(
            ConfigKey::with_default("errors.retry.timeout", ConfigType::Long, "0")
                .doc("How long a failed operation is tried again, in milliseconds; -1 for ever.")
                .group(ERRORS)
                .width(Width::Medium)
                .display("Retry Timeout for Errors"),
        )
        .with(
            ConfigKey::with_default("errors.retry.delay.max.ms", ConfigType::Long, "60000")
                .doc("Longest pause between attempts, in milliseconds.")
                .group(ERRORS)
                .width(Width::Medium)
                .display("Maximum Delay Between Retries for Errors"),
        )
        .with(
            ConfigKey::with_default("errors.tolerance", ConfigType::String, "none")
                .check(Validator::OneOfAnyCase(&["none", "all"]))
                .doc("Whether a record that fails ends the task (none) or is skipped (all).")
                .group(ERRORS)
                .width(Width::Short)
                .display("Error Tolerance"),
        )
        .with(
            ConfigKey::with_default("errors.log.enable", ConfigType::Boolean, "false")
                .doc("Whether each failed record is written to the log.")
                .group(ERRORS)
                .width(Width::Short)
                .display("Log Errors"),
        )
        .with(
            ConfigKey::with_default("errors.log.include.messages", ConfigType::Boolean, "false")
                .doc("Whether the log names the topic, partition and offset of failed records.")
                .group(ERRORS)
                .width(Width::Short)
                .display("Log Error Details"),
        );
    if kind == PluginKind::Sink { sink_keys(common) } else { source_keys(common) }
}

fn converter_key(name: &'static str, display: &'static str) -> ConfigKey {
    ConfigKey::optional(name, ConfigType::Class)
        .doc("Class of the converter between Connect's data and the bytes of the topic; the worker's if not set.")
        .group(COMMON)
        .width(Width::Short)
        .display(display)
}

fn sink_keys(common: ConfigDef) -> ConfigDef {
    common
        .with(
            ConfigKey::with_default("topics", ConfigType::List, "")
                .importance(Importance::High)
                .doc("Topics to consume.")
                .group(COMMON)
                .width(Width::Long)
                .display("Topics"),
        )
        .with(
            ConfigKey::with_default("topics.regex", ConfigType::String, "")
                .importance(Importance::High)
                .check(Validator::Regex)
                .doc("Regular expression of the topics to consume; matches whole names.")
                .group(COMMON)
                .width(Width::Long)
                .display("Topics regex"),
        )
        .with(
            ConfigKey::with_default("errors.deadletterqueue.topic.name", ConfigType::String, "")
                .doc("Topic for records that cannot be processed; none if empty.")
                .group(ERRORS)
                .width(Width::Medium)
                .display("Dead Letter Queue Topic Name"),
        )
        .with(
            ConfigKey::with_default("errors.deadletterqueue.topic.replication.factor", ConfigType::Short, "3")
                .doc("Replication factor of the dead letter queue topic, if it is created.")
                .group(ERRORS)
                .width(Width::Medium)
                .display("Dead Letter Queue Topic Replication Factor"),
        )
        .with(
            ConfigKey::with_default("errors.deadletterqueue.context.headers.enable", ConfigType::Boolean, "false")
                .doc("Whether dead letters carry headers that say what failed and where.")
                .group(ERRORS)
                .width(Width::Medium)
                .display("Enable Error Context Headers"),
        )
}

fn source_keys(common: ConfigDef) -> ConfigDef {
    let low = |key: ConfigKey| key.importance(Importance::Low);
    common
        .with(low(ConfigKey::with_default("topic.creation.groups", ConfigType::List, "")
            .check(Validator::Check(no_duplicates))
            .doc("Groups of configurations for topics created by source connectors.")
            .group("Topic Creation")
            .width(Width::Long)
            .display("Topic Creation Groups")))
        .with(low(ConfigKey::with_default("exactly.once.support", ConfigType::String, "requested")
            .check(Validator::OneOfAnyCase(&["requested", "required"]))
            .doc("Whether the connector must be able to deliver exactly once.")
            .group("Exactly Once Support")
            .width(Width::Short)
            .display("Exactly once support")))
        .with(
            ConfigKey::with_default("transaction.boundary", ConfigType::String, "poll")
                .check(Validator::OneOfAnyCase(&["poll", "interval", "connector"]))
                .doc("When transactions of an exactly-once source are committed.")
                .group("Exactly Once Support")
                .width(Width::Medium)
                .display("Transaction Boundary"),
        )
        .with(low(ConfigKey::optional("transaction.boundary.interval.ms", ConfigType::Long)
            .check(Validator::AtLeast(0))
            .doc("Interval of transactions with transaction.boundary=interval.")
            .group("Exactly Once Support")
            .width(Width::Medium)
            .display("Transaction boundary interval")))
        .with(low(ConfigKey::optional("offsets.storage.topic", ConfigType::String)
            .check(Validator::NonEmpty)
            .doc("A topic of its own for the connector's source offsets.")
            .group("offsets.topic")
            .width(Width::Long)
            .display("Offsets topic")))
}

fn name_is_valid(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("String may not be empty".to_owned());
    }
    let control: Vec<String> = name.chars().filter(|c| c.is_control()).map(|c| u32::from(c).to_string()).collect();
    if control.is_empty() {
        Ok(())
    } else {
        let codes = control.join(", ");
        Err(format!("String may not contain control sequences but had the following ASCII chars: {codes}"))
    }
}

fn no_duplicates(list: &str) -> Result<(), String> {
    let mut seen = HashSet::new();
    if list.split(',').filter(|entry| !entry.is_empty()).all(|entry| seen.insert(entry)) {
        Ok(())
    } else {
        Err("Duplicate alias provided.".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framework_keys_stand_in_connects_order() {
        let names: Vec<String> = framework(PluginKind::Source).keys().iter().map(|k| k.name.to_string()).collect();
        let expected = "name connector.class tasks.max tasks.max.enforce key.converter value.converter header.converter \
            transforms predicates config.action.reload errors.retry.timeout errors.retry.delay.max.ms errors.tolerance \
            errors.log.enable errors.log.include.messages topic.creation.groups exactly.once.support transaction.boundary \
            transaction.boundary.interval.ms offsets.storage.topic";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    }
}
