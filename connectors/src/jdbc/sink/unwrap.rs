//! Takes rows out of what they come in: Debezium's change events, JSON without schemas, keys in headers. What comes out
//! are plain records, one for one, and for each what is to be done with it. Plain records pass untouched. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;

use super::config::{Dialect, PkMode, SinkConfig};
use crate::api::{Record, SinkRecord};
use crate::data::{Datum, Field, Plans, Schema, Type, Value};
use crate::postgres::schemaless;

/// Made schemas that are kept; objects that change for ever must not fill the memory.
const MOST_SCHEMAS: usize = 256;

/// What is done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Write,
    Delete,
    /// Empty the table.
    Truncate,
    /// Nothing: the record has no meaning for the target.
    Pass,
}

/// What was found out about a record.
#[derive(Debug, Clone)]
struct Note {
    action: Result<Action, String>,
    table: Option<Arc<str>>,
}

/// Plain records, with the same places as those that came.
#[derive(Debug)]
pub(super) struct Unwrapped<'a> {
    pub(super) records: Cow<'a, [SinkRecord]>,
    /// One a record; none if all are plain.
    notes: Vec<Note>,
}

/// Where the parts of a change event stand in its struct.
#[derive(Debug, Clone, Copy)]
struct Envelope {
    op: usize,
    before: Option<usize>,
    after: Option<usize>,
    source: Option<usize>,
}

/// Unwraps records, and remembers the schemas that it makes, so that equal records have one schema.
#[derive(Debug)]
pub(super) struct Unwrapper {
    envelopes: Plans<Option<Envelope>>,
    /// For each schema of a CloudEvent, the place of its data.
    clouds: Plans<Option<usize>>,
    made: Vec<Arc<Schema>>,
    any: Arc<Schema>,
    text: Arc<Schema>,
    table: Arc<str>,
    /// Whether the log has that unknown operations are passed over.
    told_unknown: bool,
}

impl Unwrapped<'_> {
    /// What is done with the record of a place, or why it is refused.
    #[inline]
    pub(super) fn action(&self, at: usize) -> Result<Action, String> {
        match self.notes.get(at) {
            Some(note) => note.action.clone(),
            None if self.records[at].record.value.value.is_null() => Ok(Action::Delete),
            None => Ok(Action::Write),
        }
    }

    /// The table that the record itself names.
    #[inline]
    pub(super) fn table(&self, at: usize) -> Option<&Arc<str>> {
        self.notes.get(at).and_then(|note| note.table.as_ref())
    }
}

impl Default for Unwrapper {
    fn default() -> Self {
        Self {
            envelopes: Plans::default(),
            clouds: Plans::default(),
            made: Vec::new(),
            any: Arc::new(schemaless::schema()),
            text: Arc::new(Schema::new(Type::String).optional()),
            table: "".into(),
            told_unknown: false,
        }
    }
}

impl Unwrapper {
    /// Plain records of these.
    pub(super) fn unwrap<'a>(&mut self, config: &SinkConfig, records: &'a [SinkRecord]) -> Unwrapped<'a> {
        let bare = |datum: &Datum| datum.schema.is_none() && !datum.value.is_null();
        let odd = |record: &SinkRecord| {
            let value = &record.record.value;
            bare(value)
                || (config.pk_mode.needs_key() && bare(&record.record.key))
                || (config.tombstones_pass && value.value.is_null())
        };
        if config.dialect == Dialect::Confluent && !records.iter().any(odd) {
            return Unwrapped { records: Cow::Borrowed(records), notes: Vec::new() };
        }
        let mut notes = Vec::with_capacity(records.len());
        let records = records
            .iter()
            .map(|record| {
                let (row, note) = self.open(config, &record.record);
                notes.push(note);
                SinkRecord { record: row, origin: record.origin.clone() }
            })
            .collect();
        Unwrapped { records: Cow::Owned(records), notes }
    }

    fn open(&mut self, config: &SinkConfig, record: &Record) -> (Record, Note) {
        let mut row = Record {
            key: record.key.clone(),
            partition: record.partition,
            timestamp: record.timestamp,
            ..Record::of_value(Arc::clone(&record.topic), Datum::default())
        };
        let mut table = None;
        let action = match config.dialect {
            Dialect::Confluent => {
                row.value = record.value.clone();
                Ok(plain_action(config, record))
            }
            Dialect::Debezium => self.open_event(config, record, &mut row, &mut table),
        };
        let action = action.and_then(|action| {
            if config.pk_mode == PkMode::RecordHeader && matches!(action, Action::Write | Action::Delete) {
                row.key = self.key_of_headers(config, record)?;
            }
            Ok(action)
        });
        row.value = self.with_schema(std::mem::take(&mut row.value));
        row.key = self.with_schema(std::mem::take(&mut row.key));
        (row, Note { action, table })
    }

    /// A change event or a flattened row of Debezium.
    fn open_event(
        &mut self,
        config: &SinkConfig,
        record: &Record,
        row: &mut Record,
        table: &mut Option<Arc<str>>,
    ) -> Result<Action, String> {
        let by_source = config.table_format.contains("${source.");
        if record.value.value.is_null() {
            // The event before it has deleted the row already.
            return Ok(if by_source { Action::Pass } else { plain_action(config, record) });
        }
        let value = self.out_of_cloud(config, &record.value)?;
        let value = &*value;
        if value.schema.as_ref().is_some_and(|schema| is_schema_change(schema)) {
            tracing::warn!(topic = %record.topic, "schema change events are passed over: leave their topic out of topics");
            return Ok(Action::Pass);
        }
        let Some(event) = self.event_of(value) else {
            if by_source {
                return Err(format!(
                    "the value is no change event, so that collection.name.format={} has no source to take the table's \
                     name from",
                    config.table_format
                ));
            }
            row.value = value.clone();
            return Ok(Action::Write);
        };
        if by_source {
            *table = Some(self.table_of_source(config, record, event.source)?);
        }
        match event.op {
            "c" | "r" | "u" => match event.after {
                Some(after) if !after.value.is_null() => {
                    row.value = after;
                    Ok(Action::Write)
                }
                _ => Err("the change event has no row in its field \"after\"".to_owned()),
            },
            "d" if !config.delete_enabled => Ok(Action::Pass),
            "d" if config.pk_mode == PkMode::RecordValue => match event.before {
                Some(before) if !before.value.is_null() => {
                    row.key = before;
                    Ok(Action::Delete)
                }
                _ => Err("the deletion has no row in its field \"before\" to take the key from: use \
                          primary.key.mode=record_key, or REPLICA IDENTITY FULL on the source's table"
                    .to_owned()),
            },
            "d" => Ok(Action::Delete),
            "t" if config.truncate_enabled => Ok(Action::Truncate),
            // Messages are no rows.
            "t" | "m" => Ok(Action::Pass),
            _ => {
                if !std::mem::replace(&mut self.told_unknown, true) {
                    tracing::warn!(
                        topic = %record.topic,
                        "change events with an unknown operation in their field \"op\" are passed over"
                    );
                }
                Ok(Action::Pass)
            }
        }
    }

    /// What a CloudEvent carries; other values as they are.
    fn out_of_cloud<'a>(&mut self, config: &SinkConfig, value: &'a Datum) -> Result<Cow<'a, Datum>, String> {
        let (Some(pattern), Some(schema), Value::Struct(values)) = (&config.cloud_events, &value.schema, &value.value)
        else {
            return Ok(Cow::Borrowed(value));
        };
        let place = *self
            .clouds
            .plan(schema, || {
                if !schema.name().is_some_and(|name| pattern.is_match(name)) {
                    return Ok(None);
                }
                let data = schema.field("data").filter(|(_, field)| field.schema.kind == Type::Struct);
                data.map(|(at, _)| Some(at)).ok_or("the CloudEvent has no struct in its field \"data\"")
            })
            .map_err(str::to_owned)?;
        let Some(at) = place else { return Ok(Cow::Borrowed(value)) };
        let data = values.get(at).filter(|data| !data.is_null());
        let data = data.ok_or("the CloudEvent's field \"data\" is null")?;
        Ok(Cow::Owned(Datum::new(Arc::clone(&schema.fields[at].schema), data.clone())))
    }

    fn event_of<'a>(&mut self, value: &'a Datum) -> Option<Event<'a>> {
        match (&value.schema, &value.value) {
            (Some(schema), Value::Struct(values)) => {
                let places = *self.envelopes.plan(schema, || Ok::<_, ()>(envelope_of(schema))).ok()?;
                let places = places?;
                let part = |at: Option<usize>| {
                    let at = at?;
                    Some(Datum::new(Arc::clone(&schema.fields.get(at)?.schema), values.get(at)?.clone()))
                };
                Some(Event {
                    op: values.get(places.op)?.as_str()?,
                    before: part(places.before),
                    after: part(places.after),
                    source: part(places.source),
                })
            }
            (None, Value::Map(_)) => {
                let part = |name: &str| value.value.entry(name).map(|value| Datum::schemaless(value.clone()));
                let op = value.value.entry("op")?.as_str()?;
                let (before, after, source) = (part("before"), part("after"), part("source"));
                // Rows too may have columns of these names.
                source.as_ref().and(after.as_ref().or(before.as_ref()))?;
                Some(Event { op, before, after, source })
            }
            _ => None,
        }
    }

    fn table_of_source(
        &mut self,
        config: &SinkConfig,
        record: &Record,
        source: Option<Datum>,
    ) -> Result<Arc<str>, String> {
        let mut name = String::new();
        let mut rest = config.table_format.as_str();
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            name.push_str(before);
            let end = from.find('}').ok_or_else(|| format!("{} lacks a closing brace", config.table_format))?;
            match &from[2..end] {
                "topic" => name.push_str(&record.topic.replace('.', "_")),
                variable => {
                    let field = variable.strip_prefix("source.").unwrap_or(variable);
                    let value = source.as_ref().and_then(|source| text_field(source, field));
                    name.push_str(&value.ok_or_else(|| format!("the event's source has no field \"{field}\""))?);
                }
            }
            rest = &from[end + 1..];
        }
        name.push_str(rest);
        if *self.table != *name {
            self.table = name.into();
        }
        Ok(Arc::clone(&self.table))
    }

    fn key_of_headers(&mut self, config: &SinkConfig, record: &Record) -> Result<Datum, String> {
        let header = |name: &str| record.headers.iter().rev().find(|header| header.key == name);
        let mut chosen = Vec::new();
        if config.pk_fields.is_empty() {
            for (at, header) in record.headers.iter().enumerate() {
                if record.headers[at + 1..].iter().all(|later| later.key != header.key) {
                    chosen.push(header);
                }
            }
        }
        for name in &config.pk_fields {
            chosen.push(header(name).ok_or_else(|| {
                format!("the record has no header \"{name}\", which primary.key.fields names as part of the key")
            })?);
        }
        if chosen.is_empty() {
            return Err("primary.key.mode=record_header needs records with headers".to_owned());
        }
        let values: Vec<Datum> = chosen.iter().map(|header| self.with_schema(header.value.clone())).collect();
        let fields = chosen.iter().zip(&values).map(|(header, value)| {
            let schema = value.schema.as_ref().map_or_else(|| Arc::clone(&self.any), Arc::clone);
            Field::new(&*header.key, schema)
        });
        let schema = Schema::structure(fields.collect());
        let schema = self.known(|known| *known == schema).unwrap_or_else(|| self.keep(schema.clone()));
        Ok(Datum::new(schema, Value::Struct(values.into_iter().map(|value| value.value).collect())))
    }

    /// A value without a schema gets one that says so; objects become structs.
    fn with_schema(&mut self, datum: Datum) -> Datum {
        if datum.schema.is_some() || datum.value.is_null() {
            return datum;
        }
        match datum.value {
            Value::Map(entries) => self.as_struct(entries),
            Value::Array(_) => datum,
            text @ Value::String(_) => Datum::new(Arc::clone(&self.text), text),
            value => Datum::new(Arc::clone(&self.any), value),
        }
    }

    fn as_struct(&mut self, entries: Vec<(Value, Value)>) -> Datum {
        let named = |schema: &Schema| {
            schema.fields.len() == entries.len()
                && schema.fields.iter().zip(&entries).all(|(field, (key, _))| key.as_str() == Some(&field.name))
                && schema.fields.iter().all(|field| Arc::ptr_eq(&field.schema, &self.any))
        };
        let schema = match self.known(named) {
            Some(schema) => schema,
            None => {
                let names: Option<Vec<&str>> = entries.iter().map(|(key, _)| key.as_str()).collect();
                let Some(names) = names else { return Datum::schemaless(Value::Map(entries)) };
                let fields = names.iter().map(|name| Field::new(*name, Arc::clone(&self.any)));
                let schema = Schema::structure(fields.collect()).optional();
                self.keep(schema)
            }
        };
        Datum::new(schema, Value::Struct(entries.into_iter().map(|(_, value)| value).collect()))
    }

    fn known(&self, fits: impl Fn(&Schema) -> bool) -> Option<Arc<Schema>> {
        // Records that follow each other are often alike.
        self.made.iter().rev().find(|schema| fits(schema)).map(Arc::clone)
    }

    fn keep(&mut self, schema: Schema) -> Arc<Schema> {
        if self.made.len() >= MOST_SCHEMAS {
            self.made.drain(..MOST_SCHEMAS / 2);
        }
        let schema = Arc::new(schema);
        self.made.push(Arc::clone(&schema));
        schema
    }
}

/// A change event.
struct Event<'a> {
    op: &'a str,
    before: Option<Datum>,
    after: Option<Datum>,
    source: Option<Datum>,
}

/// What is done with a row or a tombstone.
fn plain_action(config: &SinkConfig, record: &Record) -> Action {
    if !record.value.value.is_null() {
        return Action::Write;
    }
    let deletes = config.delete_enabled
        && match config.pk_mode {
            PkMode::RecordKey => true,
            // A null with a schema is a deletion that was flattened; without, a tombstone, which has no headers of its own.
            PkMode::RecordHeader => record.value.schema.is_some(),
            _ => false,
        };
    if config.tombstones_pass && !deletes { Action::Pass } else { Action::Delete }
}

fn is_schema_change(schema: &Schema) -> bool {
    schema.name().is_some_and(|name| name.ends_with(".SchemaChangeValue"))
}

fn envelope_of(schema: &Schema) -> Option<Envelope> {
    let place = |name: &str| schema.field(name).map(|(at, _)| at);
    let named = schema.name().is_some_and(|name| name.ends_with(".Envelope"));
    let (op, after, source) = (place("op")?, place("after"), place("source"));
    (named || (after.is_some() && source.is_some())).then_some(Envelope { op, before: place("before"), after, source })
}

fn text_field(source: &Datum, name: &str) -> Option<String> {
    let value = match (&source.schema, &source.value) {
        (Some(schema), Value::Struct(values)) => values.get(schema.field(name)?.0)?,
        (_, map) => map.entry(name)?,
    };
    match value {
        Value::String(text) => Some(ByteString::to_string(text)),
        value => value.as_i64().map(|number| number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Header, Origin, Props};

    fn config(entries: &[(&str, &str)]) -> SinkConfig {
        let url = ("connection.url", "jdbc:postgresql://h/d");
        let props: Props =
            [url].iter().chain(entries).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        super::super::debezium_keys::read(&props).unwrap()
    }

    fn record(value: Datum) -> SinkRecord {
        let record = Record::of_value("a.b".into(), value);
        SinkRecord { record, origin: Origin { topic: "a.b".into(), partition: 0, offset: 0 } }
    }

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect())
    }

    fn event(op: &str, before: Value, after: Value) -> SinkRecord {
        let source = map(&[("table", Value::from("t1")), ("schema", Value::from("s"))]);
        record(Datum::schemaless(map(&[
            ("before", before),
            ("after", after),
            ("source", source),
            ("op", Value::from(op)),
        ])))
    }

    #[test]
    fn events_say_what_is_done() {
        let row = map(&[("id", Value::Int64(1))]);
        let all = [("delete.enabled", "true"), ("truncate.enabled", "true"), ("primary.key.mode", "record_value")];
        let records = [
            event("c", Value::Null, row.clone()),
            event("d", row, Value::Null),
            event("t", Value::Null, Value::Null),
            event("m", Value::Null, Value::Null),
            event("d", Value::Null, Value::Null),
            record(Datum::default()),
            event("x", Value::Null, Value::Null),
            record(Datum::schemaless(map(&[("op", Value::from("x")), ("source", Value::from("y"))]))),
        ];
        let mut unwrapper = Unwrapper::default();
        let opened = unwrapper.unwrap(&config(&all), &records);
        let actions: Vec<_> = (0..records.len()).map(|at| opened.action(at).ok()).collect();
        use Action::{Delete, Pass, Truncate, Write};
        assert_eq!(
            actions,
            [Some(Write), Some(Delete), Some(Truncate), Some(Pass), None, Some(Pass), Some(Pass), Some(Write)]
        );
        assert_eq!(opened.records[0].record.value.value, Value::Struct(vec![Value::Int64(1)]));
        assert_eq!(opened.records[1].record.key.value, Value::Struct(vec![Value::Int64(1)]));
        let without = unwrapper.unwrap(&config(&[]), &records);
        assert_eq!(without.action(1), Ok(Pass));
        assert_eq!(without.action(2), Ok(Pass));
    }

    #[test]
    fn cloud_events_carry_events_and_rows() {
        let row = Arc::new(Schema::structure(vec![Field::new("id", Arc::new(Schema::new(Type::Int32)))]).optional());
        let text = Arc::new(Schema::new(Type::String));
        let envelope = Schema::structure(vec![
            Field::new("before", Arc::clone(&row)),
            Field::new("after", Arc::clone(&row)),
            Field::new("op", Arc::clone(&text)),
        ]);
        let envelope = Arc::new(envelope.with_name("s.t.Envelope").optional());
        let cloud = |name: &str, data: &Arc<Schema>, value: Value| {
            let fields = vec![Field::new("id", Arc::clone(&text)), Field::new("data", Arc::clone(data))];
            let schema = Arc::new(Schema::structure(fields).with_name(name));
            record(Datum::new(schema, Value::Struct(vec![Value::from("1"), value])))
        };
        let one = Value::Struct(vec![Value::Int32(1)]);
        let event = Value::Struct(vec![one.clone(), Value::Null, Value::from("d")]);
        let records = [
            cloud("s.t.CloudEvents.Envelope", &envelope, event),
            cloud("s.t.CloudEvents.Envelope", &row, one.clone()),
            cloud("s.t.CloudEvents.Envelope", &text, Value::from("x")),
            cloud("s.t.CloudEvents.Envelope", &row, Value::Null),
            cloud("s.t.Other", &row, one.clone()),
        ];
        let config = config(&[("delete.enabled", "true"), ("primary.key.mode", "record_value")]);
        let mut unwrapper = Unwrapper::default();
        let opened = unwrapper.unwrap(&config, &records);
        assert_eq!(opened.action(0), Ok(Action::Delete));
        assert_eq!(opened.records[0].record.key.value, one);
        assert_eq!((opened.action(1), &opened.records[1].record.value.value), (Ok(Action::Write), &one));
        assert!(opened.action(2).unwrap_err().contains("no struct"));
        assert!(opened.action(3).unwrap_err().contains("null"));
        assert_eq!(opened.records[4].record.value.schema.as_ref().unwrap().name(), Some("s.t.Other"));
    }

    #[test]
    fn tables_are_named_by_the_source() {
        let by_source = config(&[("collection.name.format", "${source.schema}_${source.table}_${topic}")]);
        let plain = record(Datum::schemaless(map(&[("id", Value::Int64(1))])));
        let records = [event("c", Value::Null, map(&[("id", Value::Int64(1))])), plain, record(Datum::default())];
        let mut unwrapper = Unwrapper::default();
        let opened = unwrapper.unwrap(&by_source, &records);
        assert_eq!(opened.table(0).map(|table| &**table), Some("s_t1_a_b"));
        assert!(opened.action(1).unwrap_err().contains("no change event"));
        assert_eq!(opened.action(2), Ok(Action::Pass));
    }

    #[test]
    fn equal_records_get_one_schema() {
        let object = || record(Datum::schemaless(map(&[("a", Value::Int64(1)), ("b", Value::from("x"))])));
        let mut keyed = object();
        keyed.record.headers =
            vec![Header { key: "h".into(), value: Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Int32(7)) }];
        let records = [keyed.clone(), keyed];
        let by_header = config(&[("primary.key.mode", "record_header")]);
        let mut unwrapper = Unwrapper::default();
        let opened = unwrapper.unwrap(&by_header, &records);
        let schemas: Vec<_> = opened.records.iter().map(|r| r.record.value.schema.clone().unwrap()).collect();
        assert!(Arc::ptr_eq(&schemas[0], &schemas[1]));
        let keys: Vec<_> = opened.records.iter().map(|r| r.record.key.schema.clone().unwrap()).collect();
        assert!(Arc::ptr_eq(&keys[0], &keys[1]));
        assert_eq!(opened.records[0].record.key.value, Value::Struct(vec![Value::Int32(7)]));
        assert!(unwrapper.unwrap(&by_header, &[object()]).action(0).unwrap_err().contains("headers"));
    }
}
