//! `Filter`: drops every record; made for use with a predicate.

use crate::api::{ConfigDef, Record, Result, Transform, TransformSpec};

/// Drops records.
pub static SPEC: TransformSpec = TransformSpec {
    class: "org.apache.kafka.connect.transforms.Filter",
    config: ConfigDef::new,
    build: |_| Ok(Box::new(Filter)),
};

#[derive(Debug)]
struct Filter;

impl Transform for Filter {
    fn apply(&mut self, _record: Record) -> Result<Option<Record>> {
        Ok(None)
    }
}
