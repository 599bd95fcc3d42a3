//! `ValueToKey`: a new key of some of the value's fields.

use std::sync::Arc;

use super::{not_a_map, not_a_struct, or_default, place_of, replace_null_key};
use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Importance, Props, Record, Result, Transform, TransformSpec, Validator,
};
use crate::data::{Datum, Plans, Schema, Value};

const PURPOSE: &str = "copying fields from value to key";

/// Makes keys of value fields.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.ValueToKey",
    config,
    build: |props| Ok(Box::new(ValueToKey::new(props)?)),
};

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("fields", ConfigType::List)
                .importance(Importance::High)
                .check(Validator::NonEmpty)
                .doc("Field names on the record value to extract as the record key."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct ValueToKey {
    fields: Vec<String>,
    replace_null: bool,
    plans: Plans<(Arc<Schema>, Vec<usize>)>,
}

impl ValueToKey {
    fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        Ok(Self {
            fields: config.list("fields").into_iter().map(str::to_owned).collect(),
            replace_null: config.boolean("replace.null.with.default"),
            plans: Plans::default(),
        })
    }
}

impl Transform for ValueToKey {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let fields = &self.fields;
        record.key = match (&record.value.schema, &record.value.value) {
            (Some(schema), Value::Struct(values)) => {
                let (key, places) = self.plans.plan(schema, || {
                    let places = fields.iter().map(|field| place_of(schema, field)).collect::<Result<Vec<_>>>()?;
                    let chosen = places.iter().map(|place| schema.fields[*place].clone()).collect();
                    Ok::<_, crate::api::Error>((Arc::new(Schema::structure(chosen)), places))
                })?;
                let chosen = places
                    .iter()
                    .zip(&key.fields)
                    .map(|(place, field)| match values.get(*place) {
                        Some(value) => or_default(value, &field.schema, self.replace_null),
                        None => Value::Null,
                    })
                    .collect();
                Datum::new(Arc::clone(key), Value::Struct(chosen))
            }
            (Some(_), other) => return Err(not_a_struct(PURPOSE, other)),
            (None, map @ Value::Map(_)) => Datum::schemaless(Value::Map(
                fields
                    .iter()
                    .map(|field| (Value::from(field.as_str()), map.entry(field).cloned().unwrap_or_default()))
                    .collect(),
            )),
            (None, other) => return Err(not_a_map(PURPOSE, other)),
        };
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, record, text};
    use super::*;

    #[test]
    fn the_key_has_the_listed_fields() {
        let schema = Arc::new(Schema::structure(vec![field("a", int32()), field("b", text())]));
        let mut transform = build(&SPEC, &[("fields", "b,a")]);
        let key = apply(&mut *transform, record(&schema, vec![1.into(), "x".into()])).key;
        assert_eq!(key.value, Value::Struct(vec!["x".into(), 1.into()]));
        assert_eq!(key.schema.unwrap().name(), None);
        let key = apply(&mut *transform, map_record(&[("a", 1.into())])).key.value;
        assert_eq!(key, Value::Map(vec![("b".into(), Value::Null), ("a".into(), 1.into())]));
        let mut absent = build(&SPEC, &[("fields", "z")]);
        let error = absent.apply(record(&schema, vec![1.into(), "x".into()])).unwrap_err();
        assert_eq!(error.to_string(), "Field does not exist: z");
    }
}
