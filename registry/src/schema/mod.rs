//! Schemas of every type that the registry knows, and what accompanies and identifies them.

pub mod avro;
mod guid;
mod metadata;

use std::fmt;

pub use guid::{Guid, NotAGuid};
pub(crate) use metadata::null_as_default;
pub use metadata::{Metadata, Reference, Rule, RuleSet};

/// The language of a schema, as named in requests and records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SchemaType {
    /// Apache Avro, the default.
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
    /// A type that only other registries know; kept so that shared topics lose nothing.
    Other(String),
}

impl SchemaType {
    /// Reads a type name; empty means Avro.
    pub fn parse(name: &str) -> SchemaType {
        match name {
            "" | "AVRO" => SchemaType::Avro,
            "JSON" => SchemaType::Json,
            "PROTOBUF" => SchemaType::Protobuf,
            other => SchemaType::Other(other.to_owned()),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            SchemaType::Avro => "AVRO",
            SchemaType::Json => "JSON",
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::Other(name) => name,
        }
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
