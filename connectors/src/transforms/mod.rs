//! Single message transforms (KIP-66) and predicates (KIP-585), one a file, under the class names of Apache Kafka
//! and, three of them, of Debezium.
//!
//! What depends on the schema is planned once per schema ([`Plans`](crate::data::Plans)), so that all records of one
//! schema come out with one schema too.

pub mod cast;
pub mod collection_name_transformation;
pub mod drop_headers;
pub mod extract_field;
pub mod extract_new_record_state;
pub mod field_name_transformation;
pub mod filter;
pub mod flatten;
pub mod header_from;
pub mod hoist_field;
pub mod insert_field;
pub mod insert_header;
pub mod mask_field;
mod naming_style;
pub mod predicates;
pub mod regex_router;
pub mod replace_field;
pub mod set_schema_metadata;
mod simple_date_format;
pub mod timestamp_converter;
pub mod timestamp_router;
pub mod value_to_key;

use crate::api::{ConfigKey, ConfigType, Error, Importance, Record, Result};
use crate::data::{Datum, Field, Schema, Value};

/// Which side of a record a transform acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Key,
    Value,
}

impl Side {
    fn of(self, record: &mut Record) -> &mut Datum {
        match self {
            Self::Key => &mut record.key,
            Self::Value => &mut record.value,
        }
    }
}

/// The two registered classes of a transform that acts on one side.
macro_rules! sided {
    ($name:literal, $transform:ident) => {
        /// Acts on keys.
        pub static KEY: $crate::api::TransformSpec = $crate::api::TransformSpec {
            class: concat!("org.apache.kafka.connect.transforms.", $name, "$Key"),
            config,
            build: |props| Ok(Box::new($transform::new($crate::transforms::Side::Key, props)?)),
        };

        /// Acts on values.
        pub static VALUE: $crate::api::TransformSpec = $crate::api::TransformSpec {
            class: concat!("org.apache.kafka.connect.transforms.", $name, "$Value"),
            config,
            build: |props| Ok(Box::new($transform::new($crate::transforms::Side::Value, props)?)),
        };
    };
}
use sided;

/// The key that most transforms share.
fn replace_null_key() -> ConfigKey {
    ConfigKey::with_default("replace.null.with.default", ConfigType::Boolean, "true")
        .importance(Importance::Medium)
        .doc("Whether a null in a field with a default value is read as that default.")
}

/// The text `class x.y.Z`, or `null`, that Java's messages use.
fn class_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        value => value.java_class().to_owned(),
    }
}

fn not_a_struct(purpose: &str, value: &Value) -> Error {
    Error::data(format!("Only Struct objects supported for [{purpose}], found: {}", class_of(value)))
}

fn not_a_map(purpose: &str, value: &Value) -> Error {
    Error::data(format!("Only Map objects supported in absence of schema for [{purpose}], found: {}", class_of(value)))
}

/// A schema with other fields, all else kept but a default value, which the new fields may not fit.
fn with_fields(schema: &Schema, fields: Vec<Field>) -> Schema {
    Schema { fields, default: None, ..schema.clone() }
}

/// A field's value, read as its default if it is null and `replace` is on.
fn or_default(value: &Value, schema: &Schema, replace: bool) -> Value {
    match (&schema.default, value) {
        (Some(default), Value::Null) if replace => default.clone(),
        _ => value.clone(),
    }
}

/// As [`or_default`], in place.
fn fill_default(value: &mut Value, schema: &Schema, replace: bool) {
    if replace
        && value.is_null()
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}

/// The place of a field, or the error that names it.
fn place_of(schema: &Schema, field: &str) -> Result<usize> {
    match schema.field(field) {
        Some((place, _)) => Ok(place),
        None => Err(Error::data(format!("Field does not exist: {field}"))),
    }
}

/// Pairs of an `old:new,...` list; each entry must be two texts.
fn renames(list: &[&str]) -> Result<Vec<(String, String)>> {
    list.iter()
        .map(|entry| match entry.split(':').map(str::trim).collect::<Vec<_>>().as_slice() {
            [old, new] if !old.is_empty() && !new.is_empty() => Ok(((*old).to_owned(), (*new).to_owned())),
            _ => Err(Error::config(format!(
                "Invalid value {list:?} for configuration renames: Invalid rename mapping: {entry}"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod testing {
    //! What the tests of all transforms share.

    use std::sync::Arc;

    use super::*;
    use crate::api::{Props, Transform, TransformSpec};
    use crate::data::Type;

    pub(super) fn props(entries: &[(&str, &str)]) -> Props {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    pub(super) fn build(spec: &TransformSpec, entries: &[(&str, &str)]) -> Box<dyn Transform> {
        (spec.build)(&props(entries)).unwrap_or_else(|error| panic!("{}", error.trace()))
    }

    pub(super) fn field(name: &str, schema: Schema) -> Field {
        Field::new(name, Arc::new(schema))
    }

    pub(super) fn int32() -> Schema {
        Schema::new(Type::Int32)
    }

    pub(super) fn text() -> Schema {
        Schema::new(Type::String)
    }

    pub(super) fn record(schema: &Arc<Schema>, values: Vec<Value>) -> Record {
        Record::of_value(Arc::from("topic"), Datum::new(Arc::clone(schema), Value::Struct(values)))
    }

    pub(super) fn map_record(entries: &[(&str, Value)]) -> Record {
        let entries = entries.iter().map(|(k, v)| (Value::from(*k), v.clone())).collect();
        Record::of_value(Arc::from("topic"), Datum::schemaless(Value::Map(entries)))
    }

    pub(super) fn apply(transform: &mut dyn Transform, record: Record) -> Record {
        transform.apply(record).unwrap_or_else(|error| panic!("{}", error.trace())).unwrap()
    }
}
