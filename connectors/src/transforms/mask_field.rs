//! `MaskField`: fields become zero or empty, or a fixed replacement.

use super::{Side, fill_default, not_a_map, not_a_struct, place_of, replace_null_key, sided};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform, Validator};
use crate::data::{Datum, Decimal, Logical, Plans, Schema, Value};

const PURPOSE: &str = "mask fields";

sided!("MaskField", MaskField);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("fields", ConfigType::List)
                .importance(Importance::High)
                .check(Validator::NonEmpty)
                .doc("Names of fields to mask."),
        )
        .with(
            ConfigKey::optional("replacement", ConfigType::String)
                .importance(Importance::Low)
                .check(Validator::NonEmpty)
                .doc("Custom value replacement, applied to numeric and text fields."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct MaskField {
    side: Side,
    fields: Vec<String>,
    replacement: Option<String>,
    replace_null: bool,
    plans: Plans<Vec<usize>>,
}

impl MaskField {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        Ok(Self {
            side,
            fields: config.list("fields").into_iter().map(str::to_owned).collect(),
            replacement: config.optional("replacement").map(str::to_owned),
            replace_null: config.boolean("replace.null.with.default"),
            plans: Plans::default(),
        })
    }
}

fn mask(value: &Value, schema: Option<&Schema>, replacement: Option<&str>) -> Result<Value> {
    let logical = schema.and_then(Schema::logical);
    if let Some(replacement) = replacement {
        return replace(value, logical, replacement);
    }
    Ok(match (value, logical) {
        (Value::Null, _) => Value::Null,
        (Value::Boolean(_), _) => Value::Boolean(false),
        (Value::Int8(_), _) => Value::Int8(0),
        (Value::Int16(_), _) => Value::Int16(0),
        (Value::Int32(_), _) => Value::Int32(0),
        (Value::Int64(_), _) => Value::Int64(0),
        (Value::Float32(_), _) => Value::Float32(0.0),
        (Value::Float64(_), _) => Value::Float64(0.0),
        (Value::String(_), _) => Value::from(""),
        (Value::Array(_), _) => Value::Array(Vec::new()),
        (Value::Map(_), _) => Value::Map(Vec::new()),
        (Value::Bytes(_), Some(Logical::Decimal { scale })) => decimal("0", scale)?,
        (other, _) => return Err(Error::data(format!("Cannot mask value of type class {}", other.java_class()))),
    })
}

fn decimal(text: &str, scale: i32) -> Result<Value> {
    let number = Decimal::parse(text).and_then(|number| number.rescale(scale)).ok_or_else(|| not_a_number(text))?;
    Ok(Value::Bytes(number.to_bytes().into()))
}

fn not_a_number(text: &str) -> Error {
    Error::data(format!("Unable to convert {text} (class java.lang.String) to number"))
}

fn replace(value: &Value, logical: Option<Logical>, text: &str) -> Result<Value> {
    let parsed = match (value, logical) {
        (Value::Null, _) => return Ok(Value::Null),
        (Value::Int32(_) | Value::Int64(_), Some(_)) => None,
        (Value::Bytes(_), Some(Logical::Decimal { scale })) => return decimal(text, scale),
        (Value::Int8(_), _) => Some(text.parse().map(Value::Int8).ok()),
        (Value::Int16(_), _) => Some(text.parse().map(Value::Int16).ok()),
        (Value::Int32(_), _) => Some(text.parse().map(Value::Int32).ok()),
        (Value::Int64(_), _) => Some(text.parse().map(Value::Int64).ok()),
        (Value::Float32(_), _) => Some(text.parse().map(Value::Float32).ok()),
        (Value::Float64(_), _) => Some(text.parse().map(Value::Float64).ok()),
        (Value::String(_), _) => return Ok(Value::from(text)),
        _ => None,
    };
    match parsed {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(not_a_number(text)),
        None => {
            let class = value.java_class();
            Err(Error::data(format!("Cannot mask value of type class {class} with custom replacement.")))
        }
    }
}

impl Transform for MaskField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let fields = &self.fields;
        let Datum { schema, value } = self.side.of(&mut record);
        match (schema, value) {
            (Some(schema), Value::Struct(values)) => {
                let places = self.plans.plan(schema, || {
                    let known = fields.iter().filter(|field| schema.field(field).is_some());
                    known.map(|field| place_of(schema, field)).collect::<Result<Vec<_>>>()
                })?;
                for place in places.iter() {
                    if let (Some(value), Some(field)) = (values.get_mut(*place), schema.fields.get(*place)) {
                        fill_default(value, &field.schema, self.replace_null);
                        *value = mask(value, Some(&field.schema), self.replacement.as_deref())?;
                    }
                }
            }
            (Some(_), other) => return Err(not_a_struct(PURPOSE, other)),
            (None, Value::Map(entries)) => {
                for field in fields {
                    match entries.iter_mut().find(|(key, _)| key.as_str() == Some(field)) {
                        Some((_, value)) => *value = mask(value, None, self.replacement.as_deref())?,
                        None => entries.push((Value::from(field.as_str()), Value::Null)),
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
    use std::sync::Arc;

    use super::super::testing::{apply, build, field, int32, record, text};
    use super::*;

    #[test]
    fn values_become_empty_or_the_replacement() {
        let schema = Arc::new(Schema::structure(vec![field("a", int32()), field("b", text())]));
        let row = record(&schema, vec![5.into(), "x".into()]);
        let mut plain = build(&VALUE, &[("fields", "a,b,z")]);
        assert_eq!(apply(&mut *plain, row.clone()).value.value, Value::Struct(vec![0.into(), "".into()]));
        let mut custom = build(&VALUE, &[("fields", "a,b"), ("replacement", "9")]);
        assert_eq!(apply(&mut *custom, row.clone()).value.value, Value::Struct(vec![9.into(), "9".into()]));
        let mut wrong = build(&VALUE, &[("fields", "a"), ("replacement", "r")]);
        let error = wrong.apply(row).unwrap_err().to_string();
        assert_eq!(error, "Unable to convert r (class java.lang.String) to number");
    }
}
