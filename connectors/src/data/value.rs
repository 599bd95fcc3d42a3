//! A value in memory. Logical types (Decimal, Date, Time, Timestamp) travel in the form of their base type, so that no
//! conversion happens unless a converter or connector needs one.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

/// One Connect value. Strings and byte arrays are cheap to clone: they share their buffer.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Null, whatever the schema.
    #[default]
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// INT8.
    Int8(i8),
    /// INT16.
    Int16(i16),
    /// INT32; also Date (days since 1970-01-01) and Time (milliseconds of the day).
    Int32(i32),
    /// INT64; also Timestamp (milliseconds since 1970-01-01T00:00:00Z).
    Int64(i64),
    /// FLOAT32.
    Float32(f32),
    /// FLOAT64.
    Float64(f64),
    /// STRING.
    String(ByteString),
    /// BYTES; also Decimal (big-endian two's complement of the unscaled value, shortest form).
    Bytes(Bytes),
    /// ARRAY.
    Array(Vec<Value>),
    /// MAP, in the order of arrival; schemaless JSON objects are maps with string keys.
    Map(Vec<(Value, Value)>),
    /// STRUCT: one value a field, in the order of the schema's fields.
    Struct(Vec<Value>),
}

impl Value {
    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number held by any of the four integer kinds.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int8(n) => Some(i64::from(*n)),
            Self::Int16(n) => Some(i64::from(*n)),
            Self::Int32(n) => Some(i64::from(*n)),
            Self::Int64(n) => Some(*n),
            _ => None,
        }
    }

    /// The entry of a schemaless map under a text key.
    pub fn entry(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Kafka Connect's name of the value's kind, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "BOOLEAN",
            Self::Int8(_) => "INT8",
            Self::Int16(_) => "INT16",
            Self::Int32(_) => "INT32",
            Self::Int64(_) => "INT64",
            Self::Float32(_) => "FLOAT32",
            Self::Float64(_) => "FLOAT64",
            Self::String(_) => "STRING",
            Self::Bytes(_) => "BYTES",
            Self::Array(_) => "ARRAY",
            Self::Map(_) => "MAP",
            Self::Struct(_) => "STRUCT",
        }
    }

    /// The Java class that the value has in Kafka Connect, for messages that operators search for.
    pub fn java_class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "java.lang.Boolean",
            Self::Int8(_) => "java.lang.Byte",
            Self::Int16(_) => "java.lang.Short",
            Self::Int32(_) => "java.lang.Integer",
            Self::Int64(_) => "java.lang.Long",
            Self::Float32(_) => "java.lang.Float",
            Self::Float64(_) => "java.lang.Double",
            Self::String(_) => "java.lang.String",
            Self::Bytes(_) => "java.nio.HeapByteBuffer",
            Self::Array(_) => "java.util.ArrayList",
            Self::Map(_) => "java.util.HashMap",
            Self::Struct(_) => "org.apache.kafka.connect.data.Struct",
        }
    }
}

/// Values that are added where they stay. Each is a function of its own, not inlined: a value of one of several kinds is
/// else built on the stack byte by byte and copied at once, which costs more than decoding it.
impl Value {
    /// Adds [`Value::Null`].
    #[inline(never)]
    pub fn push_null(values: &mut Vec<Self>) {
        values.push(Self::Null);
    }

    /// Adds [`Value::Boolean`].
    #[inline(never)]
    pub fn push_boolean(values: &mut Vec<Self>, truth: bool) {
        values.push(Self::Boolean(truth));
    }

    /// Adds [`Value::Int32`].
    #[inline(never)]
    pub fn push_int32(values: &mut Vec<Self>, number: i32) {
        values.push(Self::Int32(number));
    }

    /// Adds [`Value::Int64`].
    #[inline(never)]
    pub fn push_int64(values: &mut Vec<Self>, number: i64) {
        values.push(Self::Int64(number));
    }

    /// Adds [`Value::Float64`].
    #[inline(never)]
    pub fn push_float64(values: &mut Vec<Self>, number: f64) {
        values.push(Self::Float64(number));
    }

    /// Adds [`Value::Bytes`], a part of a buffer.
    #[inline(never)]
    pub fn push_bytes(values: &mut Vec<Self>, buffer: &Bytes, at: Range<usize>) {
        values.push(Self::Bytes(buffer.slice(at)));
    }

    /// Adds [`Value::String`], a part of a buffer; false, and nothing is added, if that is not UTF-8.
    #[inline(never)]
    pub fn push_text(values: &mut Vec<Self>, buffer: &Bytes, at: Range<usize>) -> bool {
        match ByteString::try_from(buffer.slice(at)) {
            Ok(text) => {
                values.push(Self::String(text));
                true
            }
            Err(_) => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(ByteString::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(ByteString::from(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int64(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int32(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float64(number)
    }
}
