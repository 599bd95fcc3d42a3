//! A source partition or a source offset: a small ordered map of primitive values, stored as a JSON object.
//!
//! Order matters on the wire: the Java worker compares the serialised bytes of the partition (KIP-875 and the offsets
//! topic), so the order of the entries is kept, while comparing in memory ignores it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number};

use super::{Error, Result};
use crate::data::Value;

/// An ordered map from text to null, integer, float, boolean, text or bytes.
#[derive(Debug, Clone)]
pub struct Position(Arc<[(Arc<str>, Value)]>);

impl Position {
    /// From entries in their order.
    pub fn new(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// From entries with literal keys.
    pub fn of<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::new(entries.into_iter().map(|(key, value)| (Arc::from(key), value)))
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| &**k == key).map(|(_, value)| value)
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[(Arc<str>, Value)] {
        &self.0
    }

    /// As a JSON object, in order; bytes as base64 text.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = Map::new();
        for (key, value) in self.0.iter() {
            object.insert(key.to_string(), primitive_to_json(value));
        }
        serde_json::Value::Object(object)
    }

    /// From a JSON object of primitives.
    ///
    /// # Errors
    /// A data error naming the field if a value is an object or an array, or if the JSON is not an object.
    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        let serde_json::Value::Object(object) = json else {
            return Err(Error::data(format!("offsets and partitions must be JSON objects, but found {json}")));
        };
        object
            .iter()
            .map(|(key, value)| Ok((Arc::from(key.as_str()), primitive_from_json(key, value)?)))
            .collect::<Result<Vec<_>>>()
            .map(Self::new)
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(key, value)| match (value.as_i64(), other.get(key)) {
                (Some(a), Some(b)) => b.as_i64() == Some(a),
                (None, Some(b)) => value == b,
                (_, None) => false,
            })
    }
}

fn primitive_to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Boolean(truth) => serde_json::Value::Bool(*truth),
        Value::Float32(number) => Number::from_f64(f64::from(*number)).map_or(serde_json::Value::Null, Into::into),
        Value::Float64(number) => Number::from_f64(*number).map_or(serde_json::Value::Null, Into::into),
        Value::String(text) => serde_json::Value::String(text.to_string()),
        Value::Bytes(bytes) => serde_json::Value::String(STANDARD.encode(bytes)),
        other => other.as_i64().map_or(serde_json::Value::Null, Into::into),
    }
}

fn primitive_from_json(key: &str, json: &serde_json::Value) -> Result<Value> {
    Ok(match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Boolean(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int64(whole),
            None => Value::Float64(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(_) => return Err(not_primitive(key, "ARRAY")),
        serde_json::Value::Object(_) => return Err(not_primitive(key, "MAP")),
    })
}

fn not_primitive(key: &str, kind: &str) -> Error {
    Error::data(format!("Offsets may only contain primitive types as values, but field {key} contains {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_on_the_wire_and_ignores_it_when_comparing() {
        let a = Position::of([("protocol", "1".into()), ("table", "public.iris".into())]);
        let b = Position::of([("table", "public.iris".into()), ("protocol", "1".into())]);
        assert_eq!(a, b);
        assert_eq!(a.to_json().to_string(), r#"{"protocol":"1","table":"public.iris"}"#);
        assert_eq!(Position::from_json(&b.to_json()).unwrap(), a);
        assert_eq!(Position::of([("n", Value::Int32(1))]), Position::of([("n", Value::Int64(1))]));
    }
}
