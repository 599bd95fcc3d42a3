//! Schemas of every type that the registry knows.

pub mod avro;
