//! Which field of a record goes into which column: the key's mode and fields, and the choice of fields, as data. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;

use super::config::{PkMode, SinkConfig};
use crate::api::{Error, Result, SinkRecord};
use crate::data::{Schema, Type, Value};

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// A field of the value.
    Value(usize),
    /// The value itself.
    WholeValue,
    /// A field of the key.
    Key(usize),
    /// The key itself.
    WholeKey,
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The offset.
    Offset,
}

/// A column to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedField {
    pub(super) name: Arc<str>,
    pub(super) take: Take,
    pub(super) schema: Arc<Schema>,
    pub(super) key: bool,
    /// Where the value has a field of this name.
    pub(super) place: Option<usize>,
}

pub(super) const KAFKA_COLUMNS: [&str; 3] = ["__connect_topic", "__connect_partition", "__connect_offset"];

impl Take {
    /// The column's value of a record.
    #[inline]
    pub(super) fn of<'a>(self, record: &'a SinkRecord) -> Cow<'a, Value> {
        let field = |value: &'a Value, at: usize| match value {
            Value::Struct(values) => values.get(at).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
            _ => Cow::Owned(Value::Null),
        };
        match self {
            Self::Value(at) => field(&record.record.value.value, at),
            Self::WholeValue => Cow::Borrowed(&record.record.value.value),
            Self::Key(at) => field(&record.record.key.value, at),
            Self::WholeKey => Cow::Borrowed(&record.record.key.value),
            Self::Topic => Cow::Owned(Value::String(ByteString::from(&*record.origin.topic))),
            Self::Partition => Cow::Owned(Value::Int32(record.origin.partition)),
            Self::Offset => Cow::Owned(Value::Int64(record.origin.offset)),
        }
    }
}

/// The columns of records with these schemas: key columns first, then the others in the value's order. Without a value
/// schema only key columns: that is a deletion.
///
/// # Errors
/// What the config and the schemas contradict each other in.
pub(super) fn plan(
    config: &SinkConfig,
    topic: &str,
    key: Option<&Arc<Schema>>,
    value: Option<&Arc<Schema>>,
) -> Result<Vec<PlannedField>> {
    let mut fields = key_columns(config, key, value)?;
    for field in &mut fields {
        field.place = value.and_then(|schema| schema.field(&field.name)).map(|(at, _)| at);
    }
    let taken: Vec<Arc<str>> = fields.iter().map(|field| Arc::clone(&field.name)).collect();
    match value {
        Some(schema) if schema.kind == Type::Struct => {
            for (at, field) in schema.fields.iter().enumerate() {
                if config.fields.admits(topic, &field.name) && !taken.contains(&field.name) {
                    let (name, schema) = (Arc::clone(&field.name), Arc::clone(&field.schema));
                    fields.push(PlannedField { name, take: Take::Value(at), schema, key: false, place: Some(at) });
                }
            }
        }
        Some(schema) => {
            if config.fields.is_narrow() || !config.stamp_fields.is_empty() || config.pk_mode == PkMode::RecordValue {
                return Err(Error::data(
                    "a value of type STRING has no fields: remove fields.whitelist, timestamp.fields.list and pk.mode=record_value",
                ));
            }
            if taken.iter().any(|name| **name == *config.string_column) {
                return Err(Error::data(format!(
                    "string.output.value.column.name \"{}\" is a key column already",
                    config.string_column
                )));
            }
            let name = Arc::from(config.string_column.as_str());
            fields.push(PlannedField {
                name,
                take: Take::WholeValue,
                schema: Arc::clone(schema),
                key: false,
                place: None,
            });
        }
        None => {}
    }
    if fields.is_empty() {
        return Err(Error::data("no fields found: neither pk.mode nor fields.whitelist leaves a column to write"));
    }
    Ok(fields)
}

fn key_columns(
    config: &SinkConfig,
    key: Option<&Arc<Schema>>,
    value: Option<&Arc<Schema>>,
) -> Result<Vec<PlannedField>> {
    let names = &config.pk_fields;
    match config.pk_mode {
        PkMode::None => Ok(Vec::new()),
        PkMode::Kafka => {
            let columns: Vec<&str> = match names.len() {
                0 => KAFKA_COLUMNS.to_vec(),
                3 => names.iter().map(String::as_str).collect(),
                _ => return Err(Error::data("pk.mode=kafka needs no pk.fields, or three")),
            };
            let kinds = [(Take::Topic, Type::String), (Take::Partition, Type::Int32), (Take::Offset, Type::Int64)];
            Ok(columns
                .iter()
                .zip(kinds)
                .map(|(name, (take, kind))| PlannedField {
                    name: Arc::from(*name),
                    take,
                    schema: Arc::new(Schema::new(kind)),
                    key: true,
                    place: None,
                })
                .collect())
        }
        PkMode::RecordKey | PkMode::RecordHeader => {
            let schema = key.ok_or_else(|| {
                Error::data(format!("{}=record_key needs a key with a schema", config.dialect.key_mode()))
            })?;
            match schema.kind {
                Type::Struct => struct_fields(config, schema, Take::Key, "key"),
                kind if kind.is_primitive() => match names.as_slice() {
                    [name] => {
                        let (name, schema) = (Arc::from(name.as_str()), Arc::clone(schema));
                        Ok(vec![PlannedField { name, take: Take::WholeKey, schema, key: true, place: None }])
                    }
                    _ => Err(Error::data(format!(
                        "the key is of type {}: {} must name exactly one column for it",
                        kind.java_name(),
                        config.dialect.key_fields()
                    ))),
                },
                kind => Err(Error::data(format!(
                    "{}=record_key needs a key of type STRUCT or a primitive type, not {}",
                    config.dialect.key_mode(),
                    kind.java_name()
                ))),
            }
        }
        PkMode::RecordValue => match value {
            Some(schema) if schema.kind == Type::Struct => struct_fields(config, schema, Take::Value, "value"),
            // The row as it was before its deletion was made the key.
            None if let Some(before) = key.filter(|key| key.kind == Type::Struct) => {
                struct_fields(config, before, Take::Key, "value")
            }
            _ => Err(Error::data("pk.mode=record_value needs a value of type STRUCT")),
        },
    }
}

fn struct_fields(
    config: &SinkConfig,
    schema: &Schema,
    take: fn(usize) -> Take,
    part: &str,
) -> Result<Vec<PlannedField>> {
    let names = &config.pk_fields;
    let planned = |at: usize| PlannedField {
        name: Arc::clone(&schema.fields[at].name),
        take: take(at),
        schema: Arc::clone(&schema.fields[at].schema),
        key: true,
        place: None,
    };
    if names.is_empty() {
        return Ok((0..schema.fields.len()).map(planned).collect());
    }
    names
        .iter()
        .map(|name| match schema.field(name) {
            Some((at, _)) => Ok(planned(at)),
            None => Err(Error::data(format!(
                "{} names \"{name}\", which is no field of the record's {part}; its fields are {}",
                config.dialect.key_fields(),
                schema.fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ")
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Props;
    use crate::data::Field;

    fn config(entries: &[(&str, &str)]) -> SinkConfig {
        let mut props: Props = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        props.insert("connection.url".into(), "jdbc:postgresql://h/d".into());
        super::super::confluent_keys::read(&props).unwrap()
    }

    fn structure(names: &[&str]) -> Arc<Schema> {
        let int = Arc::new(Schema::new(Type::Int32));
        Arc::new(Schema::structure(names.iter().map(|name| Field::new(*name, Arc::clone(&int))).collect()))
    }

    fn columns(entries: &[(&str, &str)], key: Option<Arc<Schema>>, value: &[&str]) -> String {
        match plan(&config(entries), "t", key.as_ref(), Some(&structure(value))) {
            Ok(fields) => {
                fields.iter().map(|f| format!("{}{} ", if f.key { "*" } else { "" }, f.name)).collect::<String>()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn key_modes_as_the_original() {
        assert_eq!(columns(&[], None, &["a", "b"]), "a b ");
        assert_eq!(
            columns(&[("pk.mode", "kafka")], None, &["a"]),
            "*__connect_topic *__connect_partition *__connect_offset a "
        );
        assert_eq!(columns(&[("pk.mode", "record_value")], None, &["a", "b"]), "*a *b ");
        assert_eq!(columns(&[("pk.mode", "record_value"), ("pk.fields", "b")], None, &["a", "b"]), "*b a ");
        assert_eq!(columns(&[("pk.mode", "record_key")], Some(structure(&["k"])), &["k", "v"]), "*k v ");
        let text = Arc::new(Schema::new(Type::String));
        assert_eq!(columns(&[("pk.mode", "record_key"), ("pk.fields", "k")], Some(text.clone()), &["v"]), "*k v ");
        assert!(columns(&[("pk.mode", "record_key")], Some(text), &["v"]).contains("exactly one"));
        assert!(columns(&[("pk.mode", "record_value"), ("pk.fields", "x")], None, &["a"]).contains("no field"));
        let listed = [("fields.whitelist", "b"), ("pk.mode", "record_value"), ("pk.fields", "a")];
        assert_eq!(columns(&listed, None, &["a", "b", "c"]), "*a b ");
    }
}
