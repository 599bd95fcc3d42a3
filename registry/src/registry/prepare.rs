//! From a request's text to a checked schema: references resolved, canonical text printed.

use std::collections::HashSet;

use serde::Deserialize;

use crate::error::Error;
use crate::record::StoredSchema;
use crate::schema::avro::{Schema, Strictness};
use crate::schema::{Metadata, Reference, RuleSet, SchemaType, null_as_default};
use crate::state::State;
use crate::subject::Subject;

/// Chains of references longer than this are refused.
const MAX_REFERENCE_DEPTH: usize = 100;

/// A schema as a client sends it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaRequest {
    /// The text; empty stands for the latest version's.
    #[serde(default, deserialize_with = "null_as_default")]
    pub schema: String,
    /// The language; Avro if absent.
    #[serde(default)]
    pub schema_type: Option<String>,
    /// What the text refers to.
    #[serde(default, deserialize_with = "null_as_default")]
    pub references: Vec<Reference>,
    /// Metadata, if any.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// Rules, if any.
    #[serde(default)]
    pub rule_set: Option<RuleSet>,
    /// The version that this must become; -1 compares with the latest only.
    #[serde(default)]
    pub version: Option<i32>,
    /// The id that this must get (IMPORT mode).
    #[serde(default)]
    pub id: Option<i32>,
}

impl SchemaRequest {
    pub(super) fn wanted_version(&self) -> i32 {
        self.version.unwrap_or(0)
    }

    pub(super) fn wanted_id(&self) -> Option<i32> {
        self.id.filter(|id| *id >= 0)
    }

    fn invalid(&self, subject: &Subject, details: &str) -> Error {
        let references: Vec<String> = self
            .references
            .iter()
            .map(|r| format!("{{name='{}', subject='{}', version={}}}", r.name, r.subject, r.version))
            .collect();
        let references = references.join(", ");
        let schema_type = self.schema_type.as_deref().unwrap_or("AVRO");
        Error::InvalidSchema(format!(
            "Invalid schema {{subject={subject},version={},id={},schemaType={schema_type},references=[{references}],metadata={},ruleSet={},schema={}}} with refs [{references}] of type {schema_type}, details: {details}",
            self.wanted_version(),
            self.id.unwrap_or(-1),
            if self.metadata.is_some() { "{...}" } else { "null" },
            if self.rule_set.is_some() { "{...}" } else { "null" },
            self.schema,
        ))
    }
}

/// A request's schema, checked.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) schema: Schema,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

/// How a request's schema is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) strictness: Strictness,
    pub(super) normalize: bool,
    /// May references lead to softly deleted versions?
    pub(super) deleted_references: bool,
}

pub(super) fn prepare(
    state: &State,
    subject: &Subject,
    request: &SchemaRequest,
    reading: Reading,
) -> Result<Prepared, Error> {
    let schema_type = SchemaType::parse(request.schema_type.as_deref().unwrap_or_default());
    if schema_type != SchemaType::Avro {
        let details = format!("schemas of type {schema_type} are not supported yet, only AVRO");
        return Err(request.invalid(subject, &details));
    }
    let invalid = |details: String| request.invalid(subject, &details);
    let mut references =
        fix_references(state, subject, &request.references, reading.deleted_references).map_err(invalid)?;
    if reading.normalize {
        references.sort();
        references.dedup();
    }
    let texts = resolve(state, subject, &references, reading.deleted_references).map_err(invalid)?;
    let parsed = Schema::parse_with(&request.schema, &texts, reading.strictness);
    let mut schema = parsed.map_err(|err| request.invalid(subject, err.message()))?;
    if reading.normalize {
        schema = schema.normalized().map_err(|err| request.invalid(subject, err.message()))?;
    }
    Ok(Prepared { text: schema.canonical(), schema, references })
}

/// Parses a stored schema with its references.
pub(super) fn parse_stored(state: &State, stored: &StoredSchema) -> Result<Schema, String> {
    let texts = resolve(state, &stored.subject, &stored.references, true)?;
    Schema::parse_with(&stored.schema, &texts, Strictness::Stored).map_err(|err| err.message().to_owned())
}

/// Checks references and replaces the version -1 by the latest number.
fn fix_references(
    state: &State,
    subject: &Subject,
    references: &[Reference],
    deleted: bool,
) -> Result<Vec<Reference>, String> {
    let mut fixed = references.to_vec();
    for reference in &mut fixed {
        let Reference { name, subject: target, version } = reference;
        if name.is_empty() || target.is_empty() || *version == 0 || *version < -1 {
            return Err(format!("Invalid reference: {{name='{name}', subject='{target}', version={version}}}"));
        }
        if *version == -1 {
            let latest = state.latest(&subject.sibling(target), deleted);
            *version = latest.map(|schema| schema.version).ok_or_else(|| missing(target, -1))?;
        }
    }
    Ok(fixed)
}

/// The texts of the references, depth-first, each name once.
fn resolve(state: &State, subject: &Subject, references: &[Reference], deleted: bool) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    collect(state, subject, references, deleted, &mut Collected { texts: &mut texts, names: HashSet::new() }, 0)?;
    Ok(texts)
}

struct Collected<'a> {
    texts: &'a mut Vec<String>,
    names: HashSet<String>,
}

fn collect(
    state: &State,
    subject: &Subject,
    references: &[Reference],
    deleted: bool,
    found: &mut Collected<'_>,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_REFERENCE_DEPTH {
        return Err("references are nested too deeply".to_owned());
    }
    for reference in references {
        if !found.names.insert(reference.name.clone()) {
            continue;
        }
        let target = subject.sibling(&reference.subject);
        let stored = state.version(&target, reference.version).filter(|stored| deleted || !stored.deleted);
        let stored = stored.ok_or_else(|| missing(&reference.subject, reference.version))?;
        collect(state, &target, &stored.references, true, found, depth + 1)?;
        found.texts.push(stored.schema.clone());
    }
    Ok(())
}

fn missing(subject: &str, version: i32) -> String {
    format!("No schema reference found for subject \"{subject}\" and version {version}")
}
