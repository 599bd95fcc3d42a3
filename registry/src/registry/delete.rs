//! Deleting versions, subjects and contexts: softly first, then for good.

use std::sync::Arc;

use super::{Options, Records, Registry, Version, check_writable, soft_deleted};
use crate::error::Error;
use crate::record::{Key, StoredSchema, subject_value};
use crate::state::State;
use crate::subject::Subject;

impl Registry {
    /// Deletes one version and returns its number.
    pub async fn delete_version(&self, subject: &Subject, version: Version, permanent: bool) -> Result<i32, Error> {
        self.write("Delete schema", |state, options| decide_version(state, options, subject, version, permanent)).await
    }

    /// Deletes a subject and returns the versions deleted.
    pub async fn delete_subject(&self, subject: &Subject, permanent: bool) -> Result<Vec<i32>, Error> {
        self.write("Delete subject", |state, _| {
            check_writable(state, subject)?;
            if permanent { decide_for_good(state, subject) } else { decide_softly(state, subject) }
        })
        .await
    }

    /// Forgets a context that has no subjects.
    pub async fn delete_context(&self, context: &str) -> Result<(), Error> {
        self.write("Delete context", |state, _| {
            let scope = Subject::in_context(context, "");
            check_writable(state, &scope)?;
            if state.subjects().any(|subject| subject.context() == context) {
                return Err(Error::ContextNotEmpty(context.to_owned()));
            }
            let mut records = forget_settings(state, &scope);
            if !scope.is_default_context() && state.has_context(context) {
                records.push((Key::Context(context.to_owned()), None));
            }
            Ok(((), records))
        })
        .await
    }
}

fn decide_version(
    state: &State,
    options: &Options,
    subject: &Subject,
    version: Version,
    permanent: bool,
) -> Result<(i32, Records), Error> {
    check_writable(state, subject)?;
    let newest = state.latest(subject, true).ok_or_else(|| Error::SubjectNotFound(subject.to_string()))?;
    let found = match version {
        Version::Latest => state.latest(subject, false).unwrap_or(newest),
        Version::Number(number) => state.version(subject, number).ok_or(Error::VersionNotFound(number))?,
    };
    match (permanent, found.deleted) {
        (false, true) => return Err(Error::VersionSoftDeleted(subject.to_string(), found.version)),
        (true, false) => return Err(Error::VersionNotSoftDeleted(subject.to_string(), found.version)),
        _ => {}
    }
    if state.referrers(subject, found.version).any(|referrer| permanent || !referrer.deleted) {
        return Err(Error::ReferenceExists(subject.to_string(), found.version));
    }
    let mut records = Records::new();
    if permanent {
        records.push((found.key(), None));
        if state.versions(subject).count() == 1 {
            records.append(&mut forget_settings(state, subject));
        }
    } else {
        records.push((found.key(), Some(soft_deleted(found).encode(options.names_avro()))));
    }
    Ok((found.version, records))
}

fn decide_softly(state: &State, subject: &Subject) -> Result<(Vec<i32>, Records), Error> {
    let live: Vec<&Arc<StoredSchema>> = state.live(subject).collect();
    let Some(last) = live.last() else {
        return Err(match state.latest(subject, true) {
            Some(_) => Error::SubjectSoftDeleted(subject.to_string()),
            None => Error::SubjectNotFound(subject.to_string()),
        });
    };
    check_references(state, subject, &live, false)?;
    let records = vec![(Key::DeleteSubject(subject.clone()), Some(subject_value(subject, Some(last.version))))];
    Ok((live.iter().map(|schema| schema.version).collect(), records))
}

fn decide_for_good(state: &State, subject: &Subject) -> Result<(Vec<i32>, Records), Error> {
    let all: Vec<&Arc<StoredSchema>> = state.versions(subject).collect();
    if all.is_empty() {
        return Err(Error::SubjectNotFound(subject.to_string()));
    }
    if all.iter().any(|schema| !schema.deleted) {
        return Err(Error::SubjectNotSoftDeleted(subject.to_string()));
    }
    check_references(state, subject, &all, true)?;
    let mut records: Records = all.iter().rev().map(|schema| (schema.key(), None)).collect();
    records.append(&mut forget_settings(state, subject));
    Ok((all.iter().map(|schema| schema.version).collect(), records))
}

/// References from other subjects forbid; softly deleted referrers only when deleting for good.
fn check_references(
    state: &State,
    subject: &Subject,
    versions: &[&Arc<StoredSchema>],
    permanent: bool,
) -> Result<(), Error> {
    for schema in versions {
        let mut referrers = state.referrers(subject, schema.version);
        if referrers.any(|referrer| referrer.subject != *subject && (permanent || !referrer.deleted)) {
            return Err(Error::ReferenceExists(subject.to_string(), schema.version));
        }
    }
    Ok(())
}

fn forget_settings(state: &State, scope: &Subject) -> Records {
    let mut records = Records::new();
    if state.mode(scope).is_some() {
        records.push((Key::Mode(scope.clone()), None));
    }
    if state.config(scope).is_some() {
        records.push((Key::Config(scope.clone()), None));
    }
    records
}
