//! The `connection.` keys, which source and sink share, and the check that they lead to a database.

use std::time::Duration;

use crate::api::{
    Config, ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator, Width,
};
use crate::postgres::connection::{ConnectionSettings, Session};
use crate::postgres::temporal::Zone;

/// The heading of the connection's keys.
pub(super) const DATABASE: &str = "Database";

/// The connection's keys in front of a connector's own.
pub(super) fn with_connection_keys(def: ConfigDef) -> ConfigDef {
    use ConfigType::{Int, List, Long, Password, String};
    def.with(url_key().dependents(&["table.whitelist", "table.blacklist"]))
        .with(
            ConfigKey::optional("connection.user", String)
                .doc("The user to connect as.")
                .importance(Importance::High)
                .group(DATABASE)
                .display("JDBC User"),
        )
        .with(
            ConfigKey::optional("connection.password", Password)
                .doc("The user's password.")
                .importance(Importance::High)
                .group(DATABASE)
                .display("JDBC Password"),
        )
        .with(
            ConfigKey::with_default("connection.attempts", Int, "3")
                .doc("How often to try to connect at start before the worker is told; it then retries by itself.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("JDBC connection attempts")
                .check(Validator::AtLeast(1)),
        )
        .with(
            ConfigKey::with_default("connection.backoff.ms", Long, "10000")
                .doc("The pause between attempts to connect.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("JDBC connection backoff in milliseconds"),
        )
        .with(
            ConfigKey::with_default("dialect.name", String, "")
                .doc("The SQL dialect; only PostgreSqlDatabaseDialect is built in, and chosen by the URL.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Database Dialect")
                .check(Validator::Check(check_dialect)),
        )
        .with(
            ConfigKey::optional("catalog.pattern", String)
                .doc("Accepted for compatibility; a PostgreSQL connection sees one catalog.")
                .group(DATABASE)
                .display("Catalog pattern"),
        )
        .with(
            ConfigKey::optional("jdbc.credentials.provider.class", ConfigType::Class)
                .doc("Accepted for compatibility; user and password come from connection.user and connection.password.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Credentials provider"),
        )
        .with(
            ConfigKey::with_default("table.types", List, "TABLE")
                .doc("Kinds of tables to see: TABLE, PARTITIONED TABLE, VIEW, MATERIALIZED VIEW, FOREIGN TABLE.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Table Types"),
        )
}

/// `connection.url`
pub(super) fn url_key() -> ConfigKey {
    ConfigKey::required("connection.url", ConfigType::String)
        .doc("JDBC URL of the database: jdbc:postgresql://host:5432/database. Parameters after ? win over connection.* keys.")
        .group(DATABASE)
        .display("JDBC URL")
        .width(Width::Long)
        .check(Validator::Check(check_url))
}

/// `db.timezone` under a heading.
pub(super) fn timezone_key(group: &'static str) -> ConfigKey {
    ConfigKey::with_default("db.timezone", ConfigType::String, "UTC")
        .doc("The zone that dates and times without a zone are in.")
        .group(group)
        .display("DB time zone")
        .check(Validator::Check(check_zone))
}

/// `quote.sql.identifiers` under a heading.
pub(super) fn quoting_key(group: &'static str) -> ConfigKey {
    ConfigKey::with_default("quote.sql.identifiers", ConfigType::String, "always")
        .doc("Whether identifiers are put in double quotes, which keeps their case: always or never.")
        .group(group)
        .display("Quote Identifiers")
        .check(Validator::OneOfAnyCase(&["always", "never"]))
}

/// `date.calendar.system` under a heading.
pub(super) fn calendar_key(group: &'static str) -> ConfigKey {
    ConfigKey::with_default("date.calendar.system", ConfigType::String, "LEGACY")
        .doc("How days before 1582-10-15 are counted: LEGACY as java.util.Date does, or PROLEPTIC_GREGORIAN.")
        .importance(Importance::Low)
        .group(group)
        .display("Date calendar system")
        .check(Validator::OneOfAnyCase(&["LEGACY", "PROLEPTIC_GREGORIAN"]))
}

fn check_url(text: &str) -> std::result::Result<(), String> {
    text.parse::<crate::postgres::url::JdbcUrl>().map(|_| ())
}

fn check_dialect(text: &str) -> std::result::Result<(), String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "postgresqldatabasedialect" => Ok(()),
        _ => Err("only PostgreSqlDatabaseDialect is available".to_owned()),
    }
}

pub(super) fn check_zone(text: &str) -> std::result::Result<(), String> {
    Zone::from_text(text).map(|_| ())
}

/// How to reach the database.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    /// Where and as whom.
    pub(super) settings: ConnectionSettings,
    attempts: u32,
    backoff: Duration,
}

impl Connector {
    /// From a config. `application` is the session's name where the user gives none.
    pub(super) fn new(props: &Props, config: &Config, application: &str) -> Result<Self> {
        let named = [("connection.ApplicationName", application)];
        let given = props.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let settings = ConnectionSettings::from_keys(named.into_iter().chain(given))
            .map_err(|reason| Error::config(format!("invalid connection.url: {reason}")))?;
        Ok(Self {
            settings,
            attempts: u32::try_from(config.integer("connection.attempts")).unwrap_or(1),
            backoff: config.millis("connection.backoff.ms"),
        })
    }

    /// Opens a session at start.
    pub(super) async fn open(&self) -> Result<Session> {
        self.settings.connect_patiently(self.attempts, self.backoff).await
    }

    /// Opens a session, one attempt.
    pub(super) async fn connect(&self) -> Result<Session> {
        self.settings.connect().await
    }
}

/// Tries to connect once; what failed goes to the key that has to change.
pub(super) async fn check_connection(connector: &Connector) -> std::result::Result<Session, Vec<ConfigError>> {
    connector.connect().await.map_err(|error| {
        let message = error.to_string();
        if message.contains("password of user") {
            let hint = "Could not connect to database. ";
            vec![
                ConfigError::on("connection.user", format!("{hint}{message}")),
                ConfigError::on("connection.password", format!("{hint}{message}")),
            ]
        } else {
            vec![ConfigError::on("connection.url", format!("Could not connect to database. {message}"))]
        }
    })
}
