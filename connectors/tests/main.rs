//! Tests of the connectors against a real PostgreSQL.

mod jdbc_harness;
mod jdbc_round_trip;
mod jdbc_sink;
mod jdbc_source;
mod postgres_server;
