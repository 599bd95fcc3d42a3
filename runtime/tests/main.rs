//! The product from outside: a real `towline` process, real PostgreSQL servers, the REST API and Kafka clients.
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::unwrap_used, reason = "tests")]

mod harness;

mod architecture;
mod avro_pipeline;
mod bad_input;
mod cli_tools;
mod crash;
mod exactly_once;
mod jdbc_connectors;
mod jdbc_source_status;
mod rest_api;
mod tutorial;
mod types;
