//! The five bytes in front of every serialized value: magic 0 and the schema id, big-endian.

/// The length of the header.
pub const HEADER_LENGTH: usize = 5;

const MAGIC: u8 = 0;

/// Why a payload has no valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first byte is not 0: the value was not written by a registry-aware serializer.
    #[error("Unknown magic byte!")]
    UnknownMagicByte(u8),
    /// The payload ends inside the header.
    #[error("payload of {0} bytes is shorter than the schema id header of 5 bytes")]
    TooShort(usize),
}

/// The header for a schema id.
pub fn encode_header(id: i32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Splits a payload into schema id and body.
pub fn decode(payload: &[u8]) -> Result<(i32, &[u8]), WireError> {
    match payload {
        [magic, ..] if *magic != MAGIC => Err(WireError::UnknownMagicByte(*magic)),
        [_, a, b, c, d, body @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), body)),
        short => Err(WireError::TooShort(short.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_come_back() {
        let mut payload = encode_header(258).to_vec();
        assert_eq!(payload, [0, 0, 0, 1, 2]);
        payload.extend(b"xy");
        assert_eq!(decode(&payload), Ok((258, &b"xy"[..])));
    }

    #[test]
    fn wrong_payloads_are_named() {
        assert_eq!(decode(&[1, 0, 0, 0, 1]), Err(WireError::UnknownMagicByte(1)));
        assert_eq!(WireError::UnknownMagicByte(1).to_string(), "Unknown magic byte!");
        assert_eq!(decode(&[0, 0, 0]), Err(WireError::TooShort(3)));
        assert_eq!(decode(&[]), Err(WireError::TooShort(0)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>, id: i32) {
            let _ = decode(&bytes);
            let mut payload = encode_header(id).to_vec();
            payload.extend(&bytes);
            proptest::prop_assert_eq!(decode(&payload), Ok((id, &bytes[..])));
        }
    }
}
