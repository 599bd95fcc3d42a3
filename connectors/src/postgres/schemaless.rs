//! Values without a schema, as those of JSON are: the column's type alone says how they are read.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::render::{self, RenderOptions};
use super::type_map::PgType;
use crate::data::{self, Schema, Type, Value};

/// The name of the schema that stands for "any kind": Kafka Connect has none for it.
const NAME: &str = "towline.Schemaless";

/// A schema for a field whose values may be of any kind.
pub fn schema() -> Schema {
    Schema::new(Type::String).with_name(NAME).optional()
}

/// Whether a schema is [`schema`].
pub fn is_schemaless(schema: &Schema) -> bool {
    schema.name() == Some(NAME)
}

/// Whether every kind of value that such a column takes has a binary form.
pub fn is_direct(target: PgType) -> bool {
    use PgType as P;
    matches!(
        target,
        P::Int2
            | P::Int4
            | P::Int8
            | P::Numeric(_)
            | P::Float4
            | P::Float8
            | P::Text
            | P::Citext
            | P::Json
            | P::Jsonb
            | P::Uuid
    )
}

/// The text of a value for a column; `None` if the column can't take it. Numbers are what Kafka Connect's logical types
/// count in (milliseconds, days), bytes are in base64, as the JSON converter writes both without schemas.
pub fn text(value: &Value, target: PgType, options: &RenderOptions) -> Option<String> {
    use PgType as P;
    let logical = match target {
        P::Timestamp | P::TimestampTz => Some(data::timestamp()),
        P::Date => Some(data::date()),
        P::Time | P::TimeTz => Some(data::time()),
        _ => None,
    };
    Some(match (target, value) {
        (P::Date | P::Time | P::TimeTz, Value::Int64(number)) => {
            render::text(&Value::Int32(i32::try_from(*number).ok()?), logical.as_ref(), options, false)
        }
        (P::Bytea, Value::String(text)) if !text.starts_with("\\x") => {
            render::text(&Value::Bytes(STANDARD.decode(text.as_bytes()).ok()?.into()), None, options, false)
        }
        (P::Hstore, Value::Map(entries)) => render::hstore_text(entries, options),
        (P::Array, Value::Array(_)) | (_, Value::String(_)) => render::text(value, None, options, false),
        (P::Json | P::Jsonb | P::Text | P::Citext | P::Other, _) => render::text(value, None, options, true),
        _ => render::text(value, logical.as_ref(), options, false),
    })
}
