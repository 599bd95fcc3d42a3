//! A reading buffer for the generated decoders that cannot be talked into huge allocations.
//!
//! The generated decoders reserve memory for as many array elements as the request claims. In flexible versions
//! each varint is a length, so one above the remaining bytes is an error. In the older versions an array length
//! looks like any int32: values beyond what could follow are capped, which ends a lying array with "not enough
//! bytes" and turns a timeout beyond 70 minutes into 70 minutes.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

const INT32_CAP: i32 = 1 << 22;
const SMALL: u64 = 1 << 14;

/// See the module.
#[derive(Debug)]
pub(crate) struct GuardedBuf {
    inner: Bytes,
    flexible: bool,
    varint: u64,
    shift: u32,
}

impl GuardedBuf {
    /// Guards `inner`; `flexible` says whether lengths are varints.
    pub(crate) fn new(inner: Bytes, flexible: bool) -> Self {
        GuardedBuf { inner, flexible, varint: 0, shift: 0 }
    }

    fn refuse(&mut self) -> TryGetError {
        self.inner.clear();
        TryGetError { requested: usize::MAX, available: 0 }
    }
}

impl Buf for GuardedBuf {
    fn remaining(&self) -> usize {
        self.inner.remaining()
    }
    fn chunk(&self) -> &[u8] {
        self.inner.chunk()
    }
    fn advance(&mut self, cnt: usize) {
        self.inner.advance(cnt.min(self.inner.len()));
    }
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.inner.try_get_u8()?;
        if self.flexible {
            self.varint |= u64::from(byte & 0x7f) << self.shift.min(56);
            self.shift += 7;
            if self.varint > SMALL.max(self.inner.len() as u64 + 1) {
                return Err(self.refuse());
            }
            if byte & 0x80 == 0 {
                self.varint = 0;
                self.shift = 0;
            }
        }
        Ok(byte)
    }
    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.inner.try_get_i32()?;
        let fits = self.flexible || usize::try_from(value).is_ok_and(|v| v <= self.inner.len());
        Ok(if fits || value < INT32_CAP { value } else { INT32_CAP })
    }
}

impl ByteBuf for GuardedBuf {
    fn peek_bytes(&mut self, r: std::ops::Range<usize>) -> Bytes {
        let end = r.end.min(self.inner.len());
        self.inner.slice(r.start.min(end)..end)
    }
    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.inner.split_to(size.min(self.inner.len()))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest};
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lying_array_length_is_an_error() {
        let old = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']);
        assert!(MetadataRequest::decode(&mut GuardedBuf::new(old, false), 4).is_err());
        let flexible = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
        assert!(MetadataRequest::decode(&mut GuardedBuf::new(flexible, true), 12).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = CreateTopicsRequest::decode(&mut GuardedBuf::new(bytes.clone(), false), 3);
            let _ = CreateTopicsRequest::decode(&mut GuardedBuf::new(bytes.clone(), true), 7);
            let _ = MetadataRequest::decode(&mut GuardedBuf::new(bytes, true), 12);
        }
    }
}
