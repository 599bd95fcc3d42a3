//! Walking fetched batches record by record, for readers in the process: nothing is copied that is not compressed.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::batch::{BatchError, BatchHeader, HEADER_LEN};
use super::compression;
use super::records::{next_record, nullable, varint};

/// The data of one batch, unpacked.
#[derive(Debug, Clone)]
pub struct ReadBatch {
    /// What the ranges of [`RecordAt`] point into.
    pub data: Bytes,
    /// Where to fetch next.
    pub next_offset: i64,
    header: BatchHeader,
}

/// Where a record lies in the data of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAt {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, -1 if it has no time.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<Range<usize>>,
    /// Value; none is a tombstone on a compacted topic.
    pub value: Option<Range<usize>>,
    /// Names and values, in their order; allocates nothing when there are none.
    pub headers: Vec<(Range<usize>, Option<Range<usize>>)>,
}

/// Fetched bytes that cannot be read; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the records from offset {offset} on cannot be read: {reason}")]
pub struct UnreadableBatch {
    /// Where the batch begins, or the record in it that cannot be read; -1 if that is not known.
    pub offset: i64,
    /// The offset after the batch, if that is known: whoever passes over it goes on there.
    pub next_offset: Option<i64>,
    /// What is wrong with it.
    pub reason: String,
}

impl UnreadableBatch {
    fn new(header: Option<&BatchHeader>, error: BatchError) -> Self {
        Self {
            offset: header.map_or(-1, |header| header.base_offset),
            next_offset: header.map(|header| header.last_offset() + 1),
            reason: error.to_string(),
        }
    }
}

/// Walks the whole batches that [`crate::Handle::fetch`] found. One of markers comes without records; after one that
/// cannot be read it goes on with the next, unless nothing tells where that begins.
#[derive(Debug, Clone)]
pub struct BatchReader(Bytes);

impl BatchReader {
    /// Reads fetched bytes.
    pub fn new(records: Bytes) -> Self {
        Self(records)
    }
}

impl Iterator for BatchReader {
    type Item = Result<ReadBatch, UnreadableBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = read(&mut self.0);
        if read.as_ref().is_err_and(|error| error.next_offset.is_none()) {
            self.0.clear();
        }
        Some(read)
    }
}

fn read(rest: &mut Bytes) -> Result<ReadBatch, UnreadableBatch> {
    let header = BatchHeader::parse(rest).map_err(|error| UnreadableBatch::new(None, error))?;
    let fail = |error| UnreadableBatch::new(Some(&header), error);
    if rest.len() < header.total_len() {
        return Err(UnreadableBatch::new(None, BatchError::Truncated));
    }
    let batch = rest.split_to(header.total_len());
    let data = match compression::unpack(header.codec(), &batch[HEADER_LEN..]).map_err(fail)? {
        Cow::Borrowed(_) => batch.slice(HEADER_LEN..),
        Cow::Owned(unpacked) => Bytes::from(unpacked),
    };
    Ok(ReadBatch { data, next_offset: header.last_offset() + 1, header })
}

impl ReadBatch {
    /// About how many records there are.
    pub fn len(&self) -> usize {
        if self.header.is_control() { 0 } else { usize::try_from(self.header.record_count).unwrap_or(0) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records in order; ends with an error where one does not parse.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordAt, UnreadableBatch>> {
        let mut rest: &[u8] = &self.data;
        let mut left = self.len();
        let mut offset = self.header.base_offset;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            let record = self.next_record(&mut rest);
            match &record {
                Some(record) => offset = record.offset + 1,
                None => left = 0,
            }
            Some(record.ok_or_else(|| {
                let unreadable = UnreadableBatch::new(Some(&self.header), BatchError::Records);
                UnreadableBatch { offset, ..unreadable }
            }))
        })
    }

    fn next_record(&self, rest: &mut &[u8]) -> Option<RecordAt> {
        let record = next_record(&self.header, rest)?;
        let range = |part: &[u8]| {
            let start = part.as_ptr().addr() - self.data.as_ptr().addr();
            start..start + part.len()
        };
        let mut encoded = record.headers;
        let count = varint(&mut encoded)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = nullable(&mut encoded)??;
            headers.push((range(name), nullable(&mut encoded)?.map(range)));
        }
        Some(RecordAt {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(range),
            value: record.value.map(range),
            headers,
        })
    }
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
            let batches: Vec<_> = BatchReader::new(twice).map(Result::unwrap).collect();
            assert_eq!(batches.len(), 2);
            assert_eq!(batches[1].next_offset, 2);
            let batch = &batches[1];
            let records: Vec<_> = batch.records().map(Result::unwrap).collect();
            let bytes = |range: &Option<Range<usize>>| range.clone().map(|range| &batch.data[range]);
            assert_eq!((bytes(&records[0].key), bytes(&records[0].value)), (Some(&b"k"[..]), None));
            assert_eq!((records[1].offset, records[1].timestamp), (1, 1005));
            assert_eq!(bytes(&records[1].value), Some(&[7; 300][..]));
            let headers = &records[1].headers;
            let names: Vec<_> = headers.iter().map(|(name, value)| (&batch.data[name.clone()], bytes(value))).collect();
            assert_eq!(names, [(&b"a"[..], Some(&b"1"[..])), (b"b", None)]);
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_end_in_an_error_or_in_records(at in 0..420usize, to: u8) {
            let mut bytes = batch(Compression::None).to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            let read = BatchReader::new(Bytes::from(bytes));
            prop_assert!(read.flatten().flat_map(|batch| batch.records().collect::<Vec<_>>()).count() <= 400);
        }
    }
}
