//! `/connector-plugins`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};
use towline_connectors::api::{ConfigKey, ConfigType, Importance, Width};

use super::answer::{Problem, config_of, parse};
use crate::herder::{ConfigInfo, Herder, PluginKind, plugins};

pub(super) async fn list(RawQuery(query): RawQuery) -> Json<Value> {
    let all = query.is_some_and(|query| query.split('&').any(|part| part.eq_ignore_ascii_case("connectorsOnly=false")));
    let shown = plugins().into_iter().filter(|p| all || matches!(p.kind, PluginKind::Sink | PluginKind::Source));
    let shown = shown.map(|p| json!({"class": p.class, "type": p.kind.name(), "version": p.version}));
    Json(Value::Array(shown.collect()))
}

pub(super) async fn config(State(herder): State<Herder>, Path(class): Path<String>) -> Result<Json<Value>, Problem> {
    let keys = herder.plugin_config(&class)?;
    Ok(Json(Value::Array(keys.iter().map(definition).collect())))
}

pub(super) async fn validate(
    State(herder): State<Herder>,
    Path(class): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let infos = herder.validate(Some(&class), config_of(&parse(&body)?)?).await?;
    let configs: Vec<Value> = infos.configs.iter().map(info).collect();
    Ok(Json(json!({
        "name": infos.name, "error_count": infos.error_count, "groups": infos.groups, "configs": configs
    })))
}

fn info(info: &ConfigInfo) -> Value {
    let value = &info.value;
    json!({
        "definition": info.definition.as_ref().map(definition),
        "value": {
            "name": value.name,
            "value": value.value,
            "recommended_values": value.recommended_values,
            "errors": value.errors,
            "visible": true,
        },
    })
}

fn definition(key: &ConfigKey) -> Value {
    let importance = match key.importance {
        Importance::High => "HIGH",
        Importance::Medium => "MEDIUM",
        Importance::Low => "LOW",
    };
    let width = match key.width {
        Width::None => "NONE",
        Width::Short => "SHORT",
        Width::Medium => "MEDIUM",
        Width::Long => "LONG",
    };
    let default = match (&key.default, key.kind) {
        (Some(_), ConfigType::Password) => Some("[hidden]"),
        (default, _) => default.as_deref(),
    };
    json!({
        "name": key.name,
        "type": key.kind.name(),
        "required": key.required,
        "default_value": default,
        "importance": importance,
        "documentation": key.documentation,
        "group": key.group,
        "width": width,
        "display_name": key.display_name,
        "dependents": key.dependents,
        "order": key.order,
    })
}
