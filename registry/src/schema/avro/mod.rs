//! The Avro schema model: what the registry stores, prints, hashes and compares.
//!
//! It keeps what Avro Java keeps (custom properties in order, docs, aliases, default values as
//! written) and prints what `Schema.toString()` prints, byte for byte: ids and GUIDs depend on it.
//! A schema is an arena of [`Node`]s: named types are resolved to their node, so recursive schemas
//! need no special case, and two uses of one named type are the same node, as in Java.

mod defaults;
mod equality;
mod java_json;
mod name;
mod normalize;
mod parse;
mod print;

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

pub use java_json::to_java_json;
pub use name::Name;
pub use parse::{ParseError, Strictness};

/// Custom properties of a schema or field (`connect.name`, `logicalType`, ...), in source order.
pub type Properties = IndexMap<String, Value>;

/// The deepest chain of definitions that a schema may have; more is refused when parsing.
pub const MAX_DEPTH: usize = 256;

/// Index of a node in the arena of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A parsed Avro schema with every named type resolved; cheap to clone.
#[derive(Clone)]
pub struct Schema {
    nodes: Arc<[Node]>,
    root: NodeId,
    referenced: Arc<[String]>,
}

/// One type of a schema with its custom properties.
#[derive(Debug, Clone)]
pub struct Node {
    /// The type itself.
    pub kind: Kind,
    /// Properties that Avro does not define for this type, in source order.
    pub properties: Properties,
}

/// The Avro types.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `int`.
    Int,
    /// `long`.
    Long,
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `bytes`.
    Bytes,
    /// `string`.
    String,
    /// `array` of the given items.
    Array(NodeId),
    /// `map` with the given values.
    Map(NodeId),
    /// A union of the given branches.
    Union(Vec<NodeId>),
    /// A record, or an error.
    Record(Record),
    /// An enum.
    Enum(Enum),
    /// A fixed-size sequence of bytes.
    Fixed(Fixed),
}

/// What a record, enum or fixed has in common.
#[derive(Debug, Clone)]
pub struct Named {
    /// The full name.
    pub name: Name,
    /// The documentation, if given.
    pub doc: Option<String>,
    /// Other names by which data of this type may have been written, as full names.
    pub aliases: Vec<Name>,
}

/// A record type.
#[derive(Debug, Clone)]
pub struct Record {
    /// Name, doc and aliases.
    pub named: Named,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// True for `"type": "error"`.
    pub error: bool,
}

impl Record {
    /// The field of this name with its position.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }
}

/// A field of a record.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The type.
    pub schema: NodeId,
    /// The documentation, if given.
    pub doc: Option<String>,
    /// The default value as written in the schema.
    pub default: Option<Value>,
    /// How the field takes part in sorting.
    pub order: Order,
    /// Other names of the field.
    pub aliases: Vec<String>,
    /// Properties that Avro does not define for fields, in source order.
    pub properties: Properties,
}

/// The sort order of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The default.
    #[default]
    Ascending,
    /// Reverse order.
    Descending,
    /// Not compared.
    Ignore,
}

/// An enum type.
#[derive(Debug, Clone)]
pub struct Enum {
    /// Name, doc and aliases.
    pub named: Named,
    /// The symbols in order.
    pub symbols: Vec<String>,
    /// The symbol that readers use for unknown ones.
    pub default: Option<String>,
}

/// A fixed type.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// Name, doc and aliases.
    pub named: Named,
    /// The number of bytes.
    pub size: u32,
}

impl Node {
    /// The `logicalType` property, whether or not Avro knows it.
    pub fn logical_type(&self) -> Option<&str> {
        self.properties.get("logicalType").and_then(Value::as_str)
    }

    /// Precision and scale if this is a valid `decimal` of Avro, on bytes or fixed.
    pub fn decimal(&self) -> Option<(u32, u32)> {
        if self.logical_type() != Some("decimal") || !matches!(self.kind, Kind::Bytes | Kind::Fixed(_)) {
            return None;
        }
        let number = |key: &str| self.properties.get(key).map(|v| v.as_u64().and_then(|n| u32::try_from(n).ok()));
        let precision = number("precision")??;
        let scale = match number("scale") {
            None => 0,
            Some(scale) => scale?,
        };
        (precision > 0 && scale <= precision).then_some((precision, scale))
    }

    /// What named types have in common, if this is one.
    pub fn named(&self) -> Option<&Named> {
        match &self.kind {
            Kind::Record(record) => Some(&record.named),
            Kind::Enum(symbols) => Some(&symbols.named),
            Kind::Fixed(fixed) => Some(&fixed.named),
            _ => None,
        }
    }

    /// The full name of a named type, otherwise the name of the type.
    pub fn full_name(&self) -> String {
        self.named().map_or_else(|| self.kind.type_name().to_owned(), |named| named.name.full())
    }
}

impl Kind {
    /// The name of the type in lower case; `record` for errors too.
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::String => "string",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
            Kind::Record(_) => "record",
            Kind::Enum(_) => "enum",
            Kind::Fixed(_) => "fixed",
        }
    }

    fn primitive(name: &str) -> Option<Kind> {
        Some(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::String,
            _ => return None,
        })
    }

    /// The types that this one is directly made of.
    pub fn children(&self) -> Vec<NodeId> {
        match self {
            Kind::Array(child) | Kind::Map(child) => vec![*child],
            Kind::Union(branches) => branches.clone(),
            Kind::Record(record) => record.fields.iter().map(|field| field.schema).collect(),
            _ => Vec::new(),
        }
    }
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Order::Ascending => "ascending",
            Order::Descending => "descending",
            Order::Ignore => "ignore",
        }
    }
}

impl Schema {
    /// Parses a schema leniently, as a reader of stored schemas does: names may hold any letters
    /// and default values are not checked.
    pub fn parse(text: &str) -> Result<Schema, ParseError> {
        Self::parse_with(text, &[], Strictness::Stored)
    }

    /// Parses a schema that may use the named types of `references` (texts in dependency order).
    pub fn parse_with(text: &str, references: &[String], strictness: Strictness) -> Result<Schema, ParseError> {
        parse::parse(text, references, strictness)
    }

    /// Builds a schema from its JSON form, leniently; the way to construct one in code.
    pub fn from_json(json: &Value) -> Result<Schema, ParseError> {
        parse::from_json(json, Strictness::Stored)
    }

    /// The canonical text: what `Schema.toString()` of Avro Java prints. Types that came from
    /// references stay names.
    pub fn canonical(&self) -> String {
        print::print(self, &self.referenced)
    }

    /// The text with the referenced types written out (`format=resolved`).
    pub fn resolved(&self) -> String {
        print::print(self, &[])
    }

    /// The schema after Confluent's `normalize=true`.
    pub fn normalized(&self) -> Result<Schema, ParseError> {
        normalize::normalize(self)
    }

    /// The type at the top.
    pub fn root(&self) -> &Node {
        self.node(self.root)
    }

    /// The id of the type at the top.
    pub fn root_id(&self) -> NodeId {
        self.root
    }

    /// The type of this id; ids come from the same schema.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The part of this schema below `id`, sharing the arena.
    pub fn at(&self, id: NodeId) -> Schema {
        Schema { nodes: Arc::clone(&self.nodes), root: id, referenced: Arc::clone(&self.referenced) }
    }

    /// The full name of the top type, if it is a named one.
    pub fn full_name(&self) -> Option<String> {
        self.root().named().map(|named| named.name.full())
    }

    /// Equality as the registry needs it: Avro's `Schema.equals` plus docs, aliases and enum
    /// defaults.
    pub fn same_as(&self, other: &Schema) -> bool {
        equality::same(self, other)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Schema) -> bool {
        self.same_as(other)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.canonical()).finish()
    }
}
