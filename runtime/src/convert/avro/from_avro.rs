//! Avro schemas as Connect schemas, as Confluent's `AvroData.toConnectSchema` makes them, with the plan to read values.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::Value as Json;
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{Field, Schema, Type, Value, date, decimal, time, timestamp};
use towline_registry::schema::avro::{self, Kind, Node, NodeId};

use super::Mapping;
use super::names::{
    DEFAULT_NAME, DEFAULT_PRECISION, ENUM, ENUM_DEFAULT, ENUM_DOC, FIELD_DEFAULT, FIELD_DOC, FIXED_SIZE, INTERNAL_TYPE,
    MAP_ENTRY, NAMESPACE, PRECISION, RECORD_DOC, SUM_ENUM, SUM_UNION, UNION,
};
use super::read::{Op, Reader};

/// Schemas nested deeper than this are refused.
const MAX_DEPTH: usize = 100;

/// The Connect schema of an Avro schema, and how its values are read.
///
/// # Errors
/// A data error for recursive schemas and for null alone, which Connect cannot express.
pub(super) fn from_avro(schema: &avro::Schema, mapping: &Mapping, version: Option<i32>) -> Result<(Schema, Reader)> {
    let mut walk = Walk { avro: schema, mapping, version, open: Vec::new(), unions: 0 };
    walk.schema(schema.root_id(), &Context::default())
}

/// What a field hands down to its type.
#[derive(Default)]
struct Context<'a> {
    optional: bool,
    default: Option<&'a Json>,
    doc: Option<&'a str>,
}

struct Walk<'a> {
    avro: &'a avro::Schema,
    mapping: &'a Mapping,
    version: Option<i32>,
    /// The types that enclose the current one.
    open: Vec<NodeId>,
    unions: usize,
}

impl Walk<'_> {
    fn schema(&mut self, id: NodeId, context: &Context<'_>) -> Result<(Schema, Reader)> {
        if self.open.contains(&id) {
            let name = self.avro.node(id).full_name();
            return Err(Error::data(format!("recursive Avro type {name} cannot be read: Connect has no such schemas")));
        }
        if self.open.len() > MAX_DEPTH {
            return Err(Error::data("Avro schema is nested too deeply"));
        }
        self.open.push(id);
        let result = self.open_schema(id, context);
        self.open.pop();
        result
    }

    fn open_schema(&mut self, id: NodeId, context: &Context<'_>) -> Result<(Schema, Reader)> {
        let node = self.avro.node(id).clone();
        if let Kind::Union(branches) = &node.kind {
            let nulls = branches.iter().filter(|b| matches!(self.avro.node(**b).kind, Kind::Null)).count();
            match branches.as_slice() {
                [a, b] if nulls == 1 => {
                    let null_first = matches!(self.avro.node(*a).kind, Kind::Null);
                    let inner = Context {
                        optional: true,
                        default: context.default.filter(|default| !default.is_null()),
                        doc: context.doc,
                    };
                    let (schema, reader) = self.schema(if null_first { *b } else { *a }, &inner)?;
                    let null = usize::from(!null_first);
                    return Ok((schema, Reader { op: Op::Nullable { null, inner: Box::new(reader) } }));
                }
                [only] if self.mapping.flatten_singleton_unions => {
                    let (schema, reader) = self.schema(*only, context)?;
                    return Ok((schema, Reader { op: Op::Singleton(Box::new(reader)) }));
                }
                _ => {}
            }
        }
        let (mut schema, op) = self.base(&node)?;
        self.decorate(&mut schema, &node, context)?;
        schema.optional |= context.optional;
        Ok((schema, Reader { op }))
    }

    /// The type itself, without what its properties say.
    fn base(&mut self, node: &Node) -> Result<(Schema, Op)> {
        let connect_type = node.properties.get("connect.type").and_then(Json::as_str);
        Ok(match &node.kind {
            Kind::Null => return Err(Error::data("Standalone null schemas are not supported by this converter")),
            Kind::Boolean => (Schema::new(Type::Boolean), Op::Boolean),
            Kind::Int => match (connect_type, node.logical_type()) {
                (Some("int8"), _) => (Schema::new(Type::Int8), Op::Int8),
                (Some("int16"), _) => (Schema::new(Type::Int16), Op::Int16),
                (_, Some("date")) => (date(), Op::Int32),
                (_, Some("time-millis")) => (time(), Op::Int32),
                _ => (Schema::new(Type::Int32), Op::Int32),
            },
            Kind::Long if node.logical_type() == Some("timestamp-millis") => (timestamp(), Op::Int64),
            Kind::Long => (Schema::new(Type::Int64), Op::Int64),
            Kind::Float => (Schema::new(Type::Float32), Op::Float32),
            Kind::Double => (Schema::new(Type::Float64), Op::Float64),
            Kind::String => (Schema::new(Type::String), Op::String),
            Kind::Bytes => (decimal_of(node).unwrap_or_else(|| Schema::new(Type::Bytes)), Op::Bytes),
            Kind::Fixed(fixed) => {
                let schema = decimal_of(node).unwrap_or_else(|| Schema::new(Type::Bytes));
                (schema.with_parameter(FIXED_SIZE, fixed.size.to_string()), Op::Fixed(fixed.size as usize))
            }
            Kind::Enum(symbols) => {
                let mut schema = Schema::new(Type::String);
                if let Some(doc) = &symbols.named.doc {
                    let key = if self.mapping.discard_type_doc_default {
                        "connect.enum.doc".to_owned()
                    } else {
                        format!("{ENUM_DOC}{}", symbols.named.name.name)
                    };
                    schema = schema.with_parameter(key, doc);
                }
                if let Some(default) = symbols.default.as_ref().filter(|_| !self.mapping.discard_type_doc_default) {
                    schema = schema.with_parameter(format!("{ENUM_DEFAULT}{}", symbols.named.name.name), default);
                }
                let parameter = if self.mapping.generalized_sum_types { SUM_ENUM } else { ENUM };
                let name =
                    if self.mapping.generalized_sum_types { symbols.named.name.name.clone() } else { node.full_name() };
                schema = schema.with_parameter(parameter, name);
                for (index, symbol) in symbols.symbols.iter().enumerate() {
                    let value = if self.mapping.generalized_sum_types { index.to_string() } else { symbol.clone() };
                    schema = schema.with_parameter(format!("{parameter}.{symbol}"), value);
                }
                (schema, Op::Enum(symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect()))
            }
            Kind::Array(items) => match self.map_entry(*items) {
                Some((key, value)) => {
                    let (keys, key) = self.schema(key, &Context::default())?;
                    let (values, value) = self.schema(value, &Context::default())?;
                    (Schema::map(Arc::new(keys), Arc::new(values)), Op::Pairs(Box::new((key, value))))
                }
                None => {
                    let (items, reader) = self.schema(*items, &Context::default())?;
                    (Schema::array(Arc::new(items)), Op::Array(Box::new(reader)))
                }
            },
            Kind::Map(values) => {
                let (values, reader) = self.schema(*values, &Context::default())?;
                (Schema::map(Arc::new(Schema::new(Type::String)), Arc::new(values)), Op::Map(Box::new(reader)))
            }
            Kind::Record(record) => {
                let (mut fields, mut readers) = (Vec::new(), Vec::new());
                for field in &record.fields {
                    let context =
                        Context { optional: false, default: field.default.as_ref(), doc: field.doc.as_deref() };
                    let (schema, reader) = self.schema(field.schema, &context)?;
                    fields.push(Field::new(field.name.as_str(), Arc::new(schema)));
                    readers.push(reader);
                }
                (Schema::structure(fields), Op::Record(readers))
            }
            Kind::Union(branches) => self.union(branches)?,
        })
    }

    fn union(&mut self, branches: &[NodeId]) -> Result<(Schema, Op)> {
        let (mut fields, mut readers, mut optional) = (Vec::new(), Vec::new(), false);
        let union = self.unions;
        self.unions += 1;
        for branch in branches {
            let node = self.avro.node(*branch);
            if matches!(node.kind, Kind::Null) {
                optional = true;
                readers.push(None);
                continue;
            }
            let name = match node.named() {
                _ if self.mapping.generalized_sum_types => format!("connect_union_field_{}", fields.len()),
                Some(named) if !self.mapping.enhanced => named.name.name.clone(),
                _ => node.full_name(),
            };
            let (schema, reader) = self.schema(*branch, &Context { optional: true, ..Context::default() })?;
            fields.push(Field::new(name, Arc::new(schema)));
            readers.push(Some(reader));
        }
        let schema = Schema::structure(fields).with_optional(optional);
        let schema = if self.mapping.generalized_sum_types {
            let name = format!("connect_union_{union}");
            schema.with_name(name.as_str()).with_parameter(SUM_UNION, name)
        } else {
            schema.with_name(UNION)
        };
        Ok((schema, Op::Union(readers)))
    }

    /// Key and value of the record that stands for an entry of a map.
    fn map_entry(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let node = self.avro.node(id);
        let Kind::Record(record) = &node.kind else { return None };
        let [key, value] = record.fields.as_slice() else { return None };
        let marked = node.full_name() == format!("{NAMESPACE}.{MAP_ENTRY}")
            || node.properties.get(INTERNAL_TYPE).and_then(Json::as_str) == Some(MAP_ENTRY);
        (marked && key.name == "key" && value.name == "value").then_some((key.schema, value.schema))
    }

    /// Doc, version, parameters, default value and name.
    fn decorate(&self, schema: &mut Schema, node: &Node, context: &Context<'_>) -> Result<()> {
        let text = |key: &str| node.properties.get(key).and_then(Json::as_str);
        let own_doc = node.named().and_then(|named| named.doc.as_deref());
        let discard = self.mapping.discard_type_doc_default;
        let doc = if discard { context.doc.or(own_doc).or(text("connect.doc")) } else { text("connect.doc") };
        schema.doc = doc.map(Arc::from);
        let version = node.properties.get("connect.version").and_then(Json::as_i64).and_then(|v| i32::try_from(v).ok());
        let root = self.open.len() == 1;
        if let Some(version) = version.or(self.version.filter(|_| root)).filter(|version| *version > 0) {
            schema.version = Some(version);
        }
        if let Kind::Record(record) = &node.kind
            && !discard
        {
            if let Some(doc) = own_doc {
                schema.parameters.insert(RECORD_DOC.to_owned(), doc.to_owned());
            }
            for field in &record.fields {
                if let Some(doc) = &field.doc {
                    schema.parameters.insert(format!("{FIELD_DOC}{}", field.name), doc.clone());
                }
            }
        }
        if let (true, Some(doc)) = (discard, own_doc) {
            schema.parameters.insert("connect.record.doc".to_owned(), doc.to_owned());
        }
        parameters(&mut schema.parameters, node)?;
        let connect_default = node.properties.get("connect.default");
        if context.default.is_some() && connect_default.is_none() && !discard {
            schema.parameters.insert(FIELD_DEFAULT.to_owned(), "true".to_owned());
        }
        if let Some(default) = context.default.or(connect_default).filter(|default| !default.is_null()) {
            schema.default = default_value(schema, default);
        }
        let name = text("connect.name").map(str::to_owned).or(node.named().map(|named| named.name.full()));
        if let Some(name) = name.filter(|name| schema.name.is_none() && !name.starts_with(DEFAULT_NAME)) {
            schema.name = Some(Arc::from(name));
        }
        Ok(())
    }
}

fn parameters(into: &mut IndexMap<String, String>, node: &Node) -> Result<()> {
    if let Some(Json::Object(parameters)) = node.properties.get("connect.parameters") {
        for (key, value) in parameters {
            let Json::String(value) = value else {
                return Err(Error::data(format!("Expected schema parameter values to be strings but found: {value}")));
            };
            into.insert(key.clone(), value.clone());
        }
    }
    for (key, value) in node.properties.iter().filter(|(key, _)| key.starts_with("avro")) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        into.insert(key.clone(), text);
    }
    Ok(())
}

/// The Connect Decimal that a node stands for, in either form: Avro's own, or Confluent's older one.
fn decimal_of(node: &Node) -> Option<Schema> {
    if node.logical_type() != Some("decimal") {
        return None;
    }
    let number = |key: &str| node.properties.get(key).and_then(Json::as_i64).and_then(|n| i32::try_from(n).ok());
    let precision = number("precision").unwrap_or(DEFAULT_PRECISION);
    let schema = decimal(number("scale").unwrap_or(0));
    Some(if precision == DEFAULT_PRECISION { schema } else { schema.with_parameter(PRECISION, precision.to_string()) })
}

/// A default value from Avro's JSON form; `None` if it does not follow the schema.
fn default_value(schema: &Schema, json: &Json) -> Option<Value> {
    Some(match (schema.kind, json) {
        (Type::Int8, Json::Number(n)) => Value::Int8(n.as_i64()?.try_into().ok()?),
        (Type::Int16, Json::Number(n)) => Value::Int16(n.as_i64()?.try_into().ok()?),
        (Type::Int32, Json::Number(n)) => Value::Int32(n.as_i64()?.try_into().ok()?),
        (Type::Int64, Json::Number(n)) => Value::Int64(n.as_i64()?),
        (Type::Float32, Json::Number(n)) => Value::Float32(n.as_f64()? as f32),
        (Type::Float64, Json::Number(n)) => Value::Float64(n.as_f64()?),
        (Type::Boolean, Json::Bool(truth)) => Value::Boolean(*truth),
        (Type::String, Json::String(text)) => Value::from(text.as_str()),
        (Type::Bytes, Json::String(text)) => Value::Bytes(Bytes::from(
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<_>>>()?,
        )),
        (Type::Array, Json::Array(items)) => {
            let schema = schema.items.as_ref()?;
            Value::Array(items.iter().map(|item| default_value(schema, item)).collect::<Option<_>>()?)
        }
        (Type::Map, Json::Object(entries)) => {
            let schema = schema.items.as_ref()?;
            let entry = |(key, item): (&String, &Json)| Some((Value::from(key.as_str()), default_value(schema, item)?));
            Value::Map(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        (Type::Struct, Json::Object(members)) if schema.name() != Some(UNION) => {
            let field = |field: &Field| match members.get(&*field.name) {
                Some(Json::Null) | None => Some(Value::Null),
                Some(member) => default_value(&field.schema, member),
            };
            Value::Struct(schema.fields.iter().map(field).collect::<Option<_>>()?)
        }
        // The default of a union is one of its first branch.
        (Type::Struct, json) if schema.name() == Some(UNION) => {
            let (first, rest) = schema.fields.split_first()?;
            let mut values = vec![default_value(&first.schema, json)?];
            values.extend(rest.iter().map(|_| Value::Null));
            Value::Struct(values)
        }
        _ => return None,
    })
}
