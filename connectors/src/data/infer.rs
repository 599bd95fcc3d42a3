//! Reads text of unknown type as Connect's `Values.parseString` does: header values and `InsertHeader` literals.
//!
//! The smallest integer type that fits wins, so `"001"` becomes INT8 1; what does not parse stays text. Never fails.

use std::sync::Arc;

use super::civil::{DAY_MILLIS, date_of, days_of};
use super::{Datum, Decimal, Logical, Schema, Type, Value, date, decimal, time, timestamp};

/// Lists and maps nested deeper than this stay text.
const MAX_DEPTH: usize = 32;

/// The value that a text stands for, with its schema.
pub fn infer(text: &str) -> Datum {
    if text.is_empty() {
        return string(text);
    }
    let trimmed = text.trim();
    if let Some(datum) = scalar(trimmed) {
        return datum;
    }
    if trimmed.starts_with(['[', '{']) {
        let mut parser = Parser { text: trimmed, at: 0 };
        if let Some(datum) = parser.value(0) {
            parser.blanks();
            if parser.at == trimmed.len() {
                return datum;
            }
        }
    }
    string(text)
}

fn string(text: &str) -> Datum {
    Datum::new(Arc::new(Schema::new(Type::String)), Value::from(text))
}

fn of(kind: Type, value: Value) -> Datum {
    Datum::new(Arc::new(Schema::new(kind)), value)
}

fn scalar(text: &str) -> Option<Datum> {
    match text {
        "null" => return Some(Datum::default()),
        "true" => return Some(of(Type::Boolean, Value::Boolean(true))),
        "false" => return Some(of(Type::Boolean, Value::Boolean(false))),
        _ => {}
    }
    let first = *text.as_bytes().first()?;
    if first.is_ascii_digit()
        && let Some(instant) = instant(text)
    {
        return Some(instant);
    }
    if first.is_ascii_digit() || matches!(first, b'+' | b'-') { number(text) } else { None }
}

/// ISO timestamp, time or date.
fn instant(text: &str) -> Option<Datum> {
    match text.len() {
        24 => {
            let (date, clock) = text.split_once('T')?;
            let millis = parse_date(date)? * DAY_MILLIS + parse_time(clock)?;
            Some(Datum::new(Arc::new(timestamp()), Value::Int64(millis)))
        }
        13 => Some(Datum::new(Arc::new(time()), Value::Int32(i32::try_from(parse_time(text)?).ok()?))),
        10 => Some(Datum::new(Arc::new(date()), Value::Int32(i32::try_from(parse_date(text)?).ok()?))),
        _ => None,
    }
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    let days = days_of(year, month, day);
    (date_of(days) == (year, month, day)).then_some(days)
}

fn parse_time(text: &str) -> Option<i64> {
    let (clock, millis) = text.strip_suffix('Z')?.split_once('.')?;
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    let valid = hour < 24 && minute < 60 && second < 60 && millis.len() == 3;
    valid.then_some(((hour * 60 + minute) * 60 + second) * 1_000 + digits(millis)?)
}

fn number(text: &str) -> Option<Datum> {
    let number = Decimal::parse(text).filter(|n| n.scale.unsigned_abs() < 10_000)?;
    if let Some(whole) = number.rescale(0) {
        let Ok(whole) = i64::try_from(&whole.unscaled) else { return inexact(text, &number) };
        return Some(if let Ok(n) = i8::try_from(whole) {
            of(Type::Int8, Value::Int8(n))
        } else if let Ok(n) = i16::try_from(whole) {
            of(Type::Int16, Value::Int16(n))
        } else if let Ok(n) = i32::try_from(whole) {
            of(Type::Int32, Value::Int32(n))
        } else {
            of(Type::Int64, Value::Int64(whole))
        });
    }
    inexact(text, &number)
}

/// A number that no integer type holds.
fn inexact(text: &str, number: &Decimal) -> Option<Datum> {
    let single: f32 = text.parse().ok()?;
    let double: f64 = text.parse().ok()?;
    Some(if number.scale != 0 && single.is_finite() {
        of(Type::Float32, Value::Float32(single))
    } else if number.scale != 0 && double.is_finite() {
        of(Type::Float64, Value::Float64(double))
    } else {
        Datum::new(Arc::new(decimal(number.scale)), Value::Bytes(number.to_bytes().into()))
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Option<Datum> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.eat('[') {
            return self.list(depth);
        }
        if self.eat('{') {
            return self.map(depth);
        }
        if self.eat('"') {
            let text = self.quoted()?;
            return Some(instant(&text).unwrap_or_else(|| string(&text)));
        }
        let end = self.rest().find([',', ']', '}', ':', '"', '[', '{']).unwrap_or(self.rest().len());
        let token = self.rest()[..end].trim().to_owned();
        self.at += end;
        scalar(&token)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut escaped = false;
        for (index, c) in self.rest().char_indices() {
            match c {
                _ if escaped => {
                    out.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += index + 1;
                    return Some(out);
                }
                _ => out.push(c),
            }
        }
        None
    }

    fn list(&mut self, depth: usize) -> Option<Datum> {
        let mut items = Vec::new();
        if !self.eat(']') {
            loop {
                items.push(self.value(depth + 1)?);
                if self.eat(']') {
                    break;
                }
                if !self.eat(',') {
                    return None;
                }
            }
        }
        let (common, items) = unify(items);
        let value = Value::Array(items);
        Some(common.map_or(Datum::schemaless(value.clone()), |s| Datum::new(Arc::new(Schema::array(s)), value)))
    }

    fn map(&mut self, depth: usize) -> Option<Datum> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        if !self.eat('}') {
            loop {
                keys.push(self.value(depth + 1)?);
                if !self.eat(':') {
                    return None;
                }
                values.push(self.value(depth + 1)?);
                if self.eat('}') {
                    break;
                }
                if !self.eat(',') {
                    return None;
                }
            }
        }
        let ((key_schema, keys), (value_schema, values)) = (unify(keys), unify(values));
        let value = Value::Map(keys.into_iter().zip(values).collect());
        Some(match (key_schema, value_schema) {
            (Some(k), Some(v)) => Datum::new(Arc::new(Schema::map(k, v)), value),
            _ => Datum::schemaless(value),
        })
    }
}

/// The widest schema that all items share, and the items in it; no schema if they share none.
fn unify(items: Vec<Datum>) -> (Option<Arc<Schema>>, Vec<Value>) {
    let mut common: Option<Arc<Schema>> = None;
    let mut nulls = false;
    let mut mixed = false;
    for item in &items {
        match (&common, &item.schema) {
            (_, None) if item.value.is_null() => nulls = true,
            (_, None) => mixed = true,
            (None, Some(schema)) => common = Some(Arc::clone(schema)),
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => match (rank(a), rank(b)) {
                (Some(x), Some(y)) if y > x => common = Some(Arc::clone(b)),
                (Some(_), Some(_)) => {}
                _ => mixed = true,
            },
        }
    }
    if mixed {
        return (None, items.into_iter().map(|item| item.value).collect());
    }
    let kind = common.as_ref().map(|schema| schema.kind);
    let values = items.into_iter().map(|item| widen(item.value, kind)).collect();
    let schema = common.map(|s| if nulls { Arc::new(Schema::clone(&s).optional()) } else { s });
    (schema, values)
}

fn rank(schema: &Schema) -> Option<u8> {
    let order = [Type::Int8, Type::Int16, Type::Int32, Type::Int64, Type::Float32, Type::Float64];
    let place = order.iter().position(|kind| *kind == schema.kind)?;
    if schema.logical().is_some_and(|l| !matches!(l, Logical::Decimal { .. })) {
        None
    } else {
        u8::try_from(place).ok()
    }
}

fn widen(value: Value, kind: Option<Type>) -> Value {
    match (kind, value.as_i64(), &value) {
        (Some(Type::Int16), Some(n), _) => Value::Int16(n as i16),
        (Some(Type::Int32), Some(n), _) => Value::Int32(n as i32),
        (Some(Type::Int64), Some(n), _) => Value::Int64(n),
        (Some(Type::Float32), Some(n), _) => Value::Float32(n as f32),
        (Some(Type::Float64), Some(n), _) => Value::Float64(n as f64),
        (Some(Type::Float64), _, Value::Float32(n)) => Value::Float64(f64::from(*n)),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Type>, Value) {
        let datum = infer(text);
        (datum.schema.map(|s| s.kind), datum.value)
    }

    #[test]
    fn the_smallest_type_wins() {
        assert_eq!(read("001"), (Some(Type::Int8), Value::Int8(1)));
        assert_eq!(read("1.0"), (Some(Type::Int8), Value::Int8(1)));
        assert_eq!(read("-129"), (Some(Type::Int16), Value::Int16(-129)));
        assert_eq!(read("5000000000"), (Some(Type::Int64), Value::Int64(5_000_000_000)));
        assert_eq!(read("1.5"), (Some(Type::Float32), Value::Float32(1.5)));
        assert_eq!(read("1.5e100"), (Some(Type::Float64), Value::Float64(1.5e100)));
        assert_eq!(read("true"), (Some(Type::Boolean), Value::Boolean(true)));
        assert_eq!(read("null"), (None, Value::Null));
        assert_eq!(read(""), (Some(Type::String), "".into()));
        assert_eq!(read("abc"), (Some(Type::String), "abc".into()));
        assert_eq!(read("2023-11-14"), (Some(Type::Int32), Value::Int32(19_675)));
        assert_eq!(infer("2023-11-14T22:13:20.123Z").value, Value::Int64(1_700_000_000_123));
        assert_eq!(read("9223372036854775808").0, Some(Type::Bytes));
    }

    #[test]
    fn lists_and_maps_get_a_common_schema() {
        let list = infer("[1, 300, null]");
        let items = list.schema.unwrap().items.clone().unwrap();
        assert_eq!((items.kind, items.optional), (Type::Int16, true));
        assert_eq!(list.value, Value::Array(vec![Value::Int16(1), Value::Int16(300), Value::Null]));
        assert_eq!(infer(r#"{"a":1}"#).value, Value::Map(vec![("a".into(), Value::Int8(1))]));
        assert_eq!(infer("[1,").value, "[1,".into());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value(text in "\\PC*|[\\[\\]{}\":,0-9eE.+-]*") {
            let _ = infer(&text);
        }
    }
}
