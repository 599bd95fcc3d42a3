//! The keys of `AvroConverter`, and what they say.

use towline_connectors::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator};
use towline_registry::client::{Client, ClientConfig};

/// The converter's keys.
pub(in super::super) fn config() -> ConfigDef {
    let switch = |name: &'static str, default: &'static str, doc: &'static str| {
        ConfigKey::with_default(name, ConfigType::Boolean, default).importance(Importance::Medium).doc(doc)
    };
    let strategy = |name: &'static str| {
        ConfigKey::with_default(name, ConfigType::Class, "io.confluent.kafka.serializers.subject.TopicNameStrategy")
            .doc("How subjects are named: TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy.")
            .check(Validator::Check(|name| subject_name(name).map(|_| ())))
    };
    ConfigDef::new()
        .with(
            ConfigKey::required("schema.registry.url", ConfigType::List)
                .check(Validator::NonEmpty)
                .doc("Comma-separated list of URLs of schema registry instances."),
        )
        .with(switch("auto.register.schemas", "true", "Whether schemas are registered when first written."))
        .with(switch(
            "use.latest.version",
            "false",
            "Whether to write under the latest version of the subject; needs auto.register.schemas=false.",
        ))
        .with(switch("normalize.schemas", "false", "Whether the registry normalizes schemas."))
        .with(
            ConfigKey::with_default("use.schema.id", ConfigType::Int, "-1")
                .importance(Importance::Low)
                .doc("A fixed schema id to write under; needs auto.register.schemas=false."),
        )
        .with(strategy("key.subject.name.strategy"))
        .with(strategy("value.subject.name.strategy"))
        .with(
            ConfigKey::with_default("basic.auth.credentials.source", ConfigType::String, "URL")
                .doc("URL or USER_INFO."),
        )
        .with(
            ConfigKey::with_default("basic.auth.user.info", ConfigType::Password, "")
                .doc("user:password, for USER_INFO."),
        )
        .with(ConfigKey::optional("bearer.auth.credentials.source", ConfigType::String).doc("STATIC_TOKEN, or none."))
        .with(
            ConfigKey::with_default("bearer.auth.token", ConfigType::Password, "").doc("The token, for STATIC_TOKEN."),
        )
        .with(
            ConfigKey::with_default("schemas.cache.config", ConfigType::Int, "1000")
                .importance(Importance::Low)
                .doc("Size of the schema cache."),
        )
        .with(switch("connect.meta.data", "true", "Whether Connect's metadata is kept in the Avro schema."))
        .with(switch(
            "enhanced.avro.schema.support",
            "false",
            "Whether enums and full names of union branches are kept.",
        ))
        .with(switch("scrub.invalid.names", "false", "Whether names that Avro does not allow are replaced."))
        .with(switch(
            "discard.type.doc.default",
            "false",
            "Whether docs and defaults stay on fields instead of in parameters.",
        ))
        .with(switch("allow.optional.map.keys", "false", "Whether maps with optional text keys are Avro maps."))
        .with(switch("flatten.singleton.unions", "true", "Whether a union of one type is that type."))
        .with(switch(
            "ignore.default.for.nullables",
            "false",
            "Whether null stays null in optional fields that have a default.",
        ))
        .with(switch(
            "generalized.sum.type.support",
            "false",
            "Whether unions and enums interoperate with other formats.",
        ))
}

/// What the mapping between the two kinds of schemas depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub(super) connect_meta_data: bool,
    pub(super) enhanced: bool,
    pub(super) scrub_names: bool,
    pub(super) discard_type_doc_default: bool,
    pub(super) optional_map_keys: bool,
    pub(super) flatten_singleton_unions: bool,
    pub(super) ignore_default_for_nullables: bool,
    pub(super) generalized_sum_types: bool,
}

/// How the id of a schema is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Register,
    Latest,
    Fixed(i32),
    Find,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubjectName {
    Topic,
    Record,
    TopicRecord,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) mapping: Mapping,
    pub(super) lookup: Lookup,
    pub(super) normalize: bool,
    pub(super) subject_name: SubjectName,
}

fn subject_name(class: &str) -> Result<SubjectName, String> {
    match class.rsplit('.').next().unwrap_or_default() {
        // Without associations in the registry this one names subjects by topic.
        "TopicNameStrategy" | "AssociatedNameStrategy" | "DefaultTopicNameStrategy" => Ok(SubjectName::Topic),
        "RecordNameStrategy" => Ok(SubjectName::Record),
        "TopicRecordNameStrategy" => Ok(SubjectName::TopicRecord),
        _ => Err(format!("Class {class} could not be found.")),
    }
}

/// Reads the converter's config.
pub(super) fn read(is_key: bool, props: &Props) -> Result<(Settings, Client)> {
    let config = config().read(props)?;
    let strategy = if is_key { "key.subject.name.strategy" } else { "value.subject.name.strategy" };
    let fixed = i32::try_from(config.integer("use.schema.id")).unwrap_or(-1);
    let lookup = match (config.boolean("auto.register.schemas"), config.boolean("use.latest.version")) {
        (true, _) => Lookup::Register,
        (false, _) if fixed >= 0 => Lookup::Fixed(fixed),
        (false, true) => Lookup::Latest,
        (false, false) => Lookup::Find,
    };
    let settings = Settings {
        mapping: Mapping {
            connect_meta_data: config.boolean("connect.meta.data"),
            enhanced: config.boolean("enhanced.avro.schema.support"),
            scrub_names: config.boolean("scrub.invalid.names"),
            discard_type_doc_default: config.boolean("discard.type.doc.default"),
            optional_map_keys: config.boolean("allow.optional.map.keys"),
            flatten_singleton_unions: config.boolean("flatten.singleton.unions"),
            ignore_default_for_nullables: config.boolean("ignore.default.for.nullables"),
            generalized_sum_types: config.boolean("generalized.sum.type.support"),
        },
        lookup,
        normalize: config.boolean("normalize.schemas"),
        subject_name: subject_name(config.text(strategy)).map_err(Error::config)?,
    };
    let client = ClientConfig::from_properties(|key| props.get(key).map(String::as_str))
        .and_then(Client::new)
        .map_err(|error| Error::config(error.to_string()))?;
    Ok((settings, client))
}

impl Mapping {
    /// A full name, each part made one that Avro allows if the setting says so.
    pub(super) fn scrub(&self, name: &str) -> String {
        if !self.scrub_names {
            return name.to_owned();
        }
        name.split('.').map(scrub).collect::<Vec<_>>().join(".")
    }

    /// A name without parts.
    pub(super) fn scrub_part(&self, name: &str) -> String {
        if self.scrub_names { scrub(name) } else { name.to_owned() }
    }
}

/// Confluent's way: URL-encode, an `x` in front of a digit, and underscores for all that is still wrong.
fn scrub(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    let mut out = String::new();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('x');
    }
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => out.push(char::from(byte)),
            b'.' | b'-' | b'*' | b' ' => out.push('_'),
            other => out.push_str(&format!("_{other:02X}")),
        }
    }
    out
}
