//! `/schemas`: listing across subjects, and look-up by id or GUID.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use super::exchange::{Answer, Exchange};
use super::{method_not_allowed, not_found, present};
use crate::error::Error;
use crate::registry::{Profile, Registry};
use crate::schema::Guid;
use crate::subject::{Subject, SubjectPrefix};

/// `schema.search.default.limit` and `schema.search.max.limit` of the original.
const MAX_SCHEMAS: usize = 1000;

pub(super) fn dispatch(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    let guids = registry.options().profile == Profile::Cp8;
    let known = matches!(path, [] | ["types"] | ["ids", _] | ["ids", _, "schema" | "subjects" | "versions"])
        || (guids && matches!(path, ["guids", _] | ["guids", _, "ids"]));
    if !known {
        return Err(not_found());
    }
    if exchange.method != Method::GET {
        return Err(method_not_allowed());
    }
    match path {
        [] => Ok(list(registry, exchange)),
        ["types"] => Ok(Answer::Json(json!(["JSON", "PROTOBUF", "AVRO"]))),
        ["ids", id, rest @ ..] => {
            let number: i32 = id.parse().map_err(|_| not_found())?;
            by_id(registry, exchange, number, rest)
        }
        ["guids", guid, rest @ ..] => by_guid(registry, exchange, guid, rest),
        _ => Err(not_found()),
    }
}

fn list(registry: &Registry, exchange: &Exchange) -> Answer {
    let prefix = SubjectPrefix::parse(&exchange.prefix(":*:"));
    let (deleted, latest_only) = (exchange.flag("deleted"), exchange.flag("latestOnly"));
    let rule_type = exchange.parameter("ruleType").filter(|wanted| !wanted.is_empty());
    let mut found = Vec::new();
    {
        let state = registry.state();
        for subject in state.subjects().filter(|subject| prefix.matches(subject)) {
            let mut versions = state.versions(subject).filter(|schema| deleted || !schema.deleted);
            if latest_only {
                found.extend(versions.next_back().cloned());
            } else {
                found.extend(versions.cloned());
            }
        }
    }
    if let Some(wanted) = rule_type {
        found.retain(|schema| {
            let rules = schema.rule_set.iter().flat_map(|set| set.migration_rules.iter().chain(&set.domain_rules));
            rules.into_iter().any(|rule| rule.rule_type.as_deref() == Some(wanted))
        });
    }
    let page = exchange.page(found, MAX_SCHEMAS);
    Answer::Json(page.iter().map(|schema| present::schema(registry, exchange, schema)).collect())
}

fn by_id(registry: &Registry, exchange: &Exchange, id: i32, rest: &[&str]) -> Result<Answer, Error> {
    let subject = exchange.subject_parameter().map(|subject| registry.aliased(&subject));
    let found = registry.by_id(id, subject.as_ref());
    match rest {
        [] => Ok(Answer::Json(present::schema_string(registry, exchange, &*found?, false))),
        ["schema"] => Ok(Answer::Raw(present::text(registry, exchange, &*found?))),
        [list] => {
            let found = found.map_err(|_| Error::SchemaNotFound)?;
            let deleted = exchange.flag("deleted");
            let named = subject.filter(|subject| !subject.name().is_empty());
            let state = registry.state();
            let places = state
                .by_id(found.subject.context(), id)
                .filter(|schema| deleted || !schema.deleted)
                .filter(|schema| named.as_ref().is_none_or(|subject| *subject == schema.subject));
            if *list == "subjects" {
                let names: BTreeSet<String> = places.map(|schema| schema.subject.to_string()).collect();
                return Ok(Answer::Json(json!(exchange.page(names.into_iter().collect(), usize::MAX))));
            }
            let versions: Vec<Value> = places
                .map(|schema| json!({"subject": schema.subject.to_string(), "version": schema.version}))
                .collect();
            Ok(Answer::Json(exchange.page(versions, usize::MAX).into()))
        }
        _ => Err(not_found()),
    }
}

fn by_guid(registry: &Registry, exchange: &Exchange, written: &str, rest: &[&str]) -> Result<Answer, Error> {
    let guid: Option<Guid> = written.parse().ok();
    let state = registry.state();
    if rest == ["ids"] {
        let contexts = state.contexts().into_iter();
        let ids = contexts.filter_map(|context| {
            let id = state.id_of(Subject::in_context(&context, "").context(), &guid?)?;
            Some(json!({"context": context, "id": id}))
        });
        return Ok(Answer::Json(ids.collect()));
    }
    let found = guid.and_then(|guid| state.by_guid(&guid)).cloned();
    drop(state);
    let found = found.ok_or_else(|| Error::SchemaIdNotFound(written.to_owned()))?;
    Ok(Answer::Json(present::schema_string(registry, exchange, &found, true)))
}
