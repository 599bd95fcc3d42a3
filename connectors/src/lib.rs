//! What a connector is, and the connectors and transforms that Towline ships.
//!
//! - [`data`]: schemas and values (Kafka Connect's data model, `org.apache.kafka.connect.data`).
//! - [`api`]: the contract between the worker and a connector: records, configs, errors, source and sink traits.
//! - [`mod@file`]: the FileStream connectors, the smallest complete examples.
//! - [`jdbc`]: the JDBC source and sink connectors; [`postgres`]: all that touches PostgreSQL.
//! - [`transforms`]: single message transforms, one a file.
//!
//! [`CONNECTORS`] and [`TRANSFORMS`] are the only registration lists. Nothing here may name a Kafka client, an HTTP
//! server or the worker: Cargo.toml forbids it.

pub mod api;
pub mod data;
pub mod file;
pub mod jdbc;
pub mod postgres;
pub mod transforms;

use api::{Connector, PredicateSpec, TransformSpec};

/// Every connector that the worker can run; a line here is all that is needed to register one.
pub static CONNECTORS: &[Connector] = &[
    Connector::Source(&file::SOURCE),
    Connector::Sink(&file::SINK),
    Connector::Source(&jdbc::JdbcSourceConnector),
    Connector::Sink(&jdbc::JdbcSinkConnector::CONFLUENT),
    Connector::Sink(&jdbc::JdbcSinkConnector::DEBEZIUM),
];

/// Every transform that a connector config can name.
pub static TRANSFORMS: &[&TransformSpec] = &[
    &transforms::cast::KEY,
    &transforms::cast::VALUE,
    &transforms::collection_name_transformation::SPEC,
    &transforms::drop_headers::SPEC,
    &transforms::extract_field::KEY,
    &transforms::extract_field::VALUE,
    &transforms::extract_new_record_state::SPEC,
    &transforms::field_name_transformation::SPEC,
    &transforms::filter::SPEC,
    &transforms::flatten::KEY,
    &transforms::flatten::VALUE,
    &transforms::header_from::KEY,
    &transforms::header_from::VALUE,
    &transforms::hoist_field::KEY,
    &transforms::hoist_field::VALUE,
    &transforms::insert_field::KEY,
    &transforms::insert_field::VALUE,
    &transforms::insert_header::SPEC,
    &transforms::mask_field::KEY,
    &transforms::mask_field::VALUE,
    &transforms::regex_router::SPEC,
    &transforms::replace_field::KEY,
    &transforms::replace_field::VALUE,
    &transforms::set_schema_metadata::KEY,
    &transforms::set_schema_metadata::VALUE,
    &transforms::timestamp_converter::KEY,
    &transforms::timestamp_converter::VALUE,
    &transforms::timestamp_router::SPEC,
    &transforms::value_to_key::SPEC,
];

/// Every predicate that a connector config can name.
pub static PREDICATES: &[&PredicateSpec] = &[
    &transforms::predicates::HAS_HEADER_KEY,
    &transforms::predicates::RECORD_IS_TOMBSTONE,
    &transforms::predicates::TOPIC_NAME_MATCHES,
];
