//! `io.confluent.connect.jdbc.JdbcSinkConnector`: records of topics become rows, by insert, upsert, update and delete.

mod batch;
mod config;
mod destination;
mod fields;
mod offsets;
mod plan;
mod task;
mod work;
mod write;

use async_trait::async_trait;

use crate::api::{
    ConfigError, ConsumerGroup, Props, Result, SinkConnector, SinkContext, SinkTask, Spec, TopicPartition,
};
use crate::jdbc::connection_keys::{Connector, check_connection};
use crate::postgres::failure;

static SPEC: Spec = Spec {
    class: "io.confluent.connect.jdbc.JdbcSinkConnector",
    aliases: &["io.aiven.connect.jdbc.JdbcSinkConnector"],
    version: env!("CARGO_PKG_VERSION"),
    config: config::definition,
};

/// The JDBC sink connector.
#[derive(Debug, Clone, Copy)]
pub struct JdbcSinkConnector;

fn connector(props: &Props) -> Result<Connector> {
    Connector::new(props, &config::definition().read(props)?, "Towline sink")
}

#[async_trait]
impl SinkConnector for JdbcSinkConnector {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn validate(&self, props: &Props) -> Vec<ConfigError> {
        config::validate(props)
    }

    async fn check(&self, props: &Props) -> Vec<ConfigError> {
        // A config that can't be read has its errors on its keys already.
        let Ok(connector) = connector(props) else { return Vec::new() };
        match check_connection(&connector).await {
            Ok(session) => {
                session.close().await;
                Vec::new()
            }
            Err(errors) => errors,
        }
    }

    async fn open(&self, props: &Props, context: SinkContext) -> Result<Box<dyn SinkTask>> {
        let config = config::SinkConfig::read(props)?;
        Ok(Box::new(task::JdbcSinkTask::open(config, connector(props)?, context).await?))
    }

    async fn alter_offsets(
        &self,
        props: &Props,
        group: &ConsumerGroup,
        offsets: Option<&[(TopicPartition, Option<i64>)]>,
    ) -> Result<bool> {
        let config = config::SinkConfig::read(props)?;
        if config.exactly_once == config::ExactlyOnce::Disabled {
            return Ok(false);
        }
        let mut session = connector(props)?.open().await?;
        let mut store = offsets::OffsetStore::new(&config.offsets_table, group.clone());
        let altered = store.alter(&mut session, offsets).await;
        session.close().await;
        altered
            .map_err(|error| failure::to_error(error, &format!("could not alter the offsets table {}", store.table())))
    }
}
