//! Validation of connector configs: the framework's keys in Kafka Connect's order, the transforms', the connector's own
//! and the converters', with Kafka's error texts.

use std::collections::HashSet;

use fancy_regex::Regex;
use towline_connectors::api::{ConfigDef, ConfigError, ConfigKey, ConfigType, ConfigValue, Connector, Props};
use towline_connectors::{PREDICATES, TRANSFORMS};

use super::framework_keys::framework;
use super::plugins::{PluginKind, find_connector, kind_of, plugins};
use super::{Herder, Refusal};
use crate::config::WorkerConfig;
use crate::config_providers;
use crate::convert;
use crate::task::{TopicRules, entries, find_transform, sub_props};

/// What validation says of one key; keys without a definition are shown only when they are wrong.
#[derive(Debug, Clone)]
pub struct ConfigInfo {
    /// The key's definition.
    pub definition: Option<ConfigKey>,
    /// Its value and errors.
    pub value: ConfigValue,
}

/// What validation says of a config.
#[derive(Debug, Clone)]
pub struct ConfigInfos {
    /// The class as sent.
    pub name: String,
    /// How many errors there are.
    pub error_count: usize,
    /// Headings in their order.
    pub groups: Vec<String>,
    /// Key by key.
    pub configs: Vec<ConfigInfo>,
}

impl Herder {
    /// Validates a config against a connector class, connecting if nothing else is wrong.
    ///
    /// # Errors
    /// 400 if the class is missing or not the one in the path, 500 if it is unknown.
    pub async fn validate(
        &self,
        plugin: Option<&str>,
        given: Vec<(String, Option<String>)>,
    ) -> Result<ConfigInfos, Refusal> {
        let given_class = given.iter().find(|(key, _)| key == "connector.class").and_then(|(_, class)| class.clone());
        let class = given_class.unwrap_or_default();
        if let Some(plugin) = plugin {
            let bare = |name: &str| name.strip_suffix("Connector").unwrap_or(name).to_owned();
            if !bare(&class).ends_with(&bare(plugin)) && !class.is_empty() {
                let message = format!("Included connector type {class} does not match request type {plugin}");
                return Err(Refusal::new(400, message));
            }
        }
        if class.trim().is_empty() {
            let keys: Vec<&str> = given.iter().map(|(key, _)| key.as_str()).collect();
            return Err(Refusal::new(
                400,
                format!("Connector config {{{}}} contains no connector type", keys.join(", ")),
            ));
        }
        let connector = find_connector(&class).ok_or_else(|| {
            let known: Vec<&str> = plugins()
                .iter()
                .filter(|p| matches!(p.kind, PluginKind::Sink | PluginKind::Source))
                .map(|p| p.class)
                .collect();
            Refusal::new(
                500,
                format!(
                    "Failed to find any class that implements Connector and which name matches {class}, available \
                     connectors are: {}",
                    known.join(", ")
                ),
            )
        })?;
        let nulls: Vec<String> = given.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k.clone()).collect();
        let stored: Props = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let props = config_providers::resolve(&stored, &self.shared.config)
            .map_err(|error| Refusal::new(400, error.to_string()))?;
        let mut report = Report::new(connector, &props);
        for key in nulls {
            report.error(ConfigError::on(key, "Null value can not be supplied as the configuration value."));
        }
        for error in framework_errors(connector, &props, &self.shared.config) {
            report.error(error);
        }
        for error in connector.validate(&props) {
            report.error(error);
        }
        if report.errors() == 0 {
            let errors = match connector {
                Connector::Source(source) => source.check(&props).await,
                Connector::Sink(sink) => sink.check(&props).await,
            };
            errors.into_iter().for_each(|error| report.error(error));
        }
        // A plugin is named by forms that are being filled in.
        if plugin.is_some() {
            let recommended = match connector {
                Connector::Source(source) => source.recommend(&props).await,
                Connector::Sink(sink) => sink.recommend(&props).await,
            };
            recommended.into_iter().for_each(|(key, values)| report.recommend(key, values));
        }
        Ok(report.into_infos(class))
    }

    /// The config if it is valid.
    pub(super) async fn validated(&self, given: Vec<(String, Option<String>)>) -> Result<Props, Refusal> {
        let infos = self.validate(None, given.clone()).await?;
        let props: Props = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        if infos.error_count > 0 {
            let errors: Vec<&str> =
                infos.configs.iter().flat_map(|info| info.value.errors.iter().map(String::as_str)).collect();
            return Err(Refusal::new(
                400,
                format!(
                    "Connector configuration is invalid and contains the following {} error(s):\n{}\nYou can also find \
                     the above list of errors at the endpoint `/connector-plugins/{{connectorType}}/config/validate`",
                    infos.error_count,
                    errors.join("\n")
                ),
            ));
        }
        warn_of_unknown_keys(&props, &infos);
        Ok(props)
    }

    /// The definitions of a plugin's keys, its own first, then the framework's.
    ///
    /// # Errors
    /// 404 for a class that is not known.
    pub fn plugin_config(&self, class: &str) -> Result<Vec<ConfigKey>, Refusal> {
        if let Some(connector) = find_connector(class) {
            let mut keys = (connector.spec().config)().keys().to_vec();
            for key in framework(kind_of(&connector)).keys() {
                if !keys.iter().any(|own| own.name == key.name) {
                    keys.push(key.clone());
                }
            }
            return Ok(keys);
        }
        if let Some(transform) = find_transform(class) {
            return Ok((transform.config)().keys().to_vec());
        }
        if let Some(predicate) = PREDICATES.iter().find(|predicate| predicate.class == class) {
            return Ok((predicate.config)().keys().to_vec());
        }
        let converter = convert::find(class).map(|spec| (spec.config)().keys().to_vec());
        converter.ok_or_else(|| Refusal::new(404, format!("Unknown plugin {class}.")))
    }
}

/// Entries under construction, in the order of the answer.
struct Report {
    configs: Vec<ConfigInfo>,
}

impl Report {
    fn new(connector: Connector, props: &Props) -> Self {
        let mut report = Self { configs: Vec::new() };
        report.define(&framework(kind_of(&connector)), "", None, props);
        for alias in entries(props.get("transforms")) {
            let prefix = format!("transforms.{alias}.");
            let group = format!("Transforms: {alias}");
            let own = sub_props(props, &prefix);
            let def = ConfigDef::new()
                .with(ConfigKey::required("type", ConfigType::Class).doc("Class of the transformation."))
                .with(
                    ConfigKey::optional("predicate", ConfigType::String)
                        .doc("Alias of the predicate that decides whether to apply it."),
                )
                .with(
                    ConfigKey::with_default("negate", ConfigType::Boolean, "false")
                        .doc("Whether to apply it where the predicate does not hold."),
                );
            report.define(&def, &prefix, Some(&group), &own);
            let class = own.get("type").map_or("", |class| class.trim());
            match find_transform(class) {
                Some(spec) => report.define(&(spec.config)(), &prefix, Some(&group), &own),
                None if class.is_empty() => {}
                None => report.error(ConfigError::on(format!("{prefix}type"), unknown_transform(&prefix, class))),
            }
        }
        for alias in entries(props.get("predicates")) {
            let prefix = format!("predicates.{alias}.");
            let group = format!("Predicates: {alias}");
            let own = sub_props(props, &prefix);
            let def =
                ConfigDef::new().with(ConfigKey::required("type", ConfigType::Class).doc("Class of the predicate."));
            report.define(&def, &prefix, Some(&group), &own);
            let class = own.get("type").map_or("", |class| class.trim());
            match PREDICATES.iter().find(|spec| spec.class == class) {
                Some(spec) => report.define(&(spec.config)(), &prefix, Some(&group), &own),
                None if class.is_empty() => {}
                None => {
                    let message = format!(
                        "Invalid value {class} for configuration {prefix}type: Class {class} could not be found."
                    );
                    report.error(ConfigError::on(format!("{prefix}type"), message));
                }
            }
        }
        report.define(&(connector.spec().config)(), "", None, props);
        for side in ["header", "key", "value"] {
            let key = format!("{side}.converter");
            let Some(class) = props.get(&key).map(|class| class.trim()).filter(|class| !class.is_empty()) else {
                continue;
            };
            let prefix = format!("{key}.");
            match convert::find(class) {
                Some(spec) => report.define(&(spec.config)(), &prefix, None, &sub_props(props, &prefix)),
                None => {
                    let message =
                        format!("Invalid value {class} for configuration {key}: Class {class} could not be found.");
                    report.error(ConfigError::on(key, message));
                }
            }
        }
        report
    }

    fn define(&mut self, def: &ConfigDef, prefix: &str, group: Option<&str>, props: &Props) {
        for (key, mut value) in def.keys().iter().zip(def.validate(props)) {
            let name = format!("{prefix}{}", key.name);
            if self.configs.iter().any(|info| info.value.name == name) {
                continue;
            }
            for error in &mut value.errors {
                *error = error.replace(&format!("configuration {}", key.name), &format!("configuration {name}"));
                *error = error.replace(&format!("\"{}\"", key.name), &format!("\"{name}\""));
            }
            if key.kind == ConfigType::Password && value.value.is_some() {
                value.value = Some("[hidden]".to_owned());
            }
            value.name.clone_from(&name);
            let mut definition = key.clone();
            definition.name = name.into();
            if let Some(group) = group {
                definition.group = Some(group.to_owned().into());
            }
            self.configs.push(ConfigInfo { definition: Some(definition), value });
        }
    }

    fn error(&mut self, error: ConfigError) {
        match self.configs.iter_mut().find(|info| info.value.name == error.key) {
            Some(info) if info.value.errors.contains(&error.message) => {}
            Some(info) => info.value.errors.push(error.message),
            None => {
                let value = ConfigValue { name: error.key, errors: vec![error.message], ..ConfigValue::default() };
                self.configs.insert(0, ConfigInfo { definition: None, value });
            }
        }
    }

    fn recommend(&mut self, key: &str, values: Vec<String>) {
        if let Some(info) = self.configs.iter_mut().find(|info| info.value.name == key) {
            info.value.recommended_values = values;
        }
    }

    fn errors(&self) -> usize {
        self.configs.iter().map(|info| info.value.errors.len()).sum()
    }

    fn into_infos(self, name: String) -> ConfigInfos {
        let mut groups: Vec<String> = Vec::new();
        for group in self.configs.iter().filter_map(|info| info.definition.as_ref()?.group.as_deref()) {
            if !groups.iter().any(|known| known == group) {
                groups.push(group.to_owned());
            }
        }
        ConfigInfos { name, error_count: self.errors(), groups, configs: self.configs }
    }
}

fn unknown_transform(prefix: &str, class: &str) -> String {
    let nested: Vec<&str> = TRANSFORMS
        .iter()
        .map(|spec| spec.class)
        .filter(|known| known.split_once('$').is_some_and(|(outer, _)| outer == class))
        .collect();
    let base = format!("Invalid value {class} for configuration {prefix}type: ");
    if nested.is_empty() {
        format!("{base}Class {class} could not be found.")
    } else {
        format!("{base}This class is abstract and cannot be created. Did you mean {}?", nested.join(", "))
    }
}

/// Errors across framework keys.
fn framework_errors(connector: Connector, props: &Props, worker: &WorkerConfig) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for alias in entries(props.get("transforms")) {
        let key = |part: &str| format!("transforms.{alias}.{part}");
        let predicate = props.get(&key("predicate"));
        if props.contains_key(&key("negate")) && predicate.is_none() {
            errors.push(ConfigError::on(
                key("negate"),
                format!(
                    "Config '{}' was provided but there is no config '{}' defining a predicate to be negated.",
                    key("negate"),
                    key("predicate")
                ),
            ));
        }
        if let Some(predicate) = predicate
            && !entries(props.get("predicates")).any(|known| known == predicate.trim())
        {
            let message = format!("Predicate '{predicate}' is not listed in 'predicates'; add it there.");
            errors.push(ConfigError::on(key("predicate"), message));
        }
        let own = sub_props(props, &format!("transforms.{alias}."));
        if let Some(spec) = own.get("type").and_then(|class| find_transform(class.trim()))
            && (spec.config)().validate(&own).iter().all(|value| value.errors.is_empty())
            && let Err(error) = (spec.build)(&own)
        {
            errors.push(ConfigError::on(key("type"), error.to_string()));
        }
    }
    match connector {
        Connector::Sink(_) => errors.extend(sink_errors(props, worker.text("group.id"))),
        Connector::Source(_) => {
            if let Err(error) = TopicRules::read(props) {
                errors.push(ConfigError::on("topic.creation.groups", error.to_string()));
            }
            errors.extend(transaction_errors(props, worker.exactly_once_sources()));
        }
    }
    errors
}

/// Every source here can deliver exactly once, if the worker does; none defines transactions of its own.
fn transaction_errors(props: &Props, exactly_once: bool) -> Vec<ConfigError> {
    let is = |key: &str, word: &str| props.get(key).is_some_and(|text| text.trim().eq_ignore_ascii_case(word));
    let mut errors = Vec::new();
    if is("exactly.once.support", "required") && !exactly_once {
        let message = "This worker does not have exactly-once source support enabled.";
        errors.push(ConfigError::on("exactly.once.support", message));
    }
    if is("transaction.boundary", "connector") {
        let message = "The connector does not support connector-defined transaction boundaries with the given configuration; \
                       use poll or interval.";
        errors.push(ConfigError::on("transaction.boundary", message));
    }
    errors
}

fn sink_errors(props: &Props, worker_group: &str) -> Vec<ConfigError> {
    let text = |key: &str| props.get(key).map(|text| text.trim()).unwrap_or_default();
    let (topics, regex, dlq) = (text("topics"), text("topics.regex"), text("errors.deadletterqueue.topic.name"));
    let mut errors = Vec::new();
    let mut on_both = |message: &str| {
        errors.extend(["topics", "topics.regex"].map(|key| ConfigError::on(key, message)));
    };
    match (topics.is_empty(), regex.is_empty()) {
        (true, true) => on_both("Must configure one of topics or topics.regex"),
        (false, false) => on_both("topics and topics.regex are mutually exclusive options, but both are set."),
        _ => {}
    }
    if !dlq.is_empty() && entries(props.get("topics")).any(|topic| topic == dlq) {
        let listed = entries(props.get("topics")).collect::<Vec<_>>().join(", ");
        let message = format!(
            "The DLQ topic '{dlq}' may not be included in the list of topics ('topics=[{listed}]') consumed by the connector"
        );
        errors.push(ConfigError::on("topics", message));
    }
    let matches =
        |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|p| p.is_match(dlq).unwrap_or(false));
    if !dlq.is_empty() && !regex.is_empty() && matches(regex) {
        let message = format!(
            "The DLQ topic '{dlq}' may not be matched by the regex for the topics ('topics.regex={regex}') consumed by the connector"
        );
        errors.push(ConfigError::on("topics.regex", message));
    }
    if text("consumer.override.group.id") == worker_group && !worker_group.is_empty() {
        let message = format!("Consumer group {worker_group} conflicts with Connect worker group {worker_group}");
        errors.push(ConfigError::on("consumer.override.group.id", message));
    } else if format!("connect-{}", text("name")) == worker_group {
        let message = format!(
            "Consumer group for sink connector named {} conflicts with Connect worker group {worker_group}",
            text("name")
        );
        errors.push(ConfigError::on("name", message));
    }
    errors
}

/// Keys that nobody reads are told of once, with the nearest name that somebody does.
fn warn_of_unknown_keys(props: &Props, infos: &ConfigInfos) {
    let free =
        ["producer.override.", "consumer.override.", "admin.override.", "topic.creation.", "connection.", "tables"];
    let known: HashSet<&str> =
        infos.configs.iter().filter(|i| i.definition.is_some()).map(|i| i.value.name.as_str()).collect();
    for key in props.keys().filter(|key| !known.contains(key.as_str()) && !free.iter().any(|p| key.starts_with(p))) {
        if key.ends_with("plugin.version") {
            continue;
        }
        let converter =
            ["key.converter.", "value.converter.", "header.converter."].iter().find(|p| key.starts_with(**p));
        if let Some(prefix) = converter {
            let side = prefix.trim_end_matches('.');
            if !props.contains_key(side) {
                tracing::warn!(%key, "has no effect: a connector's converter settings count only if it sets {side} too");
            }
            continue;
        }
        let nearest = known.iter().map(|name| (distance(key, name), *name)).min().filter(|(d, _)| *d <= 3);
        match nearest {
            Some((_, name)) => tracing::warn!(%key, "unknown key is ignored; did you mean {name}?"),
            None => tracing::warn!(%key, "unknown key is ignored"),
        }
    }
}

/// How many letters must change to make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_need_topics_or_a_regex_but_not_both() {
        let errors = sink_errors(&Props::new(), "g");
        assert_eq!(errors[0].message, "Must configure one of topics or topics.regex");
        let props = Props::from_iter([
            ("topics".into(), "a,d".into()),
            ("errors.deadletterqueue.topic.name".into(), "d".into()),
        ]);
        assert!(
            sink_errors(&props, "g")[0]
                .message
                .starts_with("The DLQ topic 'd' may not be included in the list of topics ('topics=[a, d]')")
        );
        assert_eq!(distance("batch.sizes", "batch.size"), 1);
    }
}
