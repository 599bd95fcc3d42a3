//! Reads payloads: a plan per schema, then a walk over the text without a tree. Kinds of structs, maps and arrays are
//! checked, kinds of scalars are converted as Jackson's `intValue` and its like do.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use num_bigint::BigInt;
use towline_connectors::api::Error;
use towline_connectors::data::{Decimal, Logical, Schema, Type, Value};

use super::scan::{MAX_DEPTH, Node, Scanner, SyntaxError};
use super::write::write_text;
use super::{Settings, parse_failure};

/// Why a payload could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Syntax(SyntaxError),
    Data(Error),
}

impl From<SyntaxError> for ReadError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Data(error)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Syntax(error) => parse_failure(error),
            ReadError::Data(error) => error,
        }
    }
}

type Result<T, E = ReadError> = std::result::Result<T, E>;

/// How values of one schema are read.
#[derive(Debug)]
pub(super) struct Reader {
    kind: Type,
    op: Op,
    /// What null and absent values become; `None` if they are an error.
    null: Option<Value>,
}

#[derive(Debug)]
enum Op {
    Scalar,
    Logical(Logical),
    Array(Box<Reader>),
    /// A map with text keys, an object.
    Object(Box<Reader>),
    /// Any other map, an array of pairs.
    Pairs(Box<Reader>, Box<Reader>),
    Struct(Vec<Member>),
}

/// A field of a struct.
#[derive(Debug)]
struct Member {
    name: Box<str>,
    /// `"name":`, as a converter writes it.
    lead: Box<[u8]>,
    reader: Reader,
}

impl Reader {
    /// Plans a schema.
    ///
    /// # Errors
    /// A data error if the schema lacks a part.
    pub(super) fn plan(schema: &Schema, settings: &Settings) -> Result<Self, Error> {
        let part = |part: &Option<Arc<Schema>>, what: &str| match part {
            Some(schema) => Self::plan(schema, settings).map(Box::new),
            None => Err(Error::data(format!("schema of type {} has no {what} schema", schema.kind.java_name()))),
        };
        let op = match schema.kind {
            Type::Array => Op::Array(part(&schema.items, "element")?),
            Type::Map if schema.keys.as_ref().is_some_and(|keys| keys.kind == Type::String) => {
                Op::Object(part(&schema.items, "value")?)
            }
            Type::Map => Op::Pairs(part(&schema.keys, "key")?, part(&schema.items, "value")?),
            Type::Struct => Op::Struct(
                schema
                    .fields
                    .iter()
                    .map(|field| {
                        let mut lead = BytesMut::new();
                        write_text(&mut lead, &field.name);
                        lead.extend_from_slice(b":");
                        Ok(Member {
                            name: Box::from(&*field.name),
                            lead: lead.to_vec().into_boxed_slice(),
                            reader: Self::plan(&field.schema, settings)?,
                        })
                    })
                    .collect::<Result<_, Error>>()?,
            ),
            _ => schema.logical().map_or(Op::Scalar, Op::Logical),
        };
        let default = schema.default.clone().filter(|_| settings.replace_null_with_default);
        Ok(Self { kind: schema.kind, op, null: default.or(schema.optional.then_some(Value::Null)) })
    }

    fn absent(&self) -> Result<Value> {
        self.null.clone().ok_or_else(|| {
            ReadError::Data(Error::data(format!("Invalid null value for required {} field", self.kind.java_name())))
        })
    }

    /// Reads the value that comes next.
    pub(super) fn read(&self, scanner: &mut Scanner<'_>) -> Result<Value> {
        let mut value = Value::Null;
        self.read_over(scanner, &mut value)?;
        Ok(value)
    }

    /// Reads the value that comes next over another one, whose memory is used again; after an error that is anything.
    pub(super) fn read_over(&self, scanner: &mut Scanner<'_>, value: &mut Value) -> Result<()> {
        if let (Op::Struct(members), Node::Object) = (&self.op, scanner.peek()?) {
            let mut values = match std::mem::take(value) {
                Value::Struct(values) => values,
                _ => Vec::with_capacity(members.len()),
            };
            values.clear();
            self.structure(members, scanner, &mut values)?;
            *value = Value::Struct(values);
            return Ok(());
        }
        let mut values = Vec::with_capacity(1);
        self.read_into(scanner, &mut values)?;
        *value = values.pop().unwrap_or_default();
        Ok(())
    }

    /// Reads the value that comes next to the end of `out`.
    fn read_into(&self, scanner: &mut Scanner<'_>, out: &mut Vec<Value>) -> Result<()> {
        let node = scanner.peek()?;
        if node == Node::Null {
            scanner.null()?;
            match &self.null {
                Some(Value::Null) => Value::push_null(out),
                _ => out.push(self.absent()?),
            }
            return Ok(());
        }
        match (&self.op, node) {
            (Op::Scalar, node) => return self.scalar(node, scanner, out),
            (Op::Struct(members), Node::Object) => {
                let mut values = Vec::with_capacity(members.len());
                self.structure(members, scanner, &mut values)?;
                out.push(Value::Struct(values));
            }
            (Op::Struct(_), _) => return wrong_node("Structs should be encoded as JSON objects", node),
            (Op::Logical(logical), node) => return read_logical(*logical, node, scanner, out),
            (Op::Array(items), Node::Array) => {
                let mut values = Vec::new();
                scanner.each(|scanner| items.read_into(scanner, &mut values))?;
                out.push(Value::Array(values));
            }
            (Op::Array(_), _) => return wrong_node("Arrays should be encoded as JSON arrays", node),
            (Op::Object(reader), Node::Object) => {
                let mut entries = Vec::new();
                scanner.members(|scanner, key| {
                    entries.push((Value::String(key), reader.read(scanner)?));
                    Ok::<_, ReadError>(())
                })?;
                out.push(Value::Map(entries));
            }
            (Op::Object(_), _) => return wrong_node("Maps with string fields should be encoded as JSON objects", node),
            (Op::Pairs(keys, values), Node::Array) => {
                let mut entries = Vec::new();
                scanner.each(|scanner| {
                    entries.push(pair(keys, values, scanner)?);
                    Ok::<_, ReadError>(())
                })?;
                out.push(Value::Map(entries));
            }
            (Op::Pairs(..), _) => {
                return wrong_node("Maps with non-string fields should be encoded as JSON array of tuples", node);
            }
        }
        Ok(())
    }

    /// Reads the members of an object to the end of `out`, which holds nothing yet.
    fn structure(&self, members: &[Member], scanner: &mut Scanner<'_>, out: &mut Vec<Value>) -> Result<()> {
        let start = scanner.at();
        scanner.expect(b'{', "object expected")?;
        for (index, member) in members.iter().enumerate() {
            if (index > 0 && !scanner.eat(b',')) || !scanner.eat_exact(&member.lead) {
                return self.in_any_order(members, scanner.back_to(start), out);
            }
            member.reader.read_into(scanner, out)?;
        }
        if scanner.eat(b'}') { Ok(()) } else { self.in_any_order(members, scanner.back_to(start), out) }
    }

    /// The slow way: members in any order, unknown ones ignored, absent ones as null.
    #[cold]
    fn in_any_order(&self, members: &[Member], scanner: &mut Scanner<'_>, out: &mut Vec<Value>) -> Result<()> {
        let mut values: Vec<Option<Value>> = vec![None; members.len()];
        scanner.members(|scanner, key| {
            match members.iter().position(|member| *member.name == *key) {
                Some(index) => values[index] = Some(members[index].reader.read(scanner)?),
                None => drop(scanner.skip()?),
            }
            Ok::<_, ReadError>(())
        })?;
        out.clear();
        for (value, member) in values.into_iter().zip(members) {
            out.push(value.map_or_else(|| member.reader.absent(), Ok)?);
        }
        Ok(())
    }

    fn scalar(&self, node: Node, scanner: &mut Scanner<'_>, out: &mut Vec<Value>) -> Result<()> {
        match (self.kind, node) {
            (Type::String, Node::String) => out.push(Value::String(scanner.text()?)),
            (Type::Boolean, Node::Boolean) => Value::push_boolean(out, scanner.boolean()?),
            (Type::Float64, Node::Number) => {
                Value::push_float64(out, scanner.number()?.0.parse().unwrap_or(0.0));
            }
            (Type::Float32, Node::Number) => out.push(Value::Float32(scanner.number()?.0.parse().unwrap_or(0.0))),
            (Type::Float64, Node::String) => Value::push_float64(out, special(&scanner.text()?)),
            (Type::Float32, Node::String) => out.push(Value::Float32(special(&scanner.text()?) as f32)),
            (Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64, Node::Number) => {
                let (text, integer) = scanner.number()?;
                self.integer(whole(text, integer), out);
            }
            (Type::Bytes, Node::String) => out.push(Value::Bytes(decode_base64(&scanner.text()?)?)),
            (kind, _) => {
                scanner.skip()?;
                match kind {
                    Type::Boolean => Value::push_boolean(out, false),
                    Type::Float64 => Value::push_float64(out, 0.0),
                    Type::Float32 => out.push(Value::Float32(0.0)),
                    Type::String | Type::Bytes => out.push(self.absent()?),
                    _ => self.integer(0, out),
                }
            }
        }
        Ok(())
    }

    /// Java's narrowing of a long.
    fn integer(&self, number: i64, out: &mut Vec<Value>) {
        match self.kind {
            Type::Int8 => out.push(Value::Int8(number as i8)),
            Type::Int16 => out.push(Value::Int16(number as i16)),
            Type::Int32 => Value::push_int32(out, number as i32),
            _ => Value::push_int64(out, number),
        }
    }
}

fn wrong_node<T>(rule: &str, node: Node) -> Result<T> {
    Err(ReadError::Data(Error::data(format!("{rule}, but found {}", node.name()))))
}

fn pair(keys: &Reader, values: &Reader, scanner: &mut Scanner<'_>) -> Result<(Value, Value)> {
    let node = scanner.peek()?;
    if node != Node::Array {
        return Err(Error::data(format!("Found invalid map entry instead of array tuple: {}", node.name())).into());
    }
    let mut entry = [None, None];
    let mut length = 0;
    scanner.each(|scanner| {
        match length {
            0 => entry[0] = Some(keys.read(scanner)?),
            1 => entry[1] = Some(values.read(scanner)?),
            _ => drop(scanner.skip()?),
        }
        length += 1;
        Ok::<_, ReadError>(())
    })?;
    match entry {
        [Some(key), Some(value)] if length == 2 => Ok((key, value)),
        _ => Err(Error::data(format!("Found invalid map entry, expected length 2 but found :{length}")).into()),
    }
}

fn read_logical(logical: Logical, node: Node, scanner: &mut Scanner<'_>, out: &mut Vec<Value>) -> Result<()> {
    let wrong = |name: &str, form: &str| {
        let message = format!("Invalid type for {name}, underlying representation should be {form} but was ");
        Err(ReadError::Data(Error::data(message + node.name())))
    };
    match (logical, node) {
        (Logical::Decimal { scale }, Node::Number) => {
            let text = scanner.number()?.0;
            let number = Decimal::parse(text).and_then(|number| number.rescale(scale)).ok_or_else(|| {
                Error::data(format!("Decimal value has mismatching scale for given Decimal schema: {text}"))
            })?;
            out.push(Value::Bytes(number.to_bytes().into()));
        }
        (Logical::Decimal { .. }, Node::String) => out.push(Value::Bytes(decode_base64(&scanner.text()?)?)),
        (Logical::Decimal { .. }, _) => return wrong("Decimal", "numeric or bytes"),
        (Logical::Date | Logical::Time, _) => {
            let name = if logical == Logical::Date { "Date" } else { "Time" };
            if node != Node::Number {
                return wrong(name, "integer");
            }
            let (text, integer) = scanner.number()?;
            match text.parse::<i32>() {
                Ok(number) if integer => Value::push_int32(out, number),
                _ => return wrong(name, "integer"),
            }
        }
        (Logical::Timestamp, Node::Number) => match scanner.number()? {
            (text, true) => Value::push_int64(out, whole(text, true)),
            (_, false) => return wrong("Timestamp", "integral"),
        },
        (Logical::Timestamp, _) => return wrong("Timestamp", "integral"),
    }
    Ok(())
}

/// Base64 as Jackson reads it, padding included or not.
fn decode_base64(text: &str) -> Result<Bytes> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    match STANDARD.decode(text).or_else(|_| LENIENT.decode(text)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Error::data("Invalid bytes field").caused_by(error).into()),
    }
}

/// The numbers that JSON cannot hold come as text; other text counts as 0.
fn special(text: &str) -> f64 {
    match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => 0.0,
    }
}

/// The whole part of a number, its low 64 bits if it has more.
#[inline]
fn whole(text: &str, integer: bool) -> i64 {
    if integer && text.len() <= 18 {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let number = digits.bytes().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        return if negative { -number } else { number };
    }
    wide(text)
}

#[cold]
fn wide(text: &str) -> i64 {
    let Some(number) = Decimal::parse(text) else { return 0 };
    let digits = number.unscaled.magnitude().bits() / 3;
    let number: BigInt = match number.scale {
        0 => number.unscaled,
        // 10^64 has 64 factors of two: nothing is left in the low bits.
        scale if scale <= -64 => return 0,
        scale if scale < 0 => number.unscaled * BigInt::from(10).pow(scale.unsigned_abs()),
        scale if u64::from(scale.unsigned_abs()) > digits + 1 => return 0,
        scale => number.unscaled / BigInt::from(10).pow(scale.unsigned_abs()),
    };
    let low = number.to_signed_bytes_le();
    let fill = if number.sign() == num_bigint::Sign::Minus { 0xff } else { 0 };
    let mut bytes = [fill; 8];
    for (to, from) in bytes.iter_mut().zip(low) {
        *to = from;
    }
    i64::from_le_bytes(bytes)
}

/// Reads a value without a schema: objects are maps, integers INT64, other numbers FLOAT64.
pub(super) fn read_schemaless(scanner: &mut Scanner<'_>, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Ok(scanner.fail("nested too deeply")?);
    }
    Ok(match scanner.peek()? {
        Node::Null => {
            scanner.null()?;
            Value::Null
        }
        Node::Boolean => Value::Boolean(scanner.boolean()?),
        Node::String => Value::String(scanner.text()?),
        Node::Number => match scanner.number()? {
            (text, true) => Value::Int64(whole(text, true)),
            (text, false) => Value::Float64(text.parse().unwrap_or(0.0)),
        },
        Node::Array => {
            let mut items = Vec::new();
            scanner.each(|scanner| {
                items.push(read_schemaless(scanner, depth + 1)?);
                Ok::<_, ReadError>(())
            })?;
            Value::Array(items)
        }
        Node::Object => {
            let mut entries = Vec::new();
            scanner.members(|scanner, key| {
                entries.push((Value::String(key), read_schemaless(scanner, depth + 1)?));
                Ok::<_, ReadError>(())
            })?;
            Value::Map(entries)
        }
    })
}
