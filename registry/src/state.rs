//! The registry's state: a pure function of the records of the log.
//!
//! Holds every version of every subject, live or softly deleted, with the indexes that look-ups
//! need. Nothing here decides or writes; see `registry`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Key, RecordError, StoredSchema};
use crate::schema::Guid;
use crate::settings::{Config, Mode};
use crate::subject::{DEFAULT_CONTEXT, GLOBAL_CONTEXT, Subject};

/// Subject and version.
pub type Place = (Subject, i32);

/// Everything that the log says.
#[derive(Debug, Clone, Default)]
pub struct State {
    subjects: BTreeMap<Subject, BTreeMap<i32, Arc<StoredSchema>>>,
    contexts: BTreeMap<String, ContextIndex>,
    referrers: HashMap<Place, BTreeSet<Place>>,
    configs: BTreeMap<Subject, Config>,
    modes: BTreeMap<Subject, Mode>,
    /// Byte forms of keys that differ from ours and hold a value; see [`State::other_forms`].
    forms: HashMap<Key, BTreeSet<Bytes>>,
}

#[derive(Debug, Clone, Default)]
struct ContextIndex {
    max_id: i32,
    by_id: BTreeMap<i32, BTreeSet<Place>>,
    by_guid: HashMap<Guid, BTreeSet<(i32, Place)>>,
}

impl State {
    /// Takes in one record of the log.
    pub fn apply(&mut self, timestamp: i64, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        let form = key;
        let key = Key::decode(form)?;
        self.note_form(&key, form, value.is_some());
        match (key, value) {
            (Key::Schema(subject, version), None) => self.remove(&subject, version),
            (Key::Schema(subject, version), Some(value)) => {
                self.insert(StoredSchema::decode(&subject, version, timestamp, value)?)?;
            }
            (Key::Config(scope), None) => {
                self.configs.remove(&scope);
            }
            (Key::Config(scope), Some(value)) => {
                self.configs.insert(scope, Config::decode(value)?);
            }
            (Key::Mode(scope), Some(value)) => match Mode::decode(value) {
                Some(mode) => {
                    self.modes.insert(scope, mode);
                }
                None => return Err(RecordError::MissingMember("mode")),
            },
            (Key::Mode(scope), None) => {
                self.modes.remove(&scope);
            }
            (Key::DeleteSubject(subject), Some(value)) => {
                let value: serde_json::Value = serde_json::from_slice(value)?;
                let last = value.get("version").and_then(serde_json::Value::as_i64).unwrap_or_default();
                self.soft_delete(&subject, last);
            }
            (Key::ClearSubject(scope), Some(_)) => self.clear(&scope),
            (Key::Context(context), Some(_)) => {
                self.contexts.entry(context).or_default();
            }
            (Key::Context(context), None) => {
                if self.contexts.get(&context).is_some_and(|index| index.by_id.is_empty()) {
                    self.contexts.remove(&context);
                }
            }
            (Key::Noop | Key::DeleteSubject(_) | Key::ClearSubject(_), _) => {}
        }
        Ok(())
    }

    fn note_form(&mut self, key: &Key, form: &[u8], has_value: bool) {
        if *form == *key.encode() {
            return;
        }
        let forms = self.forms.entry(key.clone()).or_default();
        if has_value {
            forms.insert(Bytes::copy_from_slice(form));
        } else {
            forms.remove(form);
        }
        if forms.is_empty() {
            self.forms.remove(key);
        }
    }

    /// Byte forms of this key, other than ours, that hold a value in the log. They survive
    /// compaction beside ours, so whoever writes the key must write tombstones for them.
    pub fn other_forms(&self, key: &Key) -> Vec<Bytes> {
        self.forms.get(key).map(|forms| forms.iter().cloned().collect()).unwrap_or_default()
    }

    fn insert(&mut self, schema: StoredSchema) -> Result<(), RecordError> {
        let context = self.contexts.entry(schema.subject.context().to_owned()).or_default();
        let taken = context.by_id.get(&schema.id).into_iter().flatten().find_map(|(subject, version)| {
            let other = self.subjects.get(subject)?.get(version)?;
            let same_place = *subject == schema.subject && *version == schema.version;
            (!same_place && other.schema != schema.schema).then_some(schema.id)
        });
        if let Some(id) = taken {
            return Err(RecordError::IdConflict(id));
        }
        self.remove(&schema.subject, schema.version);
        let place = (schema.subject.clone(), schema.version);
        let context = self.contexts.entry(schema.subject.context().to_owned()).or_default();
        context.max_id = context.max_id.max(schema.id);
        context.by_id.entry(schema.id).or_default().insert(place.clone());
        context.by_guid.entry(schema.guid).or_default().insert((schema.id, place.clone()));
        for reference in &schema.references {
            let target = (schema.subject.sibling(&reference.subject), reference.version);
            self.referrers.entry(target).or_default().insert(place.clone());
        }
        self.subjects.entry(schema.subject.clone()).or_default().insert(schema.version, Arc::new(schema));
        Ok(())
    }

    fn remove(&mut self, subject: &Subject, version: i32) {
        let Some(versions) = self.subjects.get_mut(subject) else {
            return;
        };
        let removed = versions.remove(&version);
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(schema) = removed else {
            return;
        };
        let place = (subject.clone(), version);
        if let Some(context) = self.contexts.get_mut(subject.context()) {
            if let Some(places) = context.by_id.get_mut(&schema.id) {
                places.remove(&place);
                if places.is_empty() {
                    context.by_id.remove(&schema.id);
                }
            }
            if let Some(places) = context.by_guid.get_mut(&schema.guid) {
                places.remove(&(schema.id, place.clone()));
                if places.is_empty() {
                    context.by_guid.remove(&schema.guid);
                }
            }
        }
        for reference in &schema.references {
            let target = (subject.sibling(&reference.subject), reference.version);
            if let Some(places) = self.referrers.get_mut(&target) {
                places.remove(&place);
                if places.is_empty() {
                    self.referrers.remove(&target);
                }
            }
        }
    }

    fn soft_delete(&mut self, subject: &Subject, last: i64) {
        for (version, schema) in self.subjects.get_mut(subject).into_iter().flatten() {
            if i64::from(*version) <= last && !schema.deleted {
                *schema = Arc::new(StoredSchema { deleted: true, ..(**schema).clone() });
            }
        }
    }

    fn clear(&mut self, scope: &Subject) {
        let gone: Vec<Place> = self
            .in_scope(scope)
            .filter(|schema| schema.deleted)
            .map(|schema| (schema.subject.clone(), schema.version))
            .collect();
        for (subject, version) in gone {
            self.remove(&subject, version);
        }
    }

    /// The versions of a subject, of a context (empty name), or of everything (the empty subject).
    pub fn in_scope<'a>(&'a self, scope: &'a Subject) -> impl Iterator<Item = &'a Arc<StoredSchema>> {
        self.all().filter(move |schema| {
            scope.is_global()
                || (scope.context() == schema.subject.context()
                    && (scope.name().is_empty() || scope.name() == schema.subject.name()))
        })
    }

    /// Every version of every subject, by subject and version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<StoredSchema>> {
        self.subjects.values().flat_map(BTreeMap::values)
    }

    /// The versions of a subject, ascending, softly deleted ones included.
    pub fn versions(&self, subject: &Subject) -> impl DoubleEndedIterator<Item = &Arc<StoredSchema>> {
        self.subjects.get(subject).into_iter().flat_map(BTreeMap::values)
    }

    /// The versions of a subject that are not deleted, ascending.
    pub fn live(&self, subject: &Subject) -> impl DoubleEndedIterator<Item = &Arc<StoredSchema>> {
        self.versions(subject).filter(|schema| !schema.deleted)
    }

    /// The newest version of a subject, optionally counting softly deleted ones.
    pub fn latest(&self, subject: &Subject, deleted: bool) -> Option<&Arc<StoredSchema>> {
        self.versions(subject).rev().find(|schema| deleted || !schema.deleted)
    }

    /// One version of a subject.
    pub fn version(&self, subject: &Subject, version: i32) -> Option<&Arc<StoredSchema>> {
        self.subjects.get(subject)?.get(&version)
    }

    /// The number that the next version of a subject gets.
    pub fn next_version(&self, subject: &Subject) -> i32 {
        self.latest(subject, true).map_or(1, |schema| schema.version.saturating_add(1))
    }

    /// All versions that share an id in a context, by subject and version.
    pub fn by_id(&self, context: &str, id: i32) -> impl Iterator<Item = &Arc<StoredSchema>> {
        let places = self.contexts.get(context).and_then(|index| index.by_id.get(&id));
        places.into_iter().flatten().filter_map(|(subject, version)| self.version(subject, *version))
    }

    /// The id of the schema with this GUID in a context.
    pub fn id_of(&self, context: &str, guid: &Guid) -> Option<i32> {
        self.contexts.get(context)?.by_guid.get(guid)?.first().map(|(id, _)| *id)
    }

    /// A version with this GUID in any context.
    pub fn by_guid(&self, guid: &Guid) -> Option<&Arc<StoredSchema>> {
        let place = self.contexts.values().find_map(|index| index.by_guid.get(guid)?.first())?;
        self.version(&place.1.0, place.1.1)
    }

    /// The highest id of a context, 0 if none.
    pub fn max_id(&self, context: &str) -> i32 {
        self.contexts.get(context).map_or(0, |index| index.max_id)
    }

    /// True if the context has been written to.
    pub fn has_context(&self, context: &str) -> bool {
        self.contexts.contains_key(context)
    }

    /// The contexts, the default one first.
    pub fn contexts(&self) -> Vec<String> {
        let others = self.contexts.keys().filter(|context| *context != DEFAULT_CONTEXT).cloned();
        std::iter::once(DEFAULT_CONTEXT.to_owned()).chain(others).collect()
    }

    /// The subjects, in order.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.keys()
    }

    /// The versions that reference this one, softly deleted ones included.
    pub fn referrers(&self, subject: &Subject, version: i32) -> impl Iterator<Item = &Arc<StoredSchema>> {
        let places = self.referrers.get(&(subject.clone(), version));
        places.into_iter().flatten().filter_map(|(subject, version)| self.version(subject, *version))
    }

    /// The config set for exactly this scope.
    pub fn config(&self, scope: &Subject) -> Option<&Config> {
        self.configs.get(scope)
    }

    /// The mode set for exactly this scope.
    pub fn mode(&self, scope: &Subject) -> Option<Mode> {
        self.modes.get(scope).copied()
    }

    /// The scopes with a mode of their own.
    pub fn modes(&self) -> impl Iterator<Item = (&Subject, Mode)> {
        self.modes.iter().map(|(scope, mode)| (scope, *mode))
    }

    /// The config that holds for a subject, if any was set anywhere: its own, its context's (or
    /// the global one), then the server-wide one.
    pub fn effective_config(&self, subject: &Subject) -> Option<Config> {
        let global = Subject::parse("");
        if let Some(own) = self.configs.get(subject) {
            let inherits = !subject.name().is_empty();
            let global = self.configs.get(&global).filter(|_| inherits);
            return Some(global.map_or_else(|| own.clone(), |global| own.clone().inheriting(global)));
        }
        let context = Subject::in_context(subject.context(), "");
        let server = Subject::in_context(GLOBAL_CONTEXT, "");
        self.configs.get(&context).or_else(|| self.configs.get(&server)).cloned()
    }

    /// The mode that holds for a subject.
    pub fn effective_mode(&self, subject: &Subject) -> Mode {
        let context = Subject::in_context(subject.context(), "");
        let server = Subject::in_context(GLOBAL_CONTEXT, "");
        self.mode(subject).or_else(|| self.mode(&context)).or_else(|| self.mode(&server)).unwrap_or_default()
    }
}
