//! Writes payloads: a plan per schema, then a walk over the values straight into the buffer.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, BytesMut};
use towline_connectors::api::{Error, Result};
use towline_connectors::data::text::NumberText;
use towline_connectors::data::{Decimal, Logical, Schema, Type, Value};

use super::Settings;

/// How values of one schema are written.
#[derive(Debug)]
pub(super) struct Writer {
    op: Op,
    /// What is written for null; `None` if null is an error.
    null: Option<Box<[u8]>>,
}

#[derive(Debug)]
enum Op {
    Scalar(Type),
    /// A decimal as a number.
    Number {
        scale: i32,
    },
    Array(Box<Writer>),
    /// A map with text keys, as an object.
    Object(Box<Writer>),
    /// Any other map, as an array of pairs.
    Pairs(Box<Writer>, Box<Writer>),
    /// Fields in order, each with the bytes in front of its value: `{"id":` or `,"name":`.
    Struct(Vec<(Box<[u8]>, Writer)>),
}

impl Writer {
    /// Plans a schema.
    ///
    /// # Errors
    /// A data error if the schema lacks a part, or its default does not follow it.
    pub(super) fn plan(schema: &Schema, settings: &Settings) -> Result<Self> {
        let part = |part: &Option<Arc<Schema>>, what: &str| match part {
            Some(schema) => Self::plan(schema, settings).map(Box::new),
            None => Err(Error::data(format!("schema of type {} has no {what} schema", schema.kind.java_name()))),
        };
        let op = match (schema.kind, schema.logical()) {
            (Type::Bytes, Some(Logical::Decimal { scale })) if settings.numeric_decimals => Op::Number { scale },
            (Type::Array, _) => Op::Array(part(&schema.items, "element")?),
            (Type::Map, _) if schema.keys.as_ref().is_some_and(|keys| keys.kind == Type::String) => {
                Op::Object(part(&schema.items, "value")?)
            }
            (Type::Map, _) => Op::Pairs(part(&schema.keys, "key")?, part(&schema.items, "value")?),
            (Type::Struct, _) => {
                let mut fields = Vec::with_capacity(schema.fields.len());
                for (index, field) in schema.fields.iter().enumerate() {
                    let mut lead = BytesMut::new();
                    lead.put_u8(if index == 0 { b'{' } else { b',' });
                    write_text(&mut lead, &field.name);
                    lead.put_u8(b':');
                    fields.push((lead.to_vec().into_boxed_slice(), Self::plan(&field.schema, settings)?));
                }
                Op::Struct(fields)
            }
            (kind, _) => Op::Scalar(kind),
        };
        let mut writer = Self { op, null: None };
        writer.null = match &schema.default {
            Some(default) if settings.replace_null_with_default && !default.is_null() => {
                let mut out = BytesMut::new();
                writer.write(default, &mut out)?;
                Some(out.to_vec().into_boxed_slice())
            }
            _ => schema.optional.then(|| Box::from(&b"null"[..])),
        };
        Ok(writer)
    }

    /// Writes one value.
    ///
    /// # Errors
    /// A data error if the value does not follow the schema.
    pub(super) fn write(&self, value: &Value, out: &mut BytesMut) -> Result<()> {
        match (&self.op, value) {
            (_, Value::Null) => match &self.null {
                Some(text) => out.extend_from_slice(text),
                None => {
                    return Err(Error::data(
                        "Conversion error: null value for field that is required and has no default value",
                    ));
                }
            },
            (Op::Struct(fields), Value::Struct(values)) => {
                if fields.len() != values.len() {
                    return Err(Error::data("Mismatching schema."));
                }
                for ((lead, writer), value) in fields.iter().zip(values) {
                    out.extend_from_slice(lead);
                    writer.write(value, out)?;
                }
                out.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
            }
            (Op::Scalar(Type::Int32), Value::Int32(n)) => integer(out, i64::from(*n)),
            (Op::Scalar(Type::Int64), Value::Int64(n)) => integer(out, *n),
            (Op::Scalar(Type::Int16), Value::Int16(n)) => integer(out, i64::from(*n)),
            (Op::Scalar(Type::Int8), Value::Int8(n)) => integer(out, i64::from(*n)),
            (Op::Scalar(Type::String), Value::String(text)) => write_text(out, text),
            (Op::Scalar(Type::Float64), Value::Float64(n)) => double(out, *n),
            (Op::Scalar(Type::Float32), Value::Float32(n)) => single(out, *n),
            (Op::Scalar(Type::Boolean), Value::Boolean(truth)) => boolean(out, *truth),
            (Op::Scalar(Type::Bytes), Value::Bytes(bytes)) => base64(out, bytes),
            (Op::Number { scale }, Value::Bytes(bytes)) => {
                out.extend_from_slice(Decimal::from_bytes(bytes, *scale).to_java_text().as_bytes());
            }
            (Op::Array(items), Value::Array(values)) => {
                listed(out, values, |out, value| items.write(value, out))?;
            }
            (Op::Object(writer), Value::Map(entries)) => {
                out.put_u8(b'{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.put_u8(b',');
                    }
                    let Value::String(key) = key else { return Err(invalid(Type::String, key)) };
                    write_text(out, key);
                    out.put_u8(b':');
                    writer.write(value, out)?;
                }
                out.put_u8(b'}');
            }
            (Op::Pairs(keys, values), Value::Map(entries)) => listed(out, entries, |out, (key, value)| {
                out.put_u8(b'[');
                keys.write(key, out)?;
                out.put_u8(b',');
                values.write(value, out)?;
                out.put_u8(b']');
                Ok(())
            })?,
            (op, value) => return Err(invalid(op.kind(), value)),
        }
        Ok(())
    }
}

impl Op {
    fn kind(&self) -> Type {
        match self {
            Self::Scalar(kind) => *kind,
            Self::Number { .. } => Type::Bytes,
            Self::Array(_) => Type::Array,
            Self::Object(_) | Self::Pairs(..) => Type::Map,
            Self::Struct(_) => Type::Struct,
        }
    }
}

fn invalid(kind: Type, value: &Value) -> Error {
    Error::data(format!("Invalid type for {}: class {}", kind.java_name(), value.java_class()))
}

/// Writes a value that has no schema.
///
/// # Errors
/// A data error for a struct, which cannot be without one.
pub(super) fn write_schemaless(value: &Value, out: &mut BytesMut) -> Result<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(truth) => boolean(out, *truth),
        Value::Int8(n) => integer(out, i64::from(*n)),
        Value::Int16(n) => integer(out, i64::from(*n)),
        Value::Int32(n) => integer(out, i64::from(*n)),
        Value::Int64(n) => integer(out, *n),
        Value::Float32(n) => single(out, *n),
        Value::Float64(n) => double(out, *n),
        Value::String(text) => write_text(out, text),
        Value::Bytes(bytes) => base64(out, bytes),
        Value::Array(items) => listed(out, items, |out, item| write_schemaless(item, out))?,
        Value::Map(entries) if entries.iter().all(|(key, _)| matches!(key, Value::String(_))) => {
            out.put_u8(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.put_u8(b',');
                }
                write_text(out, key.as_str().unwrap_or_default());
                out.put_u8(b':');
                write_schemaless(value, out)?;
            }
            out.put_u8(b'}');
        }
        Value::Map(entries) => listed(out, entries, |out, (key, value)| {
            out.put_u8(b'[');
            write_schemaless(key, out)?;
            out.put_u8(b',');
            write_schemaless(value, out)?;
            out.put_u8(b']');
            Ok(())
        })?,
        Value::Struct(_) => return Err(Error::data("a struct cannot be converted without its schema")),
    }
    Ok(())
}

fn listed<T>(out: &mut BytesMut, items: &[T], mut write: impl FnMut(&mut BytesMut, &T) -> Result<()>) -> Result<()> {
    out.put_u8(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        write(out, item)?;
    }
    out.put_u8(b']');
    Ok(())
}

#[inline]
fn integer(out: &mut BytesMut, number: i64) {
    out.extend_from_slice(NumberText::integer(number).as_bytes());
}

#[inline]
fn double(out: &mut BytesMut, number: f64) {
    non_finite(out, number.is_finite(), NumberText::double(number));
}

#[inline]
fn single(out: &mut BytesMut, number: f32) {
    non_finite(out, number.is_finite(), NumberText::float(number));
}

/// JSON has no NaN and no infinity: Jackson writes them as text.
#[inline]
fn non_finite(out: &mut BytesMut, finite: bool, text: NumberText) {
    if finite {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_text(out, text.as_str());
    }
}

fn boolean(out: &mut BytesMut, truth: bool) {
    out.extend_from_slice(if truth { b"true" } else { b"false" });
}

fn base64(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u8(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.put_u8(b'"');
}

/// Which bytes Jackson escapes inside text: quote, backslash and control characters.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Writes quoted text.
#[inline]
pub(super) fn write_text(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.put_u8(b'"');
    let mut start = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if ESCAPED[usize::from(*byte)] {
            out.extend_from_slice(&bytes[start..index]);
            escape(out, *byte);
            start = index + 1;
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.put_u8(b'"');
}

#[cold]
fn escape(out: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        control => {
            out.extend_from_slice(b"\\u00");
            out.put_u8(HEX[usize::from(control >> 4)]);
            out.put_u8(HEX[usize::from(control & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
