//! The worker's settings: `.properties` files, `CONNECT_*` (and Debezium's bare) environment variables and flags, by
//! Kafka Connect's own keys. A flag beats the environment, the environment a file, a file the default.

use std::collections::BTreeMap;
use std::time::Duration;

use towline_connectors::api::{Error, Props, Result};

/// A worker's settings; keys as in Kafka Connect's documentation.
#[derive(Debug, Clone, Default)]
pub struct WorkerConfig {
    values: BTreeMap<String, String>,
}

const DEFAULTS: &[(&str, &str)] = &[
    ("bootstrap.servers", "localhost:9092"),
    ("group.id", "connect-cluster"),
    ("config.storage.topic", "connect-configs"),
    ("offset.storage.topic", "connect-offsets"),
    ("status.storage.topic", "connect-status"),
    ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
    ("header.converter", "org.apache.kafka.connect.storage.SimpleHeaderConverter"),
    ("offset.flush.interval.ms", "60000"),
    ("offset.flush.timeout.ms", "5000"),
    ("task.shutdown.graceful.timeout.ms", "5000"),
    ("topic.creation.enable", "true"),
    ("topic.tracking.enable", "true"),
    ("topic.tracking.allow.reset", "true"),
    ("listeners", "http://:8083"),
];

/// Settings of the converters of one side: the class, and its own keys without the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConverterConfig {
    /// The class name or alias.
    pub class: String,
    /// Its own keys, without the prefix.
    pub props: Props,
}

impl WorkerConfig {
    /// The defaults, with these settings over them.
    pub fn new(settings: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut values: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        values.extend(settings);
        Self { values }
    }

    /// The text of a key; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |text| text.trim())
    }

    /// The number of a key, if it is one.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.text(key).parse().ok()
    }

    /// The truth of a key.
    pub fn boolean(&self, key: &str) -> bool {
        self.text(key).eq_ignore_ascii_case("true")
    }

    /// The milliseconds of a key.
    pub fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.number(key).unwrap_or(0))
    }

    /// All settings whose key starts with a prefix, the prefix dropped.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
        self.values.iter().filter_map(move |(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone())))
    }

    /// Whether sources write records and offsets in one transaction (KIP-618).
    pub fn exactly_once_sources(&self) -> bool {
        self.text("exactly.once.source.support").eq_ignore_ascii_case("enabled")
    }

    /// The converter of a side (`key`, `value` or `header`) for a connector: the connector's own if it names one, else
    /// the worker's. A connector's sub-keys count only if it names the converter too, as in Kafka Connect.
    pub fn converter(&self, side: &str, connector: &Props) -> ConverterConfig {
        let key = format!("{side}.converter");
        let prefix = format!("{key}.");
        let mut converter = match connector.get(&key).filter(|class| !class.trim().is_empty()) {
            Some(class) => ConverterConfig {
                class: class.trim().to_owned(),
                props: connector
                    .iter()
                    .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())))
                    .collect(),
            },
            None => ConverterConfig { class: self.text(&key).to_owned(), props: self.with_prefix(&prefix).collect() },
        };
        let registry = self.text("schema.registry.url");
        if !registry.is_empty() && !converter.props.contains_key("schema.registry.url") {
            converter.props.insert("schema.registry.url".to_owned(), registry.to_owned());
        }
        converter
    }

    /// Settings for every Kafka client of the worker: the cluster, and its security.
    pub fn common_client(&self) -> BTreeMap<String, String> {
        let shared = |key: &str| {
            key == "bootstrap.servers"
                || key == "security.protocol"
                || key.starts_with("sasl.")
                || key.starts_with("ssl.")
        };
        self.values.iter().filter(|(key, _)| shared(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Host and port that the REST API listens on.
    ///
    /// # Errors
    /// A config error naming `listeners`.
    pub fn listener(&self) -> Result<String> {
        let text = self.text("listeners").split(',').next().unwrap_or_default().trim();
        let Some(address) = text.strip_prefix("http://") else {
            return Err(Error::config(format!(
                "listeners={text} is not understood: write it as http://HOST:PORT (https is not supported yet)"
            )));
        };
        let address = address.trim_end_matches('/');
        Ok(if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() })
    }
}

/// Turns variables such as `CONNECT_GROUP_ID` into keys such as `group.id`: `_` is a dot, `__` an underscore, `___` a
/// dash, as in Confluent's images.
pub fn from_environment(prefix: &str, variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables
        .filter_map(|(name, value)| {
            let rest = name.strip_prefix(prefix)?;
            let ignored = ["LOG4J_", "HEAP_OPTS", "OPTS", "JMX_", "JVM_", "GC_LOG", "VERSION", "PLUGIN_PATH_JARS"];
            if rest.is_empty() || ignored.iter().any(|start| rest.starts_with(start)) {
                return None;
            }
            let key = rest.to_ascii_lowercase().replace("___", "-").replace("__", "\u{0}").replace('_', ".");
            Some((key.replace('\u{0}', "_"), value))
        })
        .collect()
}

/// Reads Java `.properties` text: comments, `=` or `:` or blank between key and value, continued lines, escapes.
pub fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while logical.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split_property(&logical);
        properties.insert(key, value);
    }
    properties
}

fn split_property(line: &str) -> (String, String) {
    let mut key = String::new();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.extend(chars.next().map(|(_, c)| unescape(c))),
            '=' | ':' => return (key, unescape_all(line[at + 1..].trim_start())),
            c if c.is_whitespace() => {
                let rest = line[at..].trim_start();
                let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
                return (key, unescape_all(rest.trim_start()));
            }
            c => key.push(c),
        }
    }
    (key, String::new())
}

fn unescape(c: char) -> char {
    match c {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\u{c}',
        other => other,
    }
}

fn unescape_all(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('u') => {
                    let code: String = chars.by_ref().take(4).collect();
                    out.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                Some(c) => out.push(unescape(c)),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_properties_and_environment_as_the_images_do() {
        let read = parse_properties("# c\nkey.converter = a\\u0041\nlong=1,\\\n   2\npath\\ x: C:\\\\d\nempty\n");
        assert_eq!(read["key.converter"], "aA");
        assert_eq!(read["long"], "1,2");
        assert_eq!(read["path x"], "C:\\d");
        assert_eq!(read["empty"], "");
        let env = [("CONNECT_GROUP_ID", "g"), ("CONNECT_A__B___C", "v"), ("CONNECT_LOG4J_LOGGERS", "x")];
        let read = from_environment("CONNECT_", env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(read, BTreeMap::from([("group.id".into(), "g".into()), ("a_b-c".into(), "v".into())]));
    }

    #[test]
    fn a_connectors_converter_keys_count_only_with_its_converter() {
        let worker = WorkerConfig::new([("value.converter.schemas.enable".to_owned(), "true".to_owned())]);
        let mut connector = Props::new();
        connector.insert("value.converter.schemas.enable".to_owned(), "false".to_owned());
        assert_eq!(worker.converter("value", &connector).props["schemas.enable"], "true");
        connector.insert("value.converter".to_owned(), "JsonConverter".to_owned());
        assert_eq!(worker.converter("value", &connector).props["schemas.enable"], "false");
    }
}
