//! The keys of Confluent's and Aiven's JDBC sink, and errors across them.

use std::sync::Arc;

use super::config::{
    Dialect, ExactlyOnce, FieldChoice, InsertMode, PkMode, SinkConfig, boolean, rows_of_batch, with_exactly_once_keys,
};
use crate::api::{Config, ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator};
use crate::jdbc::connection_keys::{calendar_key, check_place, quoting_key, timezone_key, title, with_connection_keys};
use crate::postgres::field_encoder::StampUnit;
use crate::postgres::quote::Quoting;
use crate::postgres::render::RenderOptions;
use crate::postgres::temporal::Zone;

const WRITES: &str = "Writes";
const MAPPING: &str = "Data Mapping";
const DDL: &str = "DDL Support";
const RETRIES: &str = "Retries";

/// The table of keys.
pub(super) fn definition() -> ConfigDef {
    let written =
        with_exactly_once_keys(write_keys(with_connection_keys(ConfigDef::new(), &["table.name.format"])), WRITES);
    retry_keys(ddl_keys(mapping_keys(written))).for_forms()
}

fn write_keys(def: ConfigDef) -> ConfigDef {
    def.with(
        ConfigKey::with_default("insert.mode", ConfigType::String, "insert")
            .doc("How records are written: insert, upsert (INSERT ... ON CONFLICT DO UPDATE) or update.")
            .importance(Importance::High)
            .group(WRITES)
            .display("Insert Mode")
            .check(Validator::LowerOrUpper(&["insert", "upsert", "update", "multi"])),
    )
    .with(
        ConfigKey::with_default("batch.size", ConfigType::Int, "3000")
            .doc("The most rows of one statement. Where it is not set, what the worker hands over is one statement.")
            .group(WRITES)
            .display("Batch Size")
            .check(Validator::AtLeast(0)),
    )
    .with(boolean(
        "delete.enabled",
        "false",
        WRITES,
        "Whether a null value deletes the row of the key; needs pk.mode=record_key.",
    ))
    .with(
        ConfigKey::with_default("tombstones", ConfigType::String, "fail")
            .doc(
                "What happens to null values where delete.enabled=false: fail refuses them as the original does, skip \
                  passes over them.",
            )
            .importance(Importance::Low)
            .group(WRITES)
            .display("Tombstones")
            .check(Validator::OneOfAnyCase(&["fail", "skip"])),
    )
}

fn mapping_keys(def: ConfigDef) -> ConfigDef {
    use ConfigType::{List, String};
    def.with(
        ConfigKey::with_default("table.name.format", String, "${topic}")
            .doc("The table's name, ${topic} standing for the topic: table, schema.table, parts in double quotes.")
            .group(MAPPING)
            .display("Table Name Format")
            .dependents(&["pk.fields", "fields.whitelist"])
            .check(Validator::NonEmpty),
    )
    .with(boolean(
        "table.name.normalize",
        "false",
        MAPPING,
        "Whether characters other than letters, digits and _ become _ (Aiven's key).",
    ))
    .with(
        ConfigKey::with_default("topics.to.tables.mapping", List, "")
            .doc("Entries topic:table, which go before table.name.format (Aiven's key).")
            .check(Validator::Check(check_topic_tables))
            .importance(Importance::Low)
            .group(MAPPING)
            .display("Topics to tables"),
    )
    .with(
        ConfigKey::with_default("pk.mode", String, "none")
            .doc("Where key columns come from: none, kafka (topic, partition, offset), record_key or record_value.")
            .importance(Importance::High)
            .group(MAPPING)
            .display("Primary Key Mode")
            .dependents(&["pk.fields"])
            .check(Validator::LowerOrUpper(&["none", "kafka", "record_key", "record_value"])),
    )
    .with(
        ConfigKey::with_default("pk.fields", List, "")
            .doc("The key's fields; what an empty list means depends on pk.mode.")
            .group(MAPPING)
            .display("Primary Key Fields"),
    )
    .with(
        ConfigKey::with_default("fields.whitelist", List, "")
            .doc("The value's fields to write; all if empty.")
            .group(MAPPING)
            .display("Fields Whitelist"),
    )
    .with(boolean("replace.null.with.default", "true", MAPPING, "Whether a field's default is written for null."))
    .with(timezone_key(MAPPING))
    .with(
        ConfigKey::with_default("date.timezone", String, "DB_TIMEZONE")
            .doc("The zone of dates: DB_TIMEZONE (that of db.timezone) or UTC.")
            .group(MAPPING)
            .display("Date time zone")
            .check(Validator::OneOfAnyCase(&["DB_TIMEZONE", "UTC"])),
    )
    .with(calendar_key(MAPPING))
    .with(
        ConfigKey::with_default("timestamp.precision.mode", String, "microseconds")
            .doc("What INT64 fields of timestamp.fields.list count: microseconds or nanoseconds.")
            .importance(Importance::Low)
            .group(MAPPING)
            .display("Timestamp precision")
            .check(Validator::OneOfAnyCase(&["microseconds", "nanoseconds"])),
    )
    .with(
        ConfigKey::with_default("timestamp.fields.list", List, "")
            .doc("INT64 and STRING fields that hold timestamps.")
            .importance(Importance::Low)
            .group(MAPPING)
            .display("Timestamp fields"),
    )
    .with(
        ConfigKey::with_default("string.output.value.column.name", String, "record_value")
            .doc("The column that takes a value which is plain text.")
            .importance(Importance::Low)
            .group(MAPPING)
            .display("Column of text values"),
    )
}

fn ddl_keys(def: ConfigDef) -> ConfigDef {
    def.with(boolean("auto.create", "false", DDL, "Whether a missing table is created from the record's schema."))
        .with(boolean("auto.evolve", "false", DDL, "Whether missing columns are added to the table."))
        .with(quoting_key(DDL))
        .with(
            ConfigKey::optional("sql.quote.identifiers", ConfigType::Boolean)
                .doc("Aiven's spelling of quote.sql.identifiers.")
                .importance(Importance::Low)
                .group(DDL)
                .display(title("sql.quote.identifiers")),
        )
        .with(boolean("mssql.use.merge.holdlock", "true", DDL, "Ignored: for SQL Server.").importance(Importance::Low))
}

fn retry_keys(def: ConfigDef) -> ConfigDef {
    def.with(
        ConfigKey::with_default("max.retries", ConfigType::Int, "10")
            .doc("How often in a row a failed statement is repeated. Outages of the database don't count.")
            .group(RETRIES)
            .display("Maximum Retries")
            .check(Validator::AtLeast(0)),
    )
    .with(
        ConfigKey::with_default("retry.backoff.ms", ConfigType::Int, "3000")
            .doc("The longest pause before a failed statement is repeated.")
            .group(RETRIES)
            .display("Retry Backoff (millis)")
            .check(Validator::AtLeast(0)),
    )
    .with(
        boolean("trim.sensitive.log", "false", RETRIES, "Accepted for compatibility: logs never hold rows.")
            .importance(Importance::Low),
    )
}

/// Errors across keys.
pub(super) fn validate(props: &Props) -> Vec<ConfigError> {
    let text = |key: &str| props.get(key).map(|value| value.trim().to_ascii_lowercase()).unwrap_or_default();
    let mut errors = Vec::new();
    check_place(props, &mut errors);
    if text("delete.enabled") == "true" && text("pk.mode") != "record_key" {
        let message = "Primary key mode must be 'record_key' when delete support is enabled";
        errors.push(ConfigError::on("pk.mode", message));
        errors.push(ConfigError::on("delete.enabled", message));
    }
    if matches!(text("insert.mode").as_str(), "upsert") && matches!(text("pk.mode").as_str(), "" | "none") {
        errors.push(ConfigError::on(
            "pk.mode",
            "insert.mode=upsert needs a key: set pk.mode to record_key, record_value or kafka",
        ));
    }
    let fields = text("pk.fields").split(',').filter(|field| !field.trim().is_empty()).count();
    if text("pk.mode") == "kafka" && fields != 0 && fields != 3 {
        let message = "pk.mode=kafka needs no pk.fields, or three: the columns for topic, partition and offset";
        errors.push(ConfigError::on("pk.fields", message));
    }
    errors
}

/// Reads a config.
pub(super) fn read(props: &Props) -> Result<SinkConfig> {
    let config = definition().read(props)?;
    let texts = |key: &str| config.list(key).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let zone = Zone::from_text(config.text("db.timezone")).map_err(Error::config)?;
    let utc_dates = config.text("date.timezone").eq_ignore_ascii_case("UTC");
    let bare = config.optional("sql.quote.identifiers") == Some("false");
    Ok(SinkConfig {
        dialect: Dialect::Confluent,
        insert_mode: InsertMode::from_text(config.text("insert.mode")),
        pk_mode: PkMode::from_text(config.text("pk.mode")),
        pk_fields: texts("pk.fields"),
        delete_enabled: config.boolean("delete.enabled"),
        truncate_enabled: false,
        auto_create: config.boolean("auto.create"),
        auto_evolve: config.boolean("auto.evolve"),
        table_format: config.text("table.name.format").to_owned(),
        normalize: config.boolean("table.name.normalize"),
        topic_tables: topic_tables(&config)?,
        fields: FieldChoice::Listed(texts("fields.whitelist")),
        batch_rows: rows_of_batch(&config, props),
        render: Arc::new(RenderOptions {
            date_zone: if utc_dates { Zone::Utc } else { zone.clone() },
            zone,
            legacy: config.text("date.calendar.system").eq_ignore_ascii_case("LEGACY"),
        }),
        null_to_default: config.boolean("replace.null.with.default"),
        cloud_events: None,
        stamp_unit: match config.text("timestamp.precision.mode").to_ascii_lowercase().as_str() {
            "nanoseconds" => StampUnit::Nanos,
            _ => StampUnit::Micros,
        },
        stamp_fields: texts("timestamp.fields.list"),
        string_column: config.text("string.output.value.column.name").to_owned(),
        tombstones_pass: config.text("tombstones").eq_ignore_ascii_case("skip"),
        quoting: if bare { Quoting::Never } else { Quoting::from_text(config.text("quote.sql.identifiers")) },
        postgis_schema: "public".to_owned(),
        max_retries: u32::try_from(config.integer("max.retries")).unwrap_or(0),
        retry_backoff: config.millis("retry.backoff.ms"),
        exactly_once: ExactlyOnce::from_text(config.text("sink.exactly.once")),
        offsets_table: config.text("sink.exactly.once.table").to_owned(),
    })
}

fn topic_tables(config: &Config) -> Result<Vec<(String, String)>> {
    let entry = |entry: &str| {
        let (topic, table) = topic_table(entry)
            .map_err(|why| Error::config(format!("invalid entry of topics.to.tables.mapping: {why}")))?;
        Ok((topic.to_owned(), table.to_owned()))
    };
    config.list("topics.to.tables.mapping").into_iter().map(entry).collect()
}

fn topic_table(entry: &str) -> std::result::Result<(&str, &str), String> {
    let parts = entry.split_once(':').map(|(topic, table)| (topic.trim(), table.trim()));
    let whole = parts.filter(|(topic, table)| !topic.is_empty() && !table.is_empty());
    whole.ok_or_else(|| format!("\"{entry}\" is not topic:table"))
}

fn check_topic_tables(text: &str) -> std::result::Result<(), String> {
    text.split(',').filter(|entry| !entry.trim().is_empty()).try_for_each(|entry| topic_table(entry).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_across_keys() {
        let keys = |entries: &[(&str, &str)]| {
            let url = [("connection.url", "jdbc:postgresql://h/d")];
            let props =
                url.iter().chain(entries).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            validate(&props).into_iter().map(|error| error.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[("delete.enabled", "true")]), ["pk.mode", "delete.enabled"]);
        assert_eq!(keys(&[("insert.mode", "UPSERT")]), ["pk.mode"]);
        assert_eq!(keys(&[("pk.mode", "kafka"), ("pk.fields", "a,b")]), ["pk.fields"]);
        assert!(keys(&[("insert.mode", "upsert"), ("pk.mode", "record_value")]).is_empty());
        for key in definition().keys() {
            assert!(key.group.is_some() && !key.documentation.is_empty(), "{}", key.name);
        }
    }
}
