//! What the sink's task needs to know, whichever keys said it: each dialect of keys has a reader of its own.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::api::{Config, ConfigDef, ConfigKey, ConfigType, Importance, Props, Validator};
use crate::jdbc::connection_keys::title;
use crate::postgres::field_encoder::StampUnit;
use crate::postgres::quote::Quoting;
use crate::postgres::render::RenderOptions;

/// Whose sink this is: what records look like, and which column types are made for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Plain rows; what can't be written is refused.
    Confluent,
    /// Rows or change events; what has no meaning for the target is passed over.
    Debezium,
}

/// How a record with a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsertMode {
    Insert,
    Upsert,
    Update,
}

/// Where key columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PkMode {
    None,
    Kafka,
    RecordKey,
    RecordValue,
    /// From headers, which are made the record's key before it is planned.
    RecordHeader,
}

/// Whether offsets are kept in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExactlyOnce {
    Required,
    Requested,
    Disabled,
}

/// Which fields of a value are written, beside those of the key.
#[derive(Debug, Clone)]
pub(super) enum FieldChoice {
    /// These; all if the list is empty.
    Listed(Vec<String>),
    /// Those that one pattern matches, as `field` or `topic:field`.
    Included(Vec<Regex>),
    /// Those that no pattern matches.
    Excluded(Vec<Regex>),
}

/// The config as the task uses it.
#[derive(Debug, Clone)]
pub(super) struct SinkConfig {
    pub(super) dialect: Dialect,
    pub(super) insert_mode: InsertMode,
    pub(super) pk_mode: PkMode,
    pub(super) pk_fields: Vec<String>,
    pub(super) delete_enabled: bool,
    pub(super) truncate_enabled: bool,
    pub(super) auto_create: bool,
    pub(super) auto_evolve: bool,
    pub(super) table_format: String,
    pub(super) normalize: bool,
    pub(super) topic_tables: Vec<(String, String)>,
    pub(super) fields: FieldChoice,
    /// Rows of a statement, if the user limits them.
    pub(super) batch_rows: Option<usize>,
    pub(super) render: Arc<RenderOptions>,
    pub(super) null_to_default: bool,
    /// Values whose schema's name matches are CloudEvents: what counts is in their field `data`.
    pub(super) cloud_events: Option<Regex>,
    pub(super) stamp_unit: StampUnit,
    pub(super) stamp_fields: Vec<String>,
    pub(super) string_column: String,
    /// Whether null values that delete nothing are passed over instead of refused.
    pub(super) tombstones_pass: bool,
    pub(super) quoting: Quoting,
    /// The schema that PostGIS lives in.
    pub(super) postgis_schema: String,
    pub(super) max_retries: u32,
    pub(super) retry_backoff: Duration,
    pub(super) exactly_once: ExactlyOnce,
    pub(super) offsets_table: String,
}

impl Dialect {
    /// The key that says where key columns come from.
    pub(super) fn key_mode(self) -> &'static str {
        match self {
            Self::Confluent => "pk.mode",
            Self::Debezium => "primary.key.mode",
        }
    }

    /// The key that names the fields of the key.
    pub(super) fn key_fields(self) -> &'static str {
        match self {
            Self::Confluent => "pk.fields",
            Self::Debezium => "primary.key.fields",
        }
    }

    /// The key that names the table.
    pub(super) fn table_key(self) -> &'static str {
        match self {
            Self::Confluent => "table.name.format",
            Self::Debezium => "collection.name.format",
        }
    }

    /// The setting under which tables are created.
    pub(super) fn creation_key(self) -> &'static str {
        match self {
            Self::Confluent => "auto.create=true",
            Self::Debezium => "schema.evolution=basic",
        }
    }

    /// The setting under which columns are added.
    pub(super) fn evolution_key(self) -> &'static str {
        match self {
            Self::Confluent => "auto.evolve=true",
            Self::Debezium => "schema.evolution=basic",
        }
    }

    /// The key that chooses fields.
    pub(super) fn fields_key(self) -> &'static str {
        match self {
            Self::Confluent => "fields.whitelist",
            Self::Debezium => "field.include.list",
        }
    }
}

impl InsertMode {
    /// From `insert.mode`; `multi` is Aiven's word for inserts of many rows, which all are here.
    pub(super) fn from_text(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "upsert" => Self::Upsert,
            "update" => Self::Update,
            _ => Self::Insert,
        }
    }
}

impl PkMode {
    /// From `pk.mode` or `primary.key.mode`.
    pub(super) fn from_text(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "kafka" => Self::Kafka,
            "record_key" => Self::RecordKey,
            "record_value" => Self::RecordValue,
            "record_header" => Self::RecordHeader,
            _ => Self::None,
        }
    }

    /// Whether key columns are taken from the key of records.
    pub(super) fn needs_key(self) -> bool {
        matches!(self, Self::RecordKey | Self::RecordHeader)
    }
}

impl ExactlyOnce {
    /// From `sink.exactly.once`.
    pub(super) fn from_text(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "required" => Self::Required,
            "disabled" => Self::Disabled,
            _ => Self::Requested,
        }
    }
}

impl FieldChoice {
    /// Whether a field is written.
    pub(super) fn admits(&self, topic: &str, field: &str) -> bool {
        let matches = |patterns: &[Regex]| {
            let full = format!("{topic}:{field}");
            patterns.iter().any(|pattern| pattern.is_match(field) || pattern.is_match(&full))
        };
        match self {
            Self::Listed(names) => names.is_empty() || names.iter().any(|name| name == field),
            Self::Included(patterns) => matches(patterns),
            Self::Excluded(patterns) => !matches(patterns),
        }
    }

    /// Whether it leaves something out.
    pub(super) fn is_narrow(&self) -> bool {
        !matches!(self, Self::Listed(names) if names.is_empty())
    }
}

/// A BOOLEAN key.
pub(super) fn boolean(name: &'static str, default: &'static str, group: &'static str, doc: &'static str) -> ConfigKey {
    ConfigKey::with_default(name, ConfigType::Boolean, default).doc(doc).group(group).display(title(name))
}

/// `batch.size`, if it is given: a default would only cut what the worker hands over.
pub(super) fn rows_of_batch(config: &Config, props: &Props) -> Option<usize> {
    props.contains_key("batch.size").then(|| usize::try_from(config.integer("batch.size")).unwrap_or(1).max(1))
}

/// The keys of exactly-once, which are ours and the same in every dialect.
pub(super) fn with_exactly_once_keys(def: ConfigDef, group: &'static str) -> ConfigDef {
    def
    .with(
        ConfigKey::with_default("sink.exactly.once", ConfigType::String, "requested")
            .doc("Whether consumed offsets are kept in a table of the target, in the transaction of the rows, so that \
                  each record is written once: required, requested (where the user may create the table) or disabled \
                  (at least once).")
            .importance(Importance::Low)
            .group(group)
            .display("Exactly once")
            .check(Validator::OneOfAnyCase(&["required", "requested", "disabled"])),
    )
    .with(
        ConfigKey::with_default("sink.exactly.once.table", ConfigType::String, "towline_offsets")
            .doc("The table that holds the offsets. Delete a topic's rows to read it again, or after creating the topic anew.")
            .importance(Importance::Low)
            .group(group)
            .display("Offsets table")
            .check(Validator::NonEmpty),
    )
}
