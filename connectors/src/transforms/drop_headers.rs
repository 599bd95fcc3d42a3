//! `DropHeaders`: removes all headers of some names.

use crate::api::{
    ConfigDef, ConfigKey, ConfigType, Importance, Props, Record, Result, Transform, TransformSpec, Validator,
};

/// Removes headers.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.DropHeaders",
    config,
    build: |props| Ok(Box::new(DropHeaders::new(props)?)),
};

fn config() -> ConfigDef {
    ConfigDef::new().with(
        ConfigKey::required("headers", ConfigType::List)
            .importance(Importance::High)
            .check(Validator::NonEmpty)
            .doc("The name of the headers to be removed."),
    )
}

#[derive(Debug)]
struct DropHeaders(Vec<String>);

impl DropHeaders {
    fn new(props: &Props) -> Result<Self> {
        Ok(Self(config().read(props)?.list("headers").into_iter().map(str::to_owned).collect()))
    }
}

impl Transform for DropHeaders {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.headers.retain(|header| !self.0.iter().any(|name| *name == *header.key));
        Ok(Some(record))
    }
}
