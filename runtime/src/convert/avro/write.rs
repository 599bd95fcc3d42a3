//! Writes values as Avro binary: a plan per Connect schema, then a walk over the values straight into the buffer.

use std::collections::HashMap;

use bytes::{BufMut, BytesMut};
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{Schema, Type, Value};

use super::Mapping;
use super::names::FIXED_SIZE;
use super::to_avro::{enum_parameter, enum_symbols, is_text_map, is_union};

/// How values of one Connect schema are written.
#[derive(Debug)]
pub(super) struct Writer {
    kind: Type,
    op: Op,
    /// Branch of the value and branch of null, if the schema is optional.
    branches: Option<(u8, u8)>,
    /// What stands for null.
    default: Option<Value>,
}

#[derive(Debug)]
enum Op {
    Scalar,
    Fixed(usize),
    Enum(HashMap<String, usize>),
    Array(Box<Writer>),
    Map(Box<Writer>),
    Pairs(Box<Writer>, Box<Writer>),
    Record(Vec<Writer>),
    /// One writer a branch; null, if allowed, is branch 0 before them.
    Union {
        branches: Vec<Writer>,
        nullable: bool,
    },
}

impl Writer {
    /// Plans a schema that [`to_avro`](super::to_avro::to_avro) took.
    pub(super) fn plan(schema: &Schema, mapping: &Mapping) -> Self {
        Self::plan_part(schema, mapping, false)
    }

    fn plan_part(schema: &Schema, mapping: &Mapping, ignore_optional: bool) -> Self {
        let part = |part: &Option<std::sync::Arc<Schema>>| {
            Box::new(part.as_ref().map_or_else(
                || Self::plan(&Schema::new(Type::String).optional(), mapping),
                |schema| Self::plan(schema, mapping),
            ))
        };
        let is_union = is_union(schema);
        let op = match schema.kind {
            Type::Array => Op::Array(part(&schema.items)),
            Type::Map if is_text_map(schema, mapping) => Op::Map(part(&schema.items)),
            Type::Map => Op::Pairs(part(&schema.keys), part(&schema.items)),
            Type::Struct if is_union => {
                let branches =
                    schema.fields.iter().map(|field| Self::plan_part(&field.schema, mapping, true)).collect();
                Op::Union { branches, nullable: schema.optional }
            }
            Type::Struct => Op::Record(schema.fields.iter().map(|field| Self::plan(&field.schema, mapping)).collect()),
            Type::Bytes => schema.parameters.get(FIXED_SIZE).and_then(|n| n.parse().ok()).map_or(Op::Scalar, Op::Fixed),
            Type::String => match enum_parameter(schema, mapping) {
                Some(parameter) => {
                    let symbols = enum_symbols(schema, parameter);
                    Op::Enum(symbols.into_iter().enumerate().map(|(index, symbol)| (symbol, index)).collect())
                }
                None => Op::Scalar,
            },
            _ => Op::Scalar,
        };
        let default = schema.default.clone().filter(|default| !default.is_null());
        let branches = (schema.optional && !ignore_optional && !is_union).then_some(match &default {
            Some(_) if schema.kind != Type::Struct => (0, 1),
            _ => (1, 0),
        });
        let ignored = mapping.ignore_default_for_nullables && schema.optional;
        Self { kind: schema.kind, op, branches, default: default.filter(|_| !ignored) }
    }

    /// Writes one value.
    ///
    /// # Errors
    /// A data error if the value does not follow the schema.
    pub(super) fn write(&self, value: &Value, out: &mut BytesMut) -> Result<()> {
        let value = match (value, &self.default) {
            (Value::Null, Some(default)) => default,
            (value, _) => value,
        };
        match (self.branches, value) {
            (Some((_, null)), Value::Null) => {
                out.put_u8(null << 1);
                return Ok(());
            }
            (Some((branch, _)), _) => out.put_u8(branch << 1),
            (None, _) => {}
        }
        match (&self.op, value) {
            (Op::Scalar, value) => self.scalar(value, out),
            (Op::Record(fields), Value::Struct(values)) => {
                if fields.len() != values.len() {
                    return Err(Error::data("Mismatching schema."));
                }
                fields.iter().zip(values).try_for_each(|(field, value)| field.write(value, out))
            }
            (Op::Array(items), Value::Array(values)) => block(out, values, |out, value| items.write(value, out)),
            (Op::Map(writer), Value::Map(entries)) => block(out, entries, |out, (key, value)| {
                let key = key.as_str().ok_or_else(|| invalid(Type::String, key))?;
                write_bytes(out, key.as_bytes());
                writer.write(value, out)
            }),
            (Op::Pairs(keys, values), Value::Map(entries)) => block(out, entries, |out, (key, value)| {
                keys.write(key, out)?;
                values.write(value, out)
            }),
            (Op::Fixed(size), Value::Bytes(bytes)) => write_fixed(out, bytes, *size),
            (Op::Enum(symbols), Value::String(text)) => match symbols.get(&**text) {
                Some(index) => {
                    write_long(out, *index as i64);
                    Ok(())
                }
                None => Err(Error::data(format!("value {text:?} is not a symbol of its enum"))),
            },
            (Op::Union { branches, nullable }, Value::Struct(values)) => {
                let chosen = branches.iter().zip(values).enumerate().find(|(_, (_, value))| !value.is_null());
                let Some((branch, (writer, value))) = chosen else {
                    return Err(Error::data("no branch of the union has a value"));
                };
                write_long(out, branch as i64 + i64::from(*nullable));
                writer.write(value, out)
            }
            (Op::Union { nullable: true, .. }, Value::Null) => {
                out.put_u8(0);
                Ok(())
            }
            (_, value) => Err(self.refuse(value)),
        }
    }

    #[inline]
    fn scalar(&self, value: &Value, out: &mut BytesMut) -> Result<()> {
        match (self.kind, value) {
            (Type::Int32, Value::Int32(n)) => write_long(out, i64::from(*n)),
            (Type::Int64, Value::Int64(n)) => write_long(out, *n),
            (Type::Int8, Value::Int8(n)) => write_long(out, i64::from(*n)),
            (Type::Int16, Value::Int16(n)) => write_long(out, i64::from(*n)),
            (Type::String, Value::String(text)) => write_bytes(out, text.as_bytes()),
            (Type::Float64, Value::Float64(n)) => out.put_f64_le(*n),
            (Type::Float32, Value::Float32(n)) => out.put_f32_le(*n),
            (Type::Boolean, Value::Boolean(truth)) => out.put_u8(u8::from(*truth)),
            (Type::Bytes, Value::Bytes(bytes)) => write_bytes(out, bytes),
            (_, value) => return Err(self.refuse(value)),
        }
        Ok(())
    }

    #[cold]
    fn refuse(&self, value: &Value) -> Error {
        if value.is_null() {
            let kind = self.kind.java_name();
            return Error::data(format!("Invalid value: null used for required field, schema type: {kind}"));
        }
        invalid(self.kind, value)
    }
}

fn invalid(kind: Type, value: &Value) -> Error {
    Error::data(format!("Invalid type for {}: class {}", kind.java_name(), value.java_class()))
}

/// Shorter decimals are extended by their sign; anything else must fit exactly.
fn write_fixed(out: &mut BytesMut, bytes: &[u8], size: usize) -> Result<()> {
    let Some(missing) = size.checked_sub(bytes.len()) else {
        return Err(Error::data(format!("{} bytes do not fit a fixed of {size}", bytes.len())));
    };
    let fill = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    out.put_bytes(fill, missing);
    out.extend_from_slice(bytes);
    Ok(())
}

fn block<T>(out: &mut BytesMut, items: &[T], mut write: impl FnMut(&mut BytesMut, &T) -> Result<()>) -> Result<()> {
    if !items.is_empty() {
        write_long(out, items.len() as i64);
        items.iter().try_for_each(|item| write(out, item))?;
    }
    out.put_u8(0);
    Ok(())
}

#[inline]
fn write_long(out: &mut BytesMut, number: i64) {
    let rest = ((number << 1) ^ (number >> 63)) as u64;
    // Most numbers take one byte.
    if rest < 0x80 { out.put_u8(rest as u8) } else { write_longer(out, rest) }
}

fn write_longer(out: &mut BytesMut, mut rest: u64) {
    let mut bytes = [0; 10];
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest as u8;
    out.extend_from_slice(&bytes[..=length]);
}

#[inline]
fn write_bytes(out: &mut BytesMut, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
