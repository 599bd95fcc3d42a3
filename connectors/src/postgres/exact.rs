//! The exact way to read a column: what Kafka Connect's own types would cut, round or refuse travels as PostgreSQL's text
//! of it, and the schema says of which type it was. PostgreSQL reads its own text back unchanged.

use bytes::Bytes;

use super::field_decoder::{FieldDecoder, FieldError};
use super::temporal::{self, DAY_MICROS, PG_EPOCH_DAYS};
use super::type_map::PgType;
use crate::data::{Schema, Type, Value};

/// The schema's parameter that holds the column's type, as Debezium calls it.
pub const SOURCE_TYPE: &str = "__debezium.source.column.type";

/// How a column is selected and decoded, where the usual way loses something; `None` where it is exact already.
pub fn reading(kind: PgType) -> Option<(&'static str, FieldDecoder)> {
    use PgType as P;
    match kind {
        P::Date | P::Time | P::TimeTz | P::Timestamp | P::TimestampTz => Some(("", FieldDecoder::Exact(kind))),
        // Text of money depends on the server's locale, numbers don't.
        P::Money => Some(("::numeric::text", FieldDecoder::Text)),
        P::Numeric(_) | P::Bit(_) | P::Citext | P::Hstore | P::Point | P::Array | P::Other => {
            Some(("::text", FieldDecoder::Text))
        }
        _ => None,
    }
}

/// The schema of such a column.
pub fn schema(declared: &str) -> Schema {
    typed(Schema::new(Type::String), declared)
}

/// A schema that says of which type the column is.
pub fn typed(schema: Schema, declared: &str) -> Schema {
    schema.with_parameter(SOURCE_TYPE, declared)
}

/// Decodes a date or time, which offsets need in their binary form.
///
/// # Errors
/// If the field is not of the type.
pub fn decode(kind: PgType, field: &Bytes) -> Result<Value, FieldError> {
    let long = |field: &[u8]| field.try_into().map(i64::from_be_bytes).map_err(|_| FieldError::Shape);
    let infinite = |positive: bool| Value::from(if positive { "infinity" } else { "-infinity" });
    let mut out = String::with_capacity(32);
    match kind {
        PgType::Date => {
            let days = field[..].try_into().map(i32::from_be_bytes).map_err(|_| FieldError::Shape)?;
            if days == i32::MAX || days == i32::MIN {
                return Ok(infinite(days > 0));
            }
            out = temporal::date_text(i64::from(days) + PG_EPOCH_DAYS);
        }
        PgType::Time => temporal::push_time(&mut out, clock(long(field)?)?, 6),
        PgType::TimeTz => {
            let (micros, west) = field.split_at_checked(8).ok_or(FieldError::Shape)?;
            let west = west.try_into().map(i32::from_be_bytes).map_err(|_| FieldError::Shape)?;
            temporal::push_time(&mut out, clock(long(micros)?)?, 6);
            let seconds = west.unsigned_abs();
            out.push(if west > 0 { '-' } else { '+' });
            out.push_str(&format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
        }
        _ => {
            let raw = long(field)?;
            if raw == i64::MAX || raw == i64::MIN {
                return Ok(infinite(raw > 0));
            }
            // Days and the rest apart: the sum of microseconds since 1970 would not fit.
            let date = temporal::date_text(raw.div_euclid(DAY_MICROS) + PG_EPOCH_DAYS);
            let (date, era) = date.strip_suffix(" BC").map_or((&*date, ""), |date| (date, " BC"));
            out.push_str(date);
            out.push(' ');
            temporal::push_time(&mut out, raw.rem_euclid(DAY_MICROS), 6);
            out.push_str(if kind == PgType::TimestampTz { "+00" } else { "" });
            out.push_str(era);
        }
    }
    Ok(Value::from(out))
}

fn clock(micros: i64) -> Result<i64, FieldError> {
    (0..=DAY_MICROS).contains(&micros).then_some(micros).ok_or(FieldError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_as_postgresql_prints_them() {
        let decode = |kind, field: &[u8]| decode(kind, &Bytes::copy_from_slice(field)).unwrap();
        assert_eq!(decode(PgType::Date, &(-10_957_i32).to_be_bytes()), Value::from("1970-01-01"));
        assert_eq!(decode(PgType::Timestamp, &1_i64.to_be_bytes()), Value::from("2000-01-01 00:00:00.000001"));
        assert_eq!(decode(PgType::TimestampTz, &i64::MIN.to_be_bytes()), Value::from("-infinity"));
        let ancient = -(2_100 * 366 * DAY_MICROS);
        assert!(decode(PgType::TimestampTz, &ancient.to_be_bytes()).as_str().unwrap().ends_with("+00 BC"));
        let mut zoned = 45_045_000_001_i64.to_be_bytes().to_vec();
        zoned.extend_from_slice(&(-32_400_i32).to_be_bytes());
        assert_eq!(decode(PgType::TimeTz, &zoned), Value::from("12:30:45.000001+09:00:00"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..14), kind in 0..5_usize) {
            let kinds = [PgType::Date, PgType::Time, PgType::TimeTz, PgType::Timestamp, PgType::TimestampTz];
            let _ = decode(kinds[kind], &Bytes::from(bytes));
        }
    }
}
