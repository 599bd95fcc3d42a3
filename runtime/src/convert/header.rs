//! `SimpleHeaderConverter`: text for any value, and the smallest fitting type when reading. Reading never fails.

use bytes::{Bytes, BytesMut};
use towline_connectors::api::Result;
use towline_connectors::data::Datum;
use towline_connectors::data::infer::infer;
use towline_connectors::data::text::connect_text;

use super::HeaderConverter;

/// The converter.
#[derive(Debug)]
pub(super) struct SimpleHeaderConverter;

impl HeaderConverter for SimpleHeaderConverter {
    fn encode(&mut self, _topic: &str, _key: &str, datum: &Datum, out: &mut BytesMut) -> Result<bool> {
        if datum.value.is_null() {
            return Ok(false);
        }
        out.extend_from_slice(connect_text(datum.schema.as_deref(), &datum.value).as_bytes());
        Ok(true)
    }

    fn decode(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<Datum> {
        Ok(bytes.map_or_else(Datum::default, |bytes| infer(&String::from_utf8_lossy(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use towline_connectors::data::Value;

    use super::*;

    #[test]
    fn a_padded_number_loses_its_zeros() {
        let datum = SimpleHeaderConverter.decode("t", "h", Some(&Bytes::from_static(b"001"))).unwrap();
        assert_eq!(datum.value, Value::Int8(1));
        let mut out = BytesMut::new();
        assert!(SimpleHeaderConverter.encode("t", "h", &datum, &mut out).unwrap());
        assert_eq!(out, &b"1"[..]);
    }
}
