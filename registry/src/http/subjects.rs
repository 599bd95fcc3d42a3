//! `/subjects`: listing, registering, looking up, reading and deleting versions.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use super::exchange::{Answer, Exchange};
use super::{method_not_allowed, not_found, present};
use crate::error::Error;
use crate::registry::{RegisterFlags, Registry, Version};
use crate::schema::Metadata;
use crate::subject::{Subject, SubjectPrefix};

pub(super) async fn dispatch(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    let subject = path.first().map(|written| registry.aliased(&exchange.subject(written)));
    let Some(subject) = subject else {
        return if exchange.method == Method::GET { Ok(list(registry, exchange)) } else { Err(method_not_allowed()) };
    };
    match (exchange.method.as_str(), &path[1..]) {
        ("POST", []) => look_up(registry, exchange, &subject),
        ("DELETE", []) => Ok(Answer::Json(json!(registry.delete_subject(&subject, exchange.flag("permanent")).await?))),
        ("GET", ["metadata"]) => by_metadata(registry, exchange, &subject),
        ("GET", ["versions"]) => versions(registry, exchange, &subject),
        ("POST", ["versions"]) => register(registry, exchange, &subject).await,
        ("GET", ["versions", version]) => {
            let found = registry.version(&subject, version.parse()?, exchange.flag("deleted"))?;
            Ok(Answer::Json(present::schema(registry, exchange, &found)))
        }
        ("DELETE", ["versions", version]) => {
            let version: Version = version.parse()?;
            Ok(Answer::Json(registry.delete_version(&subject, version, exchange.flag("permanent")).await?.into()))
        }
        ("GET", ["versions", version, "schema"]) => {
            let found = registry.version(&subject, version.parse()?, exchange.flag("deleted"))?;
            Ok(Answer::Raw(present::text(registry, exchange, &found)))
        }
        ("GET", ["versions", version, "referencedby"]) => referenced_by(registry, exchange, &subject, version.parse()?),
        (_, [] | ["metadata" | "versions"] | ["versions", _] | ["versions", _, "schema" | "referencedby"]) => {
            Err(method_not_allowed())
        }
        _ => Err(not_found()),
    }
}

fn list(registry: &Registry, exchange: &Exchange) -> Answer {
    let prefix = SubjectPrefix::parse(&exchange.prefix(":*:"));
    let (deleted, deleted_only) = (exchange.flag("deleted"), exchange.flag("deletedOnly"));
    let state = registry.state();
    let names: BTreeSet<String> = state
        .subjects()
        .filter(|subject| prefix.matches(subject))
        .filter(|subject| {
            let live = state.latest(subject, false).is_some();
            if deleted_only { !live } else { live || deleted }
        })
        .map(Subject::to_string)
        .collect();
    Answer::Json(json!(exchange.page(names.into_iter().collect(), usize::MAX)))
}

fn versions(registry: &Registry, exchange: &Exchange, subject: &Subject) -> Result<Answer, Error> {
    let (deleted, deleted_only) = (exchange.flag("deleted"), exchange.flag("deletedOnly"));
    let as_negative = exchange.flag("deletedAsNegative");
    let state = registry.state();
    let found: Vec<i32> = state
        .versions(subject)
        .filter(|schema| if deleted_only { schema.deleted } else { deleted || as_negative || !schema.deleted })
        .map(|schema| if as_negative && schema.deleted { -schema.version } else { schema.version })
        .collect();
    if found.is_empty() {
        return Err(Error::SubjectNotFound(subject.to_string()));
    }
    Ok(Answer::Json(json!(exchange.page(found, usize::MAX))))
}

async fn register(registry: &Registry, exchange: &Exchange, subject: &Subject) -> Result<Answer, Error> {
    let request = exchange.body()?;
    let flags = RegisterFlags { normalize: exchange.flag("normalize"), force: exchange.flag("force") };
    let registered = registry.register(subject, &request, flags).await?;
    Ok(Answer::Json(present::registered(registry, exchange, &registered)))
}

fn look_up(registry: &Registry, exchange: &Exchange, subject: &Subject) -> Result<Answer, Error> {
    let request = exchange.body()?;
    let found = registry.look_up(subject, &request, exchange.flag("normalize"), exchange.flag("deleted"))?;
    Ok(Answer::Json(present::schema(registry, exchange, &found)))
}

fn by_metadata(registry: &Registry, exchange: &Exchange, subject: &Subject) -> Result<Answer, Error> {
    let deleted = exchange.flag("deleted");
    let wanted: Vec<(&str, &str)> = exchange.parameters("key").zip(exchange.parameters("value")).collect();
    let holds = |metadata: &Metadata| {
        wanted.iter().all(|(key, value)| metadata.properties.get(*key).is_some_and(|held| held == value))
    };
    let found = {
        let state = registry.state();
        if state.latest(subject, deleted).is_none() {
            return Err(Error::SubjectNotFound(subject.to_string()));
        }
        let mut newest_first = state.versions(subject).rev().filter(|schema| deleted || !schema.deleted);
        newest_first.find(|schema| schema.metadata.as_ref().is_some_and(holds)).cloned()
    };
    let found = found.ok_or(Error::SchemaNotFound)?;
    Ok(Answer::Json(present::schema(registry, exchange, &found)))
}

fn referenced_by(
    registry: &Registry,
    exchange: &Exchange,
    subject: &Subject,
    version: Version,
) -> Result<Answer, Error> {
    let target = match registry.version(subject, version, false) {
        Err(Error::VersionNotFound(_) | Error::SubjectNotFound(_)) => registry.version(subject, version, true)?,
        found => found?,
    };
    let deleted = exchange.flag("deleted");
    let state = registry.state();
    let referrers = state.referrers(&target.subject, target.version).filter(|schema| deleted || !schema.deleted);
    let ids: BTreeSet<i32> = referrers.map(|schema| schema.id).collect();
    Ok(Answer::Json(Value::from(exchange.page(ids.into_iter().collect(), usize::MAX))))
}
