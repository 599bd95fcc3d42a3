//! One column of a binary tuple to a Connect value. Which way to take is decided once per plan; per field there is one
//! match and no allocation but for decimals, ISO texts and uuids.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use super::exact;
use super::numeric::{NotDecimal, RawNumeric};
use super::temporal::{self, DAY_MILLIS, PG_EPOCH_DAYS, PG_EPOCH_MICROS, Zone};
use super::type_map::{Granularity, NumericForm, NumericMapping, PgType, numeric_form};
use crate::data::{Type, Value};

/// Why a field has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldError {
    /// The field is not of the planned type: the table changed.
    Shape,
    /// The value has no Connect form; what it is.
    Unsupported(&'static str),
}

type Decoded = Result<Value, FieldError>;

/// What decoding depends on beside the column.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// `numeric.mapping`
    pub numeric: NumericMapping,
    /// `timestamp.granularity`
    pub granularity: Granularity,
    /// `db.timezone`
    pub zone: Zone,
    /// `date.calendar.system` is LEGACY.
    pub legacy: bool,
}

/// How a column is decoded.
#[derive(Debug, Clone)]
pub enum FieldDecoder {
    /// INT16
    Int16,
    /// INT32
    Int32,
    /// INT64
    Int64,
    /// INT64 of an unsigned number.
    Oid,
    /// FLOAT32
    Float32,
    /// FLOAT64
    Float64,
    /// BOOLEAN
    Bool,
    /// STRING, a slice of the chunk.
    Text,
    /// STRING after the version byte of jsonb.
    Jsonb,
    /// STRING of one byte.
    Char,
    /// STRING in canonical form.
    Uuid,
    /// BYTES, a slice of the chunk.
    Bytes,
    /// BOOLEAN of a single bit.
    Bit,
    /// INT8 of the digits.
    BitNumber,
    /// BYTES of the digits.
    BitDigits,
    /// Decimal.
    Decimal(i32),
    /// INT8 to INT64 of a numeric.
    WholeNumeric(Type),
    /// FLOAT64 of a numeric.
    NumericDouble,
    /// Date.
    Date(bool),
    /// Time in a zone.
    Time(Zone),
    /// Time normalised to UTC.
    TimeTz,
    /// Timestamp without zone.
    Timestamp(Granularity, Zone, bool),
    /// Timestamp with zone.
    TimestampTz(Granularity, Zone, bool),
    /// STRING of a date or time, as PostgreSQL prints it.
    Exact(PgType),
    /// Another one whose type can't hold all values, and which gives the nearest that it can.
    Bending(Box<FieldDecoder>, Bent),
}

/// Whether a column had values that its Connect type can't hold: to be asked now and then, and told once.
#[derive(Debug, Clone, Default)]
pub struct Bent(Arc<AtomicU8>);

/// A value was bent, and nobody was told.
const BENT: u8 = 1;
/// Somebody was told.
const TOLD: u8 = 2;

impl FieldDecoder {
    /// For a type; `None` if it is skipped.
    pub fn of(kind: PgType, options: &DecodeOptions) -> Option<Self> {
        Some(match kind {
            PgType::Int2 => Self::Int16,
            PgType::Int4 => Self::Int32,
            PgType::Int8 => Self::Int64,
            PgType::Oid => Self::Oid,
            PgType::Numeric(declared) => match numeric_form(declared, options.numeric) {
                NumericForm::Decimal(scale) => Self::Decimal(scale),
                NumericForm::Integer(kind) => Self::WholeNumeric(kind),
                NumericForm::Double => Self::Bending(Box::new(Self::NumericDouble), Bent::default()),
            },
            PgType::Timestamp | PgType::TimestampTz if options.granularity == Granularity::NanosLong => {
                let zoned = kind == PgType::TimestampTz;
                let zone = options.zone.clone();
                let make = if zoned { Self::TimestampTz } else { Self::Timestamp };
                Self::Bending(Box::new(make(Granularity::NanosLong, zone, options.legacy)), Bent::default())
            }
            PgType::Float4 => Self::Float32,
            // Money must be selected through `select_cast`: only the server knows its fraction digits.
            PgType::Float8 | PgType::Money => Self::Float64,
            PgType::Bool => Self::Bool,
            PgType::Bit(1) => Self::Bit,
            PgType::Bit(..=8) => Self::BitNumber,
            PgType::Bit(_) => Self::BitDigits,
            PgType::Text | PgType::Json => Self::Text,
            PgType::Char => Self::Char,
            PgType::Bytea => Self::Bytes,
            PgType::Date => Self::Date(options.legacy),
            PgType::Time => Self::Time(options.zone.clone()),
            PgType::TimeTz => Self::TimeTz,
            PgType::Timestamp => Self::Timestamp(options.granularity, options.zone.clone(), options.legacy),
            PgType::TimestampTz => Self::TimestampTz(options.granularity, options.zone.clone(), options.legacy),
            PgType::Uuid => Self::Uuid,
            PgType::Jsonb => Self::Jsonb,
            PgType::Citext | PgType::Hstore | PgType::Point | PgType::Array | PgType::Other => return None,
        })
    }

    /// The cast under which a column of this type is selected.
    pub fn select_cast(kind: PgType) -> &'static str {
        if kind == PgType::Money { "::numeric::float8" } else { "" }
    }

    /// Decodes a field of a row that is not null to the end of `out`. Only texts and bytes share the row's memory; values
    /// are made where they stay: handing them up as results costs more than decoding them.
    ///
    /// # Errors
    /// If the field is not of the planned type or has no Connect form.
    #[inline]
    pub fn decode_into(&self, row: &Bytes, at: Range<usize>, out: &mut Vec<Value>) -> Result<(), FieldError> {
        match self {
            Self::Int32 => Value::push_int32(out, i32::from_be_bytes(fixed(&row[at])?)),
            Self::Int64 => Value::push_int64(out, i64::from_be_bytes(fixed(&row[at])?)),
            Self::Float64 => Value::push_float64(out, f64::from_be_bytes(fixed(&row[at])?)),
            Self::Bool => Value::push_boolean(out, fixed::<1>(&row[at])?[0] != 0),
            Self::Text => push_text(out, row, at)?,
            Self::Jsonb if !at.is_empty() && row[at.start] == 1 => push_text(out, row, at.start + 1..at.end)?,
            Self::Bytes => Value::push_bytes(out, row, at),
            Self::Timestamp(Granularity::ConnectLogical, zone, false) => {
                Value::push_int64(out, millis(i64::from_be_bytes(fixed(&row[at])?), zone));
            }
            Self::TimestampTz(Granularity::ConnectLogical, _, false) => {
                Value::push_int64(out, millis(i64::from_be_bytes(fixed(&row[at])?), &Zone::Utc));
            }
            Self::Exact(kind) => out.push(exact::decode(*kind, &row.slice(at))?),
            _ => out.push(self.decode_slice(&row[at])?),
        }
        Ok(())
    }

    /// What became of values that the column's Connect type can't hold, and what to do; told once.
    pub fn bent(&self) -> Option<&'static str> {
        let Self::Bending(inner, bent) = self else { return None };
        bent.0.compare_exchange(BENT, TOLD, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(match **inner {
            Self::NumericDouble => {
                "a numeric beyond all doubles was sent as infinity; numeric.mapping=none sends a Decimal, type.mapping=exact \
                 PostgreSQL's text"
            }
            _ => {
                "a time before 1677 or after 2262 was sent as the last number of nanoseconds that 64 bits hold; \
                 timestamp.granularity=nanos_string or type.mapping=exact sends it as it is"
            }
        })
    }

    /// Decodes a field that is not null.
    ///
    /// # Errors
    /// If the field is not of the planned type or has no Connect form.
    pub fn decode(&self, field: Bytes) -> Decoded {
        let mut value = Vec::with_capacity(1);
        self.decode_into(&field, 0..field.len(), &mut value)?;
        Ok(value.pop().unwrap_or_default())
    }

    fn decode_slice(&self, field: &[u8]) -> Decoded {
        Ok(match self {
            Self::Int16 => Value::Int16(i16::from_be_bytes(fixed(field)?)),
            Self::Int32 => Value::Int32(i32::from_be_bytes(fixed(field)?)),
            Self::Int64 => Value::Int64(i64::from_be_bytes(fixed(field)?)),
            Self::Oid => Value::Int64(i64::from(u32::from_be_bytes(fixed(field)?))),
            Self::Float32 => Value::Float32(f32::from_be_bytes(fixed(field)?)),
            Self::Float64 => Value::Float64(f64::from_be_bytes(fixed(field)?)),
            Self::Bool => Value::Boolean(fixed::<1>(field)?[0] != 0),
            Self::Text | Self::Jsonb | Self::Bytes | Self::Exact(_) => return Err(FieldError::Shape),
            Self::Bending(inner, bent) => {
                let value = inner.decode_slice(field)?;
                if matches!(value, Value::Int64(i64::MAX | i64::MIN)) || is_infinite(&value) {
                    bent.note(field, &value);
                }
                value
            }
            Self::Char => character(fixed::<1>(field)?[0]),
            Self::Uuid => Value::from(uuid(fixed(field)?)),
            Self::Bit | Self::BitNumber | Self::BitDigits => self.bits(field)?,
            Self::Decimal(_) | Self::WholeNumeric(_) | Self::NumericDouble => self.numeric(field)?,
            Self::Date(legacy) => date(i32::from_be_bytes(fixed(field)?), *legacy),
            Self::Time(zone) => time(i64::from_be_bytes(fixed(field)?), zone),
            Self::TimeTz => time_tz(fixed(field)?),
            Self::Timestamp(granularity, zone, legacy) => {
                let micros = i64::from_be_bytes(fixed(field)?);
                timestamp(micros, *granularity, zone, *legacy, false)
            }
            Self::TimestampTz(granularity, zone, legacy) => {
                let micros = i64::from_be_bytes(fixed(field)?);
                timestamp(micros, *granularity, zone, *legacy, true)
            }
        })
    }

    fn bits(&self, field: &[u8]) -> Decoded {
        let count = field.get(..4).ok_or(FieldError::Shape)?;
        let count = u32::from_be_bytes([count[0], count[1], count[2], count[3]]) as usize;
        let bytes = &field[4..];
        if bytes.len() != count.div_ceil(8) {
            return Err(FieldError::Shape);
        }
        let digit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
        match self {
            Self::Bit => Ok(Value::Boolean(count > 0 && digit(0) == 1)),
            Self::BitNumber => {
                let number = (0..count.min(18)).fold(0_i64, |sum, at| sum * 10 + i64::from(digit(at)));
                i8::try_from(number)
                    .map(Value::Int8)
                    .map_err(|_| FieldError::Unsupported("bits from 10000000 on, read as INT8"))
            }
            _ => Ok(Value::Bytes((0..count).map(|at| b'0' + digit(at)).collect())),
        }
    }

    fn numeric(&self, field: &[u8]) -> Decoded {
        let raw = RawNumeric::parse(field).ok_or(FieldError::Shape)?;
        let refuse = |why| {
            FieldError::Unsupported(match why {
                NotDecimal::NaN => "NaN of a numeric (type.mapping=exact without numeric.mapping can carry it)",
                NotDecimal::Infinite => {
                    "infinity of a numeric (type.mapping=exact without numeric.mapping can carry it)"
                }
                NotDecimal::Inexact => "a numeric with more fraction digits than its schema",
            })
        };
        match self {
            Self::Decimal(scale) => raw.to_decimal_bytes(*scale).map(|b| Value::Bytes(b.into())).map_err(refuse),
            Self::WholeNumeric(kind) => {
                let number = raw.to_i128(0).map_err(refuse)?.and_then(|wide| i64::try_from(wide).ok());
                let number = number.ok_or(FieldError::Unsupported("a numeric beyond 64 bits"))?;
                whole(number, *kind).ok_or(FieldError::Unsupported("a numeric beyond its precision"))
            }
            _ => Ok(Value::Float64(raw.to_f64())),
        }
    }
}

impl Bent {
    /// Notes a value at the end of its type, unless PostgreSQL's own is infinite.
    #[cold]
    fn note(&self, field: &[u8], value: &Value) {
        let infinite = match value {
            Value::Int64(_) => raw_timestamp(field).is_none(),
            _ => RawNumeric::parse(field).is_some_and(|raw| raw.to_i128(0) == Err(NotDecimal::Infinite)),
        };
        if !infinite {
            let _ = self.0.compare_exchange(0, BENT, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn is_infinite(value: &Value) -> bool {
    matches!(value, Value::Float64(number) if number.is_infinite())
}

fn fixed<const N: usize>(field: &[u8]) -> Result<[u8; N], FieldError> {
    field.try_into().map_err(|_| FieldError::Shape)
}

fn push_text(out: &mut Vec<Value>, row: &Bytes, at: Range<usize>) -> Result<(), FieldError> {
    if Value::push_text(out, row, at) { Ok(()) } else { Err(FieldError::Shape) }
}

fn character(byte: u8) -> Value {
    match byte {
        0 => Value::from(""),
        byte if byte.is_ascii() => Value::from(char::from(byte).to_string()),
        // As PostgreSQL 16 prints it.
        byte => Value::from(format!("\\{byte:03o}")),
    }
}

fn whole(number: i64, kind: Type) -> Option<Value> {
    Some(match kind {
        Type::Int8 => Value::Int8(number.try_into().ok()?),
        Type::Int16 => Value::Int16(number.try_into().ok()?),
        Type::Int32 => Value::Int32(number.try_into().ok()?),
        _ => Value::Int64(number),
    })
}

fn uuid(bytes: [u8; 16]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        at += usize::from(matches!(index, 4 | 6 | 8 | 10));
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Infinite dates become the extreme INT32s, which the sink turns back; the original fails on them.
fn date(days: i32, legacy: bool) -> Value {
    if days == i32::MAX || days == i32::MIN {
        return Value::Int32(days);
    }
    let days = i64::from(days) + PG_EPOCH_DAYS;
    let days = if legacy { temporal::to_legacy_days(days) } else { days };
    Value::Int32(i32::try_from(days).unwrap_or(i32::MAX - 1))
}

fn time(micros: i64, zone: &Zone) -> Value {
    let millis = micros / 1000;
    let millis = match zone {
        Zone::Utc => millis,
        zone => (zone.to_instant(micros) / 1000).rem_euclid(DAY_MILLIS),
    };
    Value::Int32(i32::try_from(millis).unwrap_or(0))
}

fn time_tz(field: [u8; 12]) -> Value {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = field;
    let micros = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let west = i64::from(i32::from_be_bytes([i, j, k, l]));
    let millis = (micros / 1000 + west * 1000).rem_euclid(DAY_MILLIS);
    Value::Int32(i32::try_from(millis).unwrap_or(0))
}

/// Milliseconds since 1970 of a raw timestamp.
fn millis(raw: i64, zone: &Zone) -> i64 {
    match raw {
        i64::MAX => temporal::INFINITY_MILLIS,
        i64::MIN => temporal::NEGATIVE_INFINITY_MILLIS,
        raw => zone.to_instant(raw.saturating_add(PG_EPOCH_MICROS)).div_euclid(1000),
    }
}

fn timestamp(raw: i64, granularity: Granularity, zone: &Zone, legacy: bool, zoned: bool) -> Value {
    if raw == i64::MAX || raw == i64::MIN {
        return infinite(raw > 0, granularity);
    }
    let micros = raw.saturating_add(PG_EPOCH_MICROS);
    let micros = if zoned { micros } else { zone.to_instant(micros) };
    let micros = if legacy { temporal::to_legacy_micros(micros) } else { micros };
    match granularity {
        Granularity::ConnectLogical => Value::Int64(micros.div_euclid(1000)),
        Granularity::MicrosLong => Value::Int64(micros),
        Granularity::MicrosString => Value::from(micros.to_string()),
        Granularity::NanosLong => Value::Int64(micros.saturating_mul(1000)),
        Granularity::NanosString => Value::from((i128::from(micros) * 1000).to_string()),
        Granularity::MicrosIso => Value::from(temporal::datetime_text(zone.to_wall(micros), 'T', 6)),
        Granularity::NanosIso => Value::from(temporal::datetime_text(zone.to_wall(micros), 'T', 9)),
    }
}

fn infinite(positive: bool, granularity: Granularity) -> Value {
    match (granularity, positive) {
        (Granularity::ConnectLogical, true) => Value::Int64(temporal::INFINITY_MILLIS),
        (Granularity::ConnectLogical, false) => Value::Int64(temporal::NEGATIVE_INFINITY_MILLIS),
        (Granularity::MicrosLong | Granularity::NanosLong, true) => Value::Int64(i64::MAX),
        (Granularity::MicrosLong | Granularity::NanosLong, false) => Value::Int64(i64::MIN),
        (_, true) => Value::from("infinity"),
        (_, false) => Value::from("-infinity"),
    }
}

/// Microseconds since 1970 of a raw timestamp field, as the column shows it; `None` if infinite.
pub fn raw_timestamp(field: &[u8]) -> Option<i64> {
    let raw = i64::from_be_bytes(field.try_into().ok()?);
    (raw != i64::MAX && raw != i64::MIN).then_some(())?;
    raw.checked_add(PG_EPOCH_MICROS)
}

/// Microseconds since 1970 of midnight of a raw date field.
pub fn raw_date(field: &[u8]) -> Option<i64> {
    let days = i32::from_be_bytes(field.try_into().ok()?);
    (days != i32::MAX && days != i32::MIN).then_some(())?;
    temporal::day_start(i64::from(days) + PG_EPOCH_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> DecodeOptions {
        DecodeOptions {
            numeric: NumericMapping::None,
            granularity: Granularity::ConnectLogical,
            zone: Zone::Utc,
            legacy: true,
        }
    }

    const ALL: [PgType; 22] = [
        PgType::Int2,
        PgType::Int4,
        PgType::Int8,
        PgType::Oid,
        PgType::Numeric(None),
        PgType::Float4,
        PgType::Float8,
        PgType::Money,
        PgType::Bool,
        PgType::Bit(1),
        PgType::Bit(4),
        PgType::Bit(12),
        PgType::Text,
        PgType::Char,
        PgType::Bytea,
        PgType::Date,
        PgType::Time,
        PgType::TimeTz,
        PgType::Timestamp,
        PgType::TimestampTz,
        PgType::Uuid,
        PgType::Jsonb,
    ];

    #[test]
    fn known_fields() {
        let decode = |kind, field: &'static [u8]| FieldDecoder::of(kind, &options()).unwrap().decode(field.into());
        assert_eq!(decode(PgType::Int4, &[0, 0, 0, 7]), Ok(Value::Int32(7)));
        assert_eq!(decode(PgType::Int4, &[0; 8]), Err(FieldError::Shape));
        assert_eq!(decode(PgType::Bit(4), &[0, 0, 0, 4, 0b0101_0000]), Ok(Value::Int8(101)));
        assert_eq!(
            decode(PgType::Bit(12), &[0, 0, 0, 12, 0b1010_1010, 0b1010_0000]).unwrap(),
            Value::Bytes("101010101010".into())
        );
        assert_eq!(decode(PgType::TimeTz, &[0; 12]), Ok(Value::Int32(0)));
        assert_eq!(decode(PgType::Timestamp, &[0; 8]), Ok(Value::Int64(946_684_800_000)));
        assert_eq!(
            decode(PgType::Timestamp, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Ok(Value::Int64(9_223_372_036_825_200_000))
        );
        assert_eq!(decode(PgType::Uuid, &[0xab; 16]), Ok(Value::from("abababab-abab-abab-abab-abababababab")));
        let seoul = Zone::from_text("Asia/Seoul").unwrap();
        assert_eq!(time(45_045_123_000, &seoul), Value::Int32(12_645_123));
        assert_eq!(time(45_045_123_000, &Zone::from_text("America/New_York").unwrap()), Value::Int32(63_045_123));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24), kind in 0..ALL.len()) {
            let decoder = FieldDecoder::of(ALL[kind], &options()).unwrap();
            let _ = decoder.decode(bytes.into());
        }
    }
}
