//! The source's keys, and the config as the task uses it.

use std::time::Duration;

use regex::Regex;

use crate::api::{Config, ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator, Width};
use crate::jdbc::connection_keys::{DATABASE, calendar_key, quoting_key, timezone_key, title, with_connection_keys};
use crate::jdbc::whole_match;
use crate::postgres::field_decoder::DecodeOptions;
use crate::postgres::temporal::Zone;
use crate::postgres::type_map::{Granularity, NumericMapping};

const MODE: &str = "Mode";
const CONNECTOR: &str = "Connector";

/// Which rows a poll reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All, each time.
    Bulk,
    /// Those with a larger id.
    Incrementing,
    /// Those with a later timestamp.
    Timestamp,
    /// Those with a later timestamp, or the same and a larger id.
    TimestampIncrementing,
}

impl Mode {
    pub(super) fn from_text(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "bulk" => Self::Bulk,
            "incrementing" => Self::Incrementing,
            "timestamp" => Self::Timestamp,
            "timestamp+incrementing" => Self::TimestampIncrementing,
            _ => return None,
        })
    }

    /// Whether ids count.
    pub(super) fn has_incrementing(self) -> bool {
        matches!(self, Self::Incrementing | Self::TimestampIncrementing)
    }

    /// Whether timestamps count.
    pub(super) fn has_timestamp(self) -> bool {
        matches!(self, Self::Timestamp | Self::TimestampIncrementing)
    }
}

/// Where timestamps start when nothing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitialTimestamp {
    /// At this millisecond.
    At(i64),
    /// At the database's clock when the task starts.
    Now,
}

/// The config as the task uses it.
#[derive(Debug, Clone)]
pub(super) struct SourceConfig {
    pub(super) mode: Mode,
    pub(super) incrementing: Option<String>,
    pub(super) timestamps: Vec<String>,
    pub(super) incrementing_mapping: Vec<(Regex, String)>,
    pub(super) timestamp_mapping: Vec<(Regex, Vec<String>)>,
    pub(super) query: Option<String>,
    pub(super) suffix: String,
    pub(super) isolation: &'static str,
    pub(super) topic_prefix: String,
    pub(super) poll_interval: Duration,
    /// Rows of a returned batch, if the user limits them.
    pub(super) batch_rows: Option<usize>,
    /// The largest value that may come from a table's column.
    pub(super) value_limit: Option<ValueLimit>,
    pub(super) delay_millis: i64,
    pub(super) decode: DecodeOptions,
    pub(super) initial_timestamp: InitialTimestamp,
    pub(super) initial_id: i64,
    pub(super) validate_non_null: bool,
    pub(super) horizon: bool,
    pub(super) horizon_max_lag: Option<Duration>,
    pub(super) unsupported_as_text: bool,
    /// Whether values that Connect's types would change are sent as text.
    pub(super) exact: bool,
    pub(super) retry_attempts: Option<u32>,
}

/// The table of keys.
pub(super) fn definition() -> ConfigDef {
    let tables = &["table.whitelist", "table.blacklist", "table.include.list", "table.exclude.list", "schema.pattern"];
    connector_keys(mode_keys(data_keys(with_connection_keys(ConfigDef::new(), tables)))).for_forms()
}

fn data_keys(def: ConfigDef) -> ConfigDef {
    use ConfigType::{Boolean, String};
    let patterns: &[&str] = &["none", "precision_only", "best_fit", "best_fit_eager_double"];
    def.with(
        ConfigKey::optional("schema.pattern", String)
            .doc("LIKE pattern of the schemas to see; all if not set.")
            .group(DATABASE)
            .display("Schema pattern")
            .importance(Importance::High),
    )
    .with(
        list("table.whitelist", "Tables to copy: schema.table, \"schema\".\"table\" or the bare name.", DATABASE)
            .dependents(&["incrementing.column.name", "timestamp.column.name"]),
    )
    .with(list("table.blacklist", "Tables not to copy.", DATABASE))
    .with(
        list("table.include.list", "Regular expressions that match schema.table of the tables to copy.", DATABASE)
            .dependents(&["incrementing.column.name", "timestamp.column.name"])
            .check(Validator::Check(check_regexes)),
    )
    .with(
        list("table.exclude.list", "Regular expressions of tables to leave out of table.include.list.", DATABASE)
            .check(Validator::Check(check_regexes)),
    )
    .with(
        ConfigKey::with_default("numeric.precision.mapping", Boolean, "false")
            .doc("Deprecated: true means numeric.mapping=precision_only.")
            .importance(Importance::Low)
            .group(DATABASE)
            .display("Map Numeric Values By Precision (deprecated)"),
    )
    .with(
        ConfigKey::optional("numeric.mapping", String)
            .doc("What NUMERIC columns become: none (Decimal), precision_only, best_fit or best_fit_eager_double.")
            .importance(Importance::Low)
            .group(DATABASE)
            .display("Map Numeric Values, Integral or Decimal, By Precision and Scale")
            .check(Validator::LowerOrUpper(patterns)),
    )
    .with(calendar_key(DATABASE))
    .with(
        ConfigKey::with_default("type.mapping", String, "compatible")
            .doc(
                "compatible reads columns as the original does, which drops some types and rounds others. exact sends as \
                 PostgreSQL's own text what would be dropped, rounded or refused: arrays, ranges, network addresses, \
                 intervals, money, bits, numerics without precision, and dates and times to the microsecond.",
            )
            .group(DATABASE)
            .display("Type mapping")
            .check(Validator::OneOfAnyCase(&["compatible", "exact"])),
    )
    .with(
        ConfigKey::with_default("unsupported.types", String, "skip")
            .doc(
                "What happens to columns whose type Kafka Connect has no schema for (arrays, inet, interval, ...): \
                  skip leaves them out as the original does, text sends PostgreSQL's text of them as STRING.",
            )
            .importance(Importance::Low)
            .group(DATABASE)
            .display("Columns of other types")
            .check(Validator::OneOfAnyCase(&["skip", "text"])),
    )
}

fn mode_keys(def: ConfigDef) -> ConfigDef {
    use ConfigType::{Boolean, Int, Long, Password, String};
    def.with(
        ConfigKey::with_default("mode", String, "")
            .doc("Which rows a poll reads: bulk, incrementing, timestamp or timestamp+incrementing.")
            .importance(Importance::High)
            .group(MODE)
            .display("Table Loading Mode")
            .dependents(&[
                "incrementing.column.name",
                "timestamp.column.name",
                "incrementing.column.mapping",
                "timestamp.columns.mapping",
                "validate.non.null",
            ])
            .check(Validator::OneOf(&["", "bulk", "timestamp", "incrementing", "timestamp+incrementing"])),
    )
    .with(
        ConfigKey::with_default("incrementing.column.name", String, "")
            .doc("The strictly growing column; empty finds the column that the server numbers.")
            .group(MODE)
            .display("Incrementing Column Name"),
    )
    .with(list("timestamp.column.name", "Timestamp columns; the first that is not null counts.", MODE))
    .with(
        list(
            "incrementing.column.mapping",
            "Entries <regex>:<column>; the first that matches schema.table counts.",
            MODE,
        )
        .check(Validator::Check(check_mapping)),
    )
    .with(
        list(
            "timestamp.columns.mapping",
            "Entries <regex>:[<column>|<column>]; the first that matches schema.table counts.",
            MODE,
        )
        .check(Validator::Check(check_bracketed)),
    )
    .with(
        ConfigKey::optional("timestamp.initial", Long)
            .doc("Milliseconds of the epoch to start at when no offset is stored; -1 starts at the database's clock.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Unix time value of initial timestamp"),
    )
    .with(aivens(
        "timestamp.initial.ms",
        Long,
        MODE,
        "Aiven's spelling of timestamp.initial, without a meaning of its own for -1.",
    ))
    .with(aivens(
        "incrementing.initial",
        Long,
        MODE,
        "The id that rows must be above when no offset is stored; -1 if not set (Aiven's key).",
    ))
    .with(
        ConfigKey::with_default("table.names.qualify", Boolean, "true")
            .doc(
                "Whether tables are read by schema and name. false reads them by the bare name, which the search path \
                 (currentSchema in the URL) leads to a schema: the same name in several schemas is then one table \
                 (Aiven's key).",
            )
            .importance(Importance::Low)
            .group(MODE)
            .display("Qualify table names"),
    )
    .with(
        ConfigKey::with_default("validate.non.null", Boolean, "true")
            .doc("Whether nullable incrementing and timestamp columns are refused.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Validate Non Null"),
    )
    .with(
        ConfigKey::with_default("query", String, "")
            .doc("A query to read instead of tables; put in a sub-select, so it may have its own WHERE.")
            .dependents(&["incrementing.column.name", "timestamp.column.name"])
            .group(MODE)
            .display("Query")
            .width(Width::Long),
    )
    .with(
        ConfigKey::optional("query.masked", Password)
            .doc("As query, but never shown.")
            .group(MODE)
            .display("Query (masked)"),
    )
    .with(quoting_key(MODE))
    .with(
        ConfigKey::optional("sql.quote.identifiers", Boolean)
            .doc("Aiven's spelling of quote.sql.identifiers.")
            .importance(Importance::Low)
            .group(MODE)
            .display(title("sql.quote.identifiers")),
    )
    .with(
        ConfigKey::with_default("query.suffix", String, "")
            .doc("SQL at the very end of each statement, such as FOR SHARE. Turns paging off.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Query suffix"),
    )
    .with(
        ConfigKey::with_default("transaction.isolation.mode", String, "DEFAULT")
            .doc("Isolation level of reading transactions.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Transaction Isolation Mode")
            .check(Validator::OneOfAnyCase(&[
                "DEFAULT",
                "READ_UNCOMMITTED",
                "READ_COMMITTED",
                "REPEATABLE_READ",
                "SERIALIZABLE",
                "SQL_SERVER_SNAPSHOT",
            ])),
    )
    .with(
        ConfigKey::with_default("query.retry.attempts", Int, "-1")
            .doc("How often in a row a failed statement is repeated; 0 or less repeats for ever.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Query Retry Attempts"),
    )
    .with(
        ConfigKey::with_default("read.horizon", String, "transactions")
            .doc(
                "transactions: read only rows that no transaction still in flight can come before, so that rows which \
                  commit late with a smaller id or timestamp are never skipped. none: read at once what is visible, \
                  and lose such rows, as the original does.",
            )
            .group(MODE)
            .display("Read horizon")
            .check(Validator::OneOfAnyCase(&["transactions", "none"])),
    )
    .with(
        ConfigKey::with_default("read.horizon.max.lag.ms", Long, "-1")
            .doc("How long a transaction in flight may hold reading back before its rows are risked; -1 for ever.")
            .importance(Importance::Low)
            .group(MODE)
            .display("Read horizon limit"),
    )
}

fn connector_keys(def: ConfigDef) -> ConfigDef {
    use ConfigType::{Int, Long, String};
    let number = |name: &'static str, kind, default: &'static str, doc: &'static str| {
        ConfigKey::with_default(name, kind, default).doc(doc).group(CONNECTOR).display(title(name))
    };
    def.with(
        number("table.poll.interval.ms", Long, "60000", "How often new and dropped tables are looked for.")
            .importance(Importance::Low),
    )
    .with(number("poll.interval.ms", Int, "5000", "The pause between two polls of a table.").importance(Importance::High))
    .with(
        number("batch.max.rows", Int, "1000", "The most rows of one batch. Where it is not set, batches are bounded by bytes.")
            .importance(Importance::Low),
    )
    .with(
        number(
            "max.value.bytes",
            Long,
            "67108864",
            "A larger value of a table's column is refused before it is read, so that it takes no memory; -1 for no limit. \
             Where it is not set, a larger producer.override.max.request.size counts, and errors.tolerance=all reads such \
             values to pass over them.",
        )
        .importance(Importance::Low),
    )
    .with(number("max.buffer.size", Int, "0", "Accepted for compatibility; reading ahead is bounded by bytes.").importance(Importance::Low))
    .with(number("poll.linger.ms", Long, "5000", "Accepted for compatibility; a batch is handed over when it is there.").importance(Importance::Low))
    .with(
        ConfigKey::with_default("topic.prefix", String, "")
            .doc("What the table's name is put behind to make the topic; with a query, the topic itself.")
            .importance(Importance::High)
            .group(CONNECTOR)
            .display("Topic Prefix")
            .check(Validator::Check(check_prefix)),
    )
    .with(
        number("timestamp.delay.interval.ms", Long, "0", "How long rows wait before they are read; subtracted from the upper bound.")
            .importance(Importance::High),
    )
    .with(timezone_key(CONNECTOR))
    .with(
        ConfigKey::with_default("timestamp.granularity", String, "connect_logical")
            .doc("What timestamps become: Connect's Timestamp of milliseconds, or microseconds or nanoseconds as number or text.")
            .importance(Importance::Low)
            .group(CONNECTOR)
            .display("Timestamp granularity for timestamp columns")
            .check(Validator::LowerOrUpper(Granularity::NAMES)),
    )
    .with(number("table.monitoring.startup.polling.limit.ms", Long, "10000", "Accepted for compatibility.").importance(Importance::Low))
}

fn list(name: &'static str, doc: &'static str, group: &'static str) -> ConfigKey {
    ConfigKey::with_default(name, ConfigType::List, "").doc(doc).group(group).display(title(name))
}

fn aivens(name: &'static str, kind: ConfigType, group: &'static str, doc: &'static str) -> ConfigKey {
    ConfigKey::optional(name, kind).doc(doc).importance(Importance::Low).group(group).display(title(name))
}

fn check_prefix(text: &str) -> std::result::Result<(), String> {
    let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if legal && text.len() <= 249 {
        Ok(())
    } else {
        Err("only letters, digits, '.', '_' and '-' may be in a topic name, at most 249 of them".to_owned())
    }
}

fn check_regexes(text: &str) -> std::result::Result<(), String> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .try_for_each(|part| Regex::new(part).map(|_| ()).map_err(|error| format!("Invalid regex {part}: {error}")))
}

impl SourceConfig {
    /// Reads a config.
    pub(super) fn read(props: &Props) -> Result<Self> {
        let config = definition().read(props)?;
        let mode = Mode::from_text(config.text("mode")).ok_or_else(|| Error::config(super::validate::NO_MODE))?;
        let zone = Zone::from_text(config.text("db.timezone")).map_err(Error::config)?;
        let exact = config.text("type.mapping").eq_ignore_ascii_case("exact");
        let numeric =
            NumericMapping::from_text(config.optional("numeric.mapping"), config.boolean("numeric.precision.mapping"));
        let query = Some(config.text("query")).filter(|query| !query.is_empty()).or(config.optional("query.masked"));
        Ok(Self {
            mode,
            incrementing: Some(config.text("incrementing.column.name").to_owned()).filter(|name| !name.is_empty()),
            timestamps: config.list("timestamp.column.name").into_iter().map(str::to_owned).collect(),
            incrementing_mapping: mapping(&config, "incrementing.column.mapping")?,
            timestamp_mapping: mapping(&config, "timestamp.columns.mapping")?
                .into_iter()
                .map(|(regex, columns)| {
                    let columns = bracketed(&columns).unwrap_or(&columns).split('|');
                    (regex, columns.map(|column| column.trim().to_owned()).collect())
                })
                .collect(),
            query: query
                .map(|query| query.trim().trim_end_matches(';').trim_end().to_owned())
                .filter(|q| !q.is_empty()),
            suffix: config.text("query.suffix").to_owned(),
            isolation: isolation(config.text("transaction.isolation.mode")),
            topic_prefix: config.text("topic.prefix").to_owned(),
            poll_interval: config.millis("poll.interval.ms"),
            batch_rows: props
                .contains_key("batch.max.rows")
                .then(|| usize::try_from(config.integer("batch.max.rows")).unwrap_or(1).max(1)),
            value_limit: value_limit(&config, props),
            delay_millis: config.integer("timestamp.delay.interval.ms"),
            decode: DecodeOptions {
                numeric: match numeric {
                    // Doubles round.
                    NumericMapping::BestFit | NumericMapping::BestFitEagerDouble if exact => {
                        NumericMapping::PrecisionOnly
                    }
                    numeric => numeric,
                },
                granularity: Granularity::from_text(config.text("timestamp.granularity")),
                zone,
                legacy: config.text("date.calendar.system").eq_ignore_ascii_case("LEGACY"),
            },
            initial_timestamp: match config.number("timestamp.initial") {
                Some(-1) => InitialTimestamp::Now,
                Some(millis) => InitialTimestamp::At(millis),
                None => InitialTimestamp::At(config.integer("timestamp.initial.ms")),
            },
            initial_id: config.number("incrementing.initial").unwrap_or(-1),
            validate_non_null: config.boolean("validate.non.null"),
            horizon: !config.text("read.horizon").eq_ignore_ascii_case("none"),
            horizon_max_lag: config
                .number("read.horizon.max.lag.ms")
                .and_then(|millis| u64::try_from(millis).ok())
                .map(Duration::from_millis),
            exact,
            unsupported_as_text: config.text("unsupported.types").eq_ignore_ascii_case("text"),
            retry_attempts: u32::try_from(config.integer("query.retry.attempts")).ok().filter(|attempts| *attempts > 0),
        })
    }

    /// The incrementing column that the config names for a table.
    pub(super) fn incrementing_of(&self, dotted: &str) -> Option<String> {
        let mapped = self.incrementing_mapping.iter().find(|(regex, _)| regex.is_match(dotted));
        mapped.map(|(_, column)| column.clone()).or_else(|| self.incrementing.clone())
    }

    /// The timestamp columns that the config names for a table.
    pub(super) fn timestamps_of(&self, dotted: &str) -> Vec<String> {
        let mapped = self.timestamp_mapping.iter().find(|(regex, _)| regex.is_match(dotted));
        mapped.map_or_else(|| self.timestamps.clone(), |(_, columns)| columns.clone())
    }
}

/// How large values may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueLimit {
    pub(super) bytes: u64,
    /// Whether the user set it: it counts for every column then, not only where values may well be that large.
    pub(super) everywhere: bool,
}

fn value_limit(config: &Config, props: &Props) -> Option<ValueLimit> {
    let bytes = u64::try_from(config.integer("max.value.bytes")).ok()?;
    let everywhere = props.contains_key("max.value.bytes");
    let tolerant = props.get("errors.tolerance").is_some_and(|tolerance| tolerance.eq_ignore_ascii_case("all"));
    if tolerant && !everywhere {
        return None;
    }
    let sent = props.get("producer.override.max.request.size").and_then(|size| size.parse().ok()).unwrap_or(0);
    Some(ValueLimit { bytes: if everywhere { bytes } else { bytes.max(sent) }, everywhere })
}

fn isolation(text: &str) -> &'static str {
    match text.to_ascii_uppercase().as_str() {
        "READ_UNCOMMITTED" => "READ UNCOMMITTED",
        "REPEATABLE_READ" => "REPEATABLE READ",
        "SERIALIZABLE" => "SERIALIZABLE",
        _ => "READ COMMITTED",
    }
}

fn mapping(config: &Config, key: &str) -> Result<Vec<(Regex, String)>> {
    let entry =
        |entry| mapped(entry).map_err(|reason| Error::config(format!("invalid entry \"{entry}\" of {key}: {reason}")));
    config.list(key).into_iter().map(entry).collect()
}

fn mapped(entry: &str) -> std::result::Result<(Regex, String), String> {
    let (pattern, column) = entry.rsplit_once(':').ok_or("<regex>:<column> is expected")?;
    let column = column.trim();
    if column.trim_matches(['[', ']']).split('|').any(|column| column.trim().is_empty()) {
        return Err("a column is expected after the colon".to_owned());
    }
    let regex = whole_match(pattern).map_err(|error| format!("Invalid regex {pattern}: {error}"))?;
    Ok((regex, column.to_owned()))
}

/// What stands between brackets.
fn bracketed(columns: &str) -> Option<&str> {
    columns.strip_prefix('[')?.strip_suffix(']')
}

fn check_bracketed(text: &str) -> std::result::Result<(), String> {
    check_mapping(text)?;
    let bare = |entry: &&str| mapped(entry).is_ok_and(|(_, columns)| bracketed(&columns).is_none());
    match text.split(',').filter(|entry| !entry.is_empty()).find(bare) {
        Some(entry) => Err(format!("<regex>:[<column>|<column>] is expected, with brackets, but found {entry}")),
        None => Ok(()),
    }
}

fn check_mapping(text: &str) -> std::result::Result<(), String> {
    text.split(',').filter(|entry| !entry.is_empty()).try_for_each(|entry| mapped(entry).map(|_| ()))
}
