//! `io.confluent.connect.avro.AvroConverter`.

/// What a converter must ask its registry.
#[derive(Debug)]
pub enum Miss {}
