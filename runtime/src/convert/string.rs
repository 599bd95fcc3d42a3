//! `StringConverter`: the text of any value; reads text.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use towline_connectors::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Result};
use towline_connectors::data::text::java_text;
use towline_connectors::data::{Datum, Schema, Type, Value};

use super::{Converter, Failure};

/// The converter's keys.
pub(super) fn config() -> ConfigDef {
    ConfigDef::new().with(
        ConfigKey::with_default("converter.encoding", ConfigType::String, "UTF-8")
            .importance(Importance::High)
            .doc("The name of the character set that text is written and read in."),
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
    Ascii,
}

/// The converter.
#[derive(Debug)]
pub(super) struct StringConverter {
    schema: Arc<Schema>,
    charset: Charset,
}

impl StringConverter {
    pub(super) fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        // Java reads the key under this name too.
        let name = props.get("serializer.encoding").map_or(config.text("converter.encoding"), String::as_str);
        let charset = match name.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Charset::Utf8,
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" => Charset::Latin1,
            "US-ASCII" | "ASCII" => Charset::Ascii,
            _ => {
                return Err(Error::config(format!(
                    "Invalid value {name} for configuration converter.encoding: supported are UTF-8, ISO-8859-1 and \
                     US-ASCII"
                )));
            }
        };
        Ok(Self { schema: Arc::new(Schema::new(Type::String).optional()), charset })
    }

    fn write(&self, text: &str, out: &mut BytesMut) {
        let limit = match self.charset {
            Charset::Utf8 => return out.extend_from_slice(text.as_bytes()),
            Charset::Latin1 => 0x100,
            Charset::Ascii => 0x80,
        };
        out.extend(text.chars().map(u32::from).map(|c| if c < limit { c as u8 } else { b'?' }));
    }
}

impl Converter for StringConverter {
    fn encode(
        &mut self,
        _topic: &str,
        schema: Option<&Arc<Schema>>,
        value: &Value,
        out: &mut BytesMut,
    ) -> Result<bool, Failure> {
        match value {
            Value::Null => return Ok(false),
            Value::String(text) => self.write(text, out),
            value => self.write(&java_text(schema.map(|schema| &**schema), value), out),
        }
        Ok(true)
    }

    fn decode(&mut self, _topic: &str, bytes: Option<&Bytes>) -> Result<Datum, Failure> {
        let value = match (bytes, self.charset) {
            (None, _) => Value::Null,
            (Some(bytes), Charset::Utf8) => Value::String(
                ByteString::try_from(bytes.clone())
                    .unwrap_or_else(|_| ByteString::from(String::from_utf8_lossy(bytes).into_owned())),
            ),
            (Some(bytes), charset) => {
                let known = |b: &u8| charset == Charset::Latin1 || b.is_ascii();
                let text: String =
                    bytes.iter().map(|b| if known(b) { char::from(*b) } else { char::REPLACEMENT_CHARACTER }).collect();
                Value::from(text)
            }
        };
        Ok(Datum::new(Arc::clone(&self.schema), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_their_java_text() {
        let mut converter = StringConverter::new(&Props::new()).unwrap();
        let mut out = BytesMut::new();
        for (value, text) in [(Value::Int32(5), "5"), (Value::Float64(5.0), "5.0"), (Value::from("é"), "é")] {
            out.clear();
            assert!(converter.encode("t", None, &value, &mut out).unwrap());
            assert_eq!(out, text.as_bytes());
        }
        assert!(!converter.encode("t", None, &Value::Null, &mut out).unwrap());
        let null = converter.decode("t", None).unwrap();
        assert!(null.value.is_null() && null.schema.is_some());
    }
}
