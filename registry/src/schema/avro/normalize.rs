//! Confluent's `normalize=true` for Avro: the schema is rebuilt with full names, sorted custom
//! properties and aliases, without empty docs, and default values spelled by their type.
//!
//! Two quirks of the original are kept, because normalized texts are hashed: an error becomes a
//! record, and a type without namespace inside one with a namespace moves into it. One is not: a
//! long default of 2^63-1 is not lost.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::defaults::{sorted_object, typed};
use super::parse::{ParseError, from_json_with};
use super::{Kind, Named, NodeId, Order, Properties, Schema};

pub(super) fn normalize(schema: &Schema) -> Result<Schema, ParseError> {
    let mut builder = Builder { schema, known: HashSet::new() };
    for name in schema.referenced.iter() {
        builder.known.insert(name.clone());
    }
    let json = builder.node(schema.root);
    from_json_with(&json, schema)
}

struct Builder<'a> {
    schema: &'a Schema,
    known: HashSet<String>,
}

impl Builder<'_> {
    fn node(&mut self, id: NodeId) -> Value {
        let node = self.schema.node(id);
        if let Some(named) = node.named() {
            let full = named.name.full();
            if !self.known.insert(full.clone()) {
                return Value::String(full);
            }
        }
        let mut out = Map::new();
        out.insert("type".into(), node.kind.type_name().into());
        match &node.kind {
            Kind::Union(branches) => return branches.iter().map(|branch| self.node(*branch)).collect(),
            Kind::Array(items) => {
                out.insert("items".into(), self.node(*items));
            }
            Kind::Map(values) => {
                out.insert("values".into(), self.node(*values));
            }
            Kind::Record(record) => {
                head(&mut out, &record.named);
                let fields = record.fields.iter().map(|field| {
                    let mut member = Map::new();
                    member.insert("name".into(), field.name.clone().into());
                    member.insert("type".into(), self.node(field.schema));
                    insert_doc(&mut member, field.doc.as_deref());
                    if let Some(default) = &field.default {
                        member.insert("default".into(), typed(self.schema, field.schema, default));
                    }
                    if field.order != Order::Ascending {
                        member.insert("order".into(), field.order.as_str().into());
                    }
                    insert_aliases(&mut member, field.aliases.clone());
                    insert_properties(&mut member, &field.properties);
                    Value::Object(member)
                });
                out.insert("fields".into(), fields.collect());
            }
            Kind::Enum(symbols) => {
                head(&mut out, &symbols.named);
                out.insert("symbols".into(), json!(symbols.symbols));
                if let Some(default) = &symbols.default {
                    out.insert("default".into(), default.clone().into());
                }
            }
            Kind::Fixed(fixed) => {
                head(&mut out, &fixed.named);
                out.insert("size".into(), fixed.size.into());
            }
            _ => {}
        }
        insert_properties(&mut out, &node.properties);
        Value::Object(out)
    }
}

fn head(out: &mut Map<String, Value>, named: &Named) {
    out.insert("name".into(), named.name.full().into());
    insert_doc(out, named.doc.as_deref());
    insert_aliases(out, named.aliases.iter().map(super::Name::full).collect());
}

fn insert_doc(out: &mut Map<String, Value>, doc: Option<&str>) {
    if let Some(doc) = doc.filter(|doc| !doc.is_empty()) {
        out.insert("doc".into(), doc.into());
    }
}

fn insert_aliases(out: &mut Map<String, Value>, mut aliases: Vec<String>) {
    if !aliases.is_empty() {
        aliases.sort();
        out.insert("aliases".into(), json!(aliases));
    }
}

fn insert_properties(out: &mut Map<String, Value>, properties: &Properties) {
    let mut keys: Vec<&String> = properties.keys().collect();
    keys.sort();
    for key in keys {
        out.insert(key.clone(), sorted(&properties[key]));
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => sorted_object(members.iter().map(|(key, member)| (key.clone(), sorted(member)))),
        value => value.clone(),
    }
}
