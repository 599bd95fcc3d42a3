//! Reads Avro binary into values by the plan of the writer's schema. Text and bytes share the record's buffer.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use towline_connectors::data::Value;

/// Why bytes are no value of their schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AvroError {
    #[error("the value ends too early")]
    Truncated,
    #[error("a number is longer than ten bytes")]
    LongNumber,
    #[error("a length or count of {0} is not possible here")]
    BadLength(i64),
    #[error("{0} is no branch of the union or symbol of the enum")]
    BadIndex(i64),
    #[error("text is not UTF-8")]
    NotUtf8,
}

type Result<T> = std::result::Result<T, AvroError>;

/// How values of one Avro type are read.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) op: Op,
}

#[derive(Debug)]
pub(super) enum Op {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    String,
    Bytes,
    Fixed(usize),
    Enum(Vec<ByteString>),
    Array(Box<Reader>),
    Map(Box<Reader>),
    /// An array of records of key and value.
    Pairs(Box<(Reader, Reader)>),
    Record(Vec<Reader>),
    /// A union of null, at this branch, and one other.
    Nullable {
        null: usize,
        inner: Box<Reader>,
    },
    Singleton(Box<Reader>),
    /// Any other union: a struct with one field for each branch but null.
    Union(Vec<Option<Reader>>),
}

/// A place in a record's bytes.
#[derive(Debug)]
pub(super) struct Input<'a> {
    source: &'a Bytes,
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(source: &'a Bytes, at: usize) -> Self {
        Self { source, at }
    }

    #[inline]
    fn long(&mut self) -> Result<i64> {
        // Most numbers take one byte.
        if let Some(byte) = self.source.get(self.at).filter(|byte| **byte < 0x80) {
            self.at += 1;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let mut number = 0u64;
        for shift in 0..10 {
            let byte = *self.source.get(self.at).ok_or(AvroError::Truncated)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (shift * 7);
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(AvroError::LongNumber)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.source.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(AvroError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    #[inline]
    fn part(&mut self, length: usize) -> Result<Range<usize>> {
        if self.source.len() - self.at < length {
            return Err(AvroError::Truncated);
        }
        self.at += length;
        Ok(self.at - length..self.at)
    }

    fn slice(&mut self, length: usize) -> Result<Bytes> {
        self.part(length).map(|at| self.source.slice(at))
    }

    /// Where bytes with their length in front lie.
    #[inline]
    fn range(&mut self) -> Result<Range<usize>> {
        let length = self.long()?;
        self.part(usize::try_from(length).map_err(|_| AvroError::BadLength(length))?)
    }

    fn text(&mut self) -> Result<ByteString> {
        let at = self.range()?;
        ByteString::try_from(self.source.slice(at)).map_err(|_| AvroError::NotUtf8)
    }

    fn index(&mut self, limit: usize) -> Result<usize> {
        let index = self.long()?;
        usize::try_from(index).ok().filter(|i| *i < limit).ok_or(AvroError::BadIndex(index))
    }

    /// Reads the blocks of an array or map: how many items come next, until there are no more. Items may take no bytes
    /// at all, so their number is limited.
    fn blocks<T>(
        &mut self,
        items: &mut Vec<T>,
        mut read: impl FnMut(&mut Self, &mut Vec<T>) -> Result<()>,
    ) -> Result<()> {
        let limit = self.source.len() + 65_536;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
                count = count.checked_neg().ok_or(AvroError::BadLength(count))?;
            }
            let more = usize::try_from(count).ok().filter(|more| items.len().saturating_add(*more) <= limit);
            let more = more.ok_or(AvroError::BadLength(count))?;
            items.reserve(more.min(1_024));
            for _ in 0..more {
                read(self, items)?;
            }
        }
    }
}

impl Reader {
    /// Reads the value at a place.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn read(&self, input: &mut Input<'_>) -> Result<Value> {
        let mut value = Value::Null;
        self.read_over(input, &mut value)?;
        Ok(value)
    }

    /// Reads the value at a place over another one, whose memory is used again; after an error that is anything.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn read_over(&self, input: &mut Input<'_>, value: &mut Value) -> Result<()> {
        if let Op::Record(fields) = &self.op {
            if let Value::Struct(values) = value {
                values.clear();
                return fields.iter().try_for_each(|field| field.read_into(input, values));
            }
            *value = Value::Struct(read_record(fields, input)?);
            return Ok(());
        }
        let mut values = Vec::with_capacity(1);
        self.read_into(input, &mut values)?;
        *value = values.pop().unwrap_or_default();
        Ok(())
    }

    /// Reads a value to the end of `out`.
    fn read_into(&self, input: &mut Input<'_>, out: &mut Vec<Value>) -> Result<()> {
        match &self.op {
            Op::Nullable { null, inner } => match input.index(2)? {
                branch if branch == *null => Value::push_null(out),
                _ => inner.read_into(input, out)?,
            },
            Op::Int32 => Value::push_int32(out, input.long()? as i32),
            Op::Int64 => Value::push_int64(out, input.long()?),
            Op::String => {
                let at = input.range()?;
                if !Value::push_text(out, input.source, at) {
                    return Err(AvroError::NotUtf8);
                }
            }
            Op::Float64 => Value::push_float64(out, f64::from_le_bytes(input.take()?)),
            Op::Boolean => Value::push_boolean(out, input.take::<1>()? != [0]),
            Op::Bytes => {
                let at = input.range()?;
                Value::push_bytes(out, input.source, at);
            }
            Op::Int8 => out.push(Value::Int8(input.long()? as i8)),
            Op::Int16 => out.push(Value::Int16(input.long()? as i16)),
            Op::Float32 => out.push(Value::Float32(f32::from_le_bytes(input.take()?))),
            Op::Fixed(size) => out.push(Value::Bytes(input.slice(*size)?)),
            Op::Enum(symbols) => out.push(Value::String(symbols[input.index(symbols.len())?].clone())),
            Op::Record(fields) => out.push(Value::Struct(read_record(fields, input)?)),
            Op::Array(inner) => {
                let mut items = Vec::new();
                input.blocks(&mut items, |input, items| inner.read_into(input, items))?;
                out.push(Value::Array(items));
            }
            Op::Map(values) => {
                let mut entries = Vec::new();
                input.blocks(&mut entries, |input, entries| {
                    entries.push((Value::String(input.text()?), values.read(input)?));
                    Ok(())
                })?;
                out.push(Value::Map(entries));
            }
            Op::Pairs(pair) => {
                let mut entries = Vec::new();
                input.blocks(&mut entries, |input, entries| {
                    entries.push((pair.0.read(input)?, pair.1.read(input)?));
                    Ok(())
                })?;
                out.push(Value::Map(entries));
            }
            Op::Singleton(inner) => {
                input.index(1)?;
                inner.read_into(input, out)?;
            }
            Op::Union(branches) => {
                let chosen = input.index(branches.len())?;
                if branches[chosen].is_none() {
                    out.push(Value::Null);
                    return Ok(());
                }
                let mut values = Vec::with_capacity(branches.len());
                for (index, branch) in branches.iter().enumerate() {
                    match branch {
                        Some(branch) if index == chosen => branch.read_into(input, &mut values)?,
                        Some(_) => values.push(Value::Null),
                        None => {}
                    }
                }
                out.push(Value::Struct(values));
            }
        }
        Ok(())
    }
}

fn read_record(fields: &[Reader], input: &mut Input<'_>) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        field.read_into(input, &mut values)?;
    }
    Ok(values)
}
