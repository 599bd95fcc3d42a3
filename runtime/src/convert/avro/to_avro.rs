//! Connect schemas as Avro schemas, as Confluent's `AvroData.fromConnectSchema` makes them: same names, same property
//! order, because registries and other readers compare the text.

use serde_json::{Map, Value as Json, json};
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{DATE, DECIMAL, Schema, TIME, TIMESTAMP, Type, Value};
use towline_registry::schema::avro;

use super::Mapping;
use super::names::{
    DEFAULT_NAME, DEFAULT_PRECISION, ENUM, ENUM_DEFAULT, ENUM_DOC, FIELD_DEFAULT, FIELD_DOC, FIXED_SIZE, INTERNAL_TYPE,
    MAP_ENTRY, NAMESPACE, PRECISION, RECORD_DOC, SUM_ENUM, SUM_UNION, UNION,
};

/// Schemas nested deeper than this are refused.
const MAX_DEPTH: usize = 100;

/// The Avro schema of a Connect schema.
///
/// # Errors
/// A data error if a name is not one of Avro's, or one name stands for two types.
pub(super) fn to_avro(schema: &Schema, mapping: &Mapping) -> Result<avro::Schema> {
    let mut builder = Builder { mapping, unnamed: 0, named: Vec::new() };
    let json = builder.schema(schema, false, 0)?;
    avro::Schema::from_json(&json).map_err(|error| {
        Error::data(format!("schema cannot be expressed in Avro: {error}"))
            .caused_by(super::super::serialization(error.to_string()))
    })
}

/// Whether a Connect schema stands for a union.
pub(super) fn is_union(schema: &Schema) -> bool {
    schema.kind == Type::Struct && (schema.name() == Some(UNION) || schema.parameters.contains_key(SUM_UNION))
}

/// The parameter that names an enum, if the schema stands for one.
pub(super) fn enum_parameter(schema: &Schema, mapping: &Mapping) -> Option<&'static str> {
    let name = if mapping.generalized_sum_types { SUM_ENUM } else { ENUM };
    let active = mapping.enhanced || mapping.generalized_sum_types;
    (active && schema.kind == Type::String && schema.parameters.contains_key(name)).then_some(name)
}

/// The symbols of an enum, in order.
pub(super) fn enum_symbols(schema: &Schema, parameter: &str) -> Vec<String> {
    let prefix = format!("{parameter}.");
    schema.parameters.keys().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// Whether a map's keys are text that Avro's own map can hold.
pub(super) fn is_text_map(schema: &Schema, mapping: &Mapping) -> bool {
    schema.keys.as_ref().is_some_and(|k| k.kind == Type::String && (!k.optional || mapping.optional_map_keys))
}

struct Builder<'a> {
    mapping: &'a Mapping,
    unnamed: usize,
    /// Named types made so far; a schema that equals one becomes a reference to it.
    named: Vec<(Schema, String)>,
}

impl Builder<'_> {
    fn schema(&mut self, schema: &Schema, ignore_optional: bool, depth: usize) -> Result<Json> {
        if depth > MAX_DEPTH {
            return Err(Error::data("schema is nested too deeply for Avro"));
        }
        if !schema.optional
            && let Some((_, name)) = self.named.iter().find(|(known, _)| known == schema)
        {
            return Ok(Json::String(name.clone()));
        }
        if is_union(schema) {
            let mut branches = Vec::new();
            if schema.optional {
                branches.push(json!("null"));
            }
            for field in &schema.fields {
                branches.push(self.schema(&required(&field.schema), true, depth + 1)?);
            }
            return Ok(Json::Array(branches));
        }
        if schema.kind == Type::Struct && schema.optional {
            let record = self.schema(&required(schema), false, depth + 1)?;
            return Ok(if ignore_optional { record } else { json!(["null", record]) });
        }
        let (mut object, connect_type) = self.base(schema, depth)?;
        if self.mapping.connect_meta_data {
            metadata(schema, connect_type, &mut object)?;
        }
        logical(schema, &mut object);
        for (key, value) in schema.parameters.iter().filter(|(key, _)| key.starts_with("avro")) {
            object.insert(key.clone(), json!(value));
        }
        let base = match object.get("type") {
            Some(kind) if object.len() == 1 => kind.clone(),
            _ => Json::Object(object),
        };
        Ok(match (schema.optional && !ignore_optional, &schema.default) {
            (false, _) => base,
            (true, Some(default)) if !default.is_null() => json!([base, "null"]),
            (true, _) => json!(["null", base]),
        })
    }

    /// The type without metadata, and the `connect.type` that it needs.
    fn base(&mut self, schema: &Schema, depth: usize) -> Result<(Map<String, Json>, Option<&'static str>)> {
        let mut object = Map::new();
        let mut connect_type = None;
        match schema.kind {
            Type::Int8 => {
                connect_type = Some("int8");
                object.insert("type".into(), json!("int"));
            }
            Type::Int16 => {
                connect_type = Some("int16");
                object.insert("type".into(), json!("int"));
            }
            Type::Int32 => drop(object.insert("type".into(), json!("int"))),
            Type::Int64 => drop(object.insert("type".into(), json!("long"))),
            Type::Float32 => drop(object.insert("type".into(), json!("float"))),
            Type::Float64 => drop(object.insert("type".into(), json!("double"))),
            Type::Boolean => drop(object.insert("type".into(), json!("boolean"))),
            Type::String => self.text(schema, &mut object),
            Type::Bytes => self.bytes(schema, &mut object),
            Type::Array => {
                let items = part(schema.items.as_deref(), "element")?;
                object.insert("type".into(), json!("array"));
                object.insert("items".into(), self.schema(items, false, depth + 1)?);
            }
            Type::Map => {
                let values = part(schema.items.as_deref(), "value")?;
                if is_text_map(schema, self.mapping) {
                    object.insert("type".into(), json!("map"));
                    object.insert("values".into(), self.schema(values, false, depth + 1)?);
                } else {
                    let keys = part(schema.keys.as_deref(), "key")?;
                    object.insert("type".into(), json!("array"));
                    object.insert("items".into(), self.map_entry(schema, keys, values, depth)?);
                }
            }
            Type::Struct => self.record(schema, &mut object, depth)?,
        }
        Ok((object, connect_type))
    }

    fn text(&mut self, schema: &Schema, object: &mut Map<String, Json>) {
        let Some(parameter) = enum_parameter(schema, self.mapping) else {
            object.insert("type".into(), json!("string"));
            return;
        };
        let name = self.mapping.scrub(schema.parameters.get(parameter).map_or("", String::as_str));
        let simple = name.rsplit('.').next().unwrap_or_default().to_owned();
        object.insert("type".into(), json!("enum"));
        self.name(&name, schema, object);
        let doc_key = if self.mapping.discard_type_doc_default {
            "connect.enum.doc".to_owned()
        } else {
            format!("{ENUM_DOC}{simple}")
        };
        if let Some(doc) = schema.parameters.get(&doc_key) {
            object.insert("doc".into(), json!(doc));
        }
        object.insert("symbols".into(), json!(enum_symbols(schema, parameter)));
        if let Some(default) = schema.parameters.get(&format!("{ENUM_DEFAULT}{simple}")) {
            object.insert("default".into(), json!(default));
        }
    }

    fn bytes(&mut self, schema: &Schema, object: &mut Map<String, Json>) {
        match schema.parameters.get(FIXED_SIZE).and_then(|size| size.parse::<u32>().ok()) {
            Some(size) => {
                let name = match schema.name() {
                    Some(name) if name != DECIMAL => self.mapping.scrub(name),
                    _ => self.default_name(),
                };
                object.insert("type".into(), json!("fixed"));
                self.name(&name, schema, object);
                object.insert("size".into(), json!(size));
            }
            None => drop(object.insert("type".into(), json!("bytes"))),
        }
        if let Some((scale, precision)) = decimal(schema) {
            object.insert("scale".into(), json!(scale));
            object.insert("precision".into(), json!(precision));
        }
    }

    fn map_entry(&mut self, schema: &Schema, keys: &Schema, values: &Schema, depth: usize) -> Result<Json> {
        let mut entry = Map::new();
        entry.insert("type".into(), json!("record"));
        let name = schema.name().map_or_else(|| format!("{NAMESPACE}.{MAP_ENTRY}"), |name| self.mapping.scrub(name));
        entry.insert("name".into(), json!(name));
        let fields = vec![self.field("key", keys, None, depth)?, self.field("value", values, None, depth)?];
        entry.insert("fields".into(), Json::Array(fields));
        if schema.name.is_some() {
            entry.insert(INTERNAL_TYPE.into(), json!(MAP_ENTRY));
        }
        Ok(Json::Object(entry))
    }

    fn record(&mut self, schema: &Schema, object: &mut Map<String, Json>, depth: usize) -> Result<()> {
        let name = match schema.name() {
            Some(name) => self.mapping.scrub(name),
            None => self.default_name(),
        };
        object.insert("type".into(), json!("record"));
        let doc_key = if self.mapping.discard_type_doc_default { "connect.record.doc" } else { RECORD_DOC };
        self.name(&name, schema, object);
        if let Some(doc) = schema.parameters.get(doc_key) {
            object.insert("doc".into(), json!(doc));
        }
        let mut fields = Vec::with_capacity(schema.fields.len());
        for field in &schema.fields {
            let doc = if self.mapping.discard_type_doc_default {
                field.schema.doc.as_deref()
            } else {
                schema.parameters.get(&format!("{FIELD_DOC}{}", field.name)).map(String::as_str)
            };
            fields.push(self.field(&self.mapping.scrub_part(&field.name), &field.schema, doc, depth)?);
        }
        object.insert("fields".into(), Json::Array(fields));
        Ok(())
    }

    fn field(&mut self, name: &str, schema: &Schema, doc: Option<&str>, depth: usize) -> Result<Json> {
        let mut field = Map::new();
        field.insert("name".into(), json!(name));
        field.insert("type".into(), self.schema(schema, false, depth + 1)?);
        if let Some(doc) = doc {
            field.insert("doc".into(), json!(doc));
        }
        match &schema.default {
            // The default of a union is one of its first branch, which for structs is null.
            Some(default) if !(schema.kind == Type::Struct && schema.optional) => {
                field.insert("default".into(), default_json(schema, default)?);
            }
            _ if schema.optional => drop(field.insert("default".into(), Json::Null)),
            _ => {}
        }
        Ok(Json::Object(field))
    }

    fn default_name(&mut self) -> String {
        self.unnamed += 1;
        if self.unnamed > 1 { format!("{DEFAULT_NAME}{}", self.unnamed) } else { DEFAULT_NAME.to_owned() }
    }

    /// Names a type, and remembers it.
    fn name(&mut self, name: &str, schema: &Schema, object: &mut Map<String, Json>) {
        object.insert("name".into(), json!(name));
        self.named.push((required(schema), name.to_owned()));
    }
}

fn part<'a>(schema: Option<&'a Schema>, what: &str) -> Result<&'a Schema> {
    schema.ok_or_else(|| Error::data(format!("schema has no {what} schema")))
}

fn required(schema: &Schema) -> Schema {
    schema.clone().with_optional(false)
}

/// Scale and precision of a Connect Decimal.
pub(super) fn decimal(schema: &Schema) -> Option<(i32, i32)> {
    if schema.kind != Type::Bytes || schema.name() != Some(DECIMAL) {
        return None;
    }
    let number = |key: &str| schema.parameters.get(key).and_then(|text| text.trim().parse::<i32>().ok());
    Some((number("scale")?, number(PRECISION).unwrap_or(DEFAULT_PRECISION)))
}

/// The `connect.*` properties, in Confluent's order.
fn metadata(schema: &Schema, connect_type: Option<&str>, object: &mut Map<String, Json>) -> Result<()> {
    if let Some(doc) = &schema.doc {
        object.insert("connect.doc".into(), json!(&**doc));
    }
    if let Some(version) = schema.version {
        object.insert("connect.version".into(), json!(version));
    }
    let own = ["connect.record.doc", "connect.enum.doc", RECORD_DOC, FIELD_DEFAULT];
    let own_prefixes = [FIELD_DOC, ENUM_DOC, ENUM_DEFAULT];
    let parameters: Map<String, Json> = schema
        .parameters
        .iter()
        .filter(|(key, _)| !own.contains(&key.as_str()) && !own_prefixes.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if !parameters.is_empty() {
        object.insert("connect.parameters".into(), Json::Object(parameters));
    }
    if let Some(default) = schema.default.as_ref().filter(|_| !schema.parameters.contains_key(FIELD_DEFAULT)) {
        object.insert("connect.default".into(), default_json(schema, default)?);
    }
    if let Some(name) = &schema.name {
        object.insert("connect.name".into(), json!(&**name));
    }
    if let Some(kind) = connect_type {
        object.insert("connect.type".into(), json!(kind));
    }
    Ok(())
}

fn logical(schema: &Schema, object: &mut Map<String, Json>) {
    let name = match (schema.name(), schema.kind) {
        (Some(DECIMAL), Type::Bytes) => "decimal",
        (Some(DATE), Type::Int32) => "date",
        (Some(TIME), Type::Int32) => "time-millis",
        (Some(TIMESTAMP), Type::Int64) => "timestamp-millis",
        _ => return,
    };
    object.insert("logicalType".into(), json!(name));
}

/// A default value in Avro's JSON form: bytes as text of one character a byte.
fn default_json(schema: &Schema, value: &Value) -> Result<Json> {
    let inner = schema.items.as_deref();
    Ok(match value {
        Value::Null => Json::Null,
        Value::Boolean(truth) => json!(truth),
        Value::Float32(n) => float_json(f64::from(*n), &n.to_string())?,
        Value::Float64(n) => float_json(*n, &n.to_string())?,
        Value::String(text) => json!(&**text),
        Value::Bytes(bytes) => Json::String(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Value::Array(items) => {
            let schema = part(inner, "element")?;
            Json::Array(items.iter().map(|item| default_json(schema, item)).collect::<Result<_>>()?)
        }
        Value::Map(entries) => {
            let schema = part(inner, "value")?;
            let mut object = Map::new();
            for (key, item) in entries {
                let Some(key) = key.as_str() else {
                    return Err(Error::data("maps with keys other than text cannot be default values in Avro"));
                };
                object.insert(key.to_owned(), default_json(schema, item)?);
            }
            Json::Object(object)
        }
        Value::Struct(values) => {
            let mut object = Map::new();
            for (field, item) in schema.fields.iter().zip(values) {
                object.insert(field.name.to_string(), default_json(&field.schema, item)?);
            }
            Json::Object(object)
        }
        other => json!(other.as_i64().unwrap_or_default()),
    })
}

/// The shortest text of the number, which for a single is shorter than its double's.
fn float_json(number: f64, shortest: &str) -> Result<Json> {
    let number = shortest.parse().unwrap_or(number);
    serde_json::Number::from_f64(number)
        .map(Json::Number)
        .ok_or_else(|| Error::data(format!("{number} cannot be a default value in Avro")))
}
