//! The stream of `COPY ... FROM STDIN (FORMAT binary)`: header, tuples, trailer.

use bytes::BufMut;

/// Appends the header.
pub fn put_header(out: &mut Vec<u8>) {
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_u64(0);
}

/// Appends the trailer.
pub fn put_trailer(out: &mut Vec<u8>) {
    out.put_i16(-1);
}

/// Appends the number of fields that starts a tuple.
pub fn put_count(out: &mut Vec<u8>, columns: usize) {
    // PostgreSQL allows 1,600 columns.
    out.put_i16(i16::try_from(columns).unwrap_or(i16::MAX));
}

/// Appends a null field.
pub fn put_null(out: &mut Vec<u8>) {
    out.put_i32(-1);
}

/// Appends a field.
pub fn put_field(out: &mut Vec<u8>, bytes: &[u8]) {
    // The server refuses fields from 1 GiB on by itself.
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}
