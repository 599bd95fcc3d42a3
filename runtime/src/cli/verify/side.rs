//! One database of `verify`: its URL, its table's columns and key, and the checksum that it computes.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use super::super::failure::{Failure, Outcome, with_causes};
use super::canonical::{Column, Compared, Kind, row_text};

/// A table of a database, as of one moment: all is read in one transaction that cannot write.
#[derive(Debug)]
pub(super) struct Side {
    name: &'static str,
    table: String,
    relation: String,
    columns: Vec<Column>,
    primary_key: Vec<String>,
    connection: PgConnection,
}

/// What a side computed of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    /// How many.
    pub(super) count: i64,
    /// Over all values.
    pub(super) full: String,
    /// Over all values, times cut to milliseconds.
    pub(super) truncated: String,
}

/// Output of values must not depend on how a database is set up.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET extra_float_digits = 1; \
                       SET bytea_output = 'hex'; SET intervalstyle = 'postgres'; SET statement_timeout = 0; \
                       BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typname::text, \
     coalesce(a.attnum = ANY (i.indkey), false), coalesce(array_position(i.indkey::int2[], a.attnum), 0) \
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
     LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
     WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

impl Side {
    /// Connects and learns what the table is.
    pub(super) async fn open(name: &'static str, url: &str, table: &str) -> Outcome<Self> {
        let options = connect_options(url).map_err(|why| Failure::new(format!("--{name}: {why}")))?;
        let place = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or(""));
        let failed =
            |what: &str, error: sqlx::Error| Failure::new(format!("{name} {place}: {what}: {}", with_causes(&error)));
        let mut connection = options.connect().await.map_err(|e| failed("cannot connect", e))?;
        sqlx::raw_sql(SESSION).execute(&mut connection).await.map_err(|e| failed("cannot prepare the session", e))?;
        let relation =
            find_relation(&mut connection, table).await.map_err(|e| failed("cannot look up the table", e))?;
        let Some(relation) = relation else {
            return Err(Failure::new(format!(
                "{name} {place}: table {table} does not exist; write it as SCHEMA.TABLE if it is not on the search path"
            )));
        };
        let rows = sqlx::query(COLUMNS).bind(&relation).fetch_all(&mut connection).await;
        let rows = rows.map_err(|e| failed("cannot read the table's columns", e))?;
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for row in rows {
            let read = || -> Result<_, sqlx::Error> {
                let type_name: String = row.try_get(2)?;
                let column = Column { name: row.try_get(0)?, sql_type: row.try_get(1)?, kind: Kind::of(&type_name) };
                Ok((column, row.try_get::<bool, _>(3)?, row.try_get::<i32, _>(4)?))
            };
            let (column, in_key, position) = read().map_err(|e| failed("cannot read the table's columns", e))?;
            if in_key {
                key.push((position, column.name.clone()));
            }
            columns.push(column);
        }
        key.sort();
        Ok(Self {
            name,
            table: table.to_owned(),
            relation,
            columns,
            primary_key: key.into_iter().map(|(_, name)| name).collect(),
            connection,
        })
    }

    /// `source` or `target`.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The table as the user named it.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The table as SQL.
    pub(super) fn relation(&self) -> &str {
        &self.relation
    }

    /// The table's columns.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns of the primary key, in its order.
    pub(super) fn primary_key(&self) -> &[String] {
        &self.primary_key
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// A failure of this side.
    pub(super) fn failed(&self, what: &str, error: &sqlx::Error) -> Failure {
        side_failed(self.name, &self.table, what, error)
    }

    /// Counts the rows and sums their hashes, in one scan.
    pub(super) async fn checksum(&mut self, compared: &[Compared], target: bool) -> Outcome<Checksum> {
        let full = row_text(compared, target, false);
        let truncated = row_text(compared, target, true);
        let sum = |text: &str| format!("coalesce(sum(hashtextextended({text} COLLATE \"C\", 0)), 0)::text");
        // Where no column is a time the second sum is the first, and is not computed.
        let second = if full == truncated { "''".to_owned() } else { sum("b") };
        let sql = format!(
            "SELECT count(*), {}, {second} FROM (SELECT {full} AS a, {truncated} AS b FROM {} OFFSET 0) AS r",
            sum("a"),
            self.relation
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await;
        let read = |row: sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
            let (count, full, truncated): (i64, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let truncated = if truncated.is_empty() { full.clone() } else { truncated };
            Ok(Checksum { count, full, truncated })
        };
        row.and_then(read).map_err(|error| self.failed("cannot compute the checksum", &error))
    }
}

/// A failure of a side.
pub(super) fn side_failed(name: &str, table: &str, what: &str, error: &sqlx::Error) -> Failure {
    Failure::new(format!("{name} {table}: {what}: {}", with_causes(error)))
}

/// The table's name as SQL: as SQL reads it, or else letter by letter.
async fn find_relation(connection: &mut PgConnection, table: &str) -> Result<Option<String>, sqlx::Error> {
    let exact: Vec<String> = table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    for name in [exact.join("."), table.to_owned()] {
        // A name that is no name in SQL is one that does not exist.
        let sql = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
        if name.chars().filter(|c| *c == '"').count() % 2 == 0
            && let Some(row) = sqlx::query(sql).bind(&name).fetch_optional(&mut *connection).await?
        {
            return row.try_get(0).map(Some);
        }
    }
    Ok(None)
}

/// Connection options of a JDBC or libpq URL. Messages never repeat the URL, which may hold a password.
fn connect_options(url: &str) -> Result<PgConnectOptions, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return url.parse().map_err(|error: sqlx::Error| format!("the URL is not understood: {error}"));
    }
    let form =
        "write it as jdbc:postgresql://HOST:PORT/DB?user=..&password=.. or postgres://USER:PASSWORD@HOST:PORT/DB";
    let rest = url.strip_prefix("jdbc:postgresql:").ok_or_else(|| format!("the URL is not understood: {form}"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = PgConnectOptions::new();
    let database = match place.strip_prefix("//") {
        Some(place) => {
            let (address, database) = place.split_once('/').unwrap_or((place, ""));
            let (host, port) = match address.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => {
                    (host, port.parse().map_err(|_| format!("the port of the URL is not a number: {form}"))?)
                }
                _ => (address, 5432),
            };
            let host = host.trim_matches(['[', ']']);
            options = options.host(if host.is_empty() { "localhost" } else { host }).port(port);
            database
        }
        None => {
            options = options.host("localhost").port(5432);
            place
        }
    };
    if !database.is_empty() {
        options = options.database(&percent_decoded(database));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decoded(value);
        options = match key {
            "user" => options.username(&value),
            "password" => options.password(&value),
            "sslmode" => {
                options.ssl_mode(value.parse().map_err(|_| format!("sslmode={value} is not one of PostgreSQL's"))?)
            }
            "currentSchema" => options.options([("search_path", value.as_str())]),
            "ApplicationName" => options.application_name(&value),
            // Other parameters tune the Java driver.
            _ => options,
        };
    }
    Ok(options)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_jdbc_and_libpq_urls() {
        let of = |url: &str| {
            let o = connect_options(url).unwrap();
            let database = o.get_database().unwrap_or_default().to_owned();
            (o.get_host().to_owned(), o.get_port(), o.get_username().to_owned(), database)
        };
        let expected = ("db".to_owned(), 5433, "me".to_owned(), "shop".to_owned());
        assert_eq!(of("jdbc:postgresql://db:5433/shop?user=me&password=p%26w&loginTimeout=5"), expected);
        assert_eq!(of("postgres://me:pw@db:5433/shop"), expected);
        assert_eq!(of("jdbc:postgresql://[::1]/d?user=u").0, "::1");
        assert_eq!(of("jdbc:postgresql:d?user=u"), ("localhost".into(), 5432, "u".into(), "d".into()));
        assert!(connect_options("jdbc:mysql://x/y").is_err() && connect_options("jdbc:postgresql://h:x/d").is_err());
    }

    #[test]
    fn percent_codes_are_read_and_bad_ones_kept() {
        assert_eq!(percent_decoded("a%20b+c%zz%"), "a b c%zz%");
    }
}
