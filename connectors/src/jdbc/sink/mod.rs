//! The JDBC sink: records of topics become rows, by insert, upsert, update and delete. One engine, two dialects of keys:
//! Confluent's and Aiven's, and Debezium's.

mod attempt;
mod batch;
mod config;
mod confluent_keys;
mod debezium_keys;
mod destination;
mod fields;
mod isolate;
mod known_plans;
mod offsets;
mod plan;
mod put_error;
mod stream;
mod task;
mod unwrap;
mod work;
mod write;

use async_trait::async_trait;

use crate::api::{
    Config, ConfigError, ConsumerGroup, Props, Result, SinkConnector, SinkContext, SinkTask, Spec, TopicPartition,
};
use crate::jdbc::connection_keys::{Connector, check_connection};
use crate::postgres::catalog::{self, TableName};
use crate::postgres::connection::Session;
use crate::postgres::failure;
use config::SinkConfig;

static CONFLUENT: Spec = Spec {
    class: "io.confluent.connect.jdbc.JdbcSinkConnector",
    aliases: &["io.aiven.connect.jdbc.JdbcSinkConnector", "PostgresSink"],
    version: env!("CARGO_PKG_VERSION"),
    config: confluent_keys::definition,
};

static DEBEZIUM: Spec = Spec {
    class: "io.debezium.connector.jdbc.JdbcSinkConnector",
    aliases: &[],
    version: env!("CARGO_PKG_VERSION"),
    config: debezium_keys::definition,
};

/// Of so many topics the tables' columns are offered.
const MOST_TOPICS: usize = 20;

/// The JDBC sink connector of one dialect of keys.
#[derive(Debug, Clone, Copy)]
pub struct JdbcSinkConnector {
    spec: &'static Spec,
    validate: fn(&Props) -> Vec<ConfigError>,
    read: fn(&Props) -> Result<SinkConfig>,
    connection: fn(&Props) -> Props,
}

impl JdbcSinkConnector {
    /// Confluent's and Aiven's.
    pub const CONFLUENT: Self = Self {
        spec: &CONFLUENT,
        validate: confluent_keys::validate,
        read: confluent_keys::read,
        connection: Props::clone,
    };

    /// Debezium's.
    pub const DEBEZIUM: Self = Self {
        spec: &DEBEZIUM,
        validate: debezium_keys::validate,
        read: debezium_keys::read,
        connection: debezium_keys::connection_props,
    };

    fn connector(&self, props: &Props) -> Result<Connector> {
        let config: Config = (self.spec.config)().read(props)?;
        Connector::new(&(self.connection)(props), &config, "Towline sink")
    }
}

#[async_trait]
impl SinkConnector for JdbcSinkConnector {
    fn spec(&self) -> &'static Spec {
        self.spec
    }

    fn validate(&self, props: &Props) -> Vec<ConfigError> {
        (self.validate)(props)
    }

    async fn check(&self, props: &Props) -> Vec<ConfigError> {
        // Errors of single keys are told already: what is left lies in what the URL leads to, such as a service.
        let connector = match self.connector(props) {
            Ok(connector) => connector,
            Err(error) => return vec![ConfigError::on("connection.url", error.to_string())],
        };
        match check_connection(&connector).await {
            Ok(session) => {
                session.close().await;
                Vec::new()
            }
            Err(errors) => errors,
        }
    }

    async fn recommend(&self, props: &Props) -> Vec<(&'static str, Vec<String>)> {
        let (Ok(config), Ok(connector)) = ((self.read)(props), self.connector(props)) else { return Vec::new() };
        let Ok(mut session) = connector.connect().await else { return Vec::new() };
        let recommended = recommend(&mut session, &config, &topics_of(props)).await;
        session.close().await;
        recommended.unwrap_or_default()
    }

    async fn open(&self, props: &Props, context: SinkContext) -> Result<Box<dyn SinkTask>> {
        let config = (self.read)(props)?;
        if config.dialect == config::Dialect::Debezium {
            debezium_keys::tell_foreign_keys(props);
        }
        Ok(Box::new(task::JdbcSinkTask::open(config, self.connector(props)?, context).await?))
    }

    async fn alter_offsets(
        &self,
        props: &Props,
        group: &ConsumerGroup,
        offsets: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<bool> {
        let config = (self.read)(props)?;
        if config.exactly_once == config::ExactlyOnce::Disabled {
            return Ok(false);
        }
        let mut session = self.connector(props)?.open().await?;
        let mut store = offsets::OffsetStore::new(&config.offsets_table, group.clone());
        let altered = store.alter(&mut session, offsets).await;
        session.close().await;
        altered
            .map_err(|error| failure::to_error(error, &format!("could not alter the offsets table {}", store.table())))
    }
}

/// The topics that a config names.
fn topics_of(props: &Props) -> Vec<&str> {
    let topics = props.get("topics").map_or("", String::as_str);
    topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()).collect()
}

/// Tables to choose from and the columns of those that the topics lead to, or the name that is fixed.
async fn recommend(
    session: &mut Session,
    config: &SinkConfig,
    topics: &[&str],
) -> std::result::Result<Vec<(&'static str, Vec<String>)>, sqlx::Error> {
    let tables = catalog::list_tables(session, &["TABLE", "PARTITIONED TABLE", "VIEW"], None).await?;
    let tables = tables.iter().map(TableName::dotted).collect();
    let mut recommended = vec![(config.dialect.table_key(), tables)];
    let mut names: Vec<String> = Vec::new();
    if config.table_format.contains("${") || !config.topic_tables.is_empty() {
        names.extend(topics.iter().take(MOST_TOPICS).filter_map(|topic| destination::table_for(config, topic).ok()));
    } else {
        names.extend(destination::sql_name(config, &config.table_format));
    }
    names.dedup();
    let mut columns: Vec<String> = Vec::new();
    for name in &names {
        let Some(table) = catalog::find_table(session, name).await? else { continue };
        for column in &table.columns {
            if !columns.iter().any(|known| **known == *column.name) {
                columns.push(column.name.to_string());
            }
        }
    }
    if !columns.is_empty() {
        recommended.push((config.dialect.key_fields(), columns.clone()));
        recommended.push((config.dialect.fields_key(), columns));
    }
    Ok(recommended)
}
