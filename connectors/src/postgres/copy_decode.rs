//! The stream of `COPY ... TO STDOUT (FORMAT binary)`: chunks in, tuples out. A chunk normally holds one tuple; any cut
//! is allowed. Tuples are slices of the chunks, not copies, unless a tuple crosses a cut.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// The stream is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the COPY stream is damaged: {0}")]
pub struct BadStream(&'static str);

/// Cuts a COPY stream into tuples.
#[derive(Debug, Default)]
pub struct TupleReader {
    rest: Bytes,
    started: bool,
    ended: bool,
}

/// Fields of one tuple or of several, one after the other, each with its length in front.
#[derive(Debug, Clone)]
pub struct Fields {
    fields: Bytes,
    at: usize,
}

impl TupleReader {
    /// Takes the next chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if self.rest.is_empty() {
            self.rest = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.rest.len() + chunk.len());
            joined.extend_from_slice(&self.rest);
            joined.extend_from_slice(&chunk);
            self.rest = joined.freeze();
        }
    }

    /// The next tuple of `columns` fields; `None` if more chunks are needed or the stream ended.
    ///
    /// # Errors
    /// If the stream is no binary COPY, or its tuples have another number of fields.
    pub fn next_tuple(&mut self, columns: usize) -> Result<Option<Fields>, BadStream> {
        if !self.started && !self.read_header()? {
            return Ok(None);
        }
        if self.ended || self.rest.len() < 2 {
            return Ok(None);
        }
        let count = i16::from_be_bytes([self.rest[0], self.rest[1]]);
        if count == -1 {
            self.ended = true;
            return Ok(None);
        }
        if usize::try_from(count) != Ok(columns) {
            return Err(BadStream("another number of columns than planned"));
        }
        let mut end = 2;
        for _ in 0..columns {
            let Some(length) = self.rest.get(end..end + 4) else { return Ok(None) };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            end += 4;
            match length {
                -1 => {}
                length => end += usize::try_from(length).map_err(|_| BadStream("a negative field length"))?,
            }
        }
        if self.rest.len() < end {
            return Ok(None);
        }
        let mut fields = if end == self.rest.len() { std::mem::take(&mut self.rest) } else { self.rest.split_to(end) };
        fields.advance(2);
        Ok(Some(Fields::new(fields)))
    }

    /// Whether the trailer was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn read_header(&mut self) -> Result<bool, BadStream> {
        let known = self.rest.len().min(SIGNATURE.len());
        if self.rest[..known] != SIGNATURE[..known] {
            return Err(BadStream("no binary COPY signature"));
        }
        let Some(size) = self.rest.get(15..19) else { return Ok(false) };
        let extension = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if self.rest.len() < 19 + extension {
            return Ok(false);
        }
        self.rest.advance(19 + extension);
        self.started = true;
        Ok(true)
    }
}

impl Fields {
    /// Fields that a [`TupleReader`] gave, those of one tuple after those of another.
    pub fn new(fields: Bytes) -> Self {
        Self { fields, at: 0 }
    }

    /// What the places of fields point into.
    pub fn bytes(&self) -> &Bytes {
        &self.fields
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Where the next field lies; `None` if it is null.
    #[inline]
    pub fn next_field(&mut self) -> Option<Range<usize>> {
        let length = self.fields.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        // The reader has measured every field.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
        let start = self.at;
        self.at = (start + length).min(self.fields.len());
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::copy_encode;
    use super::*;
    use proptest::prelude::*;

    type Rows = Vec<Vec<Option<Vec<u8>>>>;

    fn stream(rows: &Rows) -> Vec<u8> {
        let mut out = Vec::new();
        copy_encode::put_header(&mut out);
        for row in rows {
            out.extend_from_slice(&i16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                match field {
                    None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(bytes) => {
                        out.extend_from_slice(&i32::try_from(bytes.len()).unwrap().to_be_bytes());
                        out.extend_from_slice(bytes);
                    }
                }
            }
        }
        copy_encode::put_trailer(&mut out);
        out
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_rows(
            rows in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 3..=3), 0..6),
            cut in 1_usize..40,
        ) {
            let mut reader = TupleReader::default();
            let mut found: Rows = Vec::new();
            for chunk in stream(&rows).chunks(cut) {
                reader.push(Bytes::copy_from_slice(chunk));
                while let Some(mut tuple) = reader.next_tuple(3).unwrap() {
                    let mut field = || tuple.next_field().map(|place| tuple.bytes()[place].to_vec());
                    found.push((0..3).map(|_| field()).collect());
                }
            }
            prop_assert_eq!(found, rows);
            prop_assert!(reader.ended());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = TupleReader { started: true, ..TupleReader::default() };
            reader.push(bytes.into());
            while let Ok(Some(mut tuple)) = reader.next_tuple(2) {
                let _ = (tuple.next_field(), tuple.next_field(), tuple.next_field());
            }
        }
    }

    #[test]
    fn refuses_other_streams() {
        let mut reader = TupleReader::default();
        reader.push(Bytes::from_static(b"1\tfoo\n"));
        assert!(reader.next_tuple(1).is_err());
    }
}
