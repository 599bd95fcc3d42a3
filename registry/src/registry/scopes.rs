//! Config and mode of a subject, a context or the whole server.

use serde_json::{Map, Value};

use super::compatibility::effective;
use super::{Records, Registry, check_writable};
use crate::error::Error;
use crate::record::{Key, subject_value};
use crate::settings::{Config, Mode};
use crate::state::State;
use crate::subject::{GLOBAL_CONTEXT, Subject};

impl Registry {
    /// The config of a scope, with the level filled in: its own, or with `resolve` (and always
    /// for the whole server) the one that holds for it.
    pub fn config(&self, scope: &Subject, resolve: bool) -> Result<Config, Error> {
        let state = self.state();
        if resolve || scope.is_global() {
            return Ok(effective(&state, self.options(), scope));
        }
        let own = state.config(scope).ok_or_else(|| Error::NoSubjectConfig(scope.to_string()))?;
        Ok(own.clone().with_default_level(self.options().default_level))
    }

    /// Changes the config of a scope; see [`Config::updated`].
    pub async fn update_config(&self, scope: &Subject, body: &Map<String, Value>) -> Result<Config, Error> {
        scope.validate(true)?;
        self.write("Update config", |state, _| {
            check_writable(state, scope)?;
            let config = state.config(scope).cloned().unwrap_or_default().updated(body)?;
            let records = vec![(Key::Config(scope.clone()), Some(config.encode(scope)))];
            Ok((config, records))
        })
        .await
    }

    /// Removes the config of a scope and returns it.
    pub async fn delete_config(&self, scope: &Subject) -> Result<Config, Error> {
        self.write("Delete config", |state, options| {
            check_writable(state, scope)?;
            let Some(own) = state.config(scope) else {
                let none = || Error::SubjectNotFound(scope.to_string());
                let default = Config::default().with_default_level(options.default_level);
                return scope.is_global().then_some((default, Records::new())).ok_or_else(none);
            };
            let old = own.clone().with_default_level(options.default_level);
            Ok((old, vec![(Key::Config(scope.clone()), None)]))
        })
        .await
    }

    /// The mode of a scope: its own, or with `resolve` (and always for the whole server) the one
    /// that holds for it.
    pub fn mode(&self, scope: &Subject, resolve: bool) -> Result<Mode, Error> {
        let state = self.state();
        if resolve || scope.is_global() {
            return Ok(state.effective_mode(scope));
        }
        state.mode(scope).ok_or_else(|| Error::NoSubjectMode(scope.to_string()))
    }

    /// Sets the mode of a scope, or clears it. Going to IMPORT needs a scope without live
    /// versions, unless forced.
    pub async fn update_mode(&self, scope: &Subject, mode: Option<Mode>, force: bool) -> Result<(), Error> {
        scope.validate(true)?;
        self.write("Update mode", |state, options| {
            check_mutable(options.mode_mutability)?;
            let Some(mode) = mode else {
                return Ok(((), vec![(Key::Mode(scope.clone()), None)]));
            };
            if mode == Mode::Forward && scope.context() != GLOBAL_CONTEXT {
                return Err(Error::ForwardModeOnlyGlobal);
            }
            let mut records = Records::new();
            if mode == Mode::Import && !force && state.effective_mode(scope) != Mode::Import {
                records = clear_for_import(state, scope)?;
            }
            records.push((Key::Mode(scope.clone()), Some(mode.encode(scope))));
            Ok(((), records))
        })
        .await
    }

    /// Removes the mode of a scope and returns it; with `recursive` also the modes of a context's
    /// subjects.
    pub async fn delete_mode(&self, scope: &Subject, recursive: bool) -> Result<Option<Mode>, Error> {
        self.write("Delete mode", |state, options| {
            check_mutable(options.mode_mutability)?;
            let own = state.mode(scope);
            if own.is_none() && !recursive && !scope.is_global() {
                return Err(Error::SubjectNotFound(scope.to_string()));
            }
            let below = |other: &Subject| {
                recursive && scope.name().is_empty() && other.context() == scope.context() && !other.name().is_empty()
            };
            let gone = state.modes().map(|(other, _)| other).filter(|other| *other == scope || below(other));
            let records = gone.map(|other| (Key::Mode(other.clone()), None)).collect();
            Ok((own, records))
        })
        .await
    }

    /// The subject that requests for this one are meant for: its alias, in the same context.
    pub fn aliased(&self, subject: &Subject) -> Subject {
        if subject.name().is_empty() {
            return subject.clone();
        }
        let state = self.state();
        let alias = state.config(subject).and_then(Config::alias);
        alias.map_or_else(|| subject.clone(), |alias| subject.sibling(alias))
    }
}

fn check_mutable(mutable: bool) -> Result<(), Error> {
    if mutable { Ok(()) } else { Err(Error::NotPermitted("Mode changes are not allowed".to_owned())) }
}

/// Removes what is softly deleted in the scope; live versions forbid.
fn clear_for_import(state: &State, scope: &Subject) -> Result<Records, Error> {
    if state.in_scope(scope).any(|schema| !schema.deleted) {
        return Err(Error::NotPermitted("Cannot import since found existing subjects".to_owned()));
    }
    let mut records: Records = state.in_scope(scope).map(|schema| (schema.key(), None)).collect();
    records.push((Key::ClearSubject(scope.clone()), Some(subject_value(scope, None))));
    Ok(records)
}
