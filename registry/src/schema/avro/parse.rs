//! Parses the JSON form of Avro schemas with the leniency and the error texts of Avro Java 1.12.
//!
//! Names may be used before they are defined within one text. Nothing here panics on outside
//! input: depth is limited by the JSON reader and again by [`MAX_DEPTH`](super::MAX_DEPTH).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::defaults::is_valid;
use super::java_json::to_java_json;
use super::name::{Name, validate_name};
use super::{Enum, Field, Fixed, Kind, MAX_DEPTH, Named, Node, NodeId, Order, Properties, Record, Schema};

type Object = Map<String, Value>;

/// Members of a type that are not custom properties.
const TYPE_MEMBERS: [&str; 10] =
    ["doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"];
/// Members of a field that are not custom properties.
const FIELD_MEMBERS: [&str; 6] = ["default", "doc", "name", "order", "type", "aliases"];

/// How strictly names and default values are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// A schema being registered: ASCII names, checked namespaces, valid defaults.
    New,
    /// A schema read back: letters of any script, any namespace, any default.
    Stored,
}

/// Why a text is no Avro schema; the text is Avro Java's where that one is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    message: String,
}

impl ParseError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        ParseError { message: message.into() }
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

pub(super) fn parse(text: &str, references: &[String], strictness: Strictness) -> Result<Schema, ParseError> {
    let mut parser = Parser::default();
    for reference in references {
        let json = read_json(reference)?;
        parser.type_of(&json, None)?;
    }
    parser.link_forward_references()?;
    let referenced = parser.names.keys().cloned().collect();
    parser.strictness = Some(strictness);
    let root = parser.type_of(&read_json(text)?, None)?;
    parser.finish(root, referenced)
}

pub(super) fn from_json(json: &Value, strictness: Strictness) -> Result<Schema, ParseError> {
    let mut parser = Parser { strictness: Some(strictness), ..Parser::default() };
    let root = parser.type_of(json, None)?;
    parser.finish(root, Vec::new())
}

/// Parses `json` knowing the referenced types of `origin`.
pub(super) fn from_json_with(json: &Value, origin: &Schema) -> Result<Schema, ParseError> {
    let mut parser = Parser::default();
    if !origin.referenced.is_empty() {
        parser.nodes = origin.nodes.to_vec();
        for (index, node) in (0u32..).zip(origin.nodes.iter()) {
            let name = node.named().map(|named| named.name.full());
            if let Some(name) = name.filter(|name| origin.referenced.contains(name)) {
                parser.names.insert(name, NodeId(index));
            }
        }
    }
    let root = parser.type_of(json, None)?;
    parser.finish(root, origin.referenced.to_vec())
}

fn read_json(text: &str) -> Result<Value, ParseError> {
    serde_json::from_str(text).or_else(|err| match without_comments(text) {
        Some(bare) => serde_json::from_str(&bare).map_err(|_| ParseError::new(err.to_string())),
        None => Err(ParseError::new(err.to_string())),
    })
}

/// Avro Java accepts `/* */` and `//` comments; `None` if there are none.
fn without_comments(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = string_end(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if rest.starts_with("//") {
            found = true;
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            found = true;
            rest = rest[2..].find("*/").map_or("", |end| &rest[end + 4..]);
            out.push(' ');
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    found.then_some(out)
}

/// The length of the JSON string at the start of `text`, quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
    /// Placeholders for names used before their definition: in the enclosing namespace, or bare.
    forward: HashMap<NodeId, (Name, Name)>,
    /// Field defaults to check once every name is resolved; see [`Strictness::New`].
    strictness: Option<Strictness>,
}

impl Parser {
    fn strictness(&self) -> Strictness {
        self.strictness.unwrap_or(Strictness::Stored)
    }

    fn add(&mut self, kind: Kind, properties: Properties) -> Result<NodeId, ParseError> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| ParseError::new("schema is too large"))?;
        self.nodes.push(Node { kind, properties });
        Ok(NodeId(id))
    }

    fn type_of(&mut self, json: &Value, enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        match json {
            Value::String(name) => match Kind::primitive(name) {
                Some(kind) => self.add(kind, Properties::new()),
                None => self.named_type(name, enclosing),
            },
            Value::Object(object) => self.object(object, json, enclosing),
            Value::Array(branches) => self.union(branches, enclosing),
            _ => Err(ParseError::new(format!("Schema not yet supported: {}", to_java_json(json)))),
        }
    }

    fn named_type(&mut self, written: &str, enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        let inner = Name::new(written, enclosing);
        let bare = Name::new(written, None);
        if let Some(id) = self.names.get(&inner.full()).or_else(|| self.names.get(&bare.full())) {
            return Ok(*id);
        }
        let placeholder = self.add(Kind::Null, Properties::new())?;
        self.forward.insert(placeholder, (inner, bare));
        Ok(placeholder)
    }

    fn union(&mut self, branches: &[Value], enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        let branches = branches.iter().map(|branch| self.type_of(branch, enclosing)).collect::<Result<Vec<_>, _>>()?;
        self.add(Kind::Union(branches), Properties::new())
    }

    fn object(&mut self, object: &Object, json: &Value, enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        let name = text(object, "type").ok_or_else(|| ParseError::new(format!("No type: {}", to_java_json(json))))?;
        if let Some(kind) = Kind::primitive(name) {
            return self.add(kind, properties(object, &TYPE_MEMBERS));
        }
        match name {
            "record" | "error" => self.record(object, json, enclosing, name == "error"),
            "enum" => self.symbols(object, json, enclosing),
            "fixed" => self.fixed(object, json, enclosing),
            "array" => {
                let items = object
                    .get("items")
                    .ok_or_else(|| ParseError::new(format!("Array has no items type: {}", to_java_json(json))))?;
                let items = self.type_of(items, enclosing)?;
                self.add(Kind::Array(items), properties(object, &TYPE_MEMBERS))
            }
            "map" => {
                let values = object
                    .get("values")
                    .ok_or_else(|| ParseError::new(format!("Map has no values type: {}", to_java_json(json))))?;
                let values = self.type_of(values, enclosing)?;
                self.add(Kind::Map(values), properties(object, &TYPE_MEMBERS))
            }
            name => self.named_type(name, enclosing),
        }
    }

    fn head(&self, object: &Object, json: &Value, enclosing: Option<&str>) -> Result<Named, ParseError> {
        let written = text(object, "name")
            .ok_or_else(|| ParseError::new(format!("No name in schema: {}", to_java_json(json))))?;
        let name = Name::new(written, text(object, "namespace").or(enclosing));
        name.validate(self.strictness())?;
        if Kind::primitive(&name.full()).is_some() {
            return Err(ParseError::new(format!("Schemas may not be named after primitives: {}", name.full())));
        }
        let mut aliases: Vec<Name> = Vec::new();
        for alias in alias_texts(object)? {
            let alias = Name::new(&alias, name.namespace.as_deref());
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        Ok(Named { name, doc: text(object, "doc").map(str::to_owned), aliases })
    }

    fn define(&mut self, name: &Name, node: NodeId) -> Result<(), ParseError> {
        match self.names.insert(name.full(), node) {
            Some(_) => Err(ParseError::new(format!("Can't redefine: {}", name.full()))),
            None => Ok(()),
        }
    }

    fn record(
        &mut self,
        object: &Object,
        json: &Value,
        enclosing: Option<&str>,
        error: bool,
    ) -> Result<NodeId, ParseError> {
        let named = self.head(object, json, enclosing)?;
        let id = self.add(Kind::Null, properties(object, &TYPE_MEMBERS))?;
        self.define(&named.name, id)?;
        let Some(list) = object.get("fields").and_then(Value::as_array) else {
            return Err(ParseError::new(format!("Record has no fields: {}", to_java_json(json))));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(list.len());
        let mut positions: HashMap<String, usize> = HashMap::with_capacity(list.len());
        for (position, member) in list.iter().enumerate() {
            let field = self.field(member, named.name.namespace.as_deref())?;
            if let Some(first) = positions.insert(field.name.clone(), position) {
                let show = |field: &Field, pos: usize| {
                    let kind = self.nodes[field.schema.index()].kind.type_name().to_uppercase();
                    format!("{} type:{kind} pos:{pos}", field.name)
                };
                return Err(ParseError::new(format!(
                    "Duplicate field {} in record {}: {} and {}.",
                    field.name,
                    named.name.full(),
                    show(&field, position),
                    show(&fields[first], first)
                )));
            }
            fields.push(field);
        }
        self.nodes[id.index()].kind = Kind::Record(Record { named, fields, error });
        Ok(id)
    }

    fn field(&mut self, json: &Value, enclosing: Option<&str>) -> Result<Field, ParseError> {
        let shown = || to_java_json(json);
        let object = json.as_object().ok_or_else(|| ParseError::new(format!("Field is not an object: {}", shown())))?;
        let name = text(object, "name").ok_or_else(|| ParseError::new(format!("No field name: {}", shown())))?;
        validate_name(name, self.strictness())?;
        let written = object.get("type").ok_or_else(|| ParseError::new(format!("No field type: {}", shown())))?;
        let schema = self.type_of(written, enclosing)?;
        let order = match object.get("order") {
            None => Order::Ascending,
            Some(order) => match order.as_str().map(str::to_lowercase).as_deref() {
                Some("ascending") => Order::Ascending,
                Some("descending") => Order::Descending,
                Some("ignore") => Order::Ignore,
                _ => {
                    return Err(ParseError::new(format!(
                        "Invalid sort order of field {name}: {}",
                        to_java_json(order)
                    )));
                }
            },
        };
        let mut default = object.get("default").cloned();
        if let (Some(Value::String(number)), Kind::Float | Kind::Double) = (&default, &self.nodes[schema.index()].kind)
        {
            default = number.trim().parse::<f64>().ok().map(Value::from).filter(Value::is_number).or(default);
        }
        Ok(Field {
            name: name.to_owned(),
            schema,
            doc: text(object, "doc").map(str::to_owned),
            default,
            order,
            aliases: alias_texts(object)?,
            properties: properties(object, &FIELD_MEMBERS),
        })
    }

    fn symbols(&mut self, object: &Object, json: &Value, enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        let named = self.head(object, json, enclosing)?;
        let Some(list) = object.get("symbols").and_then(Value::as_array) else {
            return Err(ParseError::new(format!("Enum has no symbols: {}", to_java_json(json))));
        };
        let mut symbols: Vec<String> = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for symbol in list {
            let symbol = symbol
                .as_str()
                .ok_or_else(|| ParseError::new(format!("Illegal enum symbol: {}", to_java_json(symbol))))?;
            validate_name(symbol, self.strictness())?;
            if !seen.insert(symbol) {
                return Err(ParseError::new(format!("Duplicate enum symbol: {symbol}")));
            }
            symbols.push(symbol.to_owned());
        }
        let default = text(object, "default").map(str::to_owned);
        if let Some(default) = default.as_ref().filter(|default| !symbols.contains(default)) {
            let set = symbols.join(", ");
            return Err(ParseError::new(format!("The Enum Default: {default} is not in the enum symbol set: [{set}]")));
        }
        let mut properties = properties(object, &TYPE_MEMBERS);
        properties.shift_remove("default");
        let name = named.name.clone();
        let id = self.add(Kind::Enum(Enum { named, symbols, default }), properties)?;
        self.define(&name, id)?;
        Ok(id)
    }

    fn fixed(&mut self, object: &Object, json: &Value, enclosing: Option<&str>) -> Result<NodeId, ParseError> {
        let named = self.head(object, json, enclosing)?;
        let size = object
            .get("size")
            .and_then(Value::as_u64)
            .and_then(|size| u32::try_from(size).ok())
            .filter(|size| i32::try_from(*size).is_ok())
            .ok_or_else(|| ParseError::new(format!("Invalid or no size: {}", to_java_json(json))))?;
        let name = named.name.clone();
        let id = self.add(Kind::Fixed(Fixed { named, size }), properties(object, &TYPE_MEMBERS))?;
        self.define(&name, id)?;
        Ok(id)
    }

    /// Replaces each placeholder by the definition of its name, wherever that stands.
    fn link_forward_references(&mut self) -> Result<(), ParseError> {
        let mut targets: HashMap<NodeId, NodeId> = HashMap::with_capacity(self.forward.len());
        for (placeholder, (inner, bare)) in self.forward.drain() {
            let target = self.names.get(&inner.full()).or_else(|| self.names.get(&bare.full()));
            let target = target.ok_or_else(|| ParseError::new(format!("Undefined schema: {}", inner.full())))?;
            targets.insert(placeholder, *target);
        }
        if targets.is_empty() {
            return Ok(());
        }
        let relink = |id: &mut NodeId| *id = targets.get(id).copied().unwrap_or(*id);
        for node in &mut self.nodes {
            match &mut node.kind {
                Kind::Array(child) | Kind::Map(child) => relink(child),
                Kind::Union(branches) => branches.iter_mut().for_each(relink),
                Kind::Record(record) => record.fields.iter_mut().for_each(|field| relink(&mut field.schema)),
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self, root: NodeId, mut referenced: Vec<String>) -> Result<Schema, ParseError> {
        // A text that is just a name has its own root as placeholder.
        let root = match self.forward.get(&root) {
            Some((inner, _)) => return Err(ParseError::new(format!("Undefined schema: {}", inner.full()))),
            None => root,
        };
        self.link_forward_references()?;
        referenced.sort();
        let checks_defaults = self.strictness == Some(Strictness::New);
        let schema = Schema { nodes: self.nodes.into(), root, referenced: Arc::from(referenced) };
        let reached = check_depth(&schema)?;
        for id in &reached {
            check_union(&schema, *id)?;
        }
        if checks_defaults {
            for id in &reached {
                check_defaults(&schema, *id)?;
            }
        }
        Ok(schema)
    }
}

fn text<'a>(object: &'a Object, member: &str) -> Option<&'a str> {
    object.get(member).and_then(Value::as_str)
}

fn properties(object: &Object, members: &[&str]) -> Properties {
    object
        .iter()
        .filter(|(key, _)| !members.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn alias_texts(object: &Object) -> Result<Vec<String>, ParseError> {
    let Some(aliases) = object.get("aliases") else {
        return Ok(Vec::new());
    };
    let shown = || to_java_json(&Value::Object(object.clone()));
    let list = aliases.as_array().ok_or_else(|| ParseError::new(format!("aliases not an array: {}", shown())))?;
    let mut texts: Vec<String> = Vec::with_capacity(list.len());
    for alias in list {
        let alias = alias.as_str().ok_or_else(|| ParseError::new(format!("alias not a string: {}", shown())))?;
        if !texts.iter().any(|text| text == alias) {
            texts.push(alias.to_owned());
        }
    }
    Ok(texts)
}

/// Walks the schema in print order without recursion; returns the types reached.
fn check_depth(schema: &Schema) -> Result<Vec<NodeId>, ParseError> {
    let mut seen = HashSet::new();
    let mut reached = Vec::new();
    let mut stack = vec![(schema.root, 0)];
    while let Some((id, depth)) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        if depth > MAX_DEPTH {
            return Err(ParseError::new(format!("schema is nested more than {MAX_DEPTH} levels deep")));
        }
        reached.push(id);
        stack.extend(schema.node(id).kind.children().into_iter().rev().map(|child| (child, depth + 1)));
    }
    Ok(reached)
}

fn check_union(schema: &Schema, id: NodeId) -> Result<(), ParseError> {
    let Kind::Union(branches) = &schema.node(id).kind else {
        return Ok(());
    };
    let mut seen = HashSet::new();
    for branch in branches {
        let node = schema.node(*branch);
        if matches!(node.kind, Kind::Union(_)) {
            return Err(ParseError::new(format!("Nested union: {}", schema.at(id).canonical())));
        }
        let name = node.full_name();
        if !seen.insert(name.clone()) {
            return Err(ParseError::new(format!("Duplicate in union:{name}")));
        }
    }
    Ok(())
}

fn check_defaults(schema: &Schema, id: NodeId) -> Result<(), ParseError> {
    let Kind::Record(record) = &schema.node(id).kind else {
        return Ok(());
    };
    for field in &record.fields {
        if let Some(default) = field.default.as_ref().filter(|default| !is_valid(schema, field.schema, default)) {
            return Err(ParseError::new(format!(
                "Invalid default for field {}: {} not a {}",
                field.name,
                to_java_json(default),
                schema.at(field.schema).canonical()
            )));
        }
    }
    Ok(())
}
