//! One binary for a Kafka-protocol broker, a Connect worker and a schema registry.

pub mod kafka;
