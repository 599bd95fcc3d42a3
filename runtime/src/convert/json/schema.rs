//! Connect schemas as JSON: the `schema` half of an envelope, written and read.

use std::fmt::Write;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use indexmap::IndexMap;
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{Field, Schema, Type};

use super::read::{ReadError, Reader};
use super::scan::{MAX_DEPTH, Node, Scanner};
use super::write::{Writer, write_text};
use super::{Settings, parse_failure};

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Boolean => "boolean",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Array => "array",
        Type::Map => "map",
        Type::Struct => "struct",
    }
}

/// Writes a schema; a struct's field carries its name as the last member.
///
/// # Errors
/// A data error if a default value does not follow the schema.
pub(super) fn write_schema(
    schema: &Schema,
    field: Option<&str>,
    settings: &Settings,
    out: &mut BytesMut,
) -> Result<()> {
    let member = |out: &mut BytesMut, name: &str, text: &str| {
        let _ = write!(out, ",\"{name}\":");
        write_text(out, text);
    };
    let _ = write!(out, "{{\"type\":\"{}\"", type_name(schema.kind));
    if schema.kind == Type::Struct {
        out.extend_from_slice(b",\"fields\":[");
        for (index, field) in schema.fields.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b",");
            }
            write_schema(&field.schema, Some(&field.name), settings, out)?;
        }
        out.extend_from_slice(b"]");
    }
    for (name, part) in
        [("keys", &schema.keys), (if schema.kind == Type::Map { "values" } else { "items" }, &schema.items)]
    {
        if let Some(part) = part {
            let _ = write!(out, ",\"{name}\":");
            write_schema(part, None, settings, out)?;
        }
    }
    let _ = write!(out, ",\"optional\":{}", schema.optional);
    if let Some(name) = &schema.name {
        member(out, "name", name);
    }
    if let Some(version) = schema.version {
        let _ = write!(out, ",\"version\":{version}");
    }
    if let Some(doc) = &schema.doc {
        member(out, "doc", doc);
    }
    if !schema.parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":{");
        for (index, (key, value)) in schema.parameters.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b",");
            }
            write_text(out, key);
            out.extend_from_slice(b":");
            write_text(out, value);
        }
        out.extend_from_slice(b"}");
    }
    if let Some(default) = schema.default.as_ref().filter(|default| !default.is_null()) {
        out.extend_from_slice(b",\"default\":");
        Writer::plan(schema, settings)?.write(default, out)?;
    }
    if let Some(field) = field {
        member(out, "field", field);
    }
    out.extend_from_slice(b"}");
    Ok(())
}

/// Reads a schema; JSON null is no schema.
///
/// # Errors
/// A data error if the text is no Connect schema.
pub(super) fn read_schema(text: &Bytes, settings: &Settings) -> Result<Option<Schema>> {
    if Scanner::new(text, 0).peek().map_err(parse_failure)? == Node::Null {
        return Ok(None);
    }
    read_part(text, settings, 0).map(|(schema, _)| Some(schema))
}

/// The members of a schema object as raw text.
struct Members(IndexMap<ByteString, Bytes>);

impl Members {
    fn text(&self, key: &str) -> Option<ByteString> {
        let raw = self.0.get(key)?;
        let mut scanner = Scanner::new(raw, 0);
        (scanner.peek() == Ok(Node::String)).then(|| scanner.text().ok())?
    }

    /// The raw text of a member that is not null.
    fn raw(&self, key: &str) -> Option<&Bytes> {
        self.0.get(key).filter(|raw| raw.as_ref() != b"null")
    }
}

fn read_part(text: &Bytes, settings: &Settings, depth: usize) -> Result<(Schema, Option<ByteString>)> {
    if depth > MAX_DEPTH {
        return Err(Error::data("schema is nested too deeply"));
    }
    let mut scanner = Scanner::new(text, 0);
    if scanner.peek().map_err(parse_failure)? != Node::Object {
        return Err(Error::data("Schema must contain 'type' field"));
    }
    let mut members = Members(IndexMap::new());
    scanner.members(|scanner, key| {
        members.0.insert(key, scanner.skip()?);
        Ok::<_, ReadError>(())
    })?;
    let kind = members.text("type").ok_or_else(|| Error::data("Schema must contain 'type' field"))?;
    let part = |key: &str, missing: &str| match members.raw(key) {
        Some(raw) => read_part(raw, settings, depth + 1).map(|(schema, _)| Arc::new(schema)),
        None => Err(Error::data(missing)),
    };
    let mut schema = match &*kind {
        "int8" => Schema::new(Type::Int8),
        "int16" => Schema::new(Type::Int16),
        "int32" => Schema::new(Type::Int32),
        "int64" => Schema::new(Type::Int64),
        "float" => Schema::new(Type::Float32),
        "double" => Schema::new(Type::Float64),
        "boolean" => Schema::new(Type::Boolean),
        "string" => Schema::new(Type::String),
        "bytes" => Schema::new(Type::Bytes),
        "array" => Schema::array(part("items", "Array schema did not specify the element type")?),
        "map" => Schema::map(
            part("keys", "Map schema did not specify the key type")?,
            part("values", "Map schema did not specify the value type")?,
        ),
        "struct" => Schema::structure(read_fields(&members, settings, depth)?),
        other => return Err(Error::data(format!("Unknown schema type: {other}"))),
    };
    schema.optional = members.raw("optional").is_some_and(|raw| raw.as_ref() == b"true");
    schema.name = members.text("name").map(|name| Arc::from(&*name));
    schema.doc = members.text("doc").map(|doc| Arc::from(&*doc));
    if let Some(raw) = members.raw("version") {
        let version = std::str::from_utf8(raw).ok().and_then(|text| text.parse().ok());
        schema.version = Some(version.ok_or_else(|| Error::data("Schema version must be an integer."))?);
    }
    schema.parameters = read_parameters(&members)?;
    if let Some(raw) = members.raw("default") {
        let default = Reader::plan(&schema, settings)?.read(&mut Scanner::new(raw, 0))?;
        schema.default = Some(default);
    }
    Ok((schema, members.text("field")))
}

fn read_fields(members: &Members, settings: &Settings, depth: usize) -> Result<Vec<Field>> {
    let not_fields = || Error::data("Struct schema's \"fields\" argument is not an array.");
    let raw = members.raw("fields").ok_or_else(not_fields)?;
    let mut scanner = Scanner::new(raw, 0);
    if scanner.peek().map_err(parse_failure)? != Node::Array {
        return Err(not_fields());
    }
    let mut fields = Vec::new();
    scanner.each(|scanner| {
        let (schema, name) = read_part(&scanner.skip()?, settings, depth + 1)?;
        let name = name.ok_or_else(|| Error::data("Struct schema's field name not specified properly"))?;
        fields.push(Field::new(&*name, Arc::new(schema)));
        Ok::<_, ReadError>(())
    })?;
    Ok(fields)
}

fn read_parameters(members: &Members) -> Result<IndexMap<String, String>> {
    let mut parameters = IndexMap::new();
    let Some(raw) = members.raw("parameters") else { return Ok(parameters) };
    let mut scanner = Scanner::new(raw, 0);
    if scanner.peek().map_err(parse_failure)? != Node::Object {
        return Err(Error::data("Schema parameters must be a JSON object."));
    }
    scanner.members(|scanner, key| {
        if scanner.peek()? != Node::String {
            return Err(Error::data("Schema parameters must have string values.").into());
        }
        parameters.insert(key.to_string(), scanner.text()?.to_string());
        Ok::<_, ReadError>(())
    })?;
    Ok(parameters)
}
