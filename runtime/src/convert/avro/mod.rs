//! `io.confluent.connect.avro.AvroConverter`: Avro binary behind a schema id from a registry.
//!
//! A schema is mapped, registered and planned once; then records are written and read without a tree. No schema
//! registry is asked inside the record loop: a call that needs one answers with a [`Miss`].

mod from_avro;
mod names;
mod read;
mod settings;
#[cfg(test)]
mod tests;
mod to_avro;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use towline_connectors::api::{Error, ErrorKind, Props, Result};
use towline_connectors::data::{Datum, Plans, Schema, Value};
use towline_registry::client::{Client, ClientError, SchemaText};
use towline_registry::schema::avro;
use towline_registry::wire;

use self::from_avro::from_avro;
use self::read::{Input, Reader};
pub(super) use self::settings::config;
use self::settings::{Lookup, Mapping, Settings, SubjectName};
use self::to_avro::to_avro;
use self::write::Writer;
use super::{Converter, Failure, serialization};

const DATA_EXCEPTION: &str = "org.apache.kafka.connect.errors.DataException";
const REST_EXCEPTION: &str = "io.confluent.kafka.schemaregistry.client.rest.exceptions.RestClientException";

/// What a converter must ask its registry.
#[derive(Debug)]
pub enum Miss {
    /// The id of a schema under a subject.
    Id {
        /// The topic, for messages.
        topic: String,
        /// The subject.
        subject: String,
        /// The schema's canonical text.
        schema: Arc<str>,
    },
    /// The schema of an id.
    Schema {
        /// The topic, for messages.
        topic: String,
        /// The id found in front of a value.
        id: i32,
    },
}

/// How one Connect schema is written.
#[derive(Debug)]
struct WritePlan {
    text: Arc<str>,
    avro: avro::Schema,
    writer: Writer,
    /// Whether the type at the top is plain bytes, which are written without their length.
    raw: bool,
    /// Ids by topic.
    ids: Vec<(String, i32)>,
}

#[derive(Debug)]
struct ReadPlan {
    schema: Arc<Schema>,
    reader: Reader,
    raw: bool,
}

/// Ids by subject and schema text.
type Ids = HashMap<(String, Arc<str>), i32>;

/// The converter.
#[derive(Debug)]
pub(super) struct AvroConverter {
    is_key: bool,
    settings: Settings,
    client: Client,
    writers: Plans<WritePlan>,
    ids: Ids,
    readers: Vec<(i32, Arc<ReadPlan>)>,
}

impl AvroConverter {
    pub(super) fn new(is_key: bool, props: &Props) -> Result<Self> {
        let (settings, client) = settings::read(is_key, props)?;
        Ok(Self { is_key, settings, client, writers: Plans::default(), ids: HashMap::new(), readers: Vec::new() })
    }

    /// The topic's id for a plan, if it is known.
    fn id(ids: &Ids, plan: &mut WritePlan, topic: &str, names: Names) -> Result<i32, Failure> {
        if let Some((_, id)) = plan.ids.iter().find(|(known, _)| known == topic) {
            return Ok(*id);
        }
        let subject = names.subject(topic, &plan.avro)?;
        let key = (subject, Arc::clone(&plan.text));
        match ids.get(&key) {
            Some(id) => {
                plan.ids.push((topic.to_owned(), *id));
                Ok(*id)
            }
            None => Err(Failure::Miss(Miss::Id { topic: topic.to_owned(), subject: key.0, schema: key.1 })),
        }
    }

    async fn ask_id(&self, topic: &str, subject: &str, text: &str) -> Result<i32> {
        let schema = SchemaText::avro(text);
        let normalize = self.settings.normalize;
        let answer = match self.settings.lookup {
            Lookup::Register => self.client.register(subject, &schema, normalize).await.map(|known| known.id),
            Lookup::Find => self.client.lookup(subject, &schema, normalize).await.map(|found| found.id),
            Lookup::Fixed(id) => return Ok(id),
            Lookup::Latest => match self.client.latest(subject).await {
                Ok(latest) => {
                    same_layout(topic, subject, text, &latest.text.schema)?;
                    Ok(latest.id)
                }
                Err(error) => Err(error),
            },
        };
        let doing = match self.settings.lookup {
            Lookup::Register => "Error registering Avro schema",
            _ => "Error retrieving Avro schema",
        };
        answer.map_err(|error| refused(&format!("Failed to serialize Avro data from topic {topic} :"), doing, error))
    }

    async fn ask_schema(&self, topic: &str, id: i32) -> Result<ReadPlan> {
        let during = format!("Failed to deserialize data for topic {topic} to Avro: ");
        let doing = format!("Error retrieving Avro value schema for id {id}");
        let fail = |error| refused(&during, &doing, error);
        let text = self.client.by_id(id).await.map_err(fail)?;
        if text.schema_type != "AVRO" {
            let cause = serialization(format!("schema {id} is not Avro but {}", text.schema_type));
            return Err(Error::data(during).caused_by(cause));
        }
        let references = self.client.resolve(&text).await.map_err(fail)?;
        let schema = avro::Schema::parse_with(&text.schema, &references, avro::Strictness::Stored)
            .map_err(|error| Error::data(during.clone()).caused_by(serialization(error.to_string())))?;
        let version = self.version(topic, &schema, &text).await;
        let raw = matches!(schema.root().kind, avro::Kind::Bytes);
        let (connect, reader) = from_avro(&schema, &self.settings.mapping, version)?;
        Ok(ReadPlan { schema: Arc::new(connect), reader, raw })
    }

    /// The version under which a record schema is registered; `None` if its subject does not know it.
    async fn version(&self, topic: &str, schema: &avro::Schema, text: &SchemaText) -> Option<i32> {
        if !matches!(schema.root().kind, avro::Kind::Record(_)) {
            return None;
        }
        let names = Names { strategy: self.settings.subject_name, is_key: self.is_key };
        let subject = names.subject(topic, schema).ok()?;
        self.client.lookup(&subject, text, false).await.ok().map(|found| found.version)
    }
}

/// How subjects are named.
#[derive(Debug, Clone, Copy)]
struct Names {
    strategy: SubjectName,
    is_key: bool,
}

impl Names {
    fn subject(&self, topic: &str, schema: &avro::Schema) -> Result<String> {
        let full_name = || {
            schema.full_name().filter(|_| matches!(schema.root().kind, avro::Kind::Record(_))).ok_or_else(|| {
                let side = if self.is_key { "key" } else { "value" };
                Error::data(format!("the message {side} must only be a record schema to be named by its record"))
            })
        };
        Ok(match self.strategy {
            SubjectName::Topic => format!("{topic}-{}", if self.is_key { "key" } else { "value" }),
            SubjectName::Record => full_name()?,
            SubjectName::TopicRecord => format!("{topic}-{}", full_name()?),
        })
    }
}

/// The error for what the registry answered; what cannot pass by itself ends the task.
fn refused(during: &str, doing: &str, error: ClientError) -> Error {
    let kind = if error.retriable() { ErrorKind::Retriable } else { ErrorKind::Fatal };
    let message = match &error {
        ClientError::Refused { message, code, .. } => format!("{message}; error code: {code}"),
        other => other.to_string(),
    };
    let cause = Error::new(kind, REST_EXCEPTION, message).caused_by(error);
    Error::new(kind, DATA_EXCEPTION, during).caused_by(serialization(doing).caused_by(cause))
}

/// Refuses to write under a latest version whose binary form is another than that of the schema at hand.
fn same_layout(topic: &str, subject: &str, ours: &str, latest: &str) -> Result<()> {
    let parse = |text| avro::Schema::parse(text).map_err(|error| Error::data(error.to_string()));
    let (ours, latest) = (parse(ours)?, parse(latest)?);
    if layout(&ours, ours.root_id(), 0) == layout(&latest, latest.root_id(), 0) {
        return Ok(());
    }
    let cause = serialization(format!(
        "the latest version of subject '{subject}' has other fields or types than the data: ours is {ours}, the latest \
         is {latest}; register the new schema, or set auto.register.schemas=true and use.latest.version=false"
    ));
    let message = format!("Failed to serialize Avro data from topic {topic} :");
    Err(Error::new(ErrorKind::Fatal, DATA_EXCEPTION, message).caused_by(cause))
}

/// What decides the bytes of a schema's values: types, field names and their order.
fn layout(schema: &avro::Schema, id: avro::NodeId, depth: usize) -> String {
    let node = schema.node(id);
    if depth > avro::MAX_DEPTH {
        return node.full_name();
    }
    let inner = |id: &avro::NodeId| layout(schema, *id, depth + 1);
    match &node.kind {
        avro::Kind::Record(record) => {
            let field = |f: &avro::Field| format!("{}:{}", f.name, inner(&f.schema));
            format!("{{{}}}", record.fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        avro::Kind::Union(branches) => format!("[{}]", branches.iter().map(inner).collect::<Vec<_>>().join(",")),
        avro::Kind::Array(items) => format!("array<{}>", inner(items)),
        avro::Kind::Map(values) => format!("map<{}>", inner(values)),
        avro::Kind::Enum(symbols) => format!("enum<{}>", symbols.symbols.join(",")),
        avro::Kind::Fixed(fixed) => format!("fixed<{}>", fixed.size),
        primitive => primitive.type_name().to_owned(),
    }
}

fn plan_writer(schema: &Schema, mapping: &Mapping) -> Result<WritePlan> {
    let avro = to_avro(schema, mapping)?;
    let raw = matches!(avro.root().kind, avro::Kind::Bytes);
    let writer = Writer::plan(schema, mapping);
    Ok(WritePlan { text: Arc::from(avro.canonical()), avro, writer, raw, ids: Vec::new() })
}

#[async_trait]
impl Converter for AvroConverter {
    fn encode(
        &mut self,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        value: &Value,
        out: &mut BytesMut,
    ) -> Result<bool, Failure> {
        let Some(schema) = schema else {
            if value.is_null() {
                return Ok(false);
            }
            let class = value.java_class();
            let message = format!("AvroConverter needs a schema to write a value of class {class}, but it has none");
            return Err(Error::data(message).into());
        };
        if value.is_null() && schema.optional && schema.default.is_none() {
            return Ok(false);
        }
        let mapping = &self.settings.mapping;
        let plan = self.writers.plan(schema, || plan_writer(schema, mapping))?;
        let names = Names { strategy: self.settings.subject_name, is_key: self.is_key };
        let id = Self::id(&self.ids, plan, topic, names)?;
        out.extend_from_slice(&wire::encode_header(id));
        match value {
            Value::Bytes(bytes) if plan.raw => out.extend_from_slice(bytes),
            value => plan.writer.write(value, out)?,
        }
        Ok(true)
    }

    fn decode(&mut self, topic: &str, bytes: Option<&Bytes>) -> Result<Datum, Failure> {
        let mut datum = Datum::default();
        self.decode_into(topic, bytes, &mut datum)?;
        Ok(datum)
    }

    fn decode_into(&mut self, topic: &str, bytes: Option<&Bytes>, datum: &mut Datum) -> Result<(), Failure> {
        let Some(bytes) = bytes else {
            *datum = Datum::default();
            return Ok(());
        };
        let fail = |cause: String| {
            let message = format!("Failed to deserialize data for topic {topic} to Avro: ");
            Failure::Record(Error::data(message).caused_by(serialization(cause)))
        };
        let (id, body) = wire::decode(bytes).map_err(|error| fail(error.to_string()))?;
        let Some((_, plan)) = self.readers.iter().find(|(known, _)| *known == id) else {
            return Err(Failure::Miss(Miss::Schema { topic: topic.to_owned(), id }));
        };
        let start = bytes.len() - body.len();
        if !datum.schema.as_ref().is_some_and(|schema| Arc::ptr_eq(schema, &plan.schema)) {
            datum.schema = Some(Arc::clone(&plan.schema));
        }
        if plan.raw {
            datum.value = Value::Bytes(bytes.slice(start..));
            return Ok(());
        }
        plan.reader
            .read_over(&mut Input::new(bytes, start), &mut datum.value)
            .map_err(|error| fail(format!("Error deserializing Avro message for id {id}: {error}")))
    }

    async fn resolve(&mut self, miss: Miss) -> Result<()> {
        match miss {
            Miss::Id { topic, subject, schema } => {
                let id = self.ask_id(&topic, &subject, &schema).await?;
                self.ids.insert((subject, schema), id);
            }
            Miss::Schema { topic, id } => {
                let plan = self.ask_schema(&topic, id).await?;
                self.readers.retain(|(known, _)| *known != id);
                self.readers.push((id, Arc::new(plan)));
            }
        }
        Ok(())
    }
}
