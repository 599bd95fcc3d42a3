//! Values as text, in Java's spelling: numbers as `Double.toString` and `BigDecimal.toString` print them, and the two
//! forms of whole values, `toString` ([`java_text`]) and Connect's `Values.convertToString` ([`connect_text`]).

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::civil::{DAY_MILLIS, date_of};
use super::{Decimal, Logical, Schema, Value};

/// A number's text in a buffer of its own, so that printing one allocates nothing.
#[derive(Clone, Copy)]
pub struct NumberText {
    bytes: [u8; 32],
    start: u8,
    end: u8,
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

impl NumberText {
    /// Decimal digits with a sign.
    #[inline]
    pub fn integer(number: i64) -> Self {
        let mut bytes = [0; 32];
        let mut at = bytes.len();
        let mut rest = number.unsigned_abs();
        while rest >= 100 {
            let pair = (rest % 100) as usize * 2;
            rest /= 100;
            at -= 2;
            bytes[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        if rest >= 10 {
            let pair = rest as usize * 2;
            at -= 2;
            bytes[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        } else {
            at -= 1;
            bytes[at] = b'0' + rest as u8;
        }
        if number < 0 {
            at -= 1;
            bytes[at] = b'-';
        }
        Self { bytes, start: at as u8, end: 32 }
    }

    /// `Double.toString`: shortest digits, plain between 1e-3 and 1e7, otherwise `1.5E10`.
    #[inline]
    pub fn double(number: f64) -> Self {
        let size = number.abs();
        if (1e-3..1e7).contains(&size) || number == 0.0 {
            return Self::copy(ryu::Buffer::new().format_finite(number));
        }
        Self::special(number).unwrap_or_else(|| {
            let mut text = format!("{number:e}");
            if !text.contains('.') {
                // Java wants two digits at least, and the nearest such number (4.9E-324, not 5.0E-324).
                let nearest = format!("{number:.1e}");
                text = if nearest.parse() == Ok(number) { nearest } else { text };
            }
            Self::scientific(&text)
        })
    }

    /// `Float.toString`.
    #[inline]
    pub fn float(number: f32) -> Self {
        let size = number.abs();
        if (1e-3..1e7).contains(&size) || number == 0.0 {
            return Self::copy(ryu::Buffer::new().format_finite(number));
        }
        Self::special(f64::from(number)).unwrap_or_else(|| {
            let mut text = format!("{number:e}");
            if !text.contains('.') {
                let nearest = format!("{number:.1e}");
                text = if nearest.parse() == Ok(number) { nearest } else { text };
            }
            Self::scientific(&text)
        })
    }

    fn special(number: f64) -> Option<Self> {
        match number {
            n if n.is_nan() => Some(Self::copy("NaN")),
            f64::INFINITY => Some(Self::copy("Infinity")),
            f64::NEG_INFINITY => Some(Self::copy("-Infinity")),
            _ => None,
        }
    }

    /// From Rust's `1.5e10`.
    fn scientific(text: &str) -> Self {
        match text.split_once('e') {
            Some((digits, exponent)) if digits.contains('.') => Self::copy(&format!("{digits}E{exponent}")),
            Some((digits, exponent)) => Self::copy(&format!("{digits}.0E{exponent}")),
            None => Self::copy(text),
        }
    }

    #[inline]
    fn copy(text: &str) -> Self {
        let mut bytes = [0; 32];
        let length = text.len().min(bytes.len());
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { bytes, start: 0, end: length as u8 }
    }

    /// The text as ASCII bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..usize::from(self.end)]
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl std::fmt::Debug for NumberText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Decimal {
    /// `BigDecimal.toString`: an exponent for negative scales and for numbers below 1e-6.
    pub fn to_java_text(&self) -> String {
        let digits = self.unscaled.magnitude().to_string();
        let adjusted = digits.len() as i64 - 1 - i64::from(self.scale);
        if self.scale >= 0 && adjusted >= -6 {
            return self.to_plain_text();
        }
        let sign = if self.unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        match adjusted {
            0 => format!("{sign}{first}{point}{rest}"),
            _ => format!("{sign}{first}{point}{rest}E{adjusted:+}"),
        }
    }
}

/// A count of days as `yyyy-MM-dd`.
pub fn date_text(days: i64) -> String {
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A count of milliseconds of the day as `HH:mm:ss.SSS'Z'`.
pub fn time_text(millis: i64) -> String {
    let (seconds, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Milliseconds since the epoch as Connect prints a date: a time below one day, a date at midnight, else both.
pub fn instant_text(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(DAY_MILLIS), millis.rem_euclid(DAY_MILLIS));
    match (days, rest) {
        (0, rest) => time_text(rest),
        (days, 0) => date_text(days),
        (days, rest) => format!("{}T{}", date_text(days), time_text(rest)),
    }
}

/// Connect's text form (`Values.convertToString`): top-level text raw, nested text quoted, `[a,b]`, `{"k":v}`, bytes in
/// base64, dates in ISO 8601.
pub fn connect_text(schema: Option<&Schema>, value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        _ => {
            let mut out = String::new();
            write_connect(&mut out, schema, value);
            out
        }
    }
}

fn write_connect(out: &mut String, schema: Option<&Schema>, value: &Value) {
    let inner = schema.and_then(|s| s.items.as_deref());
    match value {
        Value::String(text) => {
            out.push('"');
            for c in text.chars() {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        }
        Value::Array(items) => {
            out.push('[');
            separated(out, ",", items, |out, item| write_connect(out, inner, item));
            out.push(']');
        }
        Value::Map(entries) => {
            let keys = schema.and_then(|s| s.keys.as_deref());
            out.push('{');
            separated(out, ",", entries, |out, (key, item)| {
                write_connect(out, keys, key);
                out.push(':');
                write_connect(out, inner, item);
            });
            out.push('}');
        }
        Value::Struct(values) => {
            let fields = schema.map_or(&[][..], |s| &s.fields);
            out.push('{');
            separated(out, ",", fields.iter().zip(values), |out, (field, item)| {
                write_connect(out, None, &Value::from(&*field.name));
                out.push(':');
                write_connect(out, Some(&field.schema), item);
            });
            out.push('}');
        }
        _ => scalar(out, schema, value),
    }
}

/// `toString` of the Java object that the value is: `{a=1, b=2}`, `[1, 2]`, `Struct{a=1}` (null fields left out). Byte
/// arrays, whose Java text is an address, are given in base64.
pub fn java_text(schema: Option<&Schema>, value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        _ => {
            let mut out = String::new();
            write_java(&mut out, schema, value);
            out
        }
    }
}

fn write_java(out: &mut String, schema: Option<&Schema>, value: &Value) {
    let inner = schema.and_then(|s| s.items.as_deref());
    match value {
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            separated(out, ", ", items, |out, item| write_java(out, inner, item));
            out.push(']');
        }
        Value::Map(entries) => {
            let keys = schema.and_then(|s| s.keys.as_deref());
            out.push('{');
            separated(out, ", ", entries, |out, (key, item)| {
                write_java(out, keys, key);
                out.push('=');
                write_java(out, inner, item);
            });
            out.push('}');
        }
        Value::Struct(values) => {
            let fields = schema.map_or(&[][..], |s| &s.fields);
            out.push_str("Struct{");
            let set = fields.iter().zip(values).filter(|(_, item)| !item.is_null());
            separated(out, ",", set, |out, (field, item)| {
                out.push_str(&field.name);
                out.push('=');
                write_java(out, Some(&field.schema), item);
            });
            out.push('}');
        }
        _ => scalar(out, schema, value),
    }
}

fn scalar(out: &mut String, schema: Option<&Schema>, value: &Value) {
    let logical = schema.and_then(Schema::logical);
    let _ = match (value, logical) {
        (Value::Null, _) => out.write_str("null"),
        (Value::Boolean(truth), _) => write!(out, "{truth}"),
        (Value::Float32(number), _) => out.write_str(NumberText::float(*number).as_str()),
        (Value::Float64(number), _) => out.write_str(NumberText::double(*number).as_str()),
        (Value::Bytes(bytes), Some(Logical::Decimal { scale })) => {
            out.write_str(&Decimal::from_bytes(bytes, scale).to_java_text())
        }
        (Value::Bytes(bytes), _) => {
            STANDARD.encode_string(bytes, out);
            Ok(())
        }
        (Value::Int32(days), Some(Logical::Date)) => {
            out.write_str(&instant_text(i64::from(*days).saturating_mul(DAY_MILLIS)))
        }
        (Value::Int32(millis), Some(Logical::Time)) => out.write_str(&instant_text(i64::from(*millis))),
        (Value::Int64(millis), Some(Logical::Timestamp)) => out.write_str(&instant_text(*millis)),
        (other, _) => match other.as_i64() {
            Some(number) => out.write_str(NumberText::integer(number).as_str()),
            None => Ok(()),
        },
    };
}

fn separated<T>(
    out: &mut String,
    separator: &str,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        write(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_java() {
        for (number, text) in [
            (5.0, "5.0"),
            (1e10, "1.0E10"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (0.001, "0.001"),
            (9.99e-4, "9.99E-4"),
            (-0.0, "-0.0"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::from_bits(1), "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e23, "1.0E23"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(NumberText::double(number).as_str(), text);
        }
        for (number, text) in [(12.34f32, "12.34"), (f32::from_bits(1), "1.4E-45"), (1e10, "1.0E10")] {
            assert_eq!(NumberText::float(number).as_str(), text);
        }
        for number in [0, 7, 10, 99, 100, -1, 12345, i64::MAX, i64::MIN] {
            assert_eq!(NumberText::integer(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn decimals_print_as_in_java() {
        for (unscaled, scale, text) in
            [(15600, 2, "156.00"), (1, 7, "1E-7"), (12, 8, "1.2E-7"), (1, 6, "0.000001"), (5, -3, "5E+3"), (0, 0, "0")]
        {
            assert_eq!(Decimal { unscaled: unscaled.into(), scale }.to_java_text(), text);
        }
    }

    #[test]
    fn values_print_in_both_forms() {
        let map = Value::Map(vec![("a".into(), 1i64.into()), ("b".into(), "x\"y".into())]);
        assert_eq!(java_text(None, &map), "{a=1, b=x\"y}");
        assert_eq!(connect_text(None, &map), r#"{"a":1,"b":"x\"y"}"#);
        assert_eq!(instant_text(0), "00:00:00.000Z");
        assert_eq!(instant_text(DAY_MILLIS), "1970-01-02");
        assert_eq!(instant_text(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
