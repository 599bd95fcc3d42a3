//! What a put's records are to each other and to the config: which are refused at sight, which share a partition or a
//! plan, and which offsets follow. Pure.

use std::sync::Arc;

use super::config::{PkMode, SinkConfig};

use super::unwrap::Action;
use crate::api::{SinkRecord, TopicPartition};
use crate::data::{Schema, Type};
use crate::postgres::schemaless;

/// Whether a record has what the config needs for what is to be done with it.
pub(super) fn admit(config: &SinkConfig, record: &SinkRecord, action: Action) -> Result<(), String> {
    let (key, value) = (&record.record.key, &record.record.value);
    let mode = config.dialect.key_mode();
    if action == Action::Truncate {
        return Ok(());
    }
    if config.pk_mode.needs_key() && (key.value.is_null() || key.schema.is_none()) {
        return Err(format!("{mode}=record_key needs records with a key that is not null"));
    }
    if action == Action::Delete {
        if config.delete_enabled && !key.value.is_null() && !matches!(config.pk_mode, PkMode::None | PkMode::Kafka) {
            return Ok(());
        }
        return Err("the value is null (a tombstone), which deletes only with delete.enabled=true and \
                    pk.mode=record_key; tombstones=skip passes over such records"
            .to_owned());
    }
    match value.schema.as_ref().map(|schema| schema.kind) {
        Some(Type::Struct) if value.schema.as_ref().is_some_and(|schema| schema.fields.is_empty()) => {
            Err("the value has no fields".to_owned())
        }
        Some(Type::Struct | Type::String) if !value.schema.as_deref().is_some_and(schemaless::is_schemaless) => Ok(()),
        Some(kind) => Err(format!("a value of type STRUCT is needed, found {}", kind.java_name())),
        None => Err("the value has no schema and is no JSON object: it has no fields to write into columns".to_owned()),
    }
}

/// The partition that a record was consumed from.
pub(super) fn partition_of(record: &SinkRecord) -> TopicPartition {
    TopicPartition { topic: Arc::clone(&record.origin.topic), partition: record.origin.partition }
}

/// Whether two records come from one partition.
pub(super) fn same_partition(a: &SinkRecord, b: &SinkRecord) -> bool {
    a.origin.partition == b.origin.partition
        && (Arc::ptr_eq(&a.origin.topic, &b.origin.topic) || a.origin.topic == b.origin.topic)
}

/// Whether two schemas are one, or none.
#[inline]
pub(super) fn same(a: Option<&Arc<Schema>>, b: Option<&Arc<Schema>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Whether two records share a plan.
pub(super) fn same_schemas(a: &SinkRecord, b: &SinkRecord) -> bool {
    let (a, b) = (&a.record, &b.record);
    (Arc::ptr_eq(&a.topic, &b.topic) || a.topic == b.topic)
        && same(a.value.schema.as_ref(), b.value.schema.as_ref())
        && same(a.key.schema.as_ref(), b.key.schema.as_ref())
        && a.value.value.is_null() == b.value.value.is_null()
}
