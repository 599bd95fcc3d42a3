//! Keys and values of the `_schemas` topic in Confluent's JSON form.
//!
//! Kafka compacts by key bytes, so a key that differs in one blank resurrects deleted schemas:
//! [`Key::encode`] prints exactly what the original prints.

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::schema::avro::to_java_json;
use crate::schema::{Guid, Metadata, Reference, RuleSet, SchemaType, null_as_default};
use crate::subject::Subject;

const TENANT: &str = "default";

/// Why a record of the topic was skipped.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the expected shape.
    #[error("record is not valid JSON of its kind")]
    Json(#[from] serde_json::Error),
    /// A key type that this registry does not know.
    #[error("record has the unknown key type '{0}'")]
    UnknownKeyType(String),
    /// A key without a member that its type needs.
    #[error("record key lacks '{0}'")]
    MissingMember(&'static str),
    /// The id belongs to a different schema already.
    #[error("schema id {0} is bound to a different schema")]
    IdConflict(i32),
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// One version of a subject.
    Schema(Subject, i32),
    /// Config of a subject, a context, or (for the empty subject) the server.
    Config(Subject),
    /// Mode of a subject, a context, or (for the empty subject) the server.
    Mode(Subject),
    /// Nothing: written to learn the end of the log.
    Noop,
    /// Soft deletion of a subject.
    DeleteSubject(Subject),
    /// Removal of the soft-deleted versions of a scope.
    ClearSubject(Subject),
    /// Existence of a context.
    Context(String),
}

impl Key {
    /// The bytes of the key.
    pub fn encode(&self) -> Bytes {
        let key = match self {
            Key::Schema(subject, version) => {
                json!({"keytype": "SCHEMA", "subject": subject.to_string(), "version": version, "magic": 1})
            }
            Key::Config(subject) => scoped("CONFIG", subject),
            Key::Mode(subject) => scoped("MODE", subject),
            Key::Noop => json!({"keytype": "NOOP", "magic": 0}),
            Key::DeleteSubject(subject) => {
                json!({"keytype": "DELETE_SUBJECT", "subject": subject.to_string(), "magic": 0})
            }
            Key::ClearSubject(subject) => {
                json!({"keytype": "CLEAR_SUBJECT", "subject": subject.to_string(), "magic": 0})
            }
            Key::Context(context) => json!({"keytype": "CONTEXT", "tenant": TENANT, "context": context, "magic": 0}),
        };
        Bytes::from(to_java_json(&key))
    }

    /// Reads a key in any of the byte forms met in the wild.
    pub fn decode(bytes: &[u8]) -> Result<Key, RecordError> {
        let key: Map<String, Value> = serde_json::from_slice(bytes)?;
        let text = |member: &'static str| key.get(member).and_then(Value::as_str);
        let subject = || text("subject").map(Subject::parse).ok_or(RecordError::MissingMember("subject"));
        let scope = || Subject::parse(text("subject").unwrap_or_default());
        match text("keytype").ok_or(RecordError::MissingMember("keytype"))? {
            "SCHEMA" => {
                let version =
                    key.get("version").and_then(Value::as_i64).and_then(|version| i32::try_from(version).ok());
                Ok(Key::Schema(subject()?, version.ok_or(RecordError::MissingMember("version"))?))
            }
            "CONFIG" => Ok(Key::Config(scope())),
            "MODE" => Ok(Key::Mode(scope())),
            "NOOP" => Ok(Key::Noop),
            "DELETE_SUBJECT" => Ok(Key::DeleteSubject(subject()?)),
            "CLEAR_SUBJECT" => Ok(Key::ClearSubject(scope())),
            "CONTEXT" => Ok(Key::Context(text("context").ok_or(RecordError::MissingMember("context"))?.to_owned())),
            other => Err(RecordError::UnknownKeyType(other.to_owned())),
        }
    }
}

fn scoped(keytype: &str, subject: &Subject) -> Value {
    let mut key = IndexMap::new();
    key.insert("keytype", Value::from(keytype));
    if !subject.is_global() {
        key.insert("subject", subject.to_string().into());
    }
    key.insert("magic", 0.into());
    json!(key)
}

/// The value of a schema record, in the member order of the original.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SchemaValue {
    #[serde(default)]
    pub(crate) subject: String,
    #[serde(default)]
    pub(crate) version: i32,
    pub(crate) id: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema_type: Option<String>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule_set: Option<RuleSet>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) schema: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) deleted: bool,
}

/// One version of a subject, as the registry keeps it.
#[derive(Debug, Clone)]
pub struct StoredSchema {
    /// The subject.
    pub subject: Subject,
    /// The version within the subject.
    pub version: i32,
    /// The id within the context.
    pub id: i32,
    /// The GUID.
    pub guid: Guid,
    /// The language.
    pub schema_type: SchemaType,
    /// The references, as written.
    pub references: Vec<Reference>,
    /// The metadata, if any.
    pub metadata: Option<Metadata>,
    /// The rule set, if any.
    pub rule_set: Option<RuleSet>,
    /// The canonical text.
    pub schema: String,
    /// True when softly deleted.
    pub deleted: bool,
    /// When the record was written, in milliseconds.
    pub timestamp: i64,
}

impl StoredSchema {
    /// The key of its record.
    pub fn key(&self) -> Key {
        Key::Schema(self.subject.clone(), self.version)
    }

    /// The value of its record; the cp7 profile leaves out the type of Avro schemas.
    pub fn encode(&self, names_avro: bool) -> Bytes {
        let value = SchemaValue {
            subject: self.subject.to_string(),
            version: self.version,
            id: self.id,
            schema_type: (names_avro || self.schema_type != SchemaType::Avro)
                .then(|| self.schema_type.as_str().to_owned()),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            rule_set: self.rule_set.clone(),
            schema: self.schema.clone(),
            deleted: self.deleted,
        };
        Bytes::from(to_java_json(&json!(value)))
    }

    pub(crate) fn decode(subject: &Subject, version: i32, timestamp: i64, bytes: &[u8]) -> Result<Self, RecordError> {
        let value: SchemaValue = serde_json::from_slice(bytes)?;
        let guid = Guid::of(&value.schema, &value.references, value.metadata.as_ref(), value.rule_set.as_ref());
        Ok(StoredSchema {
            subject: subject.clone(),
            version,
            id: value.id,
            guid,
            schema_type: SchemaType::parse(value.schema_type.as_deref().unwrap_or_default()),
            references: value.references,
            metadata: value.metadata,
            rule_set: value.rule_set,
            schema: value.schema,
            deleted: value.deleted,
            timestamp,
        })
    }
}

/// The value of DELETE_SUBJECT and CLEAR_SUBJECT records.
pub(crate) fn subject_value(subject: &Subject, version: Option<i32>) -> Bytes {
    let mut value = Map::new();
    value.insert("subject".into(), subject.to_string().into());
    if let Some(version) = version {
        value.insert("version".into(), version.into());
    }
    Bytes::from(to_java_json(&Value::Object(value)))
}

/// The value of a CONTEXT record.
pub(crate) fn context_value(context: &str) -> Bytes {
    Bytes::from(to_java_json(&json!({"tenant": TENANT, "context": context})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_byte_identical_to_the_original() {
        let subject = || Subject::parse("s");
        let global = || Subject::parse("");
        for (key, bytes) in [
            (Key::Schema(subject(), 1), r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#),
            (Key::Config(global()), r#"{"keytype":"CONFIG","magic":0}"#),
            (Key::Config(subject()), r#"{"keytype":"CONFIG","subject":"s","magic":0}"#),
            (Key::Mode(global()), r#"{"keytype":"MODE","magic":0}"#),
            (Key::Mode(Subject::parse(":.c:")), r#"{"keytype":"MODE","subject":":.c:","magic":0}"#),
            (Key::Noop, r#"{"keytype":"NOOP","magic":0}"#),
            (Key::DeleteSubject(subject()), r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#),
            (Key::ClearSubject(subject()), r#"{"keytype":"CLEAR_SUBJECT","subject":"s","magic":0}"#),
            (Key::Context(".ctx".into()), r#"{"keytype":"CONTEXT","tenant":"default","context":".ctx","magic":0}"#),
        ] {
            assert_eq!(key.encode(), bytes.as_bytes());
            assert_eq!(Key::decode(bytes.as_bytes()).unwrap(), key);
        }
    }

    #[test]
    fn other_byte_forms_are_read_as_the_same_key() {
        let config = Key::decode(br#"{"subject":null,"magic":0,"keytype":"CONFIG"}"#).unwrap();
        assert_eq!(config, Key::Config(Subject::parse("")));
        let schema = Key::decode(br#"{"subject":"s","version":1,"magic":0,"keytype":"SCHEMA"}"#).unwrap();
        assert_eq!(schema, Key::Schema(Subject::parse("s"), 1));
    }

    #[test]
    fn schema_values_are_byte_identical_to_the_original() {
        let bytes = br#"{"subject":"s","version":1,"id":7,"schemaType":"AVRO","schema":"\"int\"","deleted":false}"#;
        let stored = StoredSchema::decode(&Subject::parse("s"), 1, 0, bytes).unwrap();
        assert_eq!(stored.encode(true), &bytes[..]);
        assert_eq!(
            stored.encode(false),
            &br#"{"subject":"s","version":1,"id":7,"schema":"\"int\"","deleted":false}"#[..]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>) {
            let _ = Key::decode(&bytes);
            let _ = StoredSchema::decode(&Subject::parse("s"), 1, 0, &bytes);
        }

        #[test]
        fn keys_of_any_subject_come_back(name: String, version: i32) {
            let key = Key::Schema(Subject::parse(&name), version);
            proptest::prop_assert_eq!(Key::decode(&key.encode()).unwrap(), key);
        }
    }
}
