//! JDBC URLs of PostgreSQL, read as pgjdbc reads them, with an error that says what to write instead where pgjdbc only
//! says "no suitable driver".

use std::str::FromStr;

/// The port of PostgreSQL where none is written.
pub const DEFAULT_PORT: u16 = 5432;

/// A parsed `jdbc:postgresql:` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JdbcUrl {
    /// Whether the URL itself names a host.
    pub names_host: bool,
    /// Hosts to try in order.
    pub hosts: Vec<(String, u16)>,
    /// The database; the user's name if none is written.
    pub database: Option<String>,
    /// Parameters after `?`, decoded, in order.
    pub parameters: Vec<(String, String)>,
}

impl JdbcUrl {
    /// The last value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl FromStr for JdbcUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = strip_scheme(text)?;
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, query),
            None => (rest, ""),
        };
        let (hosts, database) = match address.strip_prefix("//") {
            Some(authority) => parse_authority(authority)?,
            None if address.starts_with('/') => {
                return Err("two slashes are needed before the host: jdbc:postgresql://host:5432/database".to_owned());
            }
            None => (vec![("localhost".to_owned(), DEFAULT_PORT)], address),
        };
        let database = decode(database);
        if database.contains('&') && database.contains('=') {
            tracing::warn!("the database name in the JDBC URL contains '&': parameters start with '?', not with '&'");
        }
        let names_host = address.strip_prefix("//").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        Ok(Self {
            names_host,
            hosts,
            database: Some(database).filter(|name| !name.is_empty()),
            parameters: parse_query(query),
        })
    }
}

fn strip_scheme(text: &str) -> Result<&str, String> {
    if let Some(rest) = text.strip_prefix("jdbc:postgresql:") {
        return Ok(rest);
    }
    let example = "jdbc:postgresql://host:5432/database";
    let lower = text.trim().to_ascii_lowercase();
    Err(if text != text.trim() && lower.starts_with("jdbc:postgresql:") {
        "it starts or ends with a blank".to_owned()
    } else if lower.starts_with("jdbc:postgresql:") {
        format!("\"jdbc:postgresql:\" must be in lower case, as in {example}")
    } else if lower.starts_with("jdbc:postgres:") {
        format!("the scheme is \"jdbc:postgresql\", not \"jdbc:postgres\": write {example}")
    } else if lower.starts_with("postgres://") || lower.starts_with("postgresql://") {
        format!("it is a libpq URL; write it as {example} and give the user in connection.user")
    } else if let Some(other) = lower.strip_prefix("jdbc:").and_then(|rest| rest.split(':').next()) {
        format!("no dialect for \"jdbc:{other}:\"; PostgreSQL URLs read {example}")
    } else {
        format!("a JDBC URL is expected, such as {example}")
    })
}

type Authority<'a> = (Vec<(String, u16)>, &'a str);

fn parse_authority(authority: &str) -> Result<Authority<'_>, String> {
    if authority.is_empty() {
        return Ok((vec![("localhost".to_owned(), DEFAULT_PORT)], ""));
    }
    let Some((servers, database)) = authority.split_once('/') else {
        return Err("a slash is needed after the host, with or without a database name behind it: \
                    jdbc:postgresql://host:5432/database"
            .to_owned());
    };
    if database.contains('/') {
        return Err(format!(
            "too many slashes: \"{database}\" is not one database name (write %2F for a slash that belongs to the name)"
        ));
    }
    if servers.contains('@') {
        return Err("a JDBC URL holds no user before the host: give connection.user and connection.password, \
                    or ?user=...&password=..."
            .to_owned());
    }
    let hosts = servers.split(',').map(parse_host).collect::<Result<Vec<_>, _>>()?;
    Ok((hosts, database))
}

pub(super) fn parse_host(server: &str) -> Result<(String, u16), String> {
    let (host, port) = match server.rfind(':') {
        Some(at) if !server[at..].contains(']') => (&server[..at], Some(&server[at + 1..])),
        _ => (server, None),
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("\"{text}\" is not a port between 1 and 65535")),
        },
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((if host.is_empty() { "localhost".to_owned() } else { host.to_owned() }, port))
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// Undoes percent encoding, `+` meaning a blank, as Java's `URLDecoder`; what is no valid escape stays.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = match bytes[at] {
            b'%' => bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok()),
            _ => None,
        };
        match (bytes[at], escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> (Vec<(String, u16)>, Option<String>) {
        let url: JdbcUrl = text.parse().unwrap();
        (url.hosts, url.database)
    }

    fn one(host: &str, port: u16, database: Option<&str>) -> (Vec<(String, u16)>, Option<String>) {
        (vec![(host.to_owned(), port)], database.map(str::to_owned))
    }

    #[test]
    fn reads_urls_as_pgjdbc() {
        assert_eq!(parsed("jdbc:postgresql://h:5433/db"), one("h", 5433, Some("db")));
        assert_eq!(parsed("jdbc:postgresql://h/db"), one("h", 5432, Some("db")));
        assert_eq!(parsed("jdbc:postgresql://h:5432/"), one("h", 5432, None));
        assert_eq!(parsed("jdbc:postgresql://"), one("localhost", 5432, None));
        assert_eq!(parsed("jdbc:postgresql:///db"), one("localhost", 5432, Some("db")));
        assert_eq!(parsed("jdbc:postgresql:db"), one("localhost", 5432, Some("db")));
        assert_eq!(parsed("jdbc:postgresql://[::1]:5434/db"), one("::1", 5434, Some("db")));
        assert_eq!(parsed("jdbc:postgresql://h/my%20db"), one("h", 5432, Some("my db")));
        assert_eq!(parsed("jdbc:postgresql://h/db&x=1"), one("h", 5432, Some("db&x=1")));
        assert_eq!(parsed("jdbc:postgresql://a:1,b:2,c/db").0, [("a".into(), 1), ("b".into(), 2), ("c".into(), 5432)]);
        let url: JdbcUrl = "jdbc:postgresql://h/db?user=a&password=b%26c&ssl&user=d&x=b?c=d".parse().unwrap();
        assert_eq!(url.parameter("password"), Some("b&c"));
        assert_eq!(url.parameter("user"), Some("d"));
        assert_eq!(url.parameter("ssl"), Some(""));
        assert_eq!(url.parameter("x"), Some("b?c=d"));
    }

    #[test]
    fn says_what_is_wrong_with_a_url() {
        for (url, part) in [
            ("jdbc:postgres://h/db", "not \"jdbc:postgres\""),
            ("JDBC:postgresql://h/db", "lower case"),
            (" jdbc:postgresql://h/db", "blank"),
            ("postgres://h/db", "libpq"),
            ("jdbc:mysql://h/db", "jdbc:mysql"),
            ("jdbc:postgresql://h:5432", "slash is needed"),
            ("jdbc:postgresql:/db", "two slashes"),
            ("jdbc:postgresql://h/db/x", "too many slashes"),
            ("jdbc:postgresql://h:x/db", "port"),
            ("jdbc:postgresql://h:0/db", "port"),
            ("jdbc:postgresql://u:p@h:5432/db", "connection.user"),
        ] {
            let error = url.parse::<JdbcUrl>().unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(jdbc:postgresql:)?[ -~é]{0,40}") {
            let _ = text.parse::<JdbcUrl>();
        }
    }
}
