//! The `connection.` keys, which source and sink share, and the check that they lead to a database.

use std::time::Duration;

use crate::api::{
    Config, ConfigDef, ConfigError, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator, Width,
};
use crate::postgres::catalog;
use crate::postgres::connection::{ConnectionSettings, Session};
use crate::postgres::temporal::Zone;

/// The heading of the connection's keys.
pub(super) const DATABASE: &str = "Database";

/// The connection's keys in front of a connector's own; `dependents` are those whose offered values the database gives.
pub(super) fn with_connection_keys(def: ConfigDef, dependents: &[&'static str]) -> ConfigDef {
    use ConfigType::{Int, List, Long, Password, String};
    let def = def
        .with(url_key().dependents(dependents))
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
            offering(&["PostgreSqlDatabaseDialect"], ConfigKey::with_default("dialect.name", String, ""))
                .doc("The SQL dialect; only PostgreSqlDatabaseDialect is built in, and chosen by the URL.")
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Database Dialect")
                .check(Validator::Check(check_dialect)),
        )
        .with(
            ConfigKey::optional("catalog.pattern", String)
                .doc("LIKE pattern of the catalog, which in PostgreSQL is the database of the connection: another one has no table.")
                .group(DATABASE)
                .display("Catalog pattern"),
        )
        .with(
            ConfigKey::optional("jdbc.credentials.provider.class", ConfigType::Class)
                .doc(
                    "Who gives user and password. No class can be loaded: only the built-in one is accepted, which reads \
                     connection.user and connection.password. A config provider can fill those from a file or the environment.",
                )
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Credentials provider")
                .check(Validator::Check(check_credentials_provider)),
        )
        .with(
            offering(catalog::TABLE_TYPE_NAMES, ConfigKey::with_default("table.types", List, "TABLE"))
                .doc(
                    "Kinds of tables to see, in any case: TABLE, PARTITIONED TABLE, VIEW, MATERIALIZED VIEW, FOREIGN TABLE, \
                     SYSTEM TABLE, SYSTEM VIEW.",
                )
                .importance(Importance::Low)
                .group(DATABASE)
                .display("Table Types"),
        );
    cloud_keys(def)
}

/// How Confluent Cloud names the place: parts of a URL, which count where there is none.
fn cloud_keys(def: ConfigDef) -> ConfigDef {
    let part = |name: &'static str, kind, doc: &'static str| {
        ConfigKey::optional(name, kind).doc(doc).importance(Importance::Low).group(DATABASE).display(title(name))
    };
    def.with(part(
        "connection.host",
        ConfigType::String,
        "Host of the database, as Confluent Cloud names it; counts where connection.url is not given.",
    ))
    .with(
        part("connection.port", ConfigType::Int, "Port of the database, beside connection.host.")
            .check(Validator::Between(1, 65_535)),
    )
    .with(part("db.name", ConfigType::String, "Name of the database, beside connection.host."))
    .with(
        part("ssl.mode", ConfigType::String, "The connection's sslmode, beside connection.host.")
            .check(Validator::OneOfAnyCase(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])),
    )
}

/// A key that offers these values.
pub(super) fn offering(values: &'static [&'static str], key: ConfigKey) -> ConfigKey {
    ConfigKey { recommended: values, ..key }
}

/// A key's name as a heading: `table.poll.interval.ms` is "Table Poll Interval (ms)".
pub(super) fn title(name: &str) -> String {
    let (name, unit) = name.strip_suffix(".ms").map_or((name, ""), |name| (name, " (ms)"));
    let word = |word: &str| match word {
        "sql" | "jdbc" | "db" | "ssl" => word.to_uppercase(),
        word => {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
        }
    };
    format!("{}{unit}", name.split(['.', '_']).map(word).collect::<Vec<_>>().join(" "))
}

/// `connection.url`
pub(super) fn url_key() -> ConfigKey {
    // Required by [`check_place`], which knows what can stand for it.
    ConfigKey::with_default("connection.url", ConfigType::String, "")
        .doc("JDBC URL of the database: jdbc:postgresql://host:5432/database. Parameters after ? win over connection.* keys.")
        .importance(Importance::High)
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

/// Names parameters of URLs that the worker's owner forbids.
const BLOCKED: &str = "JDBC_CONNECTION_URL_BLOCKED_PARAMS";

fn check_url(text: &str) -> std::result::Result<(), String> {
    let url = text.parse::<crate::postgres::url::JdbcUrl>()?;
    let blocked = std::env::var(BLOCKED).unwrap_or_default();
    refuse_blocked(&url.parameters, &blocked)
}

fn refuse_blocked(parameters: &[(String, String)], blocked: &str) -> std::result::Result<(), String> {
    let blocked: Vec<&str> = blocked.split(',').map(str::trim).collect();
    let is_blocked = |name: &str| blocked.iter().any(|blocked| blocked.eq_ignore_ascii_case(name));
    match parameters.iter().find(|(name, _)| is_blocked(name)) {
        Some((name, _)) => Err(format!("the parameter {name} is not allowed on this worker ({BLOCKED})")),
        None => Ok(()),
    }
}

/// That a config says where the database is.
pub(super) fn check_place(props: &Props, errors: &mut Vec<ConfigError>) {
    let given = |key: &str| props.get(key).is_some_and(|value| !value.trim().is_empty());
    // An empty URL was told by its own check.
    if !props.contains_key("connection.url") && !given("connection.host") {
        let message = "Missing required configuration \"connection.url\" which has no default value.";
        errors.push(ConfigError::on("connection.url", message));
    }
}

/// The URL that Confluent Cloud's keys make.
fn cloud_url(props: &Props) -> Option<String> {
    let text = |key: &str| props.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let host = text("connection.host").filter(|_| text("connection.url").is_none())?;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let mut name = String::new();
    for byte in text("db.name").unwrap_or_default().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    let mode = text("ssl.mode").map_or_else(String::new, |mode| format!("?sslmode={}", mode.to_ascii_lowercase()));
    Some(format!("jdbc:postgresql://{host}:{}/{name}{mode}", text("connection.port").unwrap_or("5432")))
}

fn check_credentials_provider(text: &str) -> std::result::Result<(), String> {
    match text.rsplit('.').next() {
        Some("" | "DefaultJdbcCredentialsProvider") | None => Ok(()),
        _ => Err("no class can be loaded: leave the key out and set connection.user and connection.password, which \
                  config providers can fill from a file or the environment"
            .to_owned()),
    }
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
        let url = cloud_url(props);
        let named = named.into_iter().chain(url.as_deref().map(|url| ("connection.url", url)));
        let given = props.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let settings = ConnectionSettings::from_keys(named.chain(given))
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

/// Tries to connect once. Whatever fails is told on the URL, as by the original.
pub(super) async fn check_connection(connector: &Connector) -> std::result::Result<Session, Vec<ConfigError>> {
    connector.connect().await.map_err(|error| {
        let said = error.to_string();
        let message = match said.strip_prefix("could not connect to database ") {
            Some(rest) => format!("Could not connect to database {rest}"),
            None => format!("Could not connect to database: {said}"),
        };
        vec![ConfigError::on("connection.url", message)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(entries: &[(&str, &str)]) -> Props {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_as_headings() {
        assert_eq!(title("table.poll.interval.ms"), "Table Poll Interval (ms)");
        assert_eq!(title("sql.quote.identifiers"), "SQL Quote Identifiers");
        assert_eq!(title("a..b"), "A  B");
    }

    #[test]
    fn keys_of_the_cloud_make_a_url() {
        let cloud = [("connection.host", "h"), ("db.name", "a b/c"), ("ssl.mode", "REQUIRE")];
        assert_eq!(cloud_url(&props(&cloud)).unwrap(), "jdbc:postgresql://h:5432/a%20b%2Fc?sslmode=require");
        let six = [("connection.host", "::1"), ("connection.port", "5433")];
        assert_eq!(cloud_url(&props(&six)).unwrap(), "jdbc:postgresql://[::1]:5433/");
        assert_eq!(cloud_url(&props(&[("connection.url", "x"), ("connection.host", "h")])), None);
        let mut errors = Vec::new();
        check_place(&props(&cloud), &mut errors);
        assert_eq!(errors, []);
        check_place(&props(&[]), &mut errors);
        assert_eq!(errors[0].key, "connection.url");
    }

    #[test]
    fn parameters_can_be_forbidden() {
        let url: crate::postgres::url::JdbcUrl = "jdbc:postgresql://h/d?a=1&socketFactory=x".parse().unwrap();
        assert!(refuse_blocked(&url.parameters, "").is_ok());
        assert!(refuse_blocked(&url.parameters, "b, SOCKETFACTORY").unwrap_err().contains("socketFactory"));
        assert!(check_credentials_provider("io.x.DefaultJdbcCredentialsProvider").is_ok());
        assert!(check_credentials_provider("my.Vault").is_err());
    }
}
