//! `ExtractField`: one field becomes the whole side; nested fields by `field.syntax.version=V2` (KIP-821).

use std::sync::Arc;

use super::{Side, not_a_map, not_a_struct, replace_null_key, sided};
use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Error, ErrorKind, Importance, Props, Record, Result, Transform, Validator,
};
use crate::data::{Datum, Plans, Schema, Value};

const PURPOSE: &str = "field extraction";

sided!("ExtractField", ExtractField);

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("field", ConfigType::String)
                .doc("Field name to extract, or a path to a nested field under field.syntax.version V2."),
        )
        .with(
            ConfigKey::with_default("field.syntax.version", ConfigType::String, "V1")
                .importance(Importance::High)
                .check(Validator::OneOfAnyCase(&["V1", "V2"]))
                .doc("V1: field is a name. V2: field is a path, its steps split by dots, backticks quoting dots."),
        )
        .with(replace_null_key())
}

#[derive(Debug)]
struct ExtractField {
    side: Side,
    field: String,
    path: Vec<String>,
    replace_null: bool,
    plans: Plans<(Vec<usize>, Arc<Schema>)>,
}

impl ExtractField {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let field = config.text("field").to_owned();
        let path = if config.text("field.syntax.version").eq_ignore_ascii_case("V2") {
            split_path(&field)?
        } else {
            vec![field.clone()]
        };
        let replace_null = config.boolean("replace.null.with.default");
        Ok(Self { side, field, path, replace_null, plans: Plans::default() })
    }
}

/// Splits a path at its dots; a step in backticks may hold dots, and `\`` is a backtick.
pub(super) fn split_path(path: &str) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    let mut step = String::new();
    let (mut quoted, mut at_start) = (false, true);
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'`') => {
                chars.next();
                step.push('`');
            }
            '`' if at_start => quoted = true,
            '`' if quoted && matches!(chars.peek(), None | Some('.')) => quoted = false,
            '.' if !quoted => {
                steps.push(std::mem::take(&mut step));
                at_start = true;
                continue;
            }
            c => step.push(c),
        }
        at_start = false;
    }
    if quoted {
        return Err(Error::config(format!("Incomplete backtick pair in path: [{path}]")));
    }
    steps.push(step);
    Ok(steps)
}

fn unknown(field: &str) -> Error {
    Error::new(ErrorKind::Data, "java.lang.IllegalArgumentException", format!("Unknown field: {field}"))
}

impl Transform for ExtractField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let datum = self.side.of(&mut record);
        let Datum { schema, value } = datum;
        let (path, field) = (&self.path, &self.field);
        let Some(known) = schema else {
            let mut found = std::mem::take(value);
            for (depth, step) in path.iter().enumerate() {
                found = match found {
                    Value::Null => Value::Null,
                    Value::Map(entries) => entries
                        .into_iter()
                        .find(|(key, _)| key.as_str() == Some(step))
                        .map(|(_, value)| value)
                        .unwrap_or_default(),
                    other if depth == 0 => return Err(not_a_map(PURPOSE, &other)),
                    _ => Value::Null,
                };
            }
            *value = found;
            return Ok(Some(record));
        };
        if value.is_null() {
            *schema = None;
            return Ok(Some(record));
        }
        if !matches!(value, Value::Struct(_)) {
            return Err(not_a_struct(PURPOSE, value));
        }
        let (places, target) = self.plans.plan(known, || {
            let mut places = Vec::new();
            let mut inner: &Arc<Schema> = known;
            for step in path {
                let (place, found) = inner.field(step).ok_or_else(|| unknown(field))?;
                places.push(place);
                inner = &found.schema;
            }
            Ok::<_, Error>((places, Arc::clone(inner)))
        })?;
        let mut found = std::mem::take(value);
        for place in places.iter() {
            found = match found {
                Value::Struct(mut values) if *place < values.len() => values.swap_remove(*place),
                _ => Value::Null,
            };
        }
        super::fill_default(&mut found, target, self.replace_null);
        *value = found;
        *schema = Some(Arc::clone(target));
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, record};
    use super::*;

    #[test]
    fn a_field_becomes_the_side() {
        let inner = Schema::structure(vec![field("x.y", int32())]);
        let schema = Arc::new(Schema::structure(vec![field("a", int32()), field("b", inner)]));
        let row = record(&schema, vec![1.into(), Value::Struct(vec![2.into()])]);
        let mut flat = build(&VALUE, &[("field", "a")]);
        assert_eq!(apply(&mut *flat, row.clone()).value, Datum::new(Arc::new(int32()), 1.into()));
        let mut nested = build(&VALUE, &[("field", "b.`x.y`"), ("field.syntax.version", "V2")]);
        assert_eq!(apply(&mut *nested, row.clone()).value.value, 2.into());
        let mut absent = build(&VALUE, &[("field", "z")]);
        assert_eq!(absent.apply(row).unwrap_err().to_string(), "Unknown field: z");
        assert!(apply(&mut *absent, map_record(&[("a", 1.into())])).value.value.is_null());
        assert_eq!(split_path("a.`b.c`.d\\`e").unwrap(), ["a", "b.c", "d`e"]);
        assert_eq!(split_path("`a").unwrap_err().to_string(), "Incomplete backtick pair in path: [`a]");
    }
}
