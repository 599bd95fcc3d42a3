//! The JDBC source and sink connectors for PostgreSQL: configs, offsets and schemas of Confluent's and Aiven's, over
//! binary COPY. `source` and `sink` hold modes and plans as data and the tasks that drive [`crate::postgres`].

mod connection_keys;
mod retry;
mod sink;
mod source;

pub use sink::JdbcSinkConnector;
pub use source::JdbcSourceConnector;

/// A pattern that has to match the whole text.
fn whole_match(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::Regex::new(&format!("^(?:{pattern})$"))
}
