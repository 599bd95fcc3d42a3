//! A Connect value to one field of a binary tuple, in the type of the *target column*. What has no binary way is
//! rendered as text: the column is then staged as text and cast by the server.

use bytes::BufMut;

use super::copy_encode::{put_field, put_null};
use super::debezium::{self, Meaning};
use super::numeric;
use super::render::{self, RenderOptions};
use super::schemaless;
use super::temporal::{self, DAY_MICROS, PG_EPOCH_DAYS, PG_EPOCH_MICROS};
use super::type_map::{PgType, UNCONSTRAINED_SCALE};
use super::uuid;
use crate::data::{Decimal, Logical, Schema, Type, Value};
use std::sync::Arc;

/// Why a value does not go into a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Beyond the range of the column's type.
    #[error("the value is out of the range of the column's type")]
    Range,
    /// Not readable as the column's type.
    #[error("the value is not valid for the column's type")]
    Invalid,
    /// The value is not of its own schema.
    #[error("the value does not match its schema")]
    Mismatch,
    /// A NUL character, which PostgreSQL cannot store.
    #[error("the text holds a NUL character, which PostgreSQL cannot store")]
    Nul,
}

/// What INT64 or STRING fields that are listed as timestamps count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StampUnit {
    /// Microseconds.
    #[default]
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl StampUnit {
    fn to_micros(self, count: i64) -> i64 {
        if self == Self::Nanos { nanos_to_micros(count) } else { count }
    }
}

/// To the nearest microsecond, as PostgreSQL's JDBC driver rounds.
pub fn nanos_to_micros(nanos: i64) -> i64 {
    nanos.div_euclid(1000) + i64::from(nanos.rem_euclid(1000) >= 500)
}

impl From<numeric::OutOfRange> for EncodeError {
    fn from(_: numeric::OutOfRange) -> Self {
        Self::Range
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Int,
    Float,
    Bool,
    Text,
    Bytes,
    Decimal(i32),
    Date,
    Time,
    Timestamp,
    Stamp(StampUnit),
    StampText(StampUnit),
    Structure,
    Named(Meaning),
    Schemaless,
}

/// How one field goes into one column.
#[derive(Debug, Clone)]
pub struct FieldEncoder {
    given: Given,
    target: PgType,
    staged: bool,
    schema: Arc<Schema>,
    default: Option<Value>,
    options: Arc<RenderOptions>,
}

impl FieldEncoder {
    /// For a field's schema and a column's type. `stamp` is set for fields in `timestamp.fields.list`.
    pub fn new(schema: &Arc<Schema>, target: PgType, stamp: Option<StampUnit>, options: &Arc<RenderOptions>) -> Self {
        let given = match (stamp, schema.kind) {
            (Some(unit), Type::Int64) => Given::Stamp(unit),
            (Some(unit), Type::String) => Given::StampText(unit),
            _ if schemaless::is_schemaless(schema) => Given::Schemaless,
            _ => match debezium::meaning(schema).filter(|meaning| meaning.counts_for(target)) {
                Some(meaning) => Given::Named(meaning),
                None => given_of(schema),
            },
        };
        Self {
            given,
            target,
            staged: !is_direct(given, target),
            schema: Arc::clone(schema),
            default: None,
            options: Arc::clone(options),
        }
    }

    /// The same encoder, writing the schema's default for null.
    pub fn with_default(mut self) -> Self {
        self.default.clone_from(&self.schema.default);
        self
    }

    /// Whether the field is written as text that the server has to cast to the column's type.
    pub fn is_staged(&self) -> bool {
        self.staged
    }

    /// Appends the field. On an error nothing sensible was appended: the caller truncates.
    ///
    /// # Errors
    /// Why the value does not go into the column.
    #[inline]
    pub fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let value = match (value, &self.default) {
            (Value::Null, Some(default)) => default,
            (Value::Null, None) => {
                put_null(out);
                return Ok(());
            }
            (value, _) => value,
        };
        if self.staged {
            return self.encode_text(value, out);
        }
        match (self.given, value) {
            (Given::Int, value) => self.encode_int(value.as_i64().ok_or(EncodeError::Mismatch)?, out),
            (Given::Float, Value::Float64(number)) => self.encode_float(*number, value, out),
            (Given::Float, Value::Float32(number)) => self.encode_float(f64::from(*number), value, out),
            (Given::Bool, Value::Boolean(truth)) if self.target == PgType::Bool => {
                put_field(out, &[u8::from(*truth)]);
                Ok(())
            }
            (Given::Text | Given::StampText(_), Value::String(text)) => self.encode_string(text, out),
            (Given::Bytes, Value::Bytes(bytes)) if self.target == PgType::Bytea => {
                put_field(out, bytes);
                Ok(())
            }
            (Given::Decimal(scale), Value::Bytes(bytes)) => self.encode_decimal(bytes, scale, value, out),
            (Given::Date, Value::Int32(days)) => self.encode_date(*days, value, out),
            (Given::Time, Value::Int32(millis)) => self.encode_time(*millis, value, out),
            (Given::Timestamp, Value::Int64(millis)) => match *millis {
                temporal::INFINITY_MILLIS => self.encode_infinite(true, value, out),
                temporal::NEGATIVE_INFINITY_MILLIS => self.encode_infinite(false, value, out),
                millis => {
                    let micros = millis.checked_mul(1000).ok_or(EncodeError::Range)?;
                    self.encode_instant(micros, value, out)
                }
            },
            (Given::Stamp(unit), Value::Int64(count)) => match *count {
                i64::MAX => self.encode_infinite(true, value, out),
                i64::MIN => self.encode_infinite(false, value, out),
                count => self.encode_instant(unit.to_micros(count), value, out),
            },
            (Given::Bool | Given::Bytes | Given::Structure, value) => self.encode_text(value, out),
            (Given::Named(meaning), value) => meaning.encode(value, &self.schema, self.target, &self.options, out),
            (Given::Schemaless, value) => self.encode_schemaless(value, out),
            _ => Err(EncodeError::Mismatch),
        }
    }

    fn encode_schemaless(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let structured = matches!(self.target, PgType::Text | PgType::Citext | PgType::Json | PgType::Jsonb);
        match value {
            Value::String(text) => self.encode_string(text, out),
            value if structured => self.encode_text(value, out),
            Value::Float64(number) => self.encode_float(*number, value, out),
            value => self.encode_int(value.as_i64().ok_or(EncodeError::Invalid)?, out),
        }
    }

    fn encode_text(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        // The digits of bit(n) arrive as BYTES, those of bit(2..8) as a number.
        let text = match (self.target, value) {
            (target, value) if self.given == Given::Schemaless => {
                schemaless::text(value, target, &self.options).ok_or(EncodeError::Invalid)?
            }
            (_, value) if let Given::Named(meaning) = self.given => {
                meaning.text_for(value, &self.schema, self.target, &self.options)?
            }
            (_, Value::String(text)) if let Given::StampText(unit) = self.given => match text.trim().parse() {
                Ok(count) => render::stamp_text(unit.to_micros(count), &self.options),
                Err(_) => return put_text(out, text),
            },
            // The digits of a number are no bytes.
            (PgType::Bytea, _)
                if matches!(
                    self.given,
                    Given::Int
                        | Given::Float
                        | Given::Bool
                        | Given::Decimal(_)
                        | Given::Date
                        | Given::Time
                        | Given::Timestamp
                ) =>
            {
                return Err(EncodeError::Invalid);
            }
            (PgType::Hstore, Value::Map(entries)) => render::hstore_text(entries, &self.options),
            (PgType::Bit(_), Value::Bytes(digits)) => String::from_utf8_lossy(digits).into_owned(),
            (PgType::Bit(_), Value::Boolean(truth)) => u8::from(*truth).to_string(),
            (PgType::Bit(size), Value::Int8(number)) => {
                format!("{number:0>width$}", width = usize::try_from(size).unwrap_or(1))
            }
            (_, Value::String(text)) => return put_text(out, text),
            (target, value) => {
                let json = matches!(target, PgType::Json | PgType::Jsonb);
                render::text(value, Some(&self.schema), &self.options, json)
            }
        };
        if self.target == PgType::Jsonb && !self.staged {
            return put_jsonb(out, &text);
        }
        put_text(out, &text)
    }

    fn encode_int(&self, number: i64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.target {
            PgType::Int2 => put_field(out, &i16::try_from(number).map_err(|_| EncodeError::Range)?.to_be_bytes()),
            PgType::Int4 => put_field(out, &i32::try_from(number).map_err(|_| EncodeError::Range)?.to_be_bytes()),
            PgType::Int8 => put_field(out, &number.to_be_bytes()),
            PgType::Oid => put_field(out, &u32::try_from(number).map_err(|_| EncodeError::Range)?.to_be_bytes()),
            PgType::Numeric(_) => numeric::put_i128(out, i128::from(number), 0),
            #[expect(clippy::cast_precision_loss, reason = "what PostgreSQL's own cast does")]
            PgType::Float4 => put_field(out, &(number as f32).to_be_bytes()),
            #[expect(clippy::cast_precision_loss, reason = "what PostgreSQL's own cast does")]
            PgType::Float8 => put_field(out, &(number as f64).to_be_bytes()),
            _ => put_field(out, number.to_string().as_bytes()),
        }
        Ok(())
    }

    fn encode_float(&self, number: f64, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.target {
            PgType::Float8 => put_field(out, &number.to_be_bytes()),
            PgType::Float4 => {
                #[expect(clippy::cast_possible_truncation, reason = "narrowing is asked for by the column's type")]
                let narrow = number as f32;
                if (narrow.is_infinite() && number.is_finite()) || (narrow == 0.0 && number != 0.0) {
                    return Err(EncodeError::Range);
                }
                put_field(out, &narrow.to_be_bytes());
            }
            PgType::Int2 | PgType::Int4 | PgType::Int8 => {
                let rounded = number.round_ties_even();
                if !(-9.3e18..9.3e18).contains(&rounded) {
                    return Err(EncodeError::Range);
                }
                #[expect(clippy::cast_possible_truncation, reason = "the range was checked; i128 holds it")]
                let wide = rounded as i128;
                return self.encode_int(i64::try_from(wide).map_err(|_| EncodeError::Range)?, out);
            }
            PgType::Numeric(_) => return self.encode_numeric_text(&number_text(value, number), out),
            _ => return self.encode_text(value, out),
        }
        Ok(())
    }

    fn encode_numeric_text(&self, text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let sign: u16 = match text.trim().to_ascii_lowercase().as_str() {
            "nan" => 0xC000,
            "infinity" | "inf" | "+infinity" | "+inf" => 0xD000,
            "-infinity" | "-inf" => 0xF000,
            // So many characters take long to read, and could only be zeros.
            _ if text.len() > 2 * (numeric::MOST_WHOLE + numeric::MOST_FRACTION) => return Err(EncodeError::Range),
            _ => {
                let decimal = Decimal::parse(text).ok_or(EncodeError::Invalid)?;
                return Ok(numeric::put_decimal(out, &decimal.to_bytes(), decimal.scale)?);
            }
        };
        let mut special = [0_u8; 8];
        special[4..6].copy_from_slice(&sign.to_be_bytes());
        put_field(out, &special);
        Ok(())
    }

    /// To the nearest number, as PostgreSQL reads it: what would become infinite or zero is out of range.
    fn encode_float_text(&self, text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let text = text.trim();
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let (named, zero) =
            (!text.bytes().any(|b| b.is_ascii_digit()), !mantissa.bytes().any(|b| b.is_ascii_digit() && b != b'0'));
        let check = |infinite: bool, nothing: bool| {
            if (infinite && !named) || (nothing && !zero) { Err(EncodeError::Range) } else { Ok(()) }
        };
        // Read as what it becomes: rounding twice could end beside the nearest.
        if self.target == PgType::Float4 {
            let number: f32 = text.parse().map_err(|_| EncodeError::Invalid)?;
            check(number.is_infinite(), number == 0.0)?;
            put_field(out, &number.to_be_bytes());
        } else {
            let number: f64 = text.parse().map_err(|_| EncodeError::Invalid)?;
            check(number.is_infinite(), number == 0.0)?;
            put_field(out, &number.to_be_bytes());
        }
        Ok(())
    }

    fn encode_string(&self, text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.target {
            PgType::Jsonb => put_jsonb(out, text),
            PgType::Uuid => {
                put_field(out, &uuid::parse(text).ok_or(EncodeError::Invalid)?);
                Ok(())
            }
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid => {
                self.encode_int(text.trim().parse().map_err(|_| EncodeError::Invalid)?, out)
            }
            PgType::Float4 | PgType::Float8 => self.encode_float_text(text, out),
            PgType::Numeric(_) => self.encode_numeric_text(text, out),
            _ => put_text(out, text),
        }
    }

    fn encode_decimal(&self, bytes: &[u8], scale: i32, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.target {
            PgType::Numeric(_) if scale == UNCONSTRAINED_SCALE => {
                let decimal = Decimal::parse(&render::decimal_text(bytes, scale)).ok_or(EncodeError::Mismatch)?;
                Ok(numeric::put_decimal(out, &decimal.to_bytes(), decimal.scale)?)
            }
            PgType::Numeric(_) => Ok(numeric::put_decimal(out, bytes, scale)?),
            PgType::Float4 | PgType::Float8 => {
                self.encode_float_text(&Decimal::from_bytes(bytes, scale).to_plain_text(), out)
            }
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid => {
                self.encode_int(numeric::round_half_up(bytes, scale).ok_or(EncodeError::Range)?, out)
            }
            _ => self.encode_text(value, out),
        }
    }

    fn encode_date(&self, days: i32, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if days == i32::MAX || days == i32::MIN {
            return self.encode_infinite(days > 0, value, out);
        }
        let days = render::wall_days(days, &self.options).ok_or(EncodeError::Range)?;
        let start = || temporal::day_start(days).ok_or(EncodeError::Range);
        match self.target {
            PgType::Date => put_date(out, days),
            PgType::Timestamp => put_micros(out, start()?),
            PgType::TimestampTz => put_micros(out, self.options.zone.to_instant(start()?)),
            _ => self.encode_text(value, out),
        }
    }

    fn encode_time(&self, millis: i32, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let micros = render::wall_time(millis, &self.options);
        match self.target {
            PgType::Time => put_field(out, &micros.to_be_bytes()),
            PgType::TimeTz => {
                let west = i32::try_from(-self.options.zone.offset_seconds(0)).unwrap_or(0);
                out.put_i32(12);
                out.put_i64(micros);
                out.put_i32(west);
            }
            _ => return self.encode_text(value, out),
        }
        Ok(())
    }

    fn encode_instant(&self, micros: i64, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let micros = render::instant_micros(micros, &self.options);
        match self.target {
            PgType::TimestampTz => put_micros(out, micros),
            PgType::Timestamp => put_micros(out, self.options.zone.to_wall(micros)),
            PgType::Date => put_date(out, self.options.zone.to_wall(micros).div_euclid(DAY_MICROS)),
            PgType::Time => {
                put_field(out, &self.options.zone.to_wall(micros).rem_euclid(DAY_MICROS).to_be_bytes());
                Ok(())
            }
            _ => self.encode_text(value, out),
        }
    }

    fn encode_infinite(&self, positive: bool, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.target {
            PgType::Timestamp | PgType::TimestampTz => {
                put_field(out, &(if positive { i64::MAX } else { i64::MIN }).to_be_bytes());
            }
            PgType::Date => put_field(out, &(if positive { i32::MAX } else { i32::MIN }).to_be_bytes()),
            PgType::Text => return put_text(out, if positive { "infinity" } else { "-infinity" }),
            _ => return self.encode_text(value, out),
        }
        Ok(())
    }
}

fn given_of(schema: &Schema) -> Given {
    match (schema.logical(), schema.kind) {
        (Some(Logical::Decimal { scale }), _) => Given::Decimal(scale),
        (Some(Logical::Date), _) => Given::Date,
        (Some(Logical::Time), _) => Given::Time,
        (Some(Logical::Timestamp), _) => Given::Timestamp,
        (None, Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64) => Given::Int,
        (None, Type::Float32 | Type::Float64) => Given::Float,
        (None, Type::Boolean) => Given::Bool,
        (None, Type::String) => Given::Text,
        (None, Type::Bytes) => Given::Bytes,
        (None, Type::Array | Type::Map | Type::Struct) => Given::Structure,
    }
}

/// Whether the binary way is known; otherwise the server casts from text.
fn is_direct(given: Given, target: PgType) -> bool {
    use PgType as P;
    if matches!(target, P::Text | P::Citext) {
        return true;
    }
    match given {
        Given::Int | Given::Decimal(_) | Given::Float => {
            matches!(target, P::Int2 | P::Int4 | P::Int8 | P::Numeric(_) | P::Float4 | P::Float8)
                || (target == P::Oid && given != Given::Float)
        }
        Given::Bool => target == P::Bool,
        Given::Text => matches!(
            target,
            P::Json | P::Jsonb | P::Uuid | P::Int2 | P::Int4 | P::Int8 | P::Numeric(_) | P::Float4 | P::Float8
        ),
        Given::Bytes => target == P::Bytea,
        Given::Date => matches!(target, P::Date | P::Timestamp | P::TimestampTz),
        Given::Time => matches!(target, P::Time | P::TimeTz),
        Given::Timestamp | Given::Stamp(_) => matches!(target, P::Timestamp | P::TimestampTz | P::Date | P::Time),
        Given::Structure => matches!(target, P::Json | P::Jsonb),
        Given::Named(meaning) => meaning.is_direct(target),
        Given::Schemaless => schemaless::is_direct(target),
        Given::StampText(_) => false,
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    // A NUL would fail the whole COPY.
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::Nul);
    }
    put_field(out, text.as_bytes());
    Ok(())
}

fn put_jsonb(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    out.put_i32(i32::try_from(text.len() + 1).map_err(|_| EncodeError::Range)?);
    out.put_u8(1);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_date(out: &mut Vec<u8>, days: i64) -> Result<(), EncodeError> {
    put_field(out, &i32::try_from(days - PG_EPOCH_DAYS).map_err(|_| EncodeError::Range)?.to_be_bytes());
    Ok(())
}

fn put_micros(out: &mut Vec<u8>, micros: i64) -> Result<(), EncodeError> {
    put_field(out, &micros.checked_sub(PG_EPOCH_MICROS).ok_or(EncodeError::Range)?.to_be_bytes());
    Ok(())
}

fn number_text(value: &Value, number: f64) -> String {
    match value {
        Value::Float32(narrow) => narrow.to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::field_decoder::{DecodeOptions, FieldDecoder};
    use super::super::type_map::{Granularity, NumericMapping, connect_schema};
    use super::*;
    use crate::postgres::temporal::Zone;
    use proptest::prelude::*;

    fn options(zone: &str) -> Arc<RenderOptions> {
        Arc::new(RenderOptions { zone: Zone::from_text(zone).unwrap(), date_zone: Zone::Utc, legacy: true })
    }

    fn encode(schema: Schema, value: Value, target: PgType) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        FieldEncoder::new(&Arc::new(schema), target, None, &options("UTC")).encode(&value, &mut out).map(|()| out)
    }

    #[test]
    fn numbers_fit_the_column_or_are_refused() {
        let int = |n, target| encode(Schema::new(Type::Int64), Value::Int64(n), target);
        assert_eq!(int(40_000, PgType::Int2), Err(EncodeError::Range));
        assert_eq!(int(7, PgType::Int2).unwrap(), [0, 0, 0, 2, 0, 7]);
        assert_eq!(int(7, PgType::Text).unwrap(), [0, 0, 0, 1, b'7']);
        let float = |n, target| encode(Schema::new(Type::Float64), Value::Float64(n), target);
        assert_eq!(float(1.5, PgType::Int4).unwrap(), [0, 0, 0, 4, 0, 0, 0, 2]);
        assert_eq!(float(1e300, PgType::Int8), Err(EncodeError::Range));
        assert_eq!(float(1e300, PgType::Float4), Err(EncodeError::Range));
        let text = |n: &str, target| encode(Schema::new(Type::String), Value::from(n), target);
        assert_eq!(text("12x", PgType::Int4), Err(EncodeError::Invalid));
        assert_eq!(text("a\0b", PgType::Text), Err(EncodeError::Nul));
        assert_eq!(numeric::round_half_up(&Decimal::parse("-2.5").unwrap().to_bytes(), 1), Some(-3));
        assert_eq!(numeric::round_half_up(&Decimal::parse("-0.5").unwrap().to_bytes(), 1), Some(-1));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(micros in -211_813_488_000_000_000_i64..9_223_371_331_200_000_000 / 1000, zone in 0..3_usize) {
            let zone = ["UTC", "Asia/Seoul", "America/New_York"][zone];
            let decode = DecodeOptions {
                numeric: NumericMapping::None, granularity: Granularity::ConnectLogical,
                zone: Zone::from_text(zone).unwrap(), legacy: true,
            };
            let millis = micros.div_euclid(1000) * 1000;
            let field = millis.to_be_bytes();
            let schema = connect_schema(PgType::TimestampTz, false, decode.numeric, decode.granularity).unwrap();
            let value = FieldDecoder::of(PgType::TimestampTz, &decode).unwrap().decode(field.to_vec().into()).unwrap();
            let mut out = Vec::new();
            FieldEncoder::new(&schema, PgType::TimestampTz, None, &options(zone)).encode(&value, &mut out).unwrap();
            prop_assert_eq!(&out[4..], &field);
        }

        #[test]
        fn bytes_that_are_no_field_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20), scale in -4..130_i32) {
            for target in [PgType::Numeric(None), PgType::Int4, PgType::Float8, PgType::Text] {
                let _ = encode(crate::data::decimal(scale), Value::Bytes(bytes.clone().into()), target);
            }
        }
    }
}
