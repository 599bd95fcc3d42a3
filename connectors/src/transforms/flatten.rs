//! `Flatten`: nested structs or maps become one level, names joined by a delimiter. Arrays stay.

use std::sync::Arc;

use super::{Side, not_a_map, not_a_struct, sided};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Props, Record, Result, Transform};
use crate::data::{Datum, Field, Plans, Schema, Type, Value};

const PURPOSE: &str = "flattening";

sided!("Flatten", Flatten);

fn config() -> ConfigDef {
    ConfigDef::new().with(ConfigKey::with_default("delimiter", ConfigType::String, ".").doc(
        "Delimiter to insert between field names from the input record when generating field names for the output.",
    ))
}

#[derive(Debug)]
struct Flatten {
    side: Side,
    delimiter: String,
    plans: Plans<Arc<Schema>>,
}

impl Flatten {
    fn new(side: Side, props: &Props) -> Result<Self> {
        // The delimiter may be a blank, which reading the config would trim.
        let delimiter = props.get("delimiter").map_or(".", String::as_str).to_owned();
        Ok(Self { side, delimiter, plans: Plans::default() })
    }
}

/// What an enclosing struct hands down to its fields.
struct Outer<'a> {
    prefix: &'a str,
    optional: bool,
    default: Option<&'a Value>,
}

fn flat_fields(schema: &Schema, outer: &Outer<'_>, delimiter: &str, fields: &mut Vec<Field>) -> Result<()> {
    for (place, field) in schema.fields.iter().enumerate() {
        let name = if outer.prefix.is_empty() {
            field.name.to_string()
        } else {
            format!("{}{delimiter}{}", outer.prefix, field.name)
        };
        let inherited = match outer.default {
            Some(Value::Struct(values)) => values.get(place).filter(|value| !value.is_null()),
            _ => None,
        };
        let optional = outer.optional || field.schema.optional;
        let default = field.schema.default.as_ref().or(inherited);
        match field.schema.kind {
            Type::Struct => {
                let outer = Outer { prefix: &name, optional, default };
                flat_fields(&field.schema, &outer, delimiter, fields)?;
            }
            Type::Map => {
                return Err(Error::data(format!(
                    "Flatten transformation does not support MAP for record with schemas (for field {name})."
                )));
            }
            _ => {
                let schema = Schema { optional, default: default.cloned(), ..Schema::clone(&field.schema) };
                fields.push(Field::new(name, Arc::new(schema)));
            }
        }
    }
    Ok(())
}

fn flat_values(schema: &Schema, value: Value, out: &mut Vec<Value>) {
    let mut values = match value {
        Value::Struct(values) => values.into_iter(),
        _ => Vec::new().into_iter(),
    };
    for field in &schema.fields {
        let value = values.next().unwrap_or_default();
        if field.schema.kind == Type::Struct {
            let value = match (value, &field.schema.default) {
                (Value::Null, Some(default)) => default.clone(),
                (value, _) => value,
            };
            flat_values(&field.schema, value, out);
        } else {
            out.push(value);
        }
    }
}

fn flat_map(entries: Vec<(Value, Value)>, prefix: &str, delimiter: &str, out: &mut Vec<(Value, Value)>) -> Result<()> {
    for (key, value) in entries {
        let Some(key) = key.as_str() else {
            return Err(Error::data(format!("maps with keys of {} cannot be flattened", key.java_class())));
        };
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}{delimiter}{key}") };
        match value {
            Value::Map(inner) => flat_map(inner, &name, delimiter, out)?,
            value => out.push((Value::from(name), value)),
        }
    }
    Ok(())
}

impl Transform for Flatten {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let delimiter = &self.delimiter;
        let Datum { schema, value } = self.side.of(&mut record);
        match (schema, value) {
            (_, Value::Null) => {}
            (Some(schema), value @ Value::Struct(_)) => {
                let flat = self.plans.plan(schema, || {
                    let mut fields = Vec::new();
                    let outer = Outer { prefix: "", optional: schema.optional, default: schema.default.as_ref() };
                    flat_fields(schema, &outer, delimiter, &mut fields)?;
                    Ok::<_, Error>(Arc::new(super::with_fields(schema, fields)))
                })?;
                let mut values = Vec::with_capacity(flat.fields.len());
                flat_values(schema, std::mem::take(value), &mut values);
                *value = Value::Struct(values);
                *schema = Arc::clone(flat);
            }
            (Some(_), other) => return Err(not_a_struct(PURPOSE, other)),
            (None, Value::Map(entries)) => {
                let mut flat = Vec::with_capacity(entries.len());
                flat_map(std::mem::take(entries), "", delimiter, &mut flat)?;
                *entries = flat;
            }
            (None, other) => return Err(not_a_map(PURPOSE, other)),
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, record};
    use super::*;

    #[test]
    fn children_of_optional_structs_are_optional() {
        let inner = Schema::structure(vec![field("b", int32()), field("c", int32())]).optional();
        let schema = Arc::new(Schema::structure(vec![field("a", inner), field("d", int32())]));
        let mut flatten = build(&VALUE, &[("delimiter", "_")]);
        let inner = Value::Struct(vec![1.into(), 2.into()]);
        let out = apply(&mut *flatten, record(&schema, vec![inner, 3.into()])).value;
        assert_eq!(out.value, Value::Struct(vec![1.into(), 2.into(), 3.into()]));
        let fields = &out.schema.as_ref().unwrap().fields;
        assert_eq!((&*fields[0].name, fields[0].schema.optional, fields[2].schema.optional), ("a_b", true, false));
        let null = apply(&mut *flatten, record(&schema, vec![Value::Null, 3.into()])).value;
        assert_eq!(null.value, Value::Struct(vec![Value::Null, Value::Null, 3.into()]));
        let nested = Value::Map(vec![("b".into(), 1.into()), ("e".into(), Value::Map(Vec::new()))]);
        let map = apply(&mut *flatten, map_record(&[("a", nested)])).value.value;
        assert_eq!(map, Value::Map(vec![("a_b".into(), 1.into())]));
    }

    #[test]
    fn maps_inside_structs_are_refused() {
        let map = Schema::map(Arc::new(int32()), Arc::new(int32()));
        let schema = Arc::new(Schema::structure(vec![field("a", Schema::structure(vec![field("b", map)]))]));
        let error = build(&VALUE, &[]).apply(record(&schema, vec![Value::Struct(vec![Value::Null])])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Flatten transformation does not support MAP for record with schemas (for field a.b)."
        );
    }
}
