//! A schema: the shape of a value, shared by every record of a batch through one `Arc`.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Value;

/// The twelve kinds of Kafka Connect's `Schema.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// 8-bit signed integer.
    Int8,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// IEEE 754 single.
    Float32,
    /// IEEE 754 double.
    Float64,
    /// True or false.
    Boolean,
    /// Unicode text.
    String,
    /// Byte array.
    Bytes,
    /// List of one element schema.
    Array,
    /// Map of one key and one value schema.
    Map,
    /// Ordered, named fields.
    Struct,
}

impl Type {
    /// The name of the enum constant in Java (`INT32`), which messages use.
    pub fn java_name(self) -> &'static str {
        match self {
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Float32 => "FLOAT32",
            Self::Float64 => "FLOAT64",
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Array => "ARRAY",
            Self::Map => "MAP",
            Self::Struct => "STRUCT",
        }
    }

    /// Whether the kind has no parts of its own.
    pub fn is_primitive(self) -> bool {
        !matches!(self, Self::Array | Self::Map | Self::Struct)
    }
}

/// A named part of a STRUCT schema; its index is its place in [`Schema::fields`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The field's name, unique in its struct.
    pub name: Arc<str>,
    /// What the field holds.
    pub schema: Arc<Schema>,
}

/// A Connect schema. Build one with [`Schema::new`] and the `with_` methods, then share it in an `Arc`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The kind of value.
    pub kind: Type,
    /// Whether null is allowed.
    pub optional: bool,
    /// What stands for an absent value.
    pub default: Option<Value>,
    /// The schema's name; logical types are recognised by it.
    pub name: Option<Arc<str>>,
    /// The schema's version.
    pub version: Option<i32>,
    /// Documentation.
    pub doc: Option<Arc<str>>,
    /// Free parameters, in order (`scale` of a Decimal, for instance).
    pub parameters: IndexMap<String, String>,
    /// The fields of a STRUCT; empty for other kinds.
    pub fields: Vec<Field>,
    /// The key schema of a MAP.
    pub keys: Option<Arc<Schema>>,
    /// The element schema of an ARRAY, or the value schema of a MAP.
    pub items: Option<Arc<Schema>>,
}

impl Schema {
    /// A required, unnamed schema of a kind without parts.
    pub fn new(kind: Type) -> Self {
        Self {
            kind,
            optional: false,
            default: None,
            name: None,
            version: None,
            doc: None,
            parameters: IndexMap::new(),
            fields: Vec::new(),
            keys: None,
            items: None,
        }
    }

    /// A required, unnamed STRUCT schema with these fields.
    pub fn structure(fields: Vec<Field>) -> Self {
        Self { fields, ..Self::new(Type::Struct) }
    }

    /// A required ARRAY schema.
    pub fn array(items: Arc<Schema>) -> Self {
        Self { items: Some(items), ..Self::new(Type::Array) }
    }

    /// A required MAP schema.
    pub fn map(keys: Arc<Schema>, values: Arc<Schema>) -> Self {
        Self { keys: Some(keys), items: Some(values), ..Self::new(Type::Map) }
    }

    /// The same schema, allowing null.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The same schema, allowing null or not.
    pub fn with_optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// The same schema with a name.
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same schema with a version.
    pub fn with_version(mut self, version: i32) -> Self {
        self.version = Some(version);
        self
    }

    /// The same schema with documentation.
    pub fn with_doc(mut self, doc: impl Into<Arc<str>>) -> Self {
        self.doc = Some(doc.into());
        self
    }

    /// The same schema with a default value.
    pub fn with_default(mut self, default: Value) -> Self {
        self.default = Some(default);
        self
    }

    /// The same schema with one more parameter.
    pub fn with_parameter(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(key.into(), value.into());
        self
    }

    /// The place and the schema of a field. For planning, not for the record loop.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| &*field.name == name)
    }

    /// The schema's name, if any, as text.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl Field {
    /// A field.
    pub fn new(name: impl Into<Arc<str>>, schema: Arc<Schema>) -> Self {
        Self { name: name.into(), schema }
    }
}
