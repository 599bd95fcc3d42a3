//! Default values of fields: are they valid for their type (checked for new schemas only), and
//! how Java prints them after it has read them by the type (normalization).

use serde_json::{Map, Value};

use super::{Kind, NodeId, Schema};

/// Records whose fields default to records nest at most this deep when checked.
const MAX_DEFAULT_DEPTH: usize = 128;

/// True if `value` may be the default of a field of type `id`; a union takes a value of any branch.
pub(super) fn is_valid(schema: &Schema, id: NodeId, value: &Value) -> bool {
    valid(schema, id, value, 0)
}

fn valid(schema: &Schema, id: NodeId, value: &Value, depth: usize) -> bool {
    if depth > MAX_DEFAULT_DEPTH {
        return false;
    }
    match &schema.node(id).kind {
        Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Fixed(_) => value.is_string(),
        Kind::Int => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Kind::Long => value.is_i64(),
        Kind::Float | Kind::Double => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::Null => value.is_null(),
        Kind::Array(items) => {
            value.as_array().is_some_and(|list| list.iter().all(|item| valid(schema, *items, item, depth + 1)))
        }
        Kind::Map(values) => {
            value.as_object().is_some_and(|map| map.values().all(|item| valid(schema, *values, item, depth + 1)))
        }
        Kind::Union(branches) => branches.iter().any(|branch| valid(schema, *branch, value, depth + 1)),
        Kind::Record(record) => value.as_object().is_some_and(|members| {
            record.fields.iter().all(|field| {
                members
                    .get(&field.name)
                    .or(field.default.as_ref())
                    .is_some_and(|value| valid(schema, field.schema, value, depth + 1))
            })
        }),
    }
}

/// The value as Java prints it after reading it by its type: floats get a fraction, maps are
/// sorted by key.
pub(super) fn typed(schema: &Schema, id: NodeId, value: &Value) -> Value {
    match (&schema.node(id).kind, value) {
        (Kind::Union(branches), value) => {
            let branch = branches.iter().find(|branch| is_valid(schema, **branch, value));
            branch.map_or_else(|| value.clone(), |branch| typed(schema, *branch, value))
        }
        (Kind::Double, Value::Number(number)) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        (Kind::Float, Value::Number(number)) => number.as_f64().map_or_else(|| value.clone(), as_float),
        (Kind::Array(items), Value::Array(list)) => list.iter().map(|item| typed(schema, *items, item)).collect(),
        (Kind::Map(values), Value::Object(map)) => {
            sorted_object(map.iter().map(|(key, item)| (key.clone(), typed(schema, *values, item))))
        }
        (Kind::Record(record), Value::Object(map)) => sorted_object(map.iter().map(|(key, item)| {
            let typed = record.field(key).map(|(_, field)| typed(schema, field.schema, item));
            (key.clone(), typed.unwrap_or_else(|| item.clone()))
        })),
        (_, value) => value.clone(),
    }
}

/// A float's shortest decimal spelling, read back as a double so that it prints the same.
fn as_float(double: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "narrowing is what Java does with float defaults")]
    let float = double as f32;
    float.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A JSON object with its members sorted by name.
pub(super) fn sorted_object(members: impl Iterator<Item = (String, Value)>) -> Value {
    let mut members: Vec<(String, Value)> = members.collect();
    members.sort_by(|left, right| left.0.cmp(&right.0));
    Value::Object(members.into_iter().collect::<Map<String, Value>>())
}
