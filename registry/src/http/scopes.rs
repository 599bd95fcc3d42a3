//! `/config` and `/mode`: of the server, a context or a subject.

use serde_json::{Map, Value, json};

use super::exchange::{Answer, Exchange};
use super::{method_not_allowed, not_found};
use crate::error::Error;
use crate::registry::{Profile, Registry};
use crate::settings::Mode;
use crate::subject::Subject;

pub(super) async fn config(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    let scope = scope(exchange, path)?;
    match exchange.method.as_str() {
        "GET" => Ok(Answer::Json(registry.config(&scope, resolves(exchange, &scope))?.to_json())),
        "PUT" => {
            let body: Map<String, Value> = exchange.body()?;
            let config = registry.update_config(&scope, &body).await?;
            Ok(Answer::Json(match registry.options().profile {
                Profile::Cp7 => Value::Object(body),
                Profile::Cp8 => config.to_update_json(),
            }))
        }
        "DELETE" => Ok(Answer::Json(registry.delete_config(&scope).await?.to_json())),
        _ => Err(method_not_allowed()),
    }
}

pub(super) async fn mode(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    let scope = scope(exchange, path)?;
    match exchange.method.as_str() {
        "GET" => Ok(Answer::Json(json!({"mode": registry.mode(&scope, resolves(exchange, &scope))?.as_str()}))),
        "PUT" => {
            let body: Map<String, Value> = exchange.body()?;
            let written = body.get("mode").filter(|mode| !mode.is_null());
            let mode = written.map(|mode| mode.as_str().ok_or(Error::InvalidMode)?.parse::<Mode>()).transpose()?;
            registry.update_mode(&scope, mode, exchange.flag("force")).await?;
            Ok(Answer::Json(written.map_or_else(|| json!({}), |mode| json!({"mode": mode}))))
        }
        "DELETE" => {
            let old = registry.delete_mode(&scope, exchange.flag("recursive")).await?;
            let old = old.or_else(|| scope.is_global().then(Mode::default));
            Ok(Answer::Json(old.map_or_else(|| json!({}), |mode| json!({"mode": mode.as_str()}))))
        }
        _ => Err(method_not_allowed()),
    }
}

fn scope(exchange: &Exchange, path: &[&str]) -> Result<Subject, Error> {
    match path {
        [] => Ok(exchange.scope(None)),
        [written] => Ok(exchange.scope(Some(written))),
        _ => Err(not_found()),
    }
}

fn resolves(exchange: &Exchange, scope: &Subject) -> bool {
    exchange.flag("defaultToGlobal") || scope.is_global()
}
