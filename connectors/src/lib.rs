//! What a connector is, and the connectors and transforms that Towline ships.
//!
//! - [`data`]: schemas and values (Kafka Connect's data model, `org.apache.kafka.connect.data`).
//! - [`api`]: the contract between the worker and a connector: records, configs, errors, source and sink traits.
//! - [`jdbc`]: the JDBC source and sink connectors; [`postgres`]: all that touches PostgreSQL.
//! - [`transforms`]: single message transforms, one a file.
//!
//! [`CONNECTORS`] and [`TRANSFORMS`] are the only registration lists. Nothing here may name a Kafka client, an HTTP
//! server or the worker: Cargo.toml forbids it.

pub mod api;
pub mod data;
pub mod jdbc;
pub mod postgres;

use api::{Connector, PredicateSpec, TransformSpec};

/// Every connector that the worker can run; a line here is all that is needed to register one.
pub static CONNECTORS: &[Connector] =
    &[Connector::Source(&jdbc::JdbcSourceConnector), Connector::Sink(&jdbc::JdbcSinkConnector)];

/// Every transform that a connector config can name.
pub static TRANSFORMS: &[&TransformSpec] = &[];

/// Every predicate that a connector config can name.
pub static PREDICATES: &[&PredicateSpec] = &[];
