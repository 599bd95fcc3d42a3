//! Registering: the same schema is recognized, a new one is checked and gets version and id.

use std::sync::Arc;

use super::compatibility::{effective, problems};
use super::prepare::{Prepared, Reading, SchemaRequest, parse_stored, prepare};
use super::{Options, Records, Registry, check_writable, not_permitted};
use crate::error::Error;
use crate::record::{Key, StoredSchema, context_value};
use crate::schema::avro::Strictness;
use crate::schema::{Guid, Metadata, RuleSet, SchemaType};
use crate::settings::{Config, Mode};
use crate::state::State;
use crate::subject::Subject;

/// The metadata property that carries the version once a client has asked for one.
const VERSION_PROPERTY: &str = "confluent:version";

/// Query parameters of a registration.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegisterFlags {
    /// Normalize before anything else.
    pub normalize: bool,
    /// Skip the compatibility check.
    pub force: bool,
}

/// The answer to a registration.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The version that now holds the schema.
    pub schema: Arc<StoredSchema>,
    /// True if the server filled in text, metadata or rules that the request did not have.
    pub changed: bool,
}

pub(super) enum Decision {
    Existing(Arc<StoredSchema>),
    Write(Box<StoredSchema>, Records),
}

impl Registry {
    /// Registers a schema under a subject, or finds it there.
    pub async fn register(
        &self,
        subject: &Subject,
        request: &SchemaRequest,
        flags: RegisterFlags,
    ) -> Result<Registered, Error> {
        let known = decide(&self.state(), self.options(), subject, request, flags)?;
        let schema = match known {
            Decision::Existing(schema) => schema,
            Decision::Write(..) => self.register_new(subject, request, flags).await?,
        };
        let changed = schema.metadata != request.metadata
            || schema.rule_set != request.rule_set
            || request.schema.trim().is_empty();
        Ok(Registered { schema, changed })
    }
}

impl Options {
    pub(super) fn strictness(&self, config: &Config) -> Strictness {
        match config.flag("validateNewSchemas").unwrap_or(self.validate_new_schemas) {
            true => Strictness::New,
            false => Strictness::Stored,
        }
    }
}

pub(super) fn decide(
    state: &State,
    options: &Options,
    subject: &Subject,
    request: &SchemaRequest,
    flags: RegisterFlags,
) -> Result<Decision, Error> {
    subject.validate(false)?;
    if options.reject_empty_subject && subject.name().is_empty() {
        return Err(Error::InvalidSubject(subject.to_string()));
    }
    let mode = check_writable(state, subject)?;
    match (request.wanted_id(), mode) {
        (Some(_), Mode::ReadWrite) => return Err(not_permitted(subject, "is not in import mode")),
        (None, Mode::Import | Mode::Forward) => return Err(not_permitted(subject, "is not in read-write mode")),
        _ => {}
    }
    if let Some(rules) = &request.rule_set {
        rules.validate().map_err(Error::InvalidRuleSet)?;
    }
    let request = &filled(state, subject, request)?;
    let config = effective(state, options, subject);
    match request.wanted_id() {
        Some(id) => import(state, options, subject, request, id),
        None => register(state, options, subject, request, flags, &config),
    }
}

/// An empty text stands for the latest version's, so that only metadata and rules change.
fn filled(state: &State, subject: &Subject, request: &SchemaRequest) -> Result<SchemaRequest, Error> {
    let mut request = request.clone();
    if request.schema.trim().is_empty() {
        let latest = state.latest(subject, false).ok_or_else(|| Error::InvalidSchema("Empty schema".to_owned()))?;
        request.schema = latest.schema.clone();
        request.schema_type = Some(latest.schema_type.as_str().to_owned());
        request.references = latest.references.clone();
    }
    Ok(request)
}

fn register(
    state: &State,
    options: &Options,
    subject: &Subject,
    request: &SchemaRequest,
    flags: RegisterFlags,
    config: &Config,
) -> Result<Decision, Error> {
    let reading = Reading {
        strictness: options.strictness(config),
        normalize: flags.normalize || config.flag("normalize").unwrap_or(false),
        deleted_references: false,
    };
    let prepared = prepare(state, subject, request, reading)?;
    let latest = state.latest(subject, false);
    let next = state.next_version(subject);
    let rule_set = merged_rules(config, request, latest.map(|schema| &**schema));
    let mut metadata = merged_metadata(config, request, latest.map(|schema| &**schema));

    let wanted = request.wanted_version();
    if let Some(found) = find(state, subject, &prepared, metadata.as_ref(), rule_set.as_ref(), wanted) {
        return Ok(Decision::Existing(found));
    }
    if wanted > 0 && wanted != next {
        return Err(Error::InvalidSchema("Version is not one more than previous version".to_owned()));
    }
    let has_property = metadata.as_ref().is_some_and(|m| m.properties.contains_key(VERSION_PROPERTY));
    if wanted != 0 || has_property {
        let properties = &mut metadata.get_or_insert_default().properties;
        properties.insert(VERSION_PROPERTY.to_owned(), next.to_string());
    }
    if !flags.force {
        let earlier = state.live(subject).rev().collect();
        let details = problems(state, config, &prepared, metadata.as_ref(), earlier);
        if !details.is_empty() {
            return Err(Error::Incompatible { subject: subject.to_string(), details });
        }
    }
    let guid = Guid::of(&prepared.text, &prepared.references, metadata.as_ref(), rule_set.as_ref());
    let id = match state.id_of(subject.context(), &guid) {
        Some(id) => id,
        None => state.max_id(subject.context()).checked_add(1).ok_or(Error::SchemaTooLarge)?,
    };
    let schema = stored(subject, next, id, guid, prepared, metadata, rule_set);
    let mut records = records(state, options, &schema);
    // The softly deleted versions that this one revives would otherwise keep their number for ever.
    for old in state.versions(subject).filter(|old| old.deleted && old.id == id) {
        if state.referrers(subject, old.version).next().is_none() {
            records.push((old.key(), None));
        }
    }
    Ok(Decision::Write(Box::new(schema), records))
}

fn import(
    state: &State,
    options: &Options,
    subject: &Subject,
    request: &SchemaRequest,
    id: i32,
) -> Result<Decision, Error> {
    let reading = Reading { strictness: Strictness::Stored, normalize: false, deleted_references: true };
    let prepared = prepare(state, subject, request, reading)?;
    let (metadata, rule_set) = (request.metadata.clone(), request.rule_set.clone());
    let guid = Guid::of(&prepared.text, &prepared.references, metadata.as_ref(), rule_set.as_ref());
    if state.by_id(subject.context(), id).any(|other| other.guid != guid) {
        let text = format!("Overwrite new schema with id {id} in context {} is not permitted.", subject.context());
        return Err(Error::NotPermitted(text));
    }
    let version = Some(request.wanted_version()).filter(|version| *version > 0);
    let place = match version {
        Some(version) => state.version(subject, version),
        None => state.live(subject).find(|schema| schema.id == id),
    };
    match place {
        Some(existing) if existing.id != id => {
            return Err(Error::IdDoesNotMatch { existing: existing.id, requested: id });
        }
        Some(existing) if !existing.deleted => return Ok(Decision::Existing(Arc::clone(existing))),
        _ => {}
    }
    let version = version.unwrap_or_else(|| state.next_version(subject));
    let schema = stored(subject, version, id, guid, prepared, metadata, rule_set);
    let records = records(state, options, &schema);
    Ok(Decision::Write(Box::new(schema), records))
}

fn stored(
    subject: &Subject,
    version: i32,
    id: i32,
    guid: Guid,
    prepared: Prepared,
    metadata: Option<Metadata>,
    rule_set: Option<RuleSet>,
) -> StoredSchema {
    StoredSchema {
        subject: subject.clone(),
        version,
        id,
        guid,
        schema_type: SchemaType::Avro,
        references: prepared.references,
        metadata,
        rule_set,
        schema: prepared.text,
        deleted: false,
        timestamp: 0,
    }
}

fn records(state: &State, options: &Options, schema: &StoredSchema) -> Records {
    let mut records = Records::new();
    let context = schema.subject.context();
    if !schema.subject.is_default_context() && !state.has_context(context) {
        records.push((Key::Context(context.to_owned()), Some(context_value(context))));
    }
    records.push((schema.key(), Some(schema.encode(options.names_avro()))));
    records
}

fn merged_metadata(config: &Config, request: &SchemaRequest, latest: Option<&StoredSchema>) -> Option<Metadata> {
    let own = match &request.metadata {
        Some(own) => Some(own.clone()),
        None => latest.and_then(|latest| latest.metadata.clone()).map(|mut metadata| {
            metadata.properties.remove(VERSION_PROPERTY);
            metadata
        }),
    };
    let own = own.filter(|metadata| request.metadata.is_some() || !metadata.is_empty());
    let layers = [config.metadata("defaultMetadata"), own, config.metadata("overrideMetadata")];
    layers.into_iter().flatten().reduce(Metadata::merged)
}

fn merged_rules(config: &Config, request: &SchemaRequest, latest: Option<&StoredSchema>) -> Option<RuleSet> {
    let own = request.rule_set.clone().or_else(|| latest.and_then(|latest| latest.rule_set.clone()));
    let layers = [config.rule_set("defaultRuleSet"), own, config.rule_set("overrideRuleSet")];
    layers.into_iter().flatten().reduce(RuleSet::merged)
}

/// The live version of the subject that is this schema: by hash, else by comparing.
///
/// `wanted` is the version in the request: 0 looks at all, -1 at the latest, else at that one.
fn find(
    state: &State,
    subject: &Subject,
    prepared: &Prepared,
    metadata: Option<&Metadata>,
    rule_set: Option<&RuleSet>,
    wanted: i32,
) -> Option<Arc<StoredSchema>> {
    let candidates: Vec<&Arc<StoredSchema>> = match wanted {
        0 => state.live(subject).rev().collect(),
        -1 => state.latest(subject, false).into_iter().collect(),
        version => state.version(subject, version).filter(|schema| !schema.deleted).into_iter().collect(),
    };
    let guid = Guid::of(&prepared.text, &prepared.references, metadata, rule_set);
    let found = candidates.iter().find(|stored| stored.guid == guid);
    let found = found.or_else(|| {
        candidates.iter().find(|stored| {
            same_but_version(metadata, stored.metadata.as_ref())
                && rule_set == stored.rule_set.as_ref()
                && is_same(state, prepared, stored)
        })
    });
    found.map(|found| Arc::clone(found))
}

/// Metadata are the same but for the version property.
fn same_but_version(left: Option<&Metadata>, right: Option<&Metadata>) -> bool {
    let bare = |metadata: Option<&Metadata>| {
        let mut metadata = metadata.cloned().unwrap_or_default();
        metadata.properties.remove(VERSION_PROPERTY);
        metadata
    };
    bare(left) == bare(right)
}

/// The second chance after the hash: equal schemas with equal references, or a schema that writes
/// out what the stored one references.
pub(super) fn is_same(state: &State, prepared: &Prepared, stored: &StoredSchema) -> bool {
    if stored.schema_type != SchemaType::Avro {
        return false;
    }
    let inlined = prepared.references.is_empty() && !stored.references.is_empty();
    if !inlined && prepared.references != stored.references {
        return false;
    }
    prepared.text == stored.schema && !inlined
        || parse_stored(state, stored).is_ok_and(|schema| schema.same_as(&prepared.schema))
}

/// [`find`] for look-ups: also among softly deleted versions, also by what the latest version
/// carries when the request has no metadata or rules.
pub(super) fn look_up(
    state: &State,
    subject: &Subject,
    prepared: &Prepared,
    request: &SchemaRequest,
    deleted: bool,
) -> Option<Arc<StoredSchema>> {
    let candidates: Vec<_> = state.versions(subject).rev().filter(|schema| deleted || !schema.deleted).collect();
    let exact = Guid::of(&prepared.text, &prepared.references, request.metadata.as_ref(), request.rule_set.as_ref());
    let found = candidates.iter().find(|stored| stored.guid == exact).or_else(|| {
        candidates.iter().find(|stored| {
            let same_metadata =
                request.metadata.is_none() || same_but_version(request.metadata.as_ref(), stored.metadata.as_ref());
            let same_rules = request.rule_set.is_none() || request.rule_set == stored.rule_set;
            same_metadata && same_rules && is_same(state, prepared, stored)
        })
    });
    found.map(|found| Arc::clone(found))
}
