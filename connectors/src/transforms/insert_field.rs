//! `InsertField`: fields from the record's metadata, or a fixed text.

use std::sync::Arc;

use super::{Side, not_a_map, not_a_struct, replace_null_key, sided, with_fields};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform};
use crate::data::{Datum, Field, Plans, Schema, Type, Value, timestamp};

const PURPOSE: &str = "field insertion";

sided!("InsertField", InsertField);

fn config() -> ConfigDef {
    let key = |name, doc| ConfigKey::optional(name, ConfigType::String).importance(Importance::Medium).doc(doc);
    ConfigDef::new()
        .with(key("topic.field", "Field for the topic. Suffix with ! for a required field, ? for an optional one."))
        .with(key("partition.field", "Field for the partition. Suffix with ! for a required field."))
        .with(key("offset.field", "Field for the offset, on sinks. Suffix with ! for a required field."))
        .with(key("timestamp.field", "Field for the record's timestamp. Suffix with ! for a required field."))
        .with(key("static.field", "Field for a fixed text. Suffix with ! for a required field."))
        .with(key("static.value", "The fixed text."))
        .with(replace_null_key())
}

#[derive(Debug, Clone, Copy)]
enum What {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Static,
}

#[derive(Debug)]
struct InsertField {
    side: Side,
    fields: Vec<(What, Field)>,
    text: Value,
    plans: Plans<Arc<Schema>>,
    topic: Option<(Arc<str>, Value)>,
}

impl InsertField {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let mut fields = Vec::new();
        for (key, what) in [
            ("topic.field", What::Topic),
            ("partition.field", What::Partition),
            ("offset.field", What::Offset),
            ("timestamp.field", What::Timestamp),
            ("static.field", What::Static),
        ] {
            let Some(name) = config.optional(key).filter(|name| !name.is_empty()) else { continue };
            let (name, optional) = match name.strip_suffix('!') {
                Some(name) => (name, false),
                None => (name.strip_suffix('?').unwrap_or(name), true),
            };
            let schema = match what {
                What::Topic | What::Static => Schema::new(Type::String),
                What::Partition => Schema::new(Type::Int32),
                What::Offset => Schema::new(Type::Int64),
                What::Timestamp => timestamp(),
            };
            fields.push((what, Field::new(name, Arc::new(schema.with_optional(optional)))));
        }
        if fields.is_empty() {
            return Err(Error::config("No field insertion configured"));
        }
        let text = match (config.optional("static.field"), config.optional("static.value")) {
            (Some(field), None) => {
                let message = format!(
                    "Invalid value null for configuration static.value: No value specified for static field: {field}"
                );
                return Err(Error::config(message));
            }
            (_, text) => text.map_or(Value::Null, Value::from),
        };
        Ok(Self { side, fields, text, plans: Plans::default(), topic: None })
    }

    fn value(&mut self, what: What, record: &Record) -> Result<Value> {
        Ok(match what {
            What::Static => self.text.clone(),
            What::Partition => record.partition.map_or(Value::Null, Value::Int32),
            What::Timestamp => record.timestamp.map_or(Value::Null, Value::Int64),
            What::Offset => {
                return Err(Error::data(
                    "Only SinkRecord supported for [field insertion], found: \
                     org.apache.kafka.connect.source.SourceRecord",
                ));
            }
            What::Topic => match &self.topic {
                Some((topic, value)) if *topic == record.topic => value.clone(),
                _ => {
                    let value = Value::from(&*record.topic);
                    self.topic = Some((Arc::clone(&record.topic), value.clone()));
                    value
                }
            },
        })
    }
}

impl Transform for InsertField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if self.side.of(&mut record).value.is_null() {
            return Ok(Some(record));
        }
        let inserted = (0..self.fields.len())
            .map(|index| self.value(self.fields[index].0, &record))
            .collect::<Result<Vec<_>>>()?;
        let Datum { schema, value } = self.side.of(&mut record);
        match (schema, value) {
            (Some(schema), Value::Struct(values)) => {
                let added = &self.fields;
                let plan = self.plans.plan(schema, || {
                    let mut fields = schema.fields.clone();
                    fields.extend(added.iter().map(|(_, field)| field.clone()));
                    Ok::<_, Error>(Arc::new(with_fields(schema, fields)))
                })?;
                for ((_, field), value) in self.fields.iter().zip(&inserted) {
                    if value.is_null() && !field.schema.optional {
                        return Err(Error::data(format!(
                            "Invalid value: null used for required field: \"{}\", schema type: {}",
                            field.name,
                            field.schema.kind.java_name()
                        )));
                    }
                }
                values.extend(inserted);
                *schema = Arc::clone(plan);
            }
            (Some(_), other) => return Err(not_a_struct(PURPOSE, other)),
            (None, Value::Map(entries)) => {
                for ((what, field), value) in self.fields.iter().zip(inserted) {
                    if value.is_null() && matches!(what, What::Partition | What::Timestamp) {
                        continue;
                    }
                    let key = Value::from(&*field.name);
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => *known = value,
                        None => entries.push((key, value)),
                    }
                }
            }
            (None, other) => return Err(not_a_map(PURPOSE, other)),
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, props, record};
    use super::*;

    #[test]
    fn fields_are_appended_in_order() {
        let mut insert = build(
            &VALUE,
            &[("static.field", "s!"), ("static.value", "x"), ("topic.field", "t"), ("timestamp.field", "ts?")],
        );
        let schema = Arc::new(Schema::structure(vec![field("a", int32())]));
        let out = apply(&mut *insert, Record { timestamp: Some(5), ..record(&schema, vec![1.into()]) }).value;
        assert_eq!(out.value, Value::Struct(vec![1.into(), "topic".into(), 5i64.into(), "x".into()]));
        let fields: Vec<_> =
            out.schema.unwrap().fields.iter().map(|f| (f.name.to_string(), f.schema.optional)).collect();
        assert_eq!(fields, [("a".into(), false), ("t".into(), true), ("ts".into(), true), ("s".into(), false)]);
        let map = apply(&mut *insert, map_record(&[("a", 1.into())])).value.value;
        assert_eq!(map.entry("t"), Some(&"topic".into()));
        assert!(map.entry("ts").is_none());
    }

    #[test]
    fn config_errors_read_as_in_java() {
        let error = |entries: &[(&str, &str)]| (VALUE.build)(&props(entries)).err().unwrap().to_string();
        assert_eq!(error(&[]), "No field insertion configured");
        assert!(error(&[("static.field", "s")]).contains("No value specified for static field:"));
    }
}
