//! The records inside a batch: reading them where a batch must be looked into, and building small batches
//! for the broker's own topics.

use bytes::{Bytes, BytesMut};

use super::batch::{BatchError, BatchHeader, HEADER_LEN, LENGTH_OVERHEAD, mark_transactional, seal};
use super::compression;

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
    headers: &'a [u8],
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

fn next_record<'a>(header: &BatchHeader, rest: &mut &'a [u8]) -> Option<Record<'a>> {
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

fn nullable<'a>(b: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint(b)?;
    if len < 0 {
        return Some(None);
    }
    let (value, tail) = b.split_at_checked(usize::try_from(len).ok()?)?;
    *b = tail;
    Some(Some(value))
}

fn varint(b: &mut &[u8]) -> Option<i64> {
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

fn put_record(out: &mut Vec<u8>, scratch: &mut Vec<u8>, record: &Record<'_>, base_timestamp: i64, base_offset: i64) {
    scratch.clear();
    scratch.push(0);
    put_varint(scratch, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(scratch, record.offset.wrapping_sub(base_offset));
    put_nullable(scratch, record.key);
    put_nullable(scratch, record.value);
    scratch.extend_from_slice(record.headers);
    put_varint(out, scratch.len() as i64);
    out.extend_from_slice(scratch);
}

/// Encodes `records` again under `header` (offsets kept, codec of the header), with count, times and CRC corrected.
pub(crate) fn rebuild(mut header: BatchHeader, records: &[Record<'_>]) -> Result<Bytes, BatchError> {
    let mut section = Vec::new();
    let mut scratch = Vec::new();
    for record in records {
        put_record(&mut section, &mut scratch, record, header.base_timestamp, header.base_offset);
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

/// Builds an uncompressed batch, as a producer would send it.
#[derive(Debug)]
pub struct BatchBuilder {
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    producer: (i64, i16, i32),
    transactional: bool,
    section: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// A batch whose first record has about this time (milliseconds since 1970).
    pub fn new(base_timestamp: i64) -> Self {
        BatchBuilder {
            base_timestamp,
            max_timestamp: base_timestamp,
            count: 0,
            producer: (-1, -1, -1),
            transactional: false,
            section: Vec::new(),
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

    /// Adds a record without headers.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let record = Record { offset: i64::from(self.count), timestamp, key, value, headers: &[0] };
        put_record(&mut self.section, &mut self.scratch, &record, self.base_timestamp, 0);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// The finished batch, with base offset 0.
    pub fn build(self) -> Bytes {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: (HEADER_LEN - LENGTH_OVERHEAD + self.section.len()) as i32,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: (self.count - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.producer.2,
            record_count: self.count,
        };
        let mut out = BytesMut::with_capacity(HEADER_LEN + self.section.len());
        out.resize(HEADER_LEN, 0);
        header.write(&mut out);
        out.extend_from_slice(&self.section);
        seal(&mut out);
        if self.transactional { mark_transactional(out.freeze()) } else { out.freeze() }
    }
}
