//! `Cast`: fields, or the whole side, to another primitive type, narrowing as Java does.

use std::sync::Arc;

use super::{Side, fill_default, not_a_map, not_a_struct, replace_null_key, sided, with_fields};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform};
use crate::data::text::connect_text;
use crate::data::{Datum, Decimal, Field, Logical, Plans, Schema, Type, Value};

const PURPOSE: &str = "cast types";

sided!("Cast", Cast);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("spec", ConfigType::List)
                .importance(Importance::High)
                .doc("Fields and the types to cast them to, field1:type,field2:type, or one type for the whole side."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct Plan {
    schema: Arc<Schema>,
    /// The places of the fields to cast, each with its schema as it was, and the type.
    casts: Vec<(usize, Arc<Schema>, Type)>,
}

#[derive(Debug)]
struct Cast {
    side: Side,
    whole: Option<Type>,
    fields: Vec<(String, Type)>,
    replace_null: bool,
    plans: Plans<Plan>,
}

impl Cast {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let entries = config.list("spec");
        let refuse = |reason: String| {
            Error::config(format!("Invalid value [{}] for configuration spec: {reason}", entries.join(", ")))
        };
        if entries.is_empty() {
            return Err(refuse("Must specify at least one field to cast.".to_owned()));
        }
        let (mut whole, mut fields) = (None, Vec::new());
        for entry in &entries {
            match entry.split(':').collect::<Vec<_>>().as_slice() {
                [kind] if entries.len() == 1 => whole = Some(type_of(kind).map_err(refuse)?),
                [_] => {
                    return Err(refuse(
                        "Cast transformations that specify a type to cast the entire value to may \
                                       ony specify a single cast in their spec"
                            .to_owned(),
                    ));
                }
                [field, kind] => fields.push(((*field).trim().to_owned(), type_of(kind).map_err(refuse)?)),
                _ => return Err(refuse(format!("Invalid rename mapping: {entry}"))),
            }
        }
        let replace_null = config.boolean("replace.null.with.default");
        Ok(Self { side, whole, fields, replace_null, plans: Plans::default() })
    }
}

fn type_of(name: &str) -> Result<Type, String> {
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float32" => Type::Float32,
        "float64" => Type::Float64,
        "boolean" => Type::Boolean,
        "string" => Type::String,
        _ => return Err(format!("Invalid type found in casting spec: {}", name.trim())),
    })
}

fn plan(schema: &Schema, whole: Option<Type>, casts: &[(String, Type)]) -> Result<Plan> {
    let target = |was: &Schema, kind: Type| -> Result<Schema> {
        let default = was.default.as_ref().map(|default| cast(Some(was), default, kind)).transpose()?;
        Ok(Schema { default, ..Schema::new(kind).with_optional(was.optional) })
    };
    if let Some(kind) = whole {
        return Ok(Plan { schema: Arc::new(target(schema, kind)?), casts: Vec::new() });
    }
    let (mut fields, mut places) = (Vec::new(), Vec::new());
    for (place, field) in schema.fields.iter().enumerate() {
        match casts.iter().find(|(name, _)| *name == *field.name) {
            Some((_, kind)) => {
                fields.push(Field::new(Arc::clone(&field.name), Arc::new(target(&field.schema, *kind)?)));
                places.push((place, Arc::clone(&field.schema), *kind));
            }
            None => fields.push(field.clone()),
        }
    }
    Ok(Plan { schema: Arc::new(with_fields(schema, fields)), casts: places })
}

/// A value as another type; null stays null.
fn cast(schema: Option<&Schema>, value: &Value, kind: Type) -> Result<Value> {
    let unsupported = || {
        Error::data(format!(
            "Unexpected value in Cast transformation: class {} cannot be cast to {}",
            value.java_class(),
            kind.java_name()
        ))
    };
    if value.is_null() {
        return Ok(Value::Null);
    }
    if matches!(value, Value::Array(_) | Value::Map(_) | Value::Struct(_)) {
        return Err(unsupported());
    }
    if kind == Type::String {
        return Ok(Value::from(connect_text(schema, value)));
    }
    if let Value::String(text) = value {
        return from_text(text, kind);
    }
    let (whole, real) = match value {
        Value::Boolean(truth) => (i64::from(*truth), f64::from(u8::from(*truth))),
        Value::Float32(n) => (narrowed(f64::from(*n), kind), f64::from(*n)),
        Value::Float64(n) => (narrowed(*n, kind), *n),
        Value::Bytes(bytes) => {
            let Some(Logical::Decimal { scale }) = schema.and_then(Schema::logical) else { return Err(unsupported()) };
            let real: f64 = Decimal::from_bytes(bytes, scale).to_java_text().parse().unwrap_or(f64::NAN);
            (narrowed(real, kind), real)
        }
        other => {
            let number = other.as_i64().ok_or_else(unsupported)?;
            (number, number as f64)
        }
    };
    Ok(match (kind, value) {
        (Type::Int8, _) => Value::Int8(whole as i8),
        (Type::Int16, _) => Value::Int16(whole as i16),
        (Type::Int32, _) => Value::Int32(whole as i32),
        (Type::Int64, _) => Value::Int64(whole),
        (Type::Boolean, _) => Value::Boolean(whole != 0),
        (Type::Float32, Value::Float32(n)) => Value::Float32(*n),
        (Type::Float32, Value::Int64(n)) => Value::Float32(*n as f32),
        (Type::Float32, _) => Value::Float32(real as f32),
        _ => Value::Float64(real),
    })
}

/// Java's narrowing of a double: to `int` first unless the target is a long.
fn narrowed(real: f64, kind: Type) -> i64 {
    if kind == Type::Int64 { real as i64 } else { i64::from(real as i32) }
}

fn from_text(text: &str, kind: Type) -> Result<Value> {
    let parsed = match kind {
        Type::Int8 => text.parse().ok().map(Value::Int8),
        Type::Int16 => text.parse().ok().map(Value::Int16),
        Type::Int32 => text.parse().ok().map(Value::Int32),
        Type::Int64 => text.parse().ok().map(Value::Int64),
        Type::Float32 => text.trim().parse().ok().map(Value::Float32),
        Type::Float64 => text.trim().parse().ok().map(Value::Float64),
        _ => Some(Value::Boolean(text.eq_ignore_ascii_case("true"))),
    };
    parsed.ok_or_else(|| Error::data(format!("Value ({text}) was out of range for requested data type")))
}

impl Transform for Cast {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Self { whole, fields, replace_null, .. } = self;
        let Datum { schema, value } = self.side.of(&mut record);
        let Some(known) = schema else {
            match (&*whole, &mut *value) {
                (_, Value::Null) => {}
                (Some(kind), value) => *value = cast(None, value, *kind)?,
                (None, Value::Map(entries)) => {
                    for (name, kind) in fields {
                        match entries.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
                            Some((_, value)) => *value = cast(None, value, *kind)?,
                            None => entries.push((Value::from(name.as_str()), Value::Null)),
                        }
                    }
                }
                (None, other) => return Err(not_a_map(PURPOSE, other)),
            }
            return Ok(Some(record));
        };
        let plan = self.plans.plan(known, || plan(known, *whole, fields))?;
        match (&*whole, &mut *value) {
            (Some(kind), value) => *value = cast(Some(known), value, *kind)?,
            (None, Value::Null) => {}
            (None, Value::Struct(values)) => {
                for (place, was, kind) in &plan.casts {
                    if let Some(value) = values.get_mut(*place) {
                        fill_default(value, was, *replace_null);
                        *value = cast(Some(was), value, *kind)?;
                    }
                }
            }
            (None, other) => return Err(not_a_struct(PURPOSE, other)),
        }
        *schema = Some(Arc::clone(&plan.schema));
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, props, record, text};
    use super::*;
    use crate::data::timestamp;

    #[test]
    fn narrowing_is_javas() {
        for (value, kind, expected) in [
            (Value::Int32(300), Type::Int8, Value::Int8(44)),
            (Value::Float64(-1.9), Type::Int32, Value::Int32(-1)),
            (Value::Float64(1e20), Type::Int64, Value::Int64(i64::MAX)),
            (Value::Float64(0.5), Type::Boolean, Value::Boolean(false)),
            (Value::Boolean(true), Type::Float32, Value::Float32(1.0)),
            (Value::from("TRUE"), Type::Boolean, Value::Boolean(true)),
            (Value::Float64(5.0), Type::String, "5.0".into()),
        ] {
            assert_eq!(cast(None, &value, kind).unwrap(), expected);
        }
        let error = cast(None, &"128".into(), Type::Int8).unwrap_err().to_string();
        assert_eq!(error, "Value (128) was out of range for requested data type");
        let instant = cast(Some(&timestamp()), &1_700_000_000_123i64.into(), Type::String).unwrap();
        assert_eq!(instant, "2023-11-14T22:13:20.123Z".into());
    }

    #[test]
    fn fields_keep_optionality_and_defaults() {
        let fields = vec![field("a", int32().optional().with_doc("d").with_default(7.into())), field("b", text())];
        let schema = Arc::new(Schema::structure(fields).with_name("n"));
        let mut transform = build(&VALUE, &[("spec", "a:string,b:INT64")]);
        let out = apply(&mut *transform, record(&schema, vec![Value::Null, "5".into()])).value;
        assert_eq!(out.value, Value::Struct(vec!["7".into(), Value::Int64(5)]));
        assert_eq!(*out.schema.unwrap().fields[0].schema, text().optional().with_default("7".into()));
        let map = apply(&mut *transform, map_record(&[("b", "5".into())])).value.value;
        assert_eq!((map.entry("a"), map.entry("b")), (Some(&Value::Null), Some(&Value::Int64(5))));
        let mut whole = build(&VALUE, &[("spec", "string")]);
        let datum = Datum::new(Arc::new(int32()), 5.into());
        assert_eq!(apply(&mut *whole, Record::of_value(Arc::from("t"), datum)).value.value, "5".into());
    }

    #[test]
    fn wrong_specs_are_refused() {
        for (spec, text) in [
            ("", "Must specify at least one field to cast."),
            ("a:x", "Invalid type found in casting spec: x"),
            ("a:b:c", "Invalid rename mapping: a:b:c"),
        ] {
            let error = (VALUE.build)(&props(&[("spec", spec)])).err().unwrap().to_string();
            assert!(error.ends_with(text), "{error}");
        }
        assert!((VALUE.build)(&props(&[("spec", "int8,a:int8")])).is_err());
    }
}
