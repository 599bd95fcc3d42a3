//! `ByteArrayConverter`, `BooleanConverter` and the number converters: bytes as they are, and big-endian numbers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{Datum, Schema, Type, Value};

use super::{Converter, Failure, serialization};

/// A converter of values of one type.
#[derive(Debug)]
pub(super) struct PrimitiveConverter {
    kind: Type,
    schema: Arc<Schema>,
}

impl PrimitiveConverter {
    pub(super) fn new(kind: Type) -> Self {
        Self { kind, schema: Arc::new(Schema::new(kind).optional()) }
    }

    /// The word that Java's messages use.
    fn word(&self) -> &'static str {
        match self.kind {
            Type::Int16 => "short",
            Type::Int32 => "integer",
            Type::Int64 => "long",
            Type::Float32 => "float",
            Type::Float64 => "double",
            Type::Boolean => "boolean",
            _ => "bytes",
        }
    }

    fn check_schema(&self, schema: Option<&Arc<Schema>>) -> Result<()> {
        let converter = match self.kind {
            Type::Bytes => "ByteArrayConverter",
            Type::Boolean => "BooleanConverter",
            _ => return Ok(()),
        };
        match schema {
            Some(schema) if schema.kind != self.kind => {
                Err(Error::data(format!("Invalid schema type for {converter}: {}", schema.kind.java_name())))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, bytes: &Bytes) -> Option<Value> {
        Some(match self.kind {
            Type::Int16 => Value::Int16(i16::from_be_bytes(bytes.as_ref().try_into().ok()?)),
            Type::Int32 => Value::Int32(i32::from_be_bytes(bytes.as_ref().try_into().ok()?)),
            Type::Int64 => Value::Int64(i64::from_be_bytes(bytes.as_ref().try_into().ok()?)),
            Type::Float32 => Value::Float32(f32::from_be_bytes(bytes.as_ref().try_into().ok()?)),
            Type::Float64 => Value::Float64(f64::from_be_bytes(bytes.as_ref().try_into().ok()?)),
            Type::Boolean => Value::Boolean(match bytes.as_ref() {
                [0] => false,
                [1] => true,
                _ => return None,
            }),
            _ => Value::Bytes(bytes.clone()),
        })
    }
}

impl Converter for PrimitiveConverter {
    fn encode(
        &mut self,
        _topic: &str,
        schema: Option<&Arc<Schema>>,
        value: &Value,
        out: &mut BytesMut,
    ) -> Result<bool, Failure> {
        self.check_schema(schema)?;
        match (self.kind, value) {
            (_, Value::Null) => return Ok(false),
            (Type::Int16, Value::Int16(n)) => out.put_i16(*n),
            (Type::Int32, Value::Int32(n)) => out.put_i32(*n),
            (Type::Int64, Value::Int64(n)) => out.put_i64(*n),
            (Type::Float32, Value::Float32(n)) => out.put_f32(*n),
            (Type::Float64, Value::Float64(n)) => out.put_f64(*n),
            (Type::Boolean, Value::Boolean(truth)) => out.put_u8(u8::from(*truth)),
            (Type::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Type::Bytes, value) => {
                let class = value.java_class();
                let message = format!("ByteArrayConverter is not compatible with objects of type class {class}");
                return Err(Error::data(message).into());
            }
            (_, value) => {
                let class = value.java_class();
                let cause = serialization(format!("class {class} cannot be written as {}", self.word()));
                let message = format!("Failed to serialize to {} (was class {class}): ", self.word());
                return Err(Error::data(message).caused_by(cause).into());
            }
        }
        Ok(true)
    }

    fn decode(&mut self, _topic: &str, bytes: Option<&Bytes>) -> Result<Datum, Failure> {
        let value = match bytes {
            None => Value::Null,
            Some(bytes) => self.read(bytes).ok_or_else(|| {
                let cause = serialization(format!("unexpected data of {} bytes", bytes.len()));
                Error::data(format!("Failed to deserialize {}: ", self.word())).caused_by(cause)
            })?,
        };
        Ok(Datum::new(Arc::clone(&self.schema), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian() {
        let mut converter = PrimitiveConverter::new(Type::Int32);
        let mut out = BytesMut::new();
        converter.encode("t", None, &Value::Int32(258), &mut out).unwrap();
        assert_eq!(out.as_ref(), [0, 0, 1, 2]);
        assert_eq!(converter.decode("t", Some(&out.freeze())).unwrap().value, Value::Int32(258));
        let Err(Failure::Record(error)) = converter.decode("t", Some(&Bytes::from_static(b"x"))) else {
            panic!("one byte is no integer")
        };
        assert_eq!(error.to_string(), "Failed to deserialize integer: ");
    }

    #[test]
    fn schemas_of_other_types_are_refused() {
        let mut converter = PrimitiveConverter::new(Type::Bytes);
        let text = Datum::new(Arc::new(Schema::new(Type::String)), "x".into());
        let Err(Failure::Record(error)) =
            converter.encode("t", text.schema.as_ref(), &text.value, &mut BytesMut::new())
        else {
            panic!("text is no bytes")
        };
        assert_eq!(error.to_string(), "Invalid schema type for ByteArrayConverter: STRING");
    }
}
