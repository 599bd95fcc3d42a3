//! Compact JSON exactly as Jackson writes it: member order kept, doubles in Java's spelling.

use serde_json::{Number, Value};

/// Prints a value as Jackson does, without blanks.
pub fn to_java_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

pub(super) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (key, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, member);
            }
            out.push('}');
        }
    }
}

pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(double) if number.is_f64() => out.push_str(&java_double(double)),
        _ => out.push_str(&number.to_string()),
    }
}

/// `Double.toString`: plain between 1e-3 and 1e7, otherwise one digit, a dot and an exponent.
fn java_double(double: f64) -> String {
    let magnitude = double.abs();
    if double == 0.0 {
        return if double.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned();
    }
    if (1e-3..1e7).contains(&magnitude) {
        return format!("{double:?}");
    }
    let text = format!("{double:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_doubles_as_java_does() {
        for (double, text) in [
            (1.5e10, "1.5E10"),
            (1e-5, "1.0E-5"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (0.001, "0.001"),
            (-0.25, "-0.25"),
            (1e300, "1.0E300"),
        ] {
            assert_eq!(java_double(double), text);
        }
    }

    #[test]
    fn escapes_only_what_json_requires() {
        assert_eq!(to_java_json(&Value::String("é\"\\\n\u{1}/\u{7f}".into())), "\"é\\\"\\\\\\n\\u0001/\u{7f}\"");
    }
}
