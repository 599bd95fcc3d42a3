//! `ReplaceField`: drops, keeps and renames top-level fields.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Side, fill_default, not_a_map, not_a_struct, renames, replace_null_key, sided, with_fields};
use crate::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Record, Result, Transform};
use crate::data::{Datum, Field, Plans, Schema, Value};

const PURPOSE: &str = "field replacement";

sided!("ReplaceField", ReplaceField);

fn config() -> ConfigDef {
    let list =
        |name, importance, doc| ConfigKey::with_default(name, ConfigType::List, "").importance(importance).doc(doc);
    ConfigDef::new()
        .with(list(
            "exclude",
            Importance::Medium,
            "Fields to exclude. This takes precedence over the fields to include.",
        ))
        .with(list("include", Importance::Medium, "Fields to include. If specified, only these fields are kept."))
        .with(list("renames", Importance::Medium, "Field rename mappings: old:new,..."))
        .with(list("blacklist", Importance::Low, "Deprecated name of exclude."))
        .with(list("whitelist", Importance::Low, "Deprecated name of include."))
        .with(replace_null_key())
}

#[derive(Debug)]
struct Plan {
    schema: Arc<Schema>,
    /// For each field of the result, its place in the record.
    places: Vec<usize>,
    /// Whether the fields are those of the record, in their order.
    same: bool,
    /// Whether any field has a default value.
    defaults: bool,
}

#[derive(Debug)]
struct ReplaceField {
    side: Side,
    exclude: Vec<String>,
    include: Vec<String>,
    renames: HashMap<String, String>,
    replace_null: bool,
    plans: Plans<Plan>,
}

impl ReplaceField {
    fn new(side: Side, props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let list = |name: &str, old: &str| -> Vec<String> {
            let names = if props.contains_key(name) { config.list(name) } else { config.list(old) };
            names.into_iter().map(str::to_owned).collect()
        };
        Ok(Self {
            side,
            exclude: list("exclude", "blacklist"),
            include: list("include", "whitelist"),
            renames: renames(&config.list("renames"))?.into_iter().collect(),
            replace_null: config.boolean("replace.null.with.default"),
            plans: Plans::default(),
        })
    }
}

fn keeps(exclude: &[String], include: &[String], name: &str) -> bool {
    !exclude.iter().any(|e| e == name) && (include.is_empty() || include.iter().any(|i| i == name))
}

impl Transform for ReplaceField {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let Self { exclude, include, renames, .. } = self;
        let Datum { schema, value } = self.side.of(&mut record);
        match (schema, value) {
            (_, Value::Null) => {}
            (Some(schema), Value::Struct(values)) => {
                let plan = self.plans.plan(schema, || {
                    let (places, fields): (Vec<_>, Vec<_>) = schema
                        .fields
                        .iter()
                        .enumerate()
                        .filter(|(_, field)| keeps(exclude, include, &field.name))
                        .map(|(place, field)| match renames.get(&*field.name) {
                            Some(name) => (place, Field::new(name.as_str(), Arc::clone(&field.schema))),
                            None => (place, field.clone()),
                        })
                        .unzip();
                    let same = places.len() == schema.fields.len();
                    let defaults = schema.fields.iter().any(|field| field.schema.default.is_some());
                    Ok::<_, Error>(Plan { schema: Arc::new(with_fields(schema, fields)), places, same, defaults })
                })?;
                if !plan.same {
                    *values = plan
                        .places
                        .iter()
                        .map(|place| values.get_mut(*place).map(std::mem::take).unwrap_or_default())
                        .collect();
                }
                if plan.defaults {
                    for (value, field) in values.iter_mut().zip(&plan.schema.fields) {
                        fill_default(value, &field.schema, self.replace_null);
                    }
                }
                *schema = Arc::clone(&plan.schema);
            }
            (Some(_), other) => return Err(not_a_struct(PURPOSE, other)),
            (None, Value::Map(entries)) => {
                entries.retain(|(key, _)| key.as_str().is_none_or(|key| keeps(exclude, include, key)));
                for (key, _) in entries {
                    if let Some(name) = key.as_str().and_then(|key| renames.get(key)) {
                        *key = Value::from(name.as_str());
                    }
                }
            }
            (None, other) => return Err(not_a_map(PURPOSE, other)),
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, field, int32, map_record, props, record, text};
    use super::*;

    #[test]
    fn exclude_beats_include_and_renames_come_last() {
        let schema = Arc::new(
            Schema::structure(vec![field("a", int32()), field("b", text()), field("c", int32())]).with_name("n"),
        );
        for entries in [
            [("exclude", "c"), ("include", "b,c"), ("renames", "b:x")],
            [("blacklist", "c"), ("whitelist", "b,c"), ("renames", "b:x")],
        ] {
            let mut replace = build(&VALUE, &entries);
            let out = apply(&mut *replace, record(&schema, vec![1.into(), "t".into(), 2.into()])).value;
            assert_eq!(out.value, Value::Struct(vec!["t".into()]));
            let renamed = out.schema.unwrap();
            assert_eq!((&*renamed.fields[0].name, renamed.name()), ("x", Some("n")));
            let map = apply(&mut *replace, map_record(&[("a", 1.into()), ("b", 2.into())])).value.value;
            assert_eq!(map, Value::Map(vec![("x".into(), 2.into())]));
        }
        let error = (VALUE.build)(&props(&[("renames", "a:b:c")])).err().unwrap().to_string();
        assert!(error.ends_with("Invalid rename mapping: a:b:c"));
    }
}
