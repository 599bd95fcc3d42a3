//! Walking fetched batches record by record, for readers in the process: nothing is copied that is not compressed.

use bytes::{Buf, Bytes};

use super::batch::{BatchError, BatchHeader, HEADER_LEN};
use super::compression;
use super::records::{next_record, nullable, varint};

/// A record as it is kept: key, value and headers share the memory of their batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, -1 if it has no time.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Names and values, in their order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Walks the data records of whole batches, as a fetch answers them; what markers there are is skipped.
#[derive(Debug)]
pub struct RecordReader {
    /// Batches not begun yet.
    rest: Bytes,
    header: Option<BatchHeader>,
    /// Records of the batch under way.
    section: Bytes,
    left: i32,
    next_offset: i64,
}

/// Fetched bytes that cannot be read; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} cannot be read: {reason}")]
pub struct UnreadableBatch {
    /// Where the batch begins, as far as is known.
    pub offset: i64,
    /// What is wrong with it.
    pub reason: String,
}

impl RecordReader {
    /// Reads what [`crate::Handle::fetch`] found.
    pub fn new(records: Bytes) -> Self {
        Self { rest: records, header: None, section: Bytes::new(), left: 0, next_offset: -1 }
    }

    /// Where to fetch next: behind the last batch that was begun. -1 if there was none.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Opens the next batch; false at the end.
    fn open(&mut self) -> Result<bool, BatchError> {
        loop {
            if self.rest.is_empty() {
                return Ok(false);
            }
            let header = BatchHeader::parse(&self.rest)?;
            if self.rest.len() < header.total_len() {
                return Err(BatchError::Truncated);
            }
            let batch = self.rest.split_to(header.total_len());
            self.next_offset = header.last_offset() + 1;
            if header.is_control() {
                continue;
            }
            self.section = match compression::unpack(header.codec(), &batch[HEADER_LEN..])? {
                std::borrow::Cow::Borrowed(_) => batch.slice(HEADER_LEN..),
                std::borrow::Cow::Owned(unpacked) => Bytes::from(unpacked),
            };
            self.left = header.record_count;
            self.header = Some(header);
            return Ok(true);
        }
    }

    fn read(&mut self) -> Result<Option<StoredRecord>, BatchError> {
        while self.left <= 0 {
            if !self.open()? {
                return Ok(None);
            }
        }
        let header = self.header.as_ref().ok_or(BatchError::Records)?;
        self.left -= 1;
        let section = &self.section;
        let mut rest: &[u8] = section;
        let record = next_record(header, &mut rest).ok_or(BatchError::Records)?;
        let stored = StoredRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|key| section.slice_ref(key)),
            value: record.value.map(|value| section.slice_ref(value)),
            headers: headers(section, record.headers).ok_or(BatchError::Records)?,
        };
        let used = section.len() - rest.len();
        self.section.advance(used);
        Ok(Some(stored))
    }
}

impl Iterator for RecordReader {
    type Item = Result<StoredRecord, UnreadableBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(record) => record.map(Ok),
            Err(error) => {
                let offset = self.header.as_ref().map_or(-1, |header| header.base_offset);
                *self = Self::new(Bytes::new());
                Some(Err(UnreadableBatch { offset, reason: error.to_string() }))
            }
        }
    }
}

/// The headers of a record; allocates nothing when there are none.
fn headers(section: &Bytes, encoded: &[u8]) -> Option<Vec<(Bytes, Option<Bytes>)>> {
    let mut rest = encoded;
    let count = varint(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = nullable(&mut rest)??;
        let value = nullable(&mut rest)?;
        headers.push((section.slice_ref(name), value.map(|value| section.slice_ref(value))));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::compression::Compression;
    use crate::wire::records::BatchBuilder;

    fn batch(compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new(1000);
        builder.push(1000, Some(b"k"), None);
        let headers = [("a", Some(&b"1"[..])), ("b", None)];
        builder.push_with_headers(1005, None, Some(&[7; 300]), headers.into_iter());
        builder.build_packed(compression)
    }

    #[test]
    fn what_was_built_reads_back_in_every_codec() {
        use Compression::{Gzip, Lz4, None as Plain, Snappy, Zstd};
        for codec in [Plain, Gzip, Snappy, Lz4, Zstd] {
            let twice = Bytes::from([batch(codec), batch(codec)].concat());
            let mut reader = RecordReader::new(twice);
            let records: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
            assert_eq!(records.len(), 4);
            assert_eq!(reader.next_offset(), 2);
            assert_eq!((records[0].key.as_deref(), records[0].value.as_deref()), (Some(&b"k"[..]), None));
            assert_eq!((records[1].offset, records[1].timestamp), (1, 1005));
            assert_eq!(records[1].value.as_deref(), Some(&[7; 300][..]));
            let b = |text: &'static str| Bytes::from(text);
            assert_eq!(records[1].headers, [(b("a"), Some(b("1"))), (b("b"), None)]);
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_end_in_an_error_or_in_records(at in 0..420usize, to: u8) {
            let mut bytes = batch(Compression::None).to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            prop_assert!(RecordReader::new(Bytes::from(bytes)).count() <= 3);
        }
    }
}
