//! The property and parameter names that Confluent's `AvroData` uses.

pub(super) const NAMESPACE: &str = "io.confluent.connect.avro";
pub(super) const DEFAULT_NAME: &str = "io.confluent.connect.avro.ConnectDefault";
pub(super) const MAP_ENTRY: &str = "MapEntry";
pub(super) const INTERNAL_TYPE: &str = "connect.internal.type";
pub(super) const UNION: &str = "io.confluent.connect.avro.Union";
pub(super) const ENUM: &str = "io.confluent.connect.avro.Enum";
pub(super) const ENUM_DOC: &str = "io.confluent.connect.avro.enum.doc.";
pub(super) const ENUM_DEFAULT: &str = "io.confluent.connect.avro.enum.default.";
pub(super) const RECORD_DOC: &str = "io.confluent.connect.avro.record.doc";
pub(super) const FIELD_DOC: &str = "io.confluent.connect.avro.field.doc.";
pub(super) const FIELD_DEFAULT: &str = "io.confluent.connect.avro.field.default";
pub(super) const SUM_ENUM: &str = "org.apache.kafka.connect.data.Enum";
pub(super) const SUM_UNION: &str = "org.apache.kafka.connect.data.Union";
pub(super) const FIXED_SIZE: &str = "connect.fixed.size";
pub(super) const PRECISION: &str = "connect.decimal.precision";
pub(super) const DEFAULT_PRECISION: i32 = 64;
