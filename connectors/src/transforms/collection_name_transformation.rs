//! Debezium's `CollectionNameTransformation`: the topic, which names the table, in another style.

use std::sync::Arc;

use super::naming_style::{self, NamingStyle};
use crate::api::{Record, Result, Transform, TransformSpec};

/// Renames topics.
pub static SPEC: TransformSpec = TransformSpec {
    class: "io.debezium.connector.jdbc.transforms.CollectionNameTransformation",
    config: || naming_style::config("collection"),
    build: |props| {
        Ok(Box::new(CollectionNameTransformation { style: NamingStyle::new("collection", props)?, last: None }))
    },
};

#[derive(Debug)]
struct CollectionNameTransformation {
    style: NamingStyle,
    /// The last answer: most records of a task are of one topic.
    last: Option<(Arc<str>, Arc<str>)>,
}

impl Transform for CollectionNameTransformation {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let named = match &self.last {
            Some((from, to)) if *from == record.topic => Arc::clone(to),
            _ => {
                let to: Arc<str> = self.style.apply(&record.topic).into();
                self.last = Some((Arc::clone(&record.topic), Arc::clone(&to)));
                to
            }
        };
        record.topic = named;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, build, map_record};
    use super::*;

    #[test]
    fn topics_get_their_style() {
        let entries = [("collection.naming.style", "UPPER_CASE"), ("collection.naming.prefix", "dbz_")];
        let mut transform = build(&SPEC, &entries);
        for _ in 0..2 {
            assert_eq!(&*apply(&mut *transform, map_record(&[])).topic, "dbz_TOPIC");
        }
    }
}
