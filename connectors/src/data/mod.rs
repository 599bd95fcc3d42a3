//! Kafka Connect's data model: what a value is and which schema it follows.

pub mod civil;
pub mod infer;
mod logical;
mod plans;
mod schema;
pub mod text;
mod value;

pub use logical::{DATE, DECIMAL, Decimal, Logical, TIME, TIMESTAMP, date, decimal, time, timestamp};
pub use plans::Plans;
pub use schema::{Field, Schema, Type};
pub use value::Value;

use std::sync::Arc;

/// A value with the schema that it follows; no schema means schemaless data, as in Kafka Connect.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Datum {
    /// The schema, shared by all the values of a batch.
    pub schema: Option<Arc<Schema>>,
    /// The value; its shape follows the schema where there is one.
    pub value: Value,
}

impl Datum {
    /// A value that follows a schema.
    pub fn new(schema: Arc<Schema>, value: Value) -> Self {
        Self { schema: Some(schema), value }
    }

    /// A value without a schema.
    pub fn schemaless(value: Value) -> Self {
        Self { schema: None, value }
    }

    /// No schema and no value: a tombstone on the value side, a missing key on the key side.
    pub fn is_absent(&self) -> bool {
        self.schema.is_none() && self.value.is_null()
    }
}
