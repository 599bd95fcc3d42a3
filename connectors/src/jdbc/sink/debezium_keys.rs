//! The keys of `io.debezium.connector.jdbc.JdbcSinkConnector`, old spellings included, and errors across them.

use std::sync::Arc;

use regex::Regex;

use super::config::{
    Dialect, ExactlyOnce, FieldChoice, InsertMode, PkMode, SinkConfig, boolean, rows_of_batch, with_exactly_once_keys,
};
use crate::api::{
    Config, ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator, Width,
};
use crate::jdbc::connection_keys::{DATABASE, check_place, check_zone, title, url_key};
use crate::postgres::field_encoder::StampUnit;
use crate::postgres::quote::Quoting;
use crate::postgres::render::RenderOptions;
use crate::postgres::temporal::Zone;

const WRITES: &str = "Connector";
const NAMES: &str = "Names";

const CLOUD_EVENTS: &str = "cloud.events.schema.name.pattern";

/// Keys of Confluent's sink that people leave in a Debezium config, and what says the same here.
const FOREIGN: &[(&str, &str)] = &[
    ("pk.mode", "primary.key.mode"),
    ("pk.fields", "primary.key.fields"),
    ("auto.create", "schema.evolution=basic"),
    ("auto.evolve", "schema.evolution=basic"),
    ("fields.whitelist", "field.include.list"),
    ("max.retries", "flush.max.retries"),
    ("retry.backoff.ms", "flush.retry.delay.ms"),
    ("db.timezone", "use.time.zone"),
    ("quote.sql.identifiers", "quote.identifiers"),
];

/// The table of keys.
pub(super) fn definition() -> ConfigDef {
    ignored_keys(retry_keys(name_keys(write_keys(connection_keys(ConfigDef::new()))))).for_forms()
}

fn text(name: &'static str, default: &'static str, group: &'static str, doc: &'static str) -> ConfigKey {
    ConfigKey::with_default(name, ConfigType::String, default).doc(doc).group(group).display(title(name))
}

fn alias(name: &'static str, of: &'static str, group: &'static str) -> ConfigKey {
    ConfigKey::optional(name, ConfigType::String)
        .doc(format!("An older or Confluent's spelling of {of}."))
        .importance(Importance::Low)
        .group(group)
        .display(title(name))
}

fn connection_keys(def: ConfigDef) -> ConfigDef {
    let user = |name: &'static str, doc: &'static str| {
        ConfigKey::optional(name, ConfigType::String)
            .doc(doc)
            .importance(Importance::High)
            .group(DATABASE)
            .display(title(name))
    };
    def.with(url_key().dependents(&["collection.name.format"]))
        .with(user("connection.username", "The user to connect as."))
        .with(user("connection.user", "Confluent's spelling of connection.username.").importance(Importance::Low))
        .with(
            ConfigKey::optional("connection.password", ConfigType::Password)
                .doc("The user's password.")
                .importance(Importance::High)
                .group(DATABASE)
                .display("JDBC Password"),
        )
}

fn write_keys(def: ConfigDef) -> ConfigDef {
    let def = def
        .with(
            text("insert.mode", "insert", WRITES, "How rows are written: insert, upsert or update.")
                .importance(Importance::High)
                .check(Validator::OneOfAnyCase(&["insert", "upsert", "update"])),
        )
        .with(boolean("delete.enabled", "false", WRITES, "Whether deletions and tombstones delete the row of the key."))
        .with(boolean("truncate.enabled", "false", WRITES, "Whether truncate events empty the table."))
        .with(
            text(
                "primary.key.mode",
                "none",
                WRITES,
                "Where key columns come from: none, kafka, record_key, record_value or record_header.",
            )
            .importance(Importance::High)
            .dependents(&["primary.key.fields"])
            .check(Validator::OneOfAnyCase(&[
                "none",
                "kafka",
                "record_key",
                "record_value",
                "record_header",
            ])),
        )
        .with(
            ConfigKey::with_default("primary.key.fields", ConfigType::List, "")
                .doc("The key's fields; all fields of what primary.key.mode names if empty.")
                .group(WRITES)
                .display(title("primary.key.fields")),
        )
        .with(
            text(
                "schema.evolution",
                "none",
                WRITES,
                "basic creates missing tables and adds missing columns; none and validate-only change nothing.",
            )
            .importance(Importance::High)
            .check(Validator::OneOfAnyCase(&["none", "basic", "validate-only", "validate_only"])),
        )
        .with(
            ConfigKey::with_default("batch.size", ConfigType::Int, "500")
                .doc(
                    "The most rows of one statement. Where it is not set, what the worker hands over is one statement.",
                )
                .group(WRITES)
                .display(title("batch.size"))
                .check(Validator::AtLeast(1)),
        )
        .with(
            text("use.time.zone", "UTC", WRITES, "The zone that times without one are in, where a column has one.")
                .check(Validator::Check(check_zone)),
        )
        .with(
            text(
                CLOUD_EVENTS,
                r".*CloudEvents\.Envelope$",
                WRITES,
                "Regular expression of the names of schemas of CloudEvents, whose field data holds the change event or the row.",
            )
            .importance(Importance::Low)
            .width(Width::Long)
            .check(Validator::Check(check_patterns)),
        )
        .with(alias("database.time_zone", "use.time.zone", WRITES).check(Validator::Check(check_zone)))
        .with(
            text("dialect.postgres.postgis.schema", "public", WRITES, "The schema that PostGIS is installed in.")
                .importance(Importance::Low),
        );
    with_exactly_once_keys(def, WRITES)
}

fn name_keys(def: ConfigDef) -> ConfigDef {
    let patterns = |name: &'static str, doc: &'static str| {
        ConfigKey::with_default(name, ConfigType::List, "")
            .doc(doc)
            .group(NAMES)
            .display(title(name))
            .check(Validator::Check(check_patterns))
    };
    def.with(
        text(
            "collection.name.format",
            "${topic}",
            NAMES,
            "The table's name: ${topic} is the topic with _ for each dot, ${source.<field>} a field of the event's source.",
        )
        .width(Width::Long)
        .check(Validator::NonEmpty),
    )
    .with(alias("table.name.format", "collection.name.format", NAMES).width(Width::Long))
    .with(boolean(
        "quote.identifiers",
        "false",
        NAMES,
        "Whether names keep their case. Otherwise they are in lower case, as PostgreSQL reads bare names.",
    ))
    .with(patterns("field.include.list", "Regular expressions of fields to write, as field or topic:field."))
    .with(patterns("field.exclude.list", "Regular expressions of fields not to write, as field or topic:field."))
}

fn retry_keys(def: ConfigDef) -> ConfigDef {
    def.with(
        ConfigKey::with_default("flush.max.retries", ConfigType::Int, "5")
            .doc("How often in a row a failed statement is repeated. Outages of the database don't count.")
            .importance(Importance::Low)
            .group(WRITES)
            .display(title("flush.max.retries"))
            .check(Validator::AtLeast(0)),
    )
    .with(
        ConfigKey::with_default("flush.retry.delay.ms", ConfigType::Long, "1000")
            .doc("The longest pause before a failed statement is repeated.")
            .importance(Importance::Low)
            .group(WRITES)
            .display(title("flush.retry.delay.ms"))
            .check(Validator::AtLeast(0)),
    )
}

/// Keys that have no meaning here; they are declared so that tools show them and why.
fn ignored_keys(mut def: ConfigDef) -> ConfigDef {
    use ConfigType::{Boolean, Class, Int, Long, String};
    const POOL: &str = "one connection a task needs no pool";
    const LAST: &str = "of rows with one key in a batch only the last is written in any case";
    const CLASS: &str = "classes can't be loaded: use collection.name.format or the RegexRouter transform";
    type Ignored = (&'static str, ConfigType, Option<&'static str>, &'static str);
    let keys: [Ignored; 13] = [
        ("connection.provider", Class, None, POOL),
        ("connection.pool.min_size", Int, Some("5"), POOL),
        ("connection.pool.max_size", Int, Some("32"), POOL),
        ("connection.pool.acquire_increment", Int, Some("32"), POOL),
        ("connection.pool.timeout", Long, Some("1800"), POOL),
        ("connection.restart.on.errors", Boolean, Some("false"), "connections that break are always made anew"),
        ("use.reduction.buffer", Boolean, Some("false"), LAST),
        ("keyed.message.batch.mode", String, None, LAST),
        ("dialect.postgres.unnest.insert.enabled", Boolean, Some("false"), "rows are written by COPY, which is faster"),
        ("dialect.sqlserver.identity.insert", Boolean, Some("false"), "it is for SQL Server"),
        ("collection.naming.strategy", Class, None, CLASS),
        ("table.naming.strategy", Class, None, CLASS),
        ("column.naming.strategy", Class, None, "classes can't be loaded: use the ReplaceField transform"),
    ];
    for (name, kind, default, why) in keys {
        let key = match default {
            Some(default) => ConfigKey::with_default(name, kind, default),
            None => ConfigKey::optional(name, kind),
        };
        let key = match (name, kind) {
            ("keyed.message.batch.mode", _) => key.check(Validator::OneOfAnyCase(&["deduplication", "passthrough"])),
            (_, Int | Long) => key.check(Validator::AtLeast(0)),
            _ => key,
        };
        def = def.with(
            key.doc(format!("Accepted for compatibility, without effect: {why}."))
                .importance(Importance::Low)
                .group(WRITES)
                .display(title(name)),
        );
    }
    def
}

fn check_patterns(text: &str) -> std::result::Result<(), String> {
    let whole = |part: &str| crate::jdbc::whole_match(part).map(|_| ());
    text.split(',')
        .filter(|part| !part.is_empty())
        .try_for_each(|part| whole(part).map_err(|error| format!("Invalid regex {part}: {error}")))
}

/// Errors across keys.
pub(super) fn validate(props: &Props) -> Vec<ConfigError> {
    let text = |key: &str| props.get(key).map(|value| value.trim().to_ascii_lowercase()).unwrap_or_default();
    let mode = text("primary.key.mode");
    let keyless = matches!(mode.as_str(), "" | "none");
    let mut errors = Vec::new();
    check_place(props, &mut errors);
    let url = text("connection.url");
    for (key, other, in_url) in [
        ("connection.username", "connection.user", "user="),
        ("connection.password", "connection.passfile", "password="),
    ] {
        let given = !text(key).is_empty() || !text(other).is_empty();
        if !given && !["?", "&"].iter().any(|before| url.contains(&format!("{before}{in_url}"))) {
            let message = format!("Missing required configuration \"{key}\" which has no default value.");
            errors.push(ConfigError::on(key, message));
        }
    }
    if text("delete.enabled") == "true" && (keyless || mode == "kafka") {
        let message = "delete.enabled=true needs primary.key.mode to be record_key, record_value or record_header";
        errors.push(ConfigError::on("delete.enabled", message));
        errors.push(ConfigError::on("primary.key.mode", message));
    }
    if matches!(text("insert.mode").as_str(), "upsert" | "update") && keyless {
        let message = format!("insert.mode={} needs a key: set primary.key.mode", text("insert.mode"));
        errors.push(ConfigError::on("primary.key.mode", message));
    }
    let fields = text("primary.key.fields").split(',').filter(|field| !field.trim().is_empty()).count();
    if mode == "kafka" && fields != 0 && fields != 3 {
        let message = "primary.key.mode=kafka needs no primary.key.fields, or three: topic, partition and offset";
        errors.push(ConfigError::on("primary.key.fields", message));
    }
    if !text("field.include.list").is_empty() && !text("field.exclude.list").is_empty() {
        for key in ["field.include.list", "field.exclude.list"] {
            errors.push(ConfigError::on(key, "field.include.list and field.exclude.list are exclusive"));
        }
    }
    errors
}

/// Warns of keys that are another connector's.
pub(super) fn tell_foreign_keys(props: &Props) {
    for (foreign, own) in FOREIGN.iter().filter(|(foreign, _)| props.contains_key(*foreign)) {
        tracing::warn!(key = foreign, "not a key of the Debezium sink, ignored: it says {own} here");
    }
    for key in props.keys().filter(|key| key.starts_with("hibernate.")) {
        tracing::warn!(
            key,
            "ignored: there is no Hibernate here; driver properties are given as connection.<property>"
        );
    }
}

/// The connection's keys as the connection reads them.
pub(super) fn connection_props(props: &Props) -> Props {
    let own = ["connection.pool.", "connection.provider", "connection.restart.on.errors"];
    let mut out: Props = props
        .iter()
        .filter(|(key, _)| !own.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(user) = out.shift_remove("connection.username") {
        out.insert("connection.user".to_owned(), user);
    }
    out
}

/// Reads a config.
pub(super) fn read(props: &Props) -> Result<SinkConfig> {
    let config = definition().read(props)?;
    let either = |key: &str, old: &str| match (props.contains_key(key), config.optional(old)) {
        (false, Some(old)) if !old.is_empty() => old.to_owned(),
        _ => config.text(key).to_owned(),
    };
    let zone = Zone::from_text(&either("use.time.zone", "database.time_zone")).map_err(Error::config)?;
    let evolves = config.text("schema.evolution").eq_ignore_ascii_case("basic");
    Ok(SinkConfig {
        dialect: Dialect::Debezium,
        insert_mode: InsertMode::from_text(config.text("insert.mode")),
        pk_mode: PkMode::from_text(config.text("primary.key.mode")),
        pk_fields: config.list("primary.key.fields").into_iter().map(str::to_owned).collect(),
        delete_enabled: config.boolean("delete.enabled"),
        truncate_enabled: config.boolean("truncate.enabled"),
        auto_create: evolves,
        auto_evolve: evolves,
        table_format: either("collection.name.format", "table.name.format"),
        normalize: false,
        topic_tables: Vec::new(),
        fields: field_choice(&config)?,
        batch_rows: rows_of_batch(&config, props),
        render: Arc::new(RenderOptions { date_zone: Zone::Utc, zone, legacy: false }),
        null_to_default: true,
        cloud_events: Some(cloud_events(&config)?),
        stamp_unit: StampUnit::default(),
        stamp_fields: Vec::new(),
        string_column: "record_value".to_owned(),
        tombstones_pass: true,
        quoting: if config.boolean("quote.identifiers") { Quoting::Always } else { Quoting::Never },
        postgis_schema: config.text("dialect.postgres.postgis.schema").to_owned(),
        max_retries: u32::try_from(config.integer("flush.max.retries")).unwrap_or(0),
        retry_backoff: config.millis("flush.retry.delay.ms"),
        exactly_once: ExactlyOnce::from_text(config.text("sink.exactly.once")),
        offsets_table: config.text("sink.exactly.once.table").to_owned(),
    })
}

fn cloud_events(config: &Config) -> Result<Regex> {
    let pattern = config.text(CLOUD_EVENTS);
    crate::jdbc::whole_match(pattern)
        .map_err(|error| Error::config(format!("invalid regex \"{pattern}\" in {CLOUD_EVENTS}")).caused_by(error))
}

fn field_choice(config: &Config) -> Result<FieldChoice> {
    let patterns = |key: &str| {
        let compile = |pattern: &str| {
            crate::jdbc::whole_match(pattern)
                .map_err(|error| Error::config(format!("invalid regex \"{pattern}\" in {key}")).caused_by(error))
        };
        config.list(key).into_iter().map(compile).collect::<Result<Vec<Regex>>>()
    };
    let (included, excluded) = (patterns("field.include.list")?, patterns("field.exclude.list")?);
    Ok(match (included.is_empty(), excluded.is_empty()) {
        (false, _) => FieldChoice::Included(included),
        (true, false) => FieldChoice::Excluded(excluded),
        (true, true) => FieldChoice::Listed(Vec::new()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(entries: &[(&str, &str)]) -> Props {
        let place = [("connection.url", "jdbc:postgresql://h/d?user=u"), ("connection.password", "p")];
        place.iter().chain(entries).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn errors_across_keys() {
        let keys =
            |entries: &[(&str, &str)]| validate(&props(entries)).into_iter().map(|error| error.key).collect::<Vec<_>>();
        assert_eq!(keys(&[("delete.enabled", "true")]), ["delete.enabled", "primary.key.mode"]);
        assert_eq!(keys(&[("insert.mode", "upsert")]), ["primary.key.mode"]);
        assert_eq!(
            keys(&[("field.include.list", "a"), ("field.exclude.list", "b")]),
            ["field.include.list", "field.exclude.list"]
        );
        assert!(keys(&[("insert.mode", "UPSERT"), ("primary.key.mode", "record_key")]).is_empty());
        for key in definition().keys() {
            assert!(key.group.is_some() && !key.documentation.is_empty(), "{}", key.name);
        }
    }

    #[test]
    fn old_spellings_count_where_the_new_one_is_absent() {
        let config =
            read(&props(&[("table.name.format", "a_${topic}"), ("database.time_zone", "Asia/Seoul")])).unwrap();
        assert_eq!(config.table_format, "a_${topic}");
        assert_eq!(config.render.zone.offset_seconds(0), 32_400);
        let both = [("table.name.format", "old"), ("collection.name.format", "new")];
        assert_eq!(read(&props(&both)).unwrap().table_format, "new");
        let user = connection_props(&props(&[("connection.username", "u"), ("connection.pool.max_size", "3")]));
        assert_eq!(user.get("connection.user").map(String::as_str), Some("u"));
        assert!(!user.contains_key("connection.pool.max_size"));
        assert!(read(&props(&[("field.include.list", "(")])).is_err());
    }

    #[test]
    fn fields_are_chosen_with_or_without_the_topic() {
        let admits = |entries: &[(&str, &str)], field: &str| read(&props(entries)).unwrap().fields.admits("t", field);
        assert!(admits(&[("field.include.list", "t:a.*,b")], "abc"));
        assert!(!admits(&[("field.include.list", "u:a.*,b")], "abc"));
        assert!(!admits(&[("field.exclude.list", "abc")], "abc"));
        assert!(admits(&[("field.exclude.list", "ab")], "abc"));
    }
}
