//! Debezium's named schemas: what a number, bytes or a struct means beyond its base type, how it is written, and which
//! column type is made for it. Texts (`ZonedTimestamp`, `Json`, `Uuid` ...) need no writing of their own: the server
//! reads them.

use std::fmt::Write as _;

use bytes::BufMut;

use super::copy_encode::put_field;
use super::field_encoder::{EncodeError, nanos_to_micros};
use super::render::{self, RenderOptions};
use super::temporal::{self, DAY_MICROS, PG_EPOCH_DAYS, PG_EPOCH_MICROS};
use super::type_map::PgType;
use crate::data::{Decimal, Logical, Schema, Type, Value};

/// What a time counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Unit {
    /// A count in microseconds; parts below are cut off downwards.
    pub fn to_micros(self, count: i64) -> Option<i64> {
        match self {
            Self::Millis => count.checked_mul(1000),
            Self::Micros => Some(count),
            Self::Nanos => Some(nanos_to_micros(count)),
        }
    }
}

/// What a named schema means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Days since 1970-01-01.
    Date,
    /// A time of day.
    Time(Unit),
    /// A date and time without a zone, as if it were UTC.
    Timestamp(Unit),
    /// A length of time.
    Duration(Unit),
    /// Bits, the last ones first; how many there are.
    Bits(usize),
    /// A struct of scale and unscaled value.
    VariableScaleDecimal,
    /// A struct with well-known binary and a spatial reference.
    Geometry,
    /// A struct with x and y, and well-known binary.
    Point,
    /// An array that is written in square brackets.
    Vector,
    /// A struct of dimensions and a map from place to number.
    SparseVector,
}

/// What a schema means by its name; `None` if only by its base type.
pub fn meaning(schema: &Schema) -> Option<Meaning> {
    let (family, name) = schema.name()?.strip_prefix("io.debezium.")?.split_once('.')?;
    Some(match (family, name, schema.kind) {
        ("time", "Date", Type::Int32) => Meaning::Date,
        ("time", "Time", Type::Int32) => Meaning::Time(Unit::Millis),
        ("time", "MicroTime", Type::Int64) => Meaning::Time(Unit::Micros),
        ("time", "NanoTime", Type::Int64) => Meaning::Time(Unit::Nanos),
        ("time", "Timestamp", Type::Int64) => Meaning::Timestamp(Unit::Millis),
        ("time", "MicroTimestamp", Type::Int64) => Meaning::Timestamp(Unit::Micros),
        ("time", "NanoTimestamp", Type::Int64) => Meaning::Timestamp(Unit::Nanos),
        ("time", "MicroDuration", Type::Int64) => Meaning::Duration(Unit::Micros),
        ("time", "NanoDuration", Type::Int64) => Meaning::Duration(Unit::Nanos),
        ("data", "Bits", Type::Bytes) => Meaning::Bits(
            schema.parameters.get("length").and_then(|text| text.trim().parse().ok()).unwrap_or(usize::MAX),
        ),
        ("data", "VariableScaleDecimal", Type::Struct) => Meaning::VariableScaleDecimal,
        ("data", "DoubleVector" | "FloatVector", Type::Array) => Meaning::Vector,
        ("data", "SparseDoubleVector" | "SparseVector", Type::Struct) => Meaning::SparseVector,
        ("data", "geometry.Point", Type::Struct) => Meaning::Point,
        ("data", "geometry.Geometry" | "geometry.Geography", Type::Struct) => Meaning::Geometry,
        _ => return None,
    })
}

impl Meaning {
    /// Whether the meaning counts for a column of this type; numbers, texts and JSON take the plain value.
    pub fn counts_for(self, target: PgType) -> bool {
        use PgType as P;
        match (self, target) {
            (Self::VariableScaleDecimal, target) => !matches!(target, P::Json | P::Jsonb),
            (Self::Bits(_), target) => target != P::Bytea,
            (Self::Vector, target) => !matches!(target, P::Array | P::Json | P::Jsonb),
            (_, P::Int2 | P::Int4 | P::Int8 | P::Oid | P::Numeric(_) | P::Float4 | P::Float8) => false,
            (_, P::Text | P::Citext | P::Json | P::Jsonb) => false,
            _ => true,
        }
    }

    /// Whether [`Self::encode`] knows the binary form of a column of this type.
    pub fn is_direct(self, target: PgType) -> bool {
        use PgType as P;
        match self {
            Self::Date => matches!(target, P::Date | P::Timestamp | P::TimestampTz),
            Self::Time(_) => target == P::Time,
            Self::Timestamp(_) => matches!(target, P::Timestamp | P::TimestampTz | P::Date | P::Time),
            _ => matches!(target, P::Text | P::Citext),
        }
    }

    /// Appends the binary form of a value.
    ///
    /// # Errors
    /// Why the value does not go into the column.
    pub fn encode(
        self,
        value: &Value,
        schema: &Schema,
        target: PgType,
        options: &RenderOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let wall = match (self, value.as_i64()) {
            (Self::Date, Some(days)) => days.checked_mul(DAY_MICROS),
            (Self::Time(unit) | Self::Timestamp(unit), Some(count)) => unit.to_micros(count),
            (Self::Date | Self::Time(_) | Self::Timestamp(_), None) => return Err(EncodeError::Mismatch),
            _ => {
                put_field(out, self.text(value, schema, options).ok_or(EncodeError::Mismatch)?.as_bytes());
                return Ok(());
            }
        };
        let wall = wall.ok_or(EncodeError::Range)?;
        match target {
            PgType::Date => {
                let days = wall.div_euclid(DAY_MICROS) - PG_EPOCH_DAYS;
                put_field(out, &i32::try_from(days).map_err(|_| EncodeError::Range)?.to_be_bytes());
            }
            PgType::Time if matches!(self, Self::Time(_)) => out_time(wall, out)?,
            PgType::Time => out_time(wall.rem_euclid(DAY_MICROS), out)?,
            PgType::TimestampTz => put_micros(options.zone.to_instant(wall), out)?,
            _ => put_micros(wall, out)?,
        }
        Ok(())
    }

    /// The text that the server reads as a column's type.
    ///
    /// # Errors
    /// Why there is none.
    pub fn text_for(
        self,
        value: &Value,
        schema: &Schema,
        target: PgType,
        options: &RenderOptions,
    ) -> Result<String, EncodeError> {
        match (self.text(value, schema, options), self, value.as_i64()) {
            (Some(text), ..) => Ok(text),
            // Only an interval takes a time of more than a day, or of less than none.
            (None, Self::Time(unit), Some(count)) if target == PgType::Other => {
                Ok(format!("{} microseconds", unit.to_micros(count).ok_or(EncodeError::Range)?))
            }
            (None, _, Some(_)) => Err(EncodeError::Range),
            (None, _, None) => Err(EncodeError::Mismatch),
        }
    }

    /// The text that the server reads; `None` if the value is not of its schema, or has none in its range.
    pub fn text(self, value: &Value, schema: &Schema, options: &RenderOptions) -> Option<String> {
        Some(match self {
            Self::Date => temporal::date_text(value.as_i64()?),
            Self::Time(unit) => {
                let micros = unit.to_micros(value.as_i64()?).filter(|micros| (0..=DAY_MICROS).contains(micros))?;
                let mut out = String::new();
                temporal::push_time(&mut out, micros, 6);
                out
            }
            Self::Timestamp(unit) => temporal::datetime_text(unit.to_micros(value.as_i64()?)?, ' ', 6),
            Self::Duration(unit) => format!("{} microseconds", unit.to_micros(value.as_i64()?)?),
            Self::Bits(length) => bits(value, length)?,
            Self::VariableScaleDecimal => {
                let scale = i32::try_from(field(value, schema, "scale")?.as_i64()?).ok()?;
                let Value::Bytes(unscaled) = field(value, schema, "value")? else { return None };
                // A scale beyond what PostgreSQL holds would only fill the memory with zeros.
                (scale.abs() <= 20_000).then(|| Decimal::from_bytes(unscaled, scale).to_plain_text())?
            }
            Self::Point => match (field(value, schema, "x"), field(value, schema, "y")) {
                (Some(Value::Float64(x)), Some(Value::Float64(y))) => format!("({x:?},{y:?})"),
                _ => geometry(value, schema)?,
            },
            Self::Geometry => geometry(value, schema)?,
            Self::Vector => {
                let Value::Array(items) = value else { return None };
                let numbers: Vec<String> =
                    items.iter().map(|item| render::text(item, schema.items.as_deref(), options, false)).collect();
                format!("[{}]", numbers.join(","))
            }
            Self::SparseVector => sparse_vector(value, schema, options)?,
        })
    }
}

fn out_time(micros: i64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if !(0..=DAY_MICROS).contains(&micros) {
        return Err(EncodeError::Range);
    }
    put_field(out, &micros.to_be_bytes());
    Ok(())
}

fn put_micros(micros: i64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.put_i32(8);
    out.put_i64(micros.checked_sub(PG_EPOCH_MICROS).ok_or(EncodeError::Range)?);
    Ok(())
}

fn field<'a>(value: &'a Value, schema: &Schema, name: &str) -> Option<&'a Value> {
    let Value::Struct(values) = value else { return None };
    values.get(schema.field(name)?.0)
}

/// Little-endian bytes as digits, the highest first.
fn bits(value: &Value, length: usize) -> Option<String> {
    let Value::Bytes(bytes) = value else { return None };
    let length = length.min(bytes.len() * 8);
    let digit = |at: usize| if bytes[at / 8] >> (at % 8) & 1 == 1 { '1' } else { '0' };
    Some((0..length).rev().map(digit).collect())
}

/// Well-known binary as PostGIS reads it: in hexadecimal, the spatial reference in front.
fn geometry(value: &Value, schema: &Schema) -> Option<String> {
    let Value::Bytes(binary) = field(value, schema, "wkb")? else { return None };
    let mut out = String::with_capacity(binary.len() * 2 + 12);
    if let Some(reference) = field(value, schema, "srid").and_then(Value::as_i64) {
        let _ = write!(out, "SRID={reference};");
    }
    for byte in binary {
        let _ = write!(out, "{byte:02X}");
    }
    Some(out)
}

fn sparse_vector(value: &Value, schema: &Schema, options: &RenderOptions) -> Option<String> {
    let dimensions = field(value, schema, "dimensions")?.as_i64()?;
    let Value::Map(entries) = field(value, schema, "vector")? else { return None };
    let entries: Vec<String> = entries
        .iter()
        .map(|(place, number)| {
            format!("{}:{}", render::text(place, None, options, false), render::text(number, None, options, false))
        })
        .collect();
    Some(format!("{{{}}}/{dimensions}", entries.join(",")))
}

/// The column type that Debezium makes for a schema; `None` if it is that of the base type.
///
/// # Errors
/// If there is none; the text names the schema.
pub fn column_type(schema: &Schema, postgis: &str) -> Result<Option<String>, String> {
    if let Some(propagated) = propagated_type(schema) {
        return Ok(Some(propagated));
    }
    if let Some(meaning) = meaning(schema) {
        return Ok(Some(match meaning {
            Meaning::Date => "date".to_owned(),
            Meaning::Time(Unit::Millis) => "time(3)".to_owned(),
            Meaning::Time(_) => "time(6)".to_owned(),
            Meaning::Timestamp(Unit::Millis) => "timestamp(3)".to_owned(),
            Meaning::Timestamp(_) => "timestamp(6)".to_owned(),
            Meaning::Duration(_) => "interval".to_owned(),
            Meaning::Bits(usize::MAX) => "bit varying".to_owned(),
            Meaning::Bits(length) if length > 83_886_080 => "bit varying".to_owned(),
            Meaning::Bits(length) => format!("bit({length})"),
            // Debezium makes a double, which keeps 15 digits of what may be more.
            Meaning::VariableScaleDecimal => "numeric".to_owned(),
            Meaning::Vector if schema.name() == Some("io.debezium.data.FloatVector") => "halfvec".to_owned(),
            Meaning::Vector => "vector".to_owned(),
            Meaning::SparseVector => "sparsevec".to_owned(),
            Meaning::Point | Meaning::Geometry => {
                let kind = if schema.name().is_some_and(|name| name.ends_with("Geography")) {
                    "geography"
                } else {
                    "geometry"
                };
                format!("{}.{kind}", super::quote::identifier(postgis))
            }
        }));
    }
    let by_name = match schema.name().and_then(|name| name.strip_prefix("io.debezium.")) {
        Some("time.ZonedTimestamp") => "timestamptz(6)",
        Some("time.ZonedTime") => "timetz(6)",
        Some("time.IsoDate") => "date",
        Some("time.IsoTime") => "time(6)",
        Some("time.IsoTimestamp") => "timestamp(6)",
        Some("time.Interval") => "interval",
        Some("data.Json") => "json",
        Some("data.Uuid") => "uuid",
        Some("data.Xml") => "xml",
        Some("data.Ltree") => "ltree",
        Some("data.TsVector") => "tsvector",
        Some("time.Year") => "integer",
        _ => "",
    };
    if !by_name.is_empty() {
        return Ok(Some(by_name.to_owned()));
    }
    match (schema.logical(), schema.kind) {
        (Some(Logical::Decimal { scale }), _) => Ok(precision(schema, scale).map(|p| format!("numeric({p},{scale})"))),
        (None, Type::Map) if is_text(schema.keys.as_deref()) && is_text(schema.items.as_deref()) => {
            Ok(Some("hstore".to_owned()))
        }
        (None, Type::Array) => {
            let items = schema.items.as_deref().ok_or("an ARRAY schema without an element schema")?;
            Ok(column_type(items, postgis)?.map(|items| format!("{items}[]")))
        }
        _ => Ok(None),
    }
}

fn is_text(schema: Option<&Schema>) -> bool {
    schema.is_some_and(|schema| schema.kind == Type::String)
}

fn precision(schema: &Schema, scale: i32) -> Option<i32> {
    let precision: i32 = schema.parameters.get("connect.decimal.precision")?.trim().parse().ok()?;
    (1..=1000).contains(&precision).then_some(precision).filter(|precision| scale >= 0 && scale <= *precision)
}

/// Types that may be made from a source's word: those that every PostgreSQL has, and some of extensions.
const PROPAGATED: &[&str] = &[
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "money",
    "citext",
    "tsvector",
    "tsquery",
    "oid",
    "json",
    "jsonb",
    "uuid",
    "xml",
    "ltree",
    "hstore",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
    "interval",
    "bit",
    "bit varying",
    "numeric",
    "date",
    "time",
    "time without time zone",
    "time with time zone",
    "timestamp",
    "timestamp without time zone",
    "timestamp with time zone",
    "timetz",
    "timestamptz",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "pg_lsn",
    "jsonpath",
    "integer",
    "bigint",
    "smallint",
    "real",
    "double precision",
    "boolean",
    "text",
    "character varying",
    "character",
    "bytea",
];

/// The source column's own type, where the source was told to propagate it and it is one of PostgreSQL.
fn propagated_type(schema: &Schema) -> Option<String> {
    let parameter = |name: &str| schema.parameters.get(&format!("__debezium.source.column.{name}"));
    let name = parameter("type")?.trim().to_ascii_lowercase();
    let length =
        parameter("length").and_then(|text| text.trim().parse::<u32>().ok()).filter(|n| (1..=10_485_760).contains(n));
    match (name.as_str(), schema.kind, length) {
        ("varchar" | "character varying", Type::String, Some(length)) => Some(format!("varchar({length})")),
        ("bpchar" | "char" | "character", Type::String, Some(length)) => Some(format!("char({length})")),
        (name, Type::String, _) if PROPAGATED.contains(&without_modifiers(name)?.as_str()) => Some(name.to_owned()),
        ("oid", Type::Int64, _) => Some("oid".to_owned()),
        ("money", Type::Bytes, _) => Some("money".to_owned()),
        _ => None,
    }
}

/// `timestamp(3) without time zone[]` without its digits and brackets; `None` if it is no plain type name.
fn without_modifiers(name: &str) -> Option<String> {
    let name = name.trim_end_matches("[]");
    let Some((before, rest)) = name.split_once('(') else { return Some(name.to_owned()) };
    let (modifiers, after) = rest.split_once(')')?;
    let plain = modifiers.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '-'));
    plain.then(|| format!("{before}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Field};
    use crate::postgres::temporal::Zone;
    use std::sync::Arc;

    fn options() -> RenderOptions {
        RenderOptions { zone: Zone::Utc, date_zone: Zone::Utc, legacy: false }
    }

    fn named(kind: Type, name: &str) -> Schema {
        Schema::new(kind).with_name(format!("io.debezium.{name}"))
    }

    fn text(schema: &Schema, value: &Value) -> Option<String> {
        meaning(schema).unwrap().text(value, schema, &options())
    }

    #[test]
    fn texts_of_named_values() {
        assert_eq!(text(&named(Type::Int32, "time.Date"), &Value::Int32(19_782)).unwrap(), "2024-02-29");
        let stamp = Value::Int64(1_709_209_845_123_456_789);
        assert_eq!(text(&named(Type::Int64, "time.NanoTimestamp"), &stamp).unwrap(), "2024-02-29 12:30:45.123457");
        assert_eq!(text(&named(Type::Int64, "time.MicroDuration"), &Value::Int64(-5)).unwrap(), "-5 microseconds");
        let five = named(Type::Bytes, "data.Bits").with_parameter("length", "5");
        assert_eq!(text(&five, &Value::Bytes(vec![0b1101].into())).unwrap(), "01101");
        let parts = vec![
            Field::new("scale", Arc::new(Schema::new(Type::Int32))),
            Field::new("value", Arc::new(Schema::new(Type::Bytes))),
        ];
        let decimal = Schema { name: Some("io.debezium.data.VariableScaleDecimal".into()), ..Schema::structure(parts) };
        let value = Value::Struct(vec![Value::Int32(2), Value::Bytes(vec![0x30, 0x39].into())]);
        assert_eq!(text(&decimal, &value).unwrap(), "123.45");
        let double = || Arc::new(Schema::new(Type::Float64));
        let parts = vec![
            Field::new("x", double()),
            Field::new("y", double()),
            Field::new("wkb", Arc::new(Schema::new(Type::Bytes))),
            Field::new("srid", Arc::new(Schema::new(Type::Int32))),
        ];
        let point = Schema { name: Some("io.debezium.data.geometry.Point".into()), ..Schema::structure(parts) };
        let wkb = Value::Bytes(vec![1, 0xab].into());
        let value = Value::Struct(vec![Value::Float64(1.0), Value::Float64(-0.5), wkb, Value::Int32(4326)]);
        assert_eq!(text(&point, &value).unwrap(), "(1.0,-0.5)");
        let shape = Schema { name: Some("io.debezium.data.geometry.Geometry".into()), ..point };
        assert_eq!(text(&shape, &value).unwrap(), "SRID=4326;01AB");
        let vector = Schema { name: Some("io.debezium.data.DoubleVector".into()), ..Schema::array(double()) };
        assert_eq!(text(&vector, &Value::Array(vec![Value::Float64(0.5), Value::Float64(2.0)])).unwrap(), "[0.5,2]");
        assert!(text(&decimal, &Value::Struct(Vec::new())).is_none());
        assert!(text(&decimal, &Value::Int32(1)).is_none());
    }

    #[test]
    fn column_types() {
        let kind = |schema: &Schema| column_type(schema, "public").unwrap();
        assert_eq!(kind(&named(Type::Int64, "time.MicroTimestamp")).unwrap(), "timestamp(6)");
        assert_eq!(kind(&named(Type::String, "time.ZonedTimestamp")).unwrap(), "timestamptz(6)");
        assert_eq!(kind(&Schema::new(Type::Int32)), None);
        assert_eq!(kind(&data::decimal(2).with_parameter("connect.decimal.precision", "10")).unwrap(), "numeric(10,2)");
        assert_eq!(kind(&data::decimal(127).with_parameter("connect.decimal.precision", "0")), None);
        let list = Schema::array(Arc::new(named(Type::String, "data.Uuid")));
        assert_eq!(kind(&list).unwrap(), "uuid[]");
        let propagated = |name: &str, length: &str| {
            Schema::new(Type::String)
                .with_parameter("__debezium.source.column.type", name)
                .with_parameter("__debezium.source.column.length", length)
        };
        assert_eq!(kind(&propagated("VARCHAR", "20")).unwrap(), "varchar(20)");
        assert_eq!(kind(&propagated("INET", "")).unwrap(), "inet");
        assert_eq!(
            kind(&propagated("timestamp(3) without time zone[]", "")).unwrap(),
            "timestamp(3) without time zone[]"
        );
        assert_eq!(kind(&propagated("inet; DROP TABLE", "1")), None);
        assert_eq!(kind(&propagated("numeric(1); DROP TABLE x; --)", "1")), None);
    }
}
