//! Reading: versions by number, schemas by text, and the version parameter of paths.

use std::str::FromStr;
use std::sync::Arc;

use super::Registry;
use super::prepare::{Reading, SchemaRequest, parse_stored, prepare};
use super::register::look_up;
use crate::error::Error;
use crate::record::StoredSchema;
use crate::schema::SchemaType;
use crate::schema::avro::Strictness;
use crate::state::State;
use crate::subject::Subject;

/// A version as named in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `latest` or -1.
    Latest,
    /// A number from 1.
    Number(i32),
}

impl Version {
    /// The number that messages show: -1 for the latest.
    pub fn as_number(self) -> i32 {
        match self {
            Version::Latest => -1,
            Version::Number(number) => number,
        }
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Version, Error> {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("latest") {
            return Ok(Version::Latest);
        }
        match trimmed.parse::<i32>() {
            Ok(-1) => Ok(Version::Latest),
            Ok(number) if number >= 1 => Ok(Version::Number(number)),
            _ => Err(Error::InvalidVersion(text.to_owned())),
        }
    }
}

impl Registry {
    /// One version of a subject; an unqualified subject that is unknown here is also sought in the
    /// other contexts.
    pub fn version(&self, subject: &Subject, version: Version, deleted: bool) -> Result<Arc<StoredSchema>, Error> {
        let state = self.state();
        let mut spellings = elsewhere(&state, subject);
        if let Some(found) = spellings.find_map(|subject| in_subject(&state, &subject, version, deleted)) {
            return Ok(found);
        }
        let known = state.latest(subject, deleted).is_some();
        Err(if known {
            Error::VersionNotFound(version.as_number())
        } else {
            Error::SubjectNotFound(subject.to_string())
        })
    }

    /// The version of a subject that holds this schema.
    pub fn look_up(
        &self,
        subject: &Subject,
        request: &SchemaRequest,
        normalize: bool,
        deleted: bool,
    ) -> Result<Arc<StoredSchema>, Error> {
        let state = self.state();
        let normalize =
            normalize || state.effective_config(subject).and_then(|config| config.flag("normalize")).unwrap_or(false);
        let reading = Reading { strictness: Strictness::Stored, normalize, deleted_references: true };
        let known: Vec<Subject> =
            elsewhere(&state, subject).filter(|subject| state.latest(subject, deleted).is_some()).collect();
        if known.is_empty() {
            return Err(Error::SubjectNotFound(subject.to_string()));
        }
        for subject in known {
            let prepared = prepare(&state, &subject, request, reading)?;
            if let Some(found) = look_up(&state, &subject, &prepared, request, deleted) {
                return Ok(found);
            }
        }
        Err(Error::SchemaNotFound)
    }

    /// A version that has this id; of the given subject if it has one, else of any in its context.
    pub fn by_id(&self, id: i32, subject: Option<&Subject>) -> Result<Arc<StoredSchema>, Error> {
        let state = self.state();
        let default = Subject::parse("");
        let asked = subject.unwrap_or(&default);
        let found = elsewhere(&state, asked).find_map(|subject| {
            let all: Vec<_> = state.by_id(subject.context(), id).collect();
            let own = all.iter().find(|schema| schema.subject == subject);
            own.or_else(|| all.iter().find(|schema| !schema.deleted)).or(all.first()).map(|found| Arc::clone(found))
        });
        found.ok_or_else(|| Error::SchemaIdNotFound(id.to_string()))
    }

    /// The text of a schema with its references written out (`format=resolved`).
    pub fn resolved_text(&self, stored: &StoredSchema) -> String {
        if stored.schema_type != SchemaType::Avro {
            return stored.schema.clone();
        }
        parse_stored(&self.state(), stored).map_or_else(|_| stored.schema.clone(), |schema| schema.resolved())
    }
}

/// The subject itself, then, if it is in the default context, its namesakes in the other ones.
fn elsewhere<'a>(state: &'a State, subject: &'a Subject) -> impl Iterator<Item = Subject> + 'a {
    let others = if subject.is_default_context() { state.contexts() } else { Vec::new() };
    let others = others.into_iter().skip(1).map(|context| Subject::in_context(&context, subject.name()));
    std::iter::once(subject.clone()).chain(others)
}

fn in_subject(state: &State, subject: &Subject, version: Version, deleted: bool) -> Option<Arc<StoredSchema>> {
    match version {
        Version::Latest => state.latest(subject, deleted).cloned(),
        Version::Number(number) => state.version(subject, number).filter(|schema| deleted || !schema.deleted).cloned(),
    }
}
