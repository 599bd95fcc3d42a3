//! Values as text that PostgreSQL's input functions read: the way into every type that has no binary encoder here, and
//! into text columns.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::debezium;
use super::temporal::{self, DAY_MILLIS, Zone};
use crate::data::{Decimal, Logical, Schema, Type, Value};

/// What rendering depends on.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// The zone of times and timestamps.
    pub zone: Zone,
    /// The zone of dates.
    pub date_zone: Zone,
    /// `date.calendar.system` is LEGACY.
    pub legacy: bool,
}

/// The text of a value that is not null. `json` says that the column is json or jsonb, so that structures become
/// objects instead of array literals.
pub fn text(value: &Value, schema: Option<&Schema>, options: &RenderOptions, json: bool) -> String {
    let mut out = String::new();
    push(&mut out, value, schema, options, json);
    out
}

fn push(out: &mut String, value: &Value, schema: Option<&Schema>, options: &RenderOptions, json: bool) {
    let logical = schema.and_then(Schema::logical);
    match (value, logical) {
        (Value::Null, _) => out.push_str("NULL"),
        (Value::Bytes(bytes), Some(Logical::Decimal { scale })) => out.push_str(&decimal_text(bytes, scale)),
        (Value::Int32(days), Some(Logical::Date)) => out.push_str(&date_text(*days, options)),
        (Value::Int32(millis), Some(Logical::Time)) => out.push_str(&time_text(*millis, options)),
        (Value::Int64(millis), Some(Logical::Timestamp)) => out.push_str(&timestamp_text(*millis, options)),
        (Value::Array(_) | Value::Map(_) | Value::Struct(_), _) if json => push_json(out, value, schema, options),
        (Value::Array(items), _) => push_array(out, items, schema, options),
        (Value::Map(_) | Value::Struct(_), _) => push_json(out, value, schema, options),
        (Value::Bytes(bytes), _) => {
            out.push_str("\\x");
            for byte in bytes {
                let _ = write!(out, "{byte:02x}");
            }
        }
        (Value::Boolean(truth), _) => out.push_str(if *truth { "true" } else { "false" }),
        (Value::Float32(number), _) => out.push_str(&float_text(f64::from(*number), number.to_string(), 6)),
        (Value::Float64(number), _) => out.push_str(&float_text(*number, number.to_string(), 15)),
        (Value::String(text), _) => out.push_str(text),
        (Value::Int8(_) | Value::Int16(_) | Value::Int32(_) | Value::Int64(_), _) => {
            let _ = write!(out, "{}", value.as_i64().unwrap_or(0));
        }
    }
}

/// A decimal; the zeros that fill up the scale of an unconstrained numeric are dropped.
pub fn decimal_text(bytes: &[u8], scale: i32) -> String {
    let text = Decimal::from_bytes(bytes, scale).to_plain_text();
    if scale == super::type_map::UNCONSTRAINED_SCALE {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Days since 1970 in PostgreSQL's calendar of a Connect Date; `None` if its zone is not known so far away.
pub fn wall_days(days: i32, options: &RenderOptions) -> Option<i64> {
    let days = i64::from(days);
    let days = match &options.date_zone {
        Zone::Utc => days,
        zone => zone.to_wall(temporal::day_start(days)?).div_euclid(temporal::DAY_MICROS),
    };
    Some(if options.legacy { temporal::from_legacy_days(days) } else { days })
}

/// Microseconds of the day of a Connect Time.
pub fn wall_time(millis: i32, options: &RenderOptions) -> i64 {
    match &options.zone {
        // 24:00 is a time of its own.
        Zone::Utc if i64::from(millis) == DAY_MILLIS => temporal::DAY_MICROS,
        zone => (i64::from(millis) + zone.offset_seconds(0) * 1000).rem_euclid(DAY_MILLIS) * 1000,
    }
}

/// Microseconds since 1970 in PostgreSQL's calendar of an instant.
pub fn instant_micros(micros: i64, options: &RenderOptions) -> i64 {
    if options.legacy { temporal::from_legacy_micros(micros) } else { micros }
}

fn date_text(days: i32, options: &RenderOptions) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        // Beyond what a zone knows the server refuses every date.
        days => temporal::date_text(wall_days(days, options).unwrap_or(i64::from(days))),
    }
}

fn time_text(millis: i32, options: &RenderOptions) -> String {
    let mut out = String::new();
    temporal::push_time(&mut out, wall_time(millis, options), 3);
    push_offset(&mut out, options.zone.offset_seconds(0));
    out
}

fn timestamp_text(millis: i64, options: &RenderOptions) -> String {
    match millis {
        temporal::INFINITY_MILLIS => return "infinity".to_owned(),
        temporal::NEGATIVE_INFINITY_MILLIS => return "-infinity".to_owned(),
        _ => {}
    }
    zoned_text(millis.saturating_mul(1000), 3, options)
}

/// A count of microseconds since 1970 as a timestamp with its zone.
pub fn stamp_text(micros: i64, options: &RenderOptions) -> String {
    zoned_text(micros, 6, options)
}

fn zoned_text(micros: i64, digits: usize, options: &RenderOptions) -> String {
    let micros = instant_micros(micros, options);
    let mut out = temporal::datetime_text(options.zone.to_wall(micros), ' ', digits);
    let era = out.ends_with(" BC");
    out.truncate(out.trim_end_matches(" BC").len());
    push_offset(&mut out, options.zone.offset_seconds(micros));
    out.push_str(if era { " BC" } else { "" });
    out
}

fn push_offset(out: &mut String, seconds: i64) {
    let _ = write!(out, "{}{:02}", if seconds < 0 { '-' } else { '+' }, seconds.abs() / 3600);
    if seconds % 3600 != 0 {
        let _ = write!(out, ":{:02}", seconds.abs() / 60 % 60);
    }
}

fn float_text(number: f64, plain: String, digits: i32) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && (size < 1e-4 || size >= 10_f64.powi(digits)) {
        return format!("{number:e}");
    }
    plain
}

fn push_array(out: &mut String, items: &[Value], schema: Option<&Schema>, options: &RenderOptions) {
    let inner = schema.and_then(|schema| schema.items.as_deref());
    out.push('{');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match item {
            Value::Null => out.push_str("NULL"),
            Value::Array(nested) => push_array(out, nested, inner, options),
            item => {
                let named = inner.and_then(|inner| debezium::meaning(inner)?.text(item, inner, options));
                push_quoted(out, &named.unwrap_or_else(|| text(item, inner, options, false)));
            }
        }
    }
    out.push('}');
}

/// The entries of a map as `hstore` reads them.
pub fn hstore_text(entries: &[(Value, Value)], options: &RenderOptions) -> String {
    let mut out = String::new();
    for (key, value) in entries {
        if !out.is_empty() {
            out.push(',');
        }
        push_quoted(&mut out, &text(key, None, options, false));
        out.push_str("=>");
        match value {
            Value::Null => out.push_str("NULL"),
            value => push_quoted(&mut out, &text(value, None, options, false)),
        }
    }
    out
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn push_json(out: &mut String, value: &Value, schema: Option<&Schema>, options: &RenderOptions) {
    let mut json = String::new();
    let logical = schema.and_then(Schema::logical);
    match value {
        Value::Null => json.push_str("null"),
        Value::Array(items) => {
            let inner = schema.and_then(|schema| schema.items.as_deref());
            push_all(&mut json, ('[', ']'), items.iter(), |json, item| push_json(json, item, inner, options));
        }
        Value::Map(entries) => {
            let inner = schema.and_then(|schema| schema.items.as_deref());
            push_all(&mut json, ('{', '}'), entries.iter(), |json, (key, item)| {
                push_json_text(json, &text(key, None, options, false));
                json.push(':');
                push_json(json, item, inner, options);
            });
        }
        Value::Struct(values) => {
            let fields = schema.map(|schema| schema.fields.as_slice()).unwrap_or_default();
            push_all(&mut json, ('{', '}'), values.iter().zip(fields), |json, (item, field)| {
                push_json_text(json, &field.name);
                json.push(':');
                push_json(json, item, Some(&field.schema), options);
            });
        }
        Value::Bytes(bytes) if logical.is_none() => push_json_text(&mut json, &STANDARD.encode(bytes)),
        Value::Float32(number) if !number.is_finite() => json.push_str("null"),
        Value::Float64(number) if !number.is_finite() => json.push_str("null"),
        Value::String(text) => push_json_text(&mut json, text),
        value => {
            let plain = text(value, schema, options, false);
            match schema.map(|schema| schema.kind) {
                Some(Type::Int32 | Type::Int64) if logical.is_some() => push_json_text(&mut json, &plain),
                _ => json.push_str(&plain),
            }
        }
    }
    out.push_str(&json);
}

fn push_all<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(close);
}

fn push_json_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Field};
    use std::sync::Arc;

    fn options(zone: &str) -> RenderOptions {
        RenderOptions { zone: Zone::from_text(zone).unwrap(), date_zone: Zone::Utc, legacy: true }
    }

    #[test]
    fn texts_as_the_driver_binds_them() {
        let utc = options("UTC");
        let moment = Value::Int64(1_709_209_845_123);
        let stamp = data::timestamp();
        assert_eq!(text(&moment, Some(&stamp), &utc, false), "2024-02-29 12:30:45.123+00");
        assert_eq!(text(&moment, Some(&stamp), &options("Asia/Seoul"), false), "2024-02-29 21:30:45.123+09");
        assert_eq!(text(&Value::Bytes(vec![1, 0xff].into()), None, &utc, false), "\\x01ff");
        assert_eq!(text(&Value::Float64(1e20), None, &utc, false), "1e20");
        assert_eq!(text(&Value::Float64(1.5), None, &utc, false), "1.5");
        assert_eq!(text(&Value::Float64(f64::NAN), None, &utc, false), "NaN");
        let many = Decimal::parse("12.125").unwrap().rescale(127).unwrap();
        assert_eq!(text(&Value::Bytes(many.to_bytes().into()), Some(&data::decimal(127)), &utc, false), "12.125");
    }

    #[test]
    fn dates_beyond_all_zones_are_no_overflow() {
        let seoul = RenderOptions { date_zone: Zone::from_text("Asia/Seoul").unwrap(), ..options("UTC") };
        assert_eq!(wall_days(i32::MAX - 1, &seoul), None);
        assert!(text(&Value::Int32(i32::MAX - 1), Some(&data::date()), &seoul, false).starts_with("58"));
    }

    #[test]
    fn structures_become_arrays_or_json() {
        let utc = options("UTC");
        let items = Value::Array(vec![Value::from("a\"b"), Value::Null]);
        assert_eq!(text(&items, None, &utc, false), "{\"a\\\"b\",NULL}");
        assert_eq!(text(&items, None, &utc, true), "[\"a\\\"b\",null]");
        let schema = Schema::structure(vec![Field::new("n", Arc::new(Schema::new(Type::Int32)))]);
        assert_eq!(text(&Value::Struct(vec![Value::Int32(1)]), Some(&schema), &utc, true), "{\"n\":1}");
    }
}
