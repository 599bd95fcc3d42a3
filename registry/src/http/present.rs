//! Schemas as JSON in the shape of a profile; members without content are left out.

use serde_json::{Map, Value, json};

use super::exchange::Exchange;
use crate::record::StoredSchema;
use crate::registry::{Profile, Registered, Registry};
use crate::schema::SchemaType;

/// The text in the format that the request asks for.
pub(super) fn text(registry: &Registry, exchange: &Exchange, stored: &StoredSchema) -> String {
    match exchange.parameter("format") {
        Some("resolved") => registry.resolved_text(stored),
        _ => stored.schema.clone(),
    }
}

/// A version of a subject.
pub(super) fn schema(registry: &Registry, exchange: &Exchange, stored: &StoredSchema) -> Value {
    let cp8 = registry.options().profile == Profile::Cp8;
    let mut out = Map::new();
    out.insert("subject".into(), stored.subject.to_string().into());
    out.insert("version".into(), stored.version.into());
    out.insert("id".into(), stored.id.into());
    if cp8 {
        out.insert("guid".into(), stored.guid.to_string().into());
    }
    accompany(&mut out, cp8, exchange, stored);
    out.insert("schema".into(), text(registry, exchange, stored).into());
    if cp8 {
        out.insert("ts".into(), stored.timestamp.into());
        out.insert("deleted".into(), stored.deleted.into());
    }
    Value::Object(out)
}

/// A schema that was asked for by id or GUID.
pub(super) fn schema_string(registry: &Registry, exchange: &Exchange, stored: &StoredSchema, by_guid: bool) -> Value {
    let cp8 = registry.options().profile == Profile::Cp8;
    let mut out = Map::new();
    if cp8 {
        if !by_guid {
            out.insert("subject".into(), stored.subject.to_string().into());
            out.insert("version".into(), stored.version.into());
        }
        out.insert("guid".into(), stored.guid.to_string().into());
    }
    accompany(&mut out, cp8, exchange, stored);
    out.insert("schema".into(), text(registry, exchange, stored).into());
    if exchange.flag("fetchMaxId") {
        out.insert("maxId".into(), registry.state().max_id(stored.subject.context()).into());
    }
    if cp8 {
        out.insert("ts".into(), stored.timestamp.into());
        out.insert("deleted".into(), stored.deleted.into());
    }
    Value::Object(out)
}

/// The answer to a registration.
pub(super) fn registered(registry: &Registry, exchange: &Exchange, registered: &Registered) -> Value {
    let cp8 = registry.options().profile == Profile::Cp8;
    let stored = &registered.schema;
    if !cp8 && !registered.changed {
        return json!({"id": stored.id});
    }
    let mut out = Map::new();
    out.insert("id".into(), stored.id.into());
    out.insert("version".into(), stored.version.into());
    if cp8 {
        out.insert("guid".into(), stored.guid.to_string().into());
    }
    accompany(&mut out, cp8, exchange, stored);
    out.insert("schema".into(), text(registry, exchange, stored).into());
    Value::Object(out)
}

fn accompany(out: &mut Map<String, Value>, cp8: bool, exchange: &Exchange, stored: &StoredSchema) {
    if cp8 || stored.schema_type != SchemaType::Avro {
        out.insert("schemaType".into(), stored.schema_type.as_str().into());
    }
    if !stored.references.is_empty() {
        let mut references = stored.references.clone();
        if exchange.parameter("referenceFormat").is_some_and(|format| format.eq_ignore_ascii_case("qualified")) {
            for reference in &mut references {
                reference.subject = stored.subject.sibling(&reference.subject).to_string();
            }
        }
        out.insert("references".into(), json!(references));
    }
    if let Some(metadata) = &stored.metadata {
        out.insert("metadata".into(), json!(metadata));
    }
    if let Some(rule_set) = &stored.rule_set {
        out.insert("ruleSet".into(), json!(rule_set));
    }
}
