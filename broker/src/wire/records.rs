//! The records inside a batch: reading them where a batch must be looked into, and building small batches
//! for the broker's own topics.

use bytes::{Bytes, BytesMut};

use super::batch::{BatchError, BatchHeader, HEADER_LEN, LENGTH_OVERHEAD, TRANSACTIONAL, seal};
use super::compression::{self, Compression};

/// One record, borrowed from its unpacked batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Offset of the record.
    pub(crate) offset: i64,
    /// Time of the record.
    pub(crate) timestamp: i64,
    /// Key, if any.
    pub(crate) key: Option<&'a [u8]>,
    /// Value; none is a tombstone on a compacted topic.
    pub(crate) value: Option<&'a [u8]>,
    /// Encoded header count and headers.
    pub(super) headers: &'a [u8],
}

/// A batch whose records are unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    header: BatchHeader,
    data: std::borrow::Cow<'a, [u8]>,
}

/// Unpacks the batch that `bytes` begins with.
pub(crate) fn decode<'a>(header: &BatchHeader, bytes: &'a [u8]) -> Result<Unpacked<'a>, BatchError> {
    let section = bytes.get(HEADER_LEN..header.total_len()).ok_or(BatchError::Truncated)?;
    Ok(Unpacked { header: *header, data: compression::unpack(header.codec(), section)? })
}

impl Unpacked<'_> {
    /// The records in order; ends with an error where one does not parse.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        let mut rest: &[u8] = &self.data;
        let mut left = self.header.record_count;
        std::iter::from_fn(move || {
            if left <= 0 {
                return None;
            }
            left -= 1;
            let record = next_record(&self.header, &mut rest);
            if record.is_none() {
                left = 0;
            }
            Some(record.ok_or(BatchError::Records))
        })
    }
}

pub(super) fn next_record<'a>(header: &BatchHeader, rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let len = usize::try_from(varint(rest)?).ok()?;
    let (mut body, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    let (_attributes, after) = body.split_first()?;
    body = after;
    let timestamp_delta = varint(&mut body)?;
    let offset_delta = varint(&mut body)?;
    let key = nullable(&mut body)?;
    let value = nullable(&mut body)?;
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Some(Record { offset: header.base_offset.wrapping_add(offset_delta), timestamp, key, value, headers: body })
}

pub(super) fn nullable<'a>(b: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint(b)?;
    if len < 0 {
        return Some(None);
    }
    let (value, tail) = b.split_at_checked(usize::try_from(len).ok()?)?;
    *b = tail;
    Some(Some(value))
}

pub(super) fn varint(b: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for i in 0..10 {
        let (&byte, tail) = b.split_first()?;
        *b = tail;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_nullable(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record<'_>, base_timestamp: i64, base_offset: i64) {
    let timestamp = record.timestamp.wrapping_sub(base_timestamp);
    let offset = record.offset.wrapping_sub(base_offset);
    let len = 1
        + varint_len(timestamp)
        + varint_len(offset)
        + nullable_len(record.key)
        + nullable_len(record.value)
        + record.headers.len();
    put_varint(out, len as i64);
    out.push(0);
    put_varint(out, timestamp);
    put_varint(out, offset);
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    out.extend_from_slice(record.headers);
}

/// Bytes of a number as a variable-length integer.
fn varint_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

fn nullable_len(value: Option<&[u8]>) -> usize {
    value.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

/// Encodes `records` again under `header` (offsets kept, codec of the header), with count, times and CRC corrected.
pub(crate) fn rebuild(mut header: BatchHeader, records: &[Record<'_>]) -> Result<Bytes, BatchError> {
    let mut section = Vec::new();
    for record in records {
        put_record(&mut section, record, header.base_timestamp, header.base_offset);
    }
    if !header.is_log_append_time() {
        header.max_timestamp = records.iter().map(|r| r.timestamp).max().unwrap_or(header.max_timestamp);
    }
    header.record_count = records.len() as i32;
    let packed = if records.is_empty() { Vec::new() } else { compression::pack(header.codec(), &section)? };
    header.batch_length = (HEADER_LEN - LENGTH_OVERHEAD + packed.len()) as i32;
    let mut out = BytesMut::with_capacity(HEADER_LEN + packed.len());
    out.resize(HEADER_LEN, 0);
    header.write(&mut out);
    out.extend_from_slice(&packed);
    seal(&mut out);
    Ok(out.freeze())
}

/// Builds a batch as a producer would send it.
#[derive(Debug)]
pub struct BatchBuilder {
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    producer: (i64, i16, i32),
    transactional: bool,
    /// Room for the header, then the records.
    out: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// A batch whose first record has about this time (milliseconds since 1970).
    pub fn new(base_timestamp: i64) -> Self {
        Self::with_capacity(base_timestamp, 0)
    }

    /// As [`Self::new`], with room for so many bytes of records.
    pub fn with_capacity(base_timestamp: i64, bytes: usize) -> Self {
        let mut out = Vec::with_capacity(HEADER_LEN + bytes);
        out.resize(HEADER_LEN, 0);
        BatchBuilder {
            base_timestamp,
            max_timestamp: base_timestamp,
            count: 0,
            producer: (-1, -1, -1),
            transactional: false,
            out,
            scratch: Vec::new(),
        }
    }

    /// Names the idempotent producer: id, epoch and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.transactional = true;
        self
    }

    /// Bytes of the batch so far, before packing.
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// Adds a record without headers.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.put(timestamp, key, value, &[0]);
    }

    /// Adds a record with headers: names, and values that may be null.
    pub fn push_with_headers<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        put_varint(&mut encoded, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(&mut encoded, Some(name.as_bytes()));
            put_nullable(&mut encoded, value);
        }
        self.put(timestamp, key, value, &encoded);
        self.scratch = encoded;
    }

    fn put(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) {
        let record = Record { offset: i64::from(self.count), timestamp, key, value, headers };
        put_record(&mut self.out, &record, self.base_timestamp, 0);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// The finished batch, with base offset 0, not compressed.
    pub fn build(self) -> Bytes {
        self.finish(Compression::None)
    }

    /// The finished batch, with base offset 0, packed unless the codec fails.
    pub fn build_packed(mut self, compression: Compression) -> Bytes {
        let packed = match compression {
            Compression::None => None,
            compression => compression::pack(compression as u8, &self.out[HEADER_LEN..]).ok(),
        };
        let Some(packed) = packed else { return self.finish(Compression::None) };
        self.out.truncate(HEADER_LEN);
        self.out.extend_from_slice(&packed);
        self.finish(compression)
    }

    fn finish(mut self, compression: Compression) -> Bytes {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: (self.out.len() - LENGTH_OVERHEAD) as i32,
            leader_epoch: -1,
            crc: 0,
            attributes: compression as i16 | if self.transactional { TRANSACTIONAL } else { 0 },
            last_offset_delta: (self.count - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.producer.2,
            record_count: self.count,
        };
        header.write(&mut self.out);
        seal(&mut self.out);
        Bytes::from(self.out)
    }
}
