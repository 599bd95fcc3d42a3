//! Connections: from a connector's config to a session, host by host, with errors that say what, where and what to do.
//! Never shows a password.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _};

use super::failure::{self, Cause};
use super::url::{JdbcUrl, parse_host};
use super::{client_files, tls};
use crate::api::{Error, Result};

/// Keys under `connection.` that are ours, not the driver's.
const OWN_KEYS: &[&str] = &["url", "user", "password", "attempts", "backoff.ms"];

/// How long one host may take to be connected to where nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The values of `targetServerType`.
const ROLES: &[&str] =
    &["any", "primary", "master", "secondary", "slave", "preferprimary", "prefersecondary", "preferslave"];

/// The server's setting that ends statements of clients that are gone.
const CHECK_INTERVAL: &str = "client_connection_check_interval";

/// How soon the server notices that a client's machine is gone: else its session would hold the offsets for two hours.
const KEEPALIVES: &[(&str, &str)] =
    &[("tcp_keepalives_idle", "30"), ("tcp_keepalives_interval", "10"), ("tcp_keepalives_count", "3")];

/// What a connection is made from.
#[derive(Clone)]
pub struct ConnectionSettings {
    hosts: Vec<(String, u16)>,
    database: String,
    user: String,
    password: Option<String>,
    properties: Vec<(String, String)>,
}

impl std::fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConnectionSettings").field(&self.place()).finish()
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// The driver's connection.
    pub connection: PgConnection,
    /// The server's version as `server_version_num`.
    pub version: u32,
    /// The server's process for this session, by which another session can end it.
    pub process: i32,
    /// How long an answer of the server may take (`socketTimeout`); for ever if not set.
    pub patience: Option<Duration>,
}

/// Waits for the server, but not longer than a session's patience; what takes longer counts as an outage.
///
/// # Errors
/// The driver's.
pub async fn within<T>(
    patience: Option<Duration>,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let Some(patience) = patience else { return answer.await };
    match tokio::time::timeout(patience, answer).await {
        Ok(answered) => answered,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within socketTimeout={} s", patience.as_secs()),
        ))),
    }
}

impl ConnectionSettings {
    /// Reads the `connection.` keys of a config; URL parameters win over keys.
    ///
    /// # Errors
    /// Why the URL is wrong.
    pub fn from_keys<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut url = None;
        let mut properties = Vec::new();
        for (key, value) in keys {
            match key.strip_prefix("connection.") {
                Some("url") => url = Some(value.parse::<JdbcUrl>()?),
                Some("user") => properties.push(("user".to_owned(), value.to_owned())),
                Some("password") => properties.push(("password".to_owned(), value.to_owned())),
                Some(own) if OWN_KEYS.contains(&own) => {}
                Some(property) => properties.push((property.to_owned(), value.to_owned())),
                None => {}
            }
        }
        let url = url.ok_or("connection.url is missing")?;
        properties.extend(url.parameters);
        let service = properties.iter().rev().find(|(key, _)| key == "service").map(|(_, name)| name.clone());
        let service = service.map_or_else(|| Ok(Vec::new()), |name| client_files::service(&name))?;
        let of_service = |name: &str| service.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let hosts = match of_service("host").filter(|_| !url.names_host) {
            Some(host) => vec![parse_host(&match of_service("port") {
                Some(port) => format!("{host}:{port}"),
                None => host,
            })?],
            None => url.hosts,
        };
        let database = url.database.or_else(|| of_service("dbname"));
        // What is said nearer to the connector wins.
        properties.splice(0..0, service);
        let find = |name: &str| properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let user = find("user").filter(|user| !user.is_empty()).unwrap_or_else(operating_system_user);
        if find("user").is_none() && find("username").is_some() {
            tracing::warn!("connection.username is not a key of this connector: the user is given in connection.user");
        }
        Ok(Self {
            hosts,
            database: database.unwrap_or_else(|| user.clone()),
            user,
            password: find("password"),
            properties,
        })
    }

    /// `host:port/database`, for messages.
    pub fn place(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{}/{}", hosts.join(","), self.database)
    }

    /// The value of a driver property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Opens a session on the first host that answers and has the wanted role, within `loginTimeout`.
    ///
    /// # Errors
    /// Retriable while the server is away, a config error if it refuses user, password or database.
    pub async fn connect(&self) -> Result<Session> {
        let Some(limit) = self.seconds("loginTimeout") else { return self.connect_to_any().await };
        match tokio::time::timeout(limit, self.connect_to_any()).await {
            Ok(connected) => connected,
            Err(elapsed) => Err(Error::retriable(format!(
                "could not connect to database {}: not done within loginTimeout={} s",
                self.place(),
                limit.as_secs()
            ))
            .caused_by(elapsed)),
        }
    }

    async fn connect_to_any(&self) -> Result<Session> {
        self.refuse_unmet_demands()?;
        let wanted = self.wanted_role()?;
        let mut last = None;
        let mut second_choice = None;
        for (host, port) in self.hosts_in_turn() {
            match self.connect_in_time(host, port, &wanted).await {
                Ok((session, Fit::Yes)) => return Ok(session),
                Ok((session, Fit::IfNoOther)) => second_choice = Some(session),
                Ok((_, Fit::No)) => {
                    last = Some(Error::retriable(format!("{host}:{port} is not a server of type {wanted}")));
                }
                Err(error) => last = Some(error),
            }
        }
        second_choice.ok_or_else(|| last.unwrap_or_else(|| Error::config("no host in connection.url")))
    }

    /// Opens a session, trying `attempts` times while the server is away.
    ///
    /// # Errors
    /// As [`Self::connect`], of the last attempt.
    pub async fn connect_patiently(&self, attempts: u32, pause: Duration) -> Result<Session> {
        let mut tried = 1;
        loop {
            match self.connect().await {
                Err(error) if error.kind() == crate::api::ErrorKind::Retriable && tried < attempts => {
                    tracing::warn!(place = %self.place(), attempt = tried, error = %error, "database is not reachable");
                    tried += 1;
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
    }

    /// The hosts as they are written, or from a place that changes with `loadBalanceHosts`.
    fn hosts_in_turn(&self) -> impl Iterator<Item = (&str, u16)> {
        let balanced = matches!(self.property("loadBalanceHosts"), Some("" | "true"));
        let clock =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.subsec_nanos());
        let first = if balanced { clock as usize / 1000 % self.hosts.len().max(1) } else { 0 };
        let (before, from) = self.hosts.split_at(first);
        from.iter().chain(before).map(|(host, port)| (host.as_str(), *port))
    }

    /// A driver property that counts seconds; 0 and less mean that there is no limit.
    fn seconds(&self, name: &str) -> Option<Duration> {
        self.property(name).and_then(|text| text.trim().parse().ok()).filter(|s| *s > 0).map(Duration::from_secs)
    }

    /// What the driver would insist on, and this connection can't: better no connection than one that is less safe.
    fn refuse_unmet_demands(&self) -> Result<()> {
        let required = |name: &str| self.property(name).is_some_and(|value| value.eq_ignore_ascii_case("require"));
        let unmet = if required("channelBinding") {
            "channelBinding=require"
        } else if required("gssEncMode") {
            "gssEncMode=require"
        } else if self.property("requireAuth").is_some_and(|value| !value.is_empty()) {
            "requireAuth"
        } else {
            return Ok(());
        };
        Err(Error::config(format!(
            "{unmet} can't be met here: leave it out, and let sslmode=verify-full make sure of the server"
        )))
    }

    fn wanted_role(&self) -> Result<String> {
        let wanted = self.property("targetServerType").unwrap_or("any").to_ascii_lowercase();
        if ROLES.contains(&&*wanted) {
            return Ok(wanted);
        }
        Err(Error::config(format!(
            "targetServerType={wanted} is unknown: use any, primary, secondary, preferPrimary or preferSecondary"
        )))
    }

    /// Connects to one host and sets the session up, within `connectTimeout`.
    async fn connect_in_time(&self, host: &str, port: u16, wanted: &str) -> Result<(Session, Fit)> {
        // Where only the whole is limited, so is each part.
        let limit = match (self.property("connectTimeout"), self.seconds("loginTimeout")) {
            (None, None) => Some(CONNECT_TIMEOUT),
            (None, limit) => limit,
            (Some(_), _) => self.seconds("connectTimeout"),
        };
        let connecting = async {
            let mut session = self.connect_to(host, port).await?;
            let fit = role_fits(&mut session, wanted).await;
            Ok((session, fit.map_err(|error| failure::to_error(error, "could not read the server's role"))?))
        };
        let Some(limit) = limit else { return connecting.await };
        match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(elapsed) => Err(Error::retriable(format!(
                "could not connect to database {host}:{port}/{}: no answer within {} s; check host, port and firewall",
                self.database,
                limit.as_secs()
            ))
            .caused_by(elapsed)),
        }
    }

    async fn connect_to(&self, host: &str, port: u16) -> Result<Session> {
        let options = self.options(host, port)?;
        let at = format!("{host}:{port}/{}", self.database);
        let connection = options.connect().await.map_err(|error| self.explain(error, &at))?;
        super::nodelay::send_at_once(port);
        let version = connection.server_version_num().unwrap_or(0);
        let mut session = Session { connection, version, process: 0, patience: self.seconds("socketTimeout") };
        session.process = sqlx::query_scalar("SELECT pg_catalog.pg_backend_pid()")
            .fetch_one(&mut session.connection)
            .await
            .map_err(|error| failure::to_error(error, &format!("could not use the connection to {at}")))?;
        for (name, value) in self.settings(version) {
            let set = sqlx::query("SELECT set_config($1, $2, false)").bind(&name).bind(&value);
            match set.execute(&mut session.connection).await {
                // Not every system can tell that a client is gone.
                Err(_) if name == CHECK_INTERVAL || name.starts_with("tcp_keepalives_") => {}
                set => {
                    set.map_err(|error| failure::to_error(error, &format!("could not set {name} on {at}")))?;
                }
            }
        }
        Ok(session)
    }

    fn options(&self, host: &str, port: u16) -> Result<PgConnectOptions> {
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(port)
            .username(&self.user)
            .database(&self.database)
            .application_name(self.property("ApplicationName").unwrap_or("Towline"))
            .disable_statement_logging();
        let filed = || client_files::password(self.property("passfile"), host, port, &self.database, &self.user);
        if let Some(password) = self.password.clone().or_else(filed) {
            options = options.password(&password);
        }
        tls::apply(options, |name| self.property(name))
    }

    /// Server settings from `currentSchema`, `queryTimeout`, `readOnly` and `options` (`-c name=value`, `--name=value`).
    fn settings(&self, version: u32) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        // The driver asks for ISO dates and UTC; the text of intervals is read back unchanged in this style alone.
        settings.push(("IntervalStyle".to_owned(), "postgres".to_owned()));
        // A trigger that tells of every row would fill the server's buffer while we only send.
        settings.push(("client_min_messages".to_owned(), "error".to_owned()));
        settings.extend(KEEPALIVES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if version >= 140_000 {
            // A statement of a process that was killed must not run on for hours.
            settings.push((CHECK_INTERVAL.to_owned(), "5s".to_owned()));
        }
        if let Some(seconds) = self.property("queryTimeout").and_then(|text| text.parse::<u32>().ok()) {
            settings.push(("statement_timeout".to_owned(), format!("{seconds}s")));
        }
        if self.property("readOnly") == Some("true") {
            settings.push(("default_transaction_read_only".to_owned(), "on".to_owned()));
        }
        if let Some(path) = self.property("currentSchema") {
            settings.push(("search_path".to_owned(), path.to_owned()));
        }
        let mut words = self.property("options").unwrap_or_default().split_whitespace();
        while let Some(word) = words.next() {
            let pair = if word == "-c" { words.next() } else { word.strip_prefix("--").or(word.strip_prefix("-c")) };
            if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
                settings.push((name.to_owned(), value.to_owned()));
            }
        }
        settings
    }

    fn explain(&self, error: sqlx::Error, at: &str) -> Error {
        let state = failure::state(&error);
        let said = failure::text(&error);
        let message = match state.as_deref() {
            Some("28P01") => format!(
                "could not connect to database {at}: the password of user \"{}\" is wrong, or the user is unknown; \
                 check the connection's user, and connection.password",
                self.user
            ),
            Some(code) if code.starts_with("28") => format!(
                "could not connect to database {at} as user \"{}\": {said}; check connection.user and the server's \
                 pg_hba.conf",
                self.user
            ),
            Some("3D000") => {
                format!(
                    "could not connect: database \"{}\" does not exist on {at}; check connection.url",
                    self.database
                )
            }
            Some("42501") => format!(
                "could not connect to database {at}: user \"{}\" may not (CONNECT privilege): {said}",
                self.user
            ),
            _ if matches!(error, sqlx::Error::Tls(_) | sqlx::Error::Io(_)) && tls::explain(&said).is_some() => {
                format!("could not connect to database {at}: {}: {said}", tls::explain(&said).unwrap_or_default())
            }
            _ if failure::cause(&error) == Cause::Outage => {
                return Error::retriable(format!("could not connect to database {at}: {said}")).caused_by(error);
            }
            _ => format!("could not connect to database {at}: {said}"),
        };
        Error::config(message).caused_by(error)
    }
}

impl Session {
    /// Runs statements that answer no rows, in one round trip.
    ///
    /// # Errors
    /// The driver's.
    pub async fn run(&mut self, sql: impl Into<String>) -> Result<u64, sqlx::Error> {
        let answer = self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.into())));
        let done = within(self.patience, answer).await?;
        Ok(done.rows_affected())
    }

    /// Ends another session of ours on the server, whatever it does. Whoever has its number by now is left alone.
    ///
    /// # Errors
    /// The driver's.
    pub async fn end_other(&mut self, process: i32) -> Result<(), sqlx::Error> {
        sqlx::query(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = $1 \
             AND usename = current_user AND application_name = pg_catalog.current_setting('application_name')",
        )
        .bind(process)
        .execute(&mut self.connection)
        .await
        .map(|_| ())
    }

    /// Says goodbye to the server; errors don't matter any more.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.connection.close()).await;
    }
}

enum Fit {
    Yes,
    IfNoOther,
    No,
}

async fn role_fits(session: &mut Session, wanted: &str) -> Result<Fit, sqlx::Error> {
    if wanted == "any" {
        return Ok(Fit::Yes);
    }
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut session.connection).await?;
    Ok(match (wanted, standby) {
        ("primary" | "master", true) | ("secondary" | "slave", false) => Fit::No,
        ("prefersecondary" | "preferslave", false) | ("preferprimary", true) => Fit::IfNoOther,
        _ => Fit::Yes,
    })
}

fn operating_system_user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "postgres".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keys: &[(&str, &str)]) -> ConnectionSettings {
        ConnectionSettings::from_keys(keys.iter().copied()).unwrap()
    }

    #[test]
    fn url_parameters_win_and_passwords_stay_hidden() {
        let made = settings(&[
            ("connection.url", "jdbc:postgresql://h:1/?user=bob&options=-c%20a.b=c%20--d=e"),
            ("connection.user", "alice"),
            ("connection.password", "sesame"),
            ("connection.sslmode", "require"),
            ("connection.currentSchema", "s1,s2"),
        ]);
        assert_eq!((made.user.as_str(), made.database.as_str()), ("bob", "bob"));
        assert_eq!(made.place(), "h:1/bob");
        assert_eq!(made.property("sslmode"), Some("require"));
        assert!(!format!("{made:?}").contains("sesame"));
        let names: Vec<_> = made.settings(0).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names[5..], ["search_path=s1,s2", "a.b=c", "d=e"]);
    }
}
