//! One binary for a Kafka-protocol broker, a Connect worker and a schema registry.

pub mod config;
pub mod kafka;
pub mod store;
