//! `io.debezium.transforms.ExtractNewRecordState`: a change event becomes the row that it leaves behind, with parts of the
//! event beside it if they are asked for. What is no change event passes.

use std::sync::Arc;

use bytestring::ByteString;

use super::replace_null_key;
use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Error, Header, Importance, Props, Record, Result, Transform, TransformSpec,
    Validator,
};
use crate::data::{Datum, Field, Plans, Schema, Type, Value};

/// Flattens change events.
pub static SPEC: TransformSpec = TransformSpec {
    class: "io.debezium.transforms.ExtractNewRecordState",
    config,
    build: |props| Ok(Box::new(ExtractNewRecordState::new(props)?)),
};

const DELETED: &str = "__deleted";

fn config() -> ConfigDef {
    use ConfigType::{Boolean, List, String};
    let key = |name: &'static str, kind, default: &'static str, doc: &'static str| {
        ConfigKey::with_default(name, kind, default).importance(Importance::Low).doc(doc)
    };
    ConfigDef::new()
        .with(
            key(
                "delete.tombstone.handling.mode",
                String,
                "tombstone",
                "What becomes of deletions and tombstones: drop both; keep the tombstone; rewrite the deletion as its last row \
                 with __deleted=true, without or with-tombstone; or make the delete-to-tombstone.",
            )
            .check(Validator::OneOfAnyCase(&[
                "drop",
                "tombstone",
                "rewrite",
                "rewrite-with-tombstone",
                "delete-to-tombstone",
            ])),
        )
        .with(ConfigKey::optional("drop.tombstones", Boolean).doc("Older: whether tombstones are dropped."))
        .with(
            ConfigKey::optional("delete.handling.mode", String)
                .doc("Older: what becomes of deletions: drop, rewrite or none (a null value).")
                .check(Validator::OneOfAnyCase(&["drop", "rewrite", "none"])),
        )
        .with(key("add.fields", List, "", "Parts of the event to add as fields: op, table, source.ts_ms, op:new_name."))
        .with(key("add.fields.prefix", String, "__", "What added fields begin with."))
        .with(key("add.headers", List, "", "Parts of the event to add as headers."))
        .with(key("add.headers.prefix", String, "__", "What added headers begin with."))
        .with(key("route.by.field", String, "", "The field of the row whose value becomes the topic."))
        .with(replace_null_key())
}

/// What becomes of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    Drop,
    /// The row before, marked; other rows are marked as not deleted.
    Rewrite,
    /// A null value without a schema.
    Tombstone,
    /// A null value that keeps the row's schema.
    Null,
}

/// A part of the event that is added.
#[derive(Debug)]
struct Addition {
    name: Arc<str>,
    path: Vec<String>,
}

#[derive(Debug)]
struct ExtractNewRecordState {
    deletion: Deletion,
    keep_tombstones: bool,
    fields: Vec<Addition>,
    headers: Vec<Addition>,
    route: Option<String>,
    /// The schema of rows with additions, by that of the event.
    plans: Plans<Arc<Schema>>,
}

fn additions(list: &[&str], prefix: &str) -> Vec<Addition> {
    let addition = |entry: &&str| {
        let (path, name) = entry.split_once(':').unwrap_or((entry, entry));
        Addition {
            name: format!("{prefix}{}", name.trim().replace('.', "_")).into(),
            path: path.trim().split('.').map(str::to_owned).collect(),
        }
    };
    list.iter().map(addition).collect()
}

impl ExtractNewRecordState {
    fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let older = config.optional("drop.tombstones").is_some() || config.optional("delete.handling.mode").is_some();
        let (deletion, keep_tombstones) = if older {
            let deletion = match config.text("delete.handling.mode").to_ascii_lowercase().as_str() {
                "rewrite" => Deletion::Rewrite,
                "none" => Deletion::Null,
                _ => Deletion::Drop,
            };
            (deletion, config.optional("drop.tombstones") == Some("false"))
        } else {
            match config.text("delete.tombstone.handling.mode").to_ascii_lowercase().as_str() {
                "drop" => (Deletion::Drop, false),
                "rewrite" => (Deletion::Rewrite, false),
                "rewrite-with-tombstone" => (Deletion::Rewrite, true),
                "delete-to-tombstone" => (Deletion::Tombstone, false),
                _ => (Deletion::Drop, true),
            }
        };
        Ok(Self {
            deletion,
            keep_tombstones,
            fields: additions(&config.list("add.fields"), config.text("add.fields.prefix")),
            headers: additions(&config.list("add.headers"), config.text("add.headers.prefix")),
            route: Some(config.text("route.by.field").to_owned()).filter(|field| !field.is_empty()),
            plans: Plans::default(),
        })
    }

    /// The row with its additions.
    fn extended(&mut self, event: &Datum, row: Datum, deleted: bool) -> Result<Datum> {
        let marks = self.deletion == Deletion::Rewrite;
        if self.fields.is_empty() && !marks {
            return Ok(row);
        }
        let mut added: Vec<(Arc<str>, Datum)> = Vec::with_capacity(self.fields.len() + 1);
        if marks {
            let text = Value::from(if deleted { "true" } else { "false" });
            added.push((DELETED.into(), Datum::new(Arc::new(Schema::new(Type::String).optional()), text)));
        }
        for addition in &self.fields {
            added.push((Arc::clone(&addition.name), part(event, &addition.path)?));
        }
        match (&event.schema, row.value) {
            (Some(of), Value::Struct(mut values)) => {
                let Some(own) = row.schema else { return Err(Error::data("a row of a change event lacks a schema")) };
                let schema = self.plans.plan(of, || Ok::<_, Error>(with_fields(&own, &added)))?;
                values.extend(added.into_iter().map(|(_, datum)| datum.value));
                Ok(Datum::new(Arc::clone(schema), Value::Struct(values)))
            }
            (_, Value::Map(mut entries)) => {
                entries.extend(added.into_iter().map(|(name, datum)| (Value::from(&*name), datum.value)));
                Ok(Datum::schemaless(Value::Map(entries)))
            }
            (_, other) => Err(Error::data(format!("a row of a change event is a {}", other.kind_name()))),
        }
    }
}

impl Transform for ExtractNewRecordState {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if record.value.value.is_null() {
            return Ok(self.keep_tombstones.then_some(record));
        }
        let Some(op) = op_of(&record.value) else { return Ok(Some(record)) };
        let deleted = match &*op {
            "d" => true,
            "t" | "m" => return Ok(None),
            _ => false,
        };
        let event = std::mem::take(&mut record.value);
        for addition in &self.headers {
            let value = part(&event, &addition.path)?;
            record.headers.push(Header { key: ByteString::from(&*addition.name), value });
        }
        let row = |name: &str| child(&event, name).filter(|row| !row.value.is_null());
        record.value = match (deleted, self.deletion) {
            (true, Deletion::Drop) => return Ok(None),
            (true, Deletion::Tombstone) => Datum::default(),
            (true, Deletion::Null) => {
                Datum { schema: child(&event, "after").and_then(|after| after.schema), value: Value::Null }
            }
            (true, Deletion::Rewrite) => match row("before") {
                Some(before) => self.extended(&event, before, true)?,
                None => return Ok(None),
            },
            (false, _) => match row("after") {
                Some(after) => self.extended(&event, after, false)?,
                None => {
                    return Err(Error::data(format!("a change event of op {op} has no row in its field \"after\"")));
                }
            },
        };
        if let Some(field) = &self.route
            && let Some(topic) = row(if deleted { "before" } else { "after" }).and_then(|row| child(&row, field))
            && let Value::String(topic) = topic.value
        {
            record.topic = Arc::from(&*topic);
        }
        Ok(Some(record))
    }
}

/// The operation, if the value is a change event.
fn op_of(value: &Datum) -> Option<ByteString> {
    if let Some(schema) = &value.schema {
        let named = schema.name().is_some_and(|name| name.ends_with(".Envelope"));
        let shaped = ["op", "after", "source"].iter().all(|name| schema.field(name).is_some());
        if !named && !shaped {
            return None;
        }
    } else {
        child(value, "source")?;
    }
    match child(value, "op")?.value {
        Value::String(op) => Some(op),
        _ => None,
    }
}

fn child(datum: &Datum, name: &str) -> Option<Datum> {
    match (&datum.schema, &datum.value) {
        (Some(schema), Value::Struct(values)) => {
            let (at, field) = schema.field(name)?;
            Some(Datum::new(Arc::clone(&field.schema), values.get(at)?.clone()))
        }
        (_, map) => map.entry(name).map(|value| Datum::schemaless(value.clone())),
    }
}

/// A part of an event: a field of it or, if it has none of the name, of its source.
fn part(event: &Datum, path: &[String]) -> Result<Datum> {
    let walk = |start: &Datum| path.iter().try_fold(start.clone(), |at, name| child(&at, name));
    let found = walk(event).or_else(|| walk(&child(event, "source")?));
    found.ok_or_else(|| Error::data(format!("the change event has no field {}", path.join("."))))
}

fn with_fields(own: &Schema, added: &[(Arc<str>, Datum)]) -> Arc<Schema> {
    let mut fields = own.fields.clone();
    for (name, datum) in added {
        let schema = datum.schema.clone().unwrap_or_else(|| Arc::new(Schema::new(Type::String).optional()));
        fields.push(Field { name: Arc::clone(name), schema });
    }
    Arc::new(Schema { fields, optional: false, default: None, ..own.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{build, field, int32, map_record, record, text};
    use super::*;

    fn envelope() -> Arc<Schema> {
        let row = Schema::structure(vec![field("id", int32())]).with_name("s.t.Value").optional();
        let source = Schema::structure(vec![field("table", text()), field("ts_ms", Schema::new(Type::Int64))]);
        let fields =
            vec![field("before", row.clone()), field("after", row), field("source", source), field("op", text())];
        Arc::new(Schema::structure(fields).with_name("s.t.Envelope"))
    }

    fn event(schema: &Arc<Schema>, op: &str) -> Record {
        let row = |there: bool| if there { Value::Struct(vec![1.into()]) } else { Value::Null };
        let source = Value::Struct(vec!["t".into(), Value::Int64(9)]);
        record(schema, vec![row(op != "c"), row(op != "d"), source, op.into()])
    }

    fn flat(entries: &[(&str, &str)], op: &str) -> Option<Datum> {
        build(&SPEC, entries).apply(event(&envelope(), op)).unwrap().map(|record| record.value)
    }

    #[test]
    fn rows_take_the_place_of_events() {
        assert_eq!(flat(&[], "c").unwrap().value, Value::Struct(vec![1.into()]));
        assert_eq!(flat(&[], "c").unwrap().schema.unwrap().name(), Some("s.t.Value"));
        let added = flat(&[("add.fields", "op,source.ts_ms,table:tab")], "u").unwrap();
        assert_eq!(added.value, Value::Struct(vec![1.into(), "u".into(), Value::Int64(9), "t".into()]));
        let schema = added.schema.unwrap();
        let names: Vec<&str> = schema.fields.iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["id", "__op", "__source_ts_ms", "__tab"]);
        let plain = Arc::new(Schema::structure(vec![field("id", int32())]));
        let kept = build(&SPEC, &[]).apply(record(&plain, vec![1.into()])).unwrap().unwrap();
        assert_eq!(kept.value.value, Value::Struct(vec![1.into()]));
        assert!(flat(&[], "t").is_none());
    }

    #[test]
    fn deletions_as_asked() {
        let mode = |mode: &str| flat(&[("delete.tombstone.handling.mode", mode)], "d").map(|datum| datum.value);
        assert_eq!(mode("tombstone"), None);
        assert_eq!(mode("delete-to-tombstone"), Some(Value::Null));
        assert_eq!(mode("rewrite"), Some(Value::Struct(vec![1.into(), "true".into()])));
        let nulled = flat(&[("delete.handling.mode", "none")], "d").unwrap();
        assert!(nulled.value.is_null() && nulled.schema.is_some());
        let tombstone = |entries: &[(&str, &str)]| {
            build(&SPEC, entries).apply(Record::of_value("t".into(), Datum::default())).unwrap().is_some()
        };
        assert!(tombstone(&[]) && tombstone(&[("drop.tombstones", "false")]));
        assert!(!tombstone(&[("drop.tombstones", "true")]) && !tombstone(&[("delete.handling.mode", "rewrite")]));
    }

    #[test]
    fn headers_routes_and_objects() {
        let mut transform = build(&SPEC, &[("add.headers", "op"), ("add.fields", "op"), ("route.by.field", "to")]);
        let row = Value::Map(vec![("id".into(), 1.into()), ("to".into(), "elsewhere".into())]);
        let event = map_record(&[("op", "c".into()), ("after", row), ("source", Value::Map(Vec::new()))]);
        let out = transform.apply(event).unwrap().unwrap();
        assert_eq!((&*out.topic, &*out.headers[0].key), ("elsewhere", "__op"));
        assert_eq!(out.value.value.entry("__op"), Some(&"c".into()));
        let error = build(&SPEC, &[("add.fields", "nope")]).apply(self::event(&envelope(), "c")).unwrap_err();
        assert!(error.to_string().contains("no field nope"));
    }
}
