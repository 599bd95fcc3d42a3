//! One binary for a Kafka-protocol broker, a Connect worker and a schema registry.
//!
//! - [`node`] starts and stops everything; [`cli`] is what a terminal sees.
//! - [`rest`] → [`herder`] → [`task`] → `convert`, [`kafka`], [`store`]: the worker, each layer calling only the next.
//! - [`kafka`] is the port to the log; [`config`] the worker's settings.

pub mod cli;
pub mod config;
pub mod config_providers;
pub mod connector_files;
pub mod convert;
pub mod herder;
pub mod kafka;
pub mod launch;
pub mod node;
pub mod registry_log;
pub mod rest;
pub mod status_page;
pub mod store;
pub mod task;
pub mod telemetry;
