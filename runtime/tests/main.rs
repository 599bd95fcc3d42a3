//! The product from outside: a real `towline` process, real PostgreSQL servers, the REST API and Kafka clients.
#![allow(missing_docs, reason = "tests")]

mod harness;

mod avro_pipeline;
mod bad_input;
mod crash;
mod rest_api;
mod tutorial;
mod types;
