//! Compatibility of a schema with a subject's versions.

use std::sync::Arc;

use super::lookup::Version;
use super::prepare::{Prepared, Reading, SchemaRequest, parse_stored, prepare};
use super::{Options, Registry};
use crate::compat::avro::incompatibilities;
use crate::compat::{Earlier, Level, check};
use crate::error::Error;
use crate::record::StoredSchema;
use crate::schema::{Metadata, SchemaType};
use crate::settings::Config;
use crate::state::State;
use crate::subject::Subject;

impl Registry {
    /// Why a schema could not be registered: empty if it is compatible with `version`, or with
    /// every live version that the subject's level looks at when `version` is `None`.
    pub fn check_compatibility(
        &self,
        subject: &Subject,
        version: Option<Version>,
        request: &SchemaRequest,
        normalize: bool,
    ) -> Result<Vec<String>, Error> {
        let state = self.state();
        let options = self.options();
        let config = effective(&state, options, subject);
        let earlier: Vec<&Arc<StoredSchema>> = match version {
            None => state.live(subject).rev().collect(),
            Some(Version::Latest) => state.latest(subject, false).into_iter().collect(),
            Some(Version::Number(number)) => {
                let found = state.version(subject, number).filter(|schema| !schema.deleted);
                vec![found.ok_or(Error::VersionNotFound(number))?]
            }
        };
        let reading = Reading {
            strictness: options.strictness(&config),
            normalize: normalize || config.flag("normalize").unwrap_or(false),
            deleted_references: false,
        };
        let prepared = prepare(&state, subject, request, reading)?;
        Ok(problems(&state, &config, &prepared, request.metadata.as_ref(), earlier))
    }
}

/// The config that holds for a subject, with the level filled in.
pub(super) fn effective(state: &State, options: &Options, subject: &Subject) -> Config {
    state.effective_config(subject).unwrap_or_default().with_default_level(options.default_level)
}

/// The messages of comparing a schema with earlier versions (newest first) under a config.
pub(super) fn problems(
    state: &State,
    config: &Config,
    new: &Prepared,
    metadata: Option<&Metadata>,
    earlier: Vec<&Arc<StoredSchema>>,
) -> Vec<String> {
    let level = config.level().unwrap_or_default();
    if level == Level::None {
        return Vec::new();
    }
    let group = config.compatibility_group();
    let group_of = |metadata: Option<&Metadata>| metadata.and_then(|m| m.properties.get(group?)).cloned();
    let mine = group_of(metadata);
    let mut compared = earlier;
    if group.is_some() {
        compared.retain(|old| group_of(old.metadata.as_ref()) == mine);
    }
    if !level.is_transitive() {
        compared.truncate(1);
    }
    let mut messages = compare(state, level, new, &compared);
    if !messages.is_empty() {
        let validates = config.flag("validateFields").unwrap_or(false);
        messages.push(format!("{{validateFields: '{validates}', compatibility: '{level}'}}"));
    }
    messages
}

fn compare(state: &State, level: Level, new: &Prepared, compared: &[&Arc<StoredSchema>]) -> Vec<String> {
    if compared.iter().any(|old| old.schema_type != SchemaType::Avro) {
        return vec!["Incompatible because of different schema type".to_owned()];
    }
    let mut earlier = Vec::with_capacity(compared.len());
    for old in compared {
        match parse_stored(state, old) {
            Ok(schema) => earlier.push(Earlier { version: old.version, text: old.schema.clone(), schema }),
            Err(text) => return vec![format!("Could not parse version {} of the subject: {text}", old.version)],
        }
    }
    check(level, &new.schema, &earlier, incompatibilities)
}
