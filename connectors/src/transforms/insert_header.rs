//! `InsertHeader`: appends a header with a literal value, its type inferred from the text.

use bytestring::ByteString;

use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Header, Importance, Props, Record, Result, Transform, TransformSpec, Validator,
};
use crate::data::infer::infer;

/// Appends a header.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.InsertHeader",
    config,
    build: |props| Ok(Box::new(InsertHeader::new(props)?)),
};

fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::required("header", ConfigType::String)
                .importance(Importance::High)
                .check(Validator::NonEmpty)
                .doc("The name of the header."),
        )
        .with(
            ConfigKey::required("value.literal", ConfigType::String)
                .importance(Importance::High)
                .check(Validator::NonEmpty)
                .doc("The literal value that is to be set as the header value on all records."),
        )
}

#[derive(Debug)]
struct InsertHeader(Header);

impl InsertHeader {
    fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        Ok(Self(Header { key: ByteString::from(config.text("header")), value: infer(config.text("value.literal")) }))
    }
}

impl Transform for InsertHeader {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.headers.push(self.0.clone());
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, map_record};
    use super::*;
    use crate::data::Value;

    #[test]
    fn headers_come_and_go() {
        let mut insert = build(&SPEC, &[("header", "h"), ("value.literal", "5")]);
        let record = apply(&mut *insert, map_record(&[]));
        let record = apply(&mut *insert, record);
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[0].value.value, Value::Int8(5));
        let mut drop = build(&super::super::drop_headers::SPEC, &[("headers", "h")]);
        assert!(apply(&mut *drop, record).headers.is_empty());
    }
}
