//! `io.confluent.connect.jdbc.JdbcSourceConnector`: rows of tables or of a query, by id, by timestamp, by both, or all.

mod batches;
mod config;
mod horizon;
mod page;
mod places;
mod prepare;
mod progress;
mod reader;
mod recommend;
mod shape;
mod sql;
mod tables;
mod task;
mod trouble;
mod validate;

use async_trait::async_trait;

use crate::api::{ConfigError, Health, Position, Props, Result, SourceConnector, SourceContext, SourceTask, Spec};
use crate::jdbc::connection_keys::{Connector, check_connection};
use crate::postgres::catalog::TableName;
use crate::postgres::connection::Session;
use crate::postgres::failure;
use tables::TableFilter;

/// The name of our sessions, by which readers know each other.
const APPLICATION: &str = "Towline source";

/// How long the check of a query may take.
const QUERY_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

static SPEC: Spec = Spec {
    class: "io.confluent.connect.jdbc.JdbcSourceConnector",
    aliases: &["io.aiven.connect.jdbc.JdbcSourceConnector", "PostgresSource"],
    version: env!("CARGO_PKG_VERSION"),
    config: config::definition,
};

/// The JDBC source connector.
#[derive(Debug, Clone, Copy)]
pub struct JdbcSourceConnector;

fn connector(props: &Props) -> Result<(Connector, crate::api::Config)> {
    let config = config::definition().read(props)?;
    Ok((Connector::new(props, &config, APPLICATION)?, config))
}

fn query_of(config: &crate::api::Config) -> Option<(&'static str, &str)> {
    ["query", "query.masked"].into_iter().map(|key| (key, config.text(key))).find(|(_, query)| !query.is_empty())
}

#[async_trait]
impl SourceConnector for JdbcSourceConnector {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn validate(&self, props: &Props) -> Vec<ConfigError> {
        validate::validate(props)
    }

    async fn check(&self, props: &Props) -> Vec<ConfigError> {
        // Errors of single keys are told already: what is left lies in what the URL leads to, such as a service.
        let (connector, config) = match connector(props) {
            Ok(read) => read,
            Err(error) => return vec![ConfigError::on("connection.url", error.to_string())],
        };
        let mut session = match check_connection(&connector).await {
            Ok(session) => session,
            Err(errors) => return errors,
        };
        let mut errors = Vec::new();
        if let Some((key, query)) = query_of(&config) {
            let query = query.trim().trim_end_matches(';');
            let tried = tokio::time::timeout(QUERY_LIMIT, session.run(sql::lock(&sql::sub_select(query)))).await;
            let error = match tried {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(does_not_work(&error)),
                Err(_) => Some(format!("the query took longer than {} s to be checked", QUERY_LIMIT.as_secs())),
            };
            errors.extend(error.map(|error| ConfigError::on(key, error)));
        }
        session.close().await;
        errors
    }

    async fn recommend(&self, props: &Props) -> Vec<(&'static str, Vec<String>)> {
        let Ok((connector, config)) = connector(props) else { return Vec::new() };
        let Ok(filter) = TableFilter::new(&config) else { return Vec::new() };
        let Ok(mut session) = connector.connect().await else { return Vec::new() };
        let query = query_of(&config).map(|(_, query)| query.trim().trim_end_matches(';'));
        let recommended = recommend::recommend(&mut session, &filter, query).await;
        session.close().await;
        recommended.unwrap_or_default()
    }

    async fn plan(&self, props: &Props, max_tasks: usize, health: &Health) -> Result<Vec<Props>> {
        let (connector, config) = connector(props)?;
        if query_of(&config).is_some() {
            return Ok(vec![props.clone()]);
        }
        let filter = TableFilter::new(&config)?;
        for kind in filter.unknown_types() {
            tracing::warn!(kind, "table.types names a kind of table that PostgreSQL does not have");
        }
        let mut session = connector.open().await?;
        let listed = filter.list(&mut session).await;
        session.close().await;
        let found = listed.map_err(|error| failure::to_error(error, "could not list the tables"))?;
        tables::refuse_same_names(&found)?;
        if found.is_empty() {
            let message = format!(
                "no table of {} matches the config; looking again every table.poll.interval.ms. Names are compared \
                 exactly, as schema.table or the bare name{}",
                connector.settings.place(),
                filter.hint()
            );
            tracing::warn!("{message}");
            health.degraded(message);
            return Ok(Vec::new());
        }
        health.recovered();
        if filter.is_open() {
            tracing::warn!(tables = found.len(), "no table filter is set: all tables are copied");
        }
        Ok(tables::group(&found, max_tasks).iter().map(|group| tables::task_props(props, group)).collect())
    }

    async fn replan(&self, props: &Props, current: &[Props]) {
        let Ok((connector, config)) = connector(props) else { return std::future::pending().await };
        let filter = match TableFilter::new(&config) {
            Ok(filter) if query_of(&config).is_none() => filter,
            _ => return std::future::pending().await,
        };
        let mut known: Vec<TableName> = current.iter().flat_map(tables::tables_of).collect();
        known.sort();
        let interval = config.millis("table.poll.interval.ms").max(std::time::Duration::from_millis(10));
        let mut session = None;
        loop {
            tokio::time::sleep(interval).await;
            match list(&mut session, &connector, &filter).await {
                Ok(mut found) => {
                    found.sort();
                    if found != known {
                        tracing::info!(before = known.len(), now = found.len(), "the set of tables changed");
                        return;
                    }
                }
                Err(error) => {
                    session = None;
                    tracing::warn!(error = %error, "could not look for new tables; the old list is kept");
                }
            }
        }
    }

    async fn open(&self, props: &Props, context: SourceContext) -> Result<Box<dyn SourceTask>> {
        let (connector, _) = connector(props)?;
        Ok(Box::new(task::JdbcSourceTask::open(props, connector, context).await?))
    }

    fn alter_offsets(&self, props: &Props, offsets: &[(Position, Option<Position>)]) -> Result<bool> {
        let mode = props.get("mode").and_then(|mode| config::Mode::from_text(mode.trim()));
        let qualified = props.get("table.names.qualify").is_none_or(|text| !text.trim().eq_ignore_ascii_case("false"));
        for (partition, offset) in offsets {
            progress::check_altered(mode, qualified, partition, offset.as_ref())?;
        }
        Ok(true)
    }
}

/// What is wrong with a query, without what the server says of it, which may quote it: as the original, SQLSTATE and vendor
/// code, which PostgreSQL's driver gives as 0.
fn does_not_work(error: &sqlx::Error) -> String {
    let Some(state) = failure::state(error) else { return format!("the query could not be checked: {error}") };
    let what = match state.as_str() {
        "42601" => ": its syntax is wrong",
        "42P01" => ": a table or view that it reads does not exist",
        "42703" => ": a column that it names does not exist",
        "42702" => ": a column that it names is ambiguous",
        "42883" => ": a function or operator does not exist for these types",
        "42501" => ": the user lacks a privilege for what it reads",
        "3F000" => ": a schema that it names does not exist",
        "42P02" => ": it has a parameter, which nothing is bound to",
        "42804" | "42846" => ": its types don't fit each other",
        "42803" => ": a column is neither grouped nor aggregated",
        _ => "",
    };
    let place = failure::position(error).and_then(|at| at.checked_sub(sql::lock("(\n").find(" LIMIT")?));
    let place = place.map_or_else(String::new, |at| format!(" at its character {at}"));
    format!("the query does not work (SQLSTATE {state}, vendor code 0){what}{place}")
}

async fn list(session: &mut Option<Session>, connector: &Connector, filter: &TableFilter) -> Result<Vec<TableName>> {
    let session = match session {
        Some(session) => session,
        none => none.insert(connector.connect().await?),
    };
    filter.list(session).await.map_err(|error| failure::to_error(error, "could not list the tables"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_heading_and_a_text() {
        for key in config::definition().keys() {
            assert!(key.group.is_some() && !key.documentation.is_empty(), "{}", key.name);
        }
    }
}
