//! Tests of the connectors against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod jdbc_connection;
mod jdbc_debezium_sink;
mod jdbc_domains;
mod jdbc_exact;
mod jdbc_harness;
mod jdbc_poison;
mod jdbc_round_trip;
mod jdbc_sink;
mod jdbc_sink_stage;
mod jdbc_sink_types;
mod jdbc_source;
mod jdbc_source_traps;
mod jdbc_source_troubles;
mod jdbc_source_types;
mod jdbc_tables;
mod postgres_server;
