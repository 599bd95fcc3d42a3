//! Converters: records to bytes and back, in the bytes of Kafka Connect's converters.
//!
//! Synchronous, and planned once per schema: what depends on the schema alone is worked out when its `Arc` is first
//! seen, so the record loop is a walk over values. Only a converter with a registry ever has to wait; it says so with
//! [`Failure::Miss`], and the loop calls [`Converter::resolve`] once and converts the same record again.

pub mod avro;
mod header;
mod json;
mod plugin;
mod primitive;
mod string;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use towline_connectors::api::{Error, Result};
use towline_connectors::data::{Datum, Schema, Value};

pub use avro::Miss;
pub use plugin::{ConverterSpec, Kind, build, build_header, find, specs};

/// Turns keys or values into bytes and back. The worker has one for each side of each task.
#[async_trait]
pub trait Converter: Send {
    /// Appends the bytes of a value with its schema to `out`; `false` is a null (a tombstone), with nothing appended.
    ///
    /// # Errors
    /// A data error if the value cannot be converted, or a miss; `out` may then hold part of it.
    fn encode(
        &mut self,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        value: &Value,
        out: &mut BytesMut,
    ) -> Result<bool, Failure>;

    /// Reads a record's bytes; `None` is a null.
    ///
    /// # Errors
    /// A data error if the bytes cannot be read, or a miss.
    fn decode(&mut self, topic: &str, bytes: Option<&Bytes>) -> Result<Datum, Failure>;

    /// As [`Self::decode`], into a datum whose memory may be used again; after a failure that holds anything.
    ///
    /// # Errors
    /// As [`Self::decode`].
    fn decode_into(&mut self, topic: &str, bytes: Option<&Bytes>, datum: &mut Datum) -> Result<(), Failure> {
        *datum = self.decode(topic, bytes)?;
        Ok(())
    }

    /// Asks the registry for what a call missed, once per schema. Cancel-safe: nothing is known until it returns.
    ///
    /// # Errors
    /// Retriable if the registry cannot be reached; otherwise its refusal.
    async fn resolve(&mut self, _miss: Miss) -> Result<()> {
        Ok(())
    }
}

/// Why a record was not converted.
#[derive(Debug)]
pub enum Failure {
    /// The record is wrong.
    Record(Error),
    /// The registry must be asked first: see [`Converter::resolve`].
    Miss(Miss),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Record(error)
    }
}

/// Turns header values into bytes and back.
pub trait HeaderConverter: Send {
    /// Appends the header's bytes to `out`; `false` is a null.
    ///
    /// # Errors
    /// A data error if the value cannot be converted.
    fn encode(&mut self, topic: &str, key: &str, datum: &Datum, out: &mut BytesMut) -> Result<bool>;

    /// Reads a header's bytes; `None` is a null.
    ///
    /// # Errors
    /// A data error if the bytes cannot be read.
    fn decode(&mut self, topic: &str, key: &str, bytes: Option<&Bytes>) -> Result<Datum>;
}

/// A converter that serves as a header converter.
struct AsHeader<C>(C);

impl<C: Converter> HeaderConverter for AsHeader<C> {
    fn encode(&mut self, topic: &str, _key: &str, datum: &Datum, out: &mut BytesMut) -> Result<bool> {
        self.0.encode(topic, datum.schema.as_ref(), &datum.value, out).map_err(without_miss)
    }

    fn decode(&mut self, topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<Datum> {
        self.0.decode(topic, bytes).map_err(without_miss)
    }
}

fn without_miss(failure: Failure) -> Error {
    match failure {
        Failure::Record(error) => error,
        Failure::Miss(miss) => Error::fatal(format!("header converters cannot ask a registry: {miss:?}")),
    }
}

/// The text of Java's `SerializationException`, the usual cause of a converter's `DataException`.
fn serialization(message: impl Into<String>) -> Error {
    Error::data(message).with_class("org.apache.kafka.common.errors.SerializationException")
}
