//! `org.apache.kafka.connect.json.JsonConverter`: envelopes of schema and payload, or payloads alone, byte for byte.
//!
//! The schema's text is rendered once per schema. When reading, the bytes in front of the payload are recognised as
//! a whole, so that all records of one envelope share one schema and the payload is all that is parsed.

mod read;
mod scan;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use towline_connectors::api::{ConfigDef, ConfigKey, ConfigType, Error, Importance, Props, Result, Validator, Width};
use towline_connectors::data::{Datum, Plans, Schema, Value};

use self::read::{ReadError, Reader, read_schemaless};
use self::scan::{Node, Scanner, SyntaxError};
use self::schema::{read_schema, write_schema};
use self::write::{Writer, write_schemaless};
use super::{Converter, Failure};

/// As many distinct envelopes are kept.
const ENVELOPES: usize = 64;

const NOT_AN_ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not \
     contain additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your \
     converter configuration.";

/// The converter's keys.
pub(super) fn config() -> ConfigDef {
    ConfigDef::new()
        .with(
            ConfigKey::with_default("schemas.enable", ConfigType::Boolean, "true")
                .importance(Importance::High)
                .width(Width::Medium)
                .group("Schemas")
                .display("Enable Schemas")
                .doc("Include schemas within each of the serialized values and keys."),
        )
        .with(
            ConfigKey::with_default("schemas.cache.size", ConfigType::Int, "1000")
                .importance(Importance::High)
                .width(Width::Medium)
                .group("Schemas")
                .display("Schema Cache Size")
                .doc("The maximum number of schemas that can be cached in this converter instance."),
        )
        .with(
            ConfigKey::optional("schema.content", ConfigType::String)
                .importance(Importance::High)
                .group("Schemas")
                .display("Schema Content")
                .doc("A schema that all records read have, instead of one in each record."),
        )
        .with(
            ConfigKey::with_default("decimal.format", ConfigType::String, "BASE64")
                .importance(Importance::Low)
                .width(Width::Medium)
                .group("Serialization")
                .display("Decimal Format")
                .check(Validator::OneOfAnyCase(&["BASE64", "NUMERIC"]))
                .doc("How decimals are written: base64 text of their bytes, or JSON numbers. Both are read."),
        )
        .with(
            ConfigKey::with_default("replace.null.with.default", ConfigType::Boolean, "true")
                .importance(Importance::Low)
                .width(Width::Medium)
                .group("Serialization")
                .display("Replace null with default")
                .doc("Whether a null in a field with a default value becomes that default."),
        )
}

/// What the config says, as the plans need it.
#[derive(Debug, Clone, Copy)]
struct Settings {
    numeric_decimals: bool,
    replace_null_with_default: bool,
}

#[derive(Debug)]
struct WritePlan {
    /// `{"schema":...,"payload":`, or nothing.
    lead: Box<[u8]>,
    writer: Writer,
}

#[derive(Debug)]
struct Envelope {
    /// All bytes in front of the payload.
    lead: Bytes,
    known: Known,
}

/// A schema that was read, with its plan; `None` reads payloads without a schema.
type Known = Option<Arc<(Arc<Schema>, Reader)>>;

/// The converter.
#[derive(Debug)]
pub(super) struct JsonConverter {
    schemas_enabled: bool,
    settings: Settings,
    writers: Plans<WritePlan>,
    /// Envelopes by their leading bytes, the last used one first.
    envelopes: Vec<Envelope>,
    /// Schemas by their text.
    schemas: Vec<(Bytes, Known)>,
    fixed: Known,
}

impl JsonConverter {
    pub(super) fn new(props: &Props) -> Result<Self> {
        let config = config().read(props)?;
        let settings = Settings {
            numeric_decimals: config.text("decimal.format").eq_ignore_ascii_case("NUMERIC"),
            replace_null_with_default: config.boolean("replace.null.with.default"),
        };
        let fixed = match config.optional("schema.content").filter(|content| !content.trim().is_empty()) {
            Some(content) => plan_reader(&Bytes::copy_from_slice(content.as_bytes()), &settings)
                .map_err(|error| Error::config(format!("Invalid schema.content: {error}")).caused_by(error))?,
            None => None,
        };
        Ok(Self {
            schemas_enabled: config.boolean("schemas.enable"),
            settings,
            writers: Plans::default(),
            envelopes: Vec::new(),
            schemas: Vec::new(),
            fixed,
        })
    }

    fn write(&mut self, schema: Option<&Arc<Schema>>, value: &Value, out: &mut BytesMut) -> Result<bool> {
        let Some(schema) = schema else {
            if value.is_null() {
                return Ok(false);
            }
            if self.schemas_enabled {
                out.extend_from_slice(b"{\"schema\":null,\"payload\":");
            }
            write_schemaless(value, out)?;
            if self.schemas_enabled {
                out.extend_from_slice(b"}");
            }
            return Ok(true);
        };
        let (settings, enabled) = (&self.settings, self.schemas_enabled);
        let plan = self.writers.plan(schema, || plan_writer(schema, enabled, settings))?;
        out.extend_from_slice(&plan.lead);
        plan.writer.write(value, out)?;
        if self.schemas_enabled {
            out.extend_from_slice(b"}");
        }
        Ok(true)
    }

    fn read(&mut self, bytes: &Bytes, datum: &mut Datum) -> Result<(), ReadError> {
        if !self.schemas_enabled || self.fixed.is_some() {
            if bytes.is_empty() {
                *datum = Datum::default();
                return Ok(());
            }
            return payload(&self.fixed, &mut Scanner::new(bytes, 0), datum);
        }
        if let Some(index) = self.envelopes.iter().position(|envelope| bytes.starts_with(&envelope.lead)) {
            self.envelopes.swap(0, index);
            let envelope = &self.envelopes[0];
            let mut scanner = Scanner::new(bytes, envelope.lead.len());
            payload(&envelope.known, &mut scanner, datum)?;
            if scanner.eat(b'}') {
                return Ok(());
            }
        }
        *datum = self.read_envelope(bytes)?;
        Ok(())
    }

    /// Reads an envelope whose schema is not known yet, or whose members stand in another order.
    fn read_envelope(&mut self, bytes: &Bytes) -> Result<Datum, ReadError> {
        let not_an_envelope = || ReadError::Data(Error::data(NOT_AN_ENVELOPE));
        let mut scanner = Scanner::new(bytes, 0);
        if bytes.is_empty() || scanner.peek()? != Node::Object {
            return Err(not_an_envelope());
        }
        let (mut schema, mut body, mut others) = (None, None, false);
        scanner.members(|scanner, key| {
            let at = scanner.at();
            match &*key {
                "schema" => schema = Some(scanner.skip()?),
                "payload" => body = Some((at, scanner.skip()?)),
                _ => {
                    others = true;
                    scanner.skip()?;
                }
            }
            Ok::<_, ReadError>(())
        })?;
        let (Some(schema), Some((at, body)), false) = (schema, body, others) else { return Err(not_an_envelope()) };
        let known = self.known(&schema)?;
        // The schema stands in front: the next record of it will start with the same bytes.
        if bytes[..at].windows(schema.len()).any(|window| window == schema.as_ref()) {
            self.envelopes.truncate(ENVELOPES - 1);
            let lead = Bytes::copy_from_slice(&bytes[..at]);
            self.envelopes.insert(0, Envelope { lead, known: known.clone() });
        }
        let mut datum = Datum::default();
        payload(&known, &mut Scanner::new(&body, 0), &mut datum)?;
        Ok(datum)
    }

    fn known(&mut self, text: &Bytes) -> Result<Known> {
        if let Some((_, known)) = self.schemas.iter().find(|(known, _)| known == text) {
            return Ok(known.clone());
        }
        let known = plan_reader(text, &self.settings)?;
        self.schemas.truncate(ENVELOPES - 1);
        self.schemas.insert(0, (Bytes::copy_from_slice(text), known.clone()));
        Ok(known)
    }
}

fn plan_writer(schema: &Schema, schemas_enabled: bool, settings: &Settings) -> Result<WritePlan> {
    let mut lead = BytesMut::new();
    if schemas_enabled {
        lead.extend_from_slice(b"{\"schema\":");
        write_schema(schema, None, settings, &mut lead)?;
        lead.extend_from_slice(b",\"payload\":");
    }
    Ok(WritePlan { lead: lead.to_vec().into_boxed_slice(), writer: Writer::plan(schema, settings)? })
}

fn plan_reader(text: &Bytes, settings: &Settings) -> Result<Known> {
    let Some(schema) = read_schema(text, settings)? else { return Ok(None) };
    let reader = Reader::plan(&schema, settings)?;
    Ok(Some(Arc::new((Arc::new(schema), reader))))
}

fn payload(known: &Known, scanner: &mut Scanner<'_>, datum: &mut Datum) -> Result<(), ReadError> {
    match known.as_deref() {
        Some((schema, reader)) => {
            reader.read_over(scanner, &mut datum.value)?;
            if !datum.schema.as_ref().is_some_and(|before| Arc::ptr_eq(before, schema)) {
                datum.schema = Some(Arc::clone(schema));
            }
        }
        None => *datum = Datum::schemaless(read_schemaless(scanner, 0)?),
    }
    Ok(())
}

fn parse_failure(cause: SyntaxError) -> Error {
    Error::data("Converting byte[] to Kafka Connect data failed due to serialization error: ")
        .caused_by(super::serialization(cause.to_string()))
}

impl Converter for JsonConverter {
    fn encode(
        &mut self,
        _topic: &str,
        schema: Option<&Arc<Schema>>,
        value: &Value,
        out: &mut BytesMut,
    ) -> Result<bool, Failure> {
        Ok(self.write(schema, value, out)?)
    }

    fn decode(&mut self, topic: &str, bytes: Option<&Bytes>) -> Result<Datum, Failure> {
        let mut datum = Datum::default();
        self.decode_into(topic, bytes, &mut datum)?;
        Ok(datum)
    }

    fn decode_into(&mut self, _topic: &str, bytes: Option<&Bytes>, datum: &mut Datum) -> Result<(), Failure> {
        match bytes {
            Some(bytes) => self.read(bytes, datum).map_err(Error::from)?,
            None => {
                let schema = self.fixed.as_ref().map(|known| Arc::clone(&known.0));
                *datum = Datum { schema, value: Value::Null };
            }
        }
        Ok(())
    }
}
