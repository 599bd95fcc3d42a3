//! `/connectors`.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use towline_connectors::api::Props;

use super::answer::{Problem, config_of, created, parse};
use crate::herder::{ConnectorInfo, ConnectorStatus, Herder};
use crate::store::{Status, TargetState};

type Answer<T = Json<Value>> = Result<T, Problem>;

fn has(query: Option<&str>, wanted: &str) -> bool {
    query.is_some_and(|query| query.split('&').any(|part| part == wanted))
}

fn info_json(info: &ConnectorInfo) -> Value {
    let tasks: Vec<Value> = (0..info.tasks).map(|task| json!({"connector": info.name, "task": task})).collect();
    json!({"name": info.name, "config": props_json(&info.config), "tasks": tasks, "type": info.kind})
}

fn props_json(props: &Props) -> Value {
    Value::Object(props.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect())
}

/// A state as JSON; a trace only where there is one, and what a task says of its retries.
fn state_json(id: Option<usize>, status: &Status, note: Option<&String>) -> Value {
    let mut object = Map::new();
    if let Some(id) = id {
        object.insert("id".to_owned(), id.into());
    }
    object.insert("state".to_owned(), status.state.name().into());
    object.insert("worker_id".to_owned(), status.worker_id.as_str().into());
    if let Some(trace) = status.trace.as_ref().filter(|trace| !trace.is_empty()) {
        object.insert("trace".to_owned(), trace.as_str().into());
    }
    if let Some(note) = note {
        object.insert("retrying".to_owned(), note.as_str().into());
    }
    Value::Object(object)
}

fn status_json(herder: &Herder, name: &str, status: &ConnectorStatus) -> Value {
    let notes: HashMap<usize, String> = herder.notes(name);
    let tasks: Vec<Value> = status.tasks.iter().map(|(id, s)| state_json(Some(*id), s, notes.get(id))).collect();
    let kind = herder.info(name).map_or("unknown", |info| info.kind);
    let note = herder.connector_note(name);
    json!({"name": name, "connector": state_json(None, &status.connector, note.as_ref()), "tasks": tasks, "type": kind})
}

/// Where a connector's resource stands, by the host that the client asked.
fn location(headers: &HeaderMap, name: &str) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8083");
    let name: String = name
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("http://{host}/connectors/{name}")
}

pub(super) async fn list(State(herder): State<Herder>, RawQuery(query): RawQuery) -> Json<Value> {
    let (status, info) = (has(query.as_deref(), "expand=status"), has(query.as_deref(), "expand=info"));
    if !status && !info {
        return Json(json!(herder.connectors()));
    }
    let mut all = Map::new();
    for name in herder.connectors() {
        let mut entry = Map::new();
        if status {
            let Ok(status) = herder.status(&name) else { continue };
            entry.insert("status".to_owned(), status_json(&herder, &name, &status));
        }
        if info {
            let Ok(info) = herder.info(&name) else { continue };
            entry.insert("info".to_owned(), info_json(&info));
        }
        all.insert(name, Value::Object(entry));
    }
    Json(Value::Object(all))
}

pub(super) async fn create(State(herder): State<Herder>, headers: HeaderMap, body: Bytes) -> Answer<Response> {
    let body = parse(&body)?;
    let Some(object) = body.as_object() else {
        return Err(Problem::new(500, "Cannot construct instance of a connector request from what is not an object"));
    };
    if let Some(key) = object.keys().find(|key| !["name", "config", "initial_state"].contains(&key.as_str())) {
        return Err(Problem::new(
            400,
            format!(
                "Unrecognized field \"{key}\"; a connector request has \"name\", \"config\" and, if wanted, \"initial_state\""
            ),
        ));
    }
    let name = match object.get("name") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(name)) => name.trim().to_owned(),
        Some(other) => return Err(Problem::new(500, format!("Cannot deserialize value of 'name' from {other}"))),
    };
    let initial = match object.get("initial_state") {
        None | Some(Value::Null) => None,
        Some(state) => match state.as_str().unwrap_or_default().to_ascii_uppercase().as_str() {
            "RUNNING" => Some(TargetState::Started),
            "PAUSED" => Some(TargetState::Paused),
            "STOPPED" => Some(TargetState::Stopped),
            _ => {
                return Err(Problem::new(
                    500,
                    format!(
                        "Cannot deserialize value of 'initial_state' from {state}: not one of RUNNING, PAUSED, STOPPED"
                    ),
                ));
            }
        },
    };
    let config = config_of(object.get("config").unwrap_or(&json!({})))?;
    let info = herder.create(&name, config, initial.filter(|state| *state != TargetState::Started)).await?;
    Ok(created(location(&headers, &name), info_json(&info)))
}

pub(super) async fn info(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    Ok(Json(info_json(&herder.info(&name)?)))
}

pub(super) async fn config(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    Ok(Json(props_json(&herder.info(&name)?.config)))
}

pub(super) async fn put_config(
    State(herder): State<Herder>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let (new, info) = herder.put_config(&name, config_of(&parse(&body)?)?).await?;
    let body = info_json(&info);
    Ok(if new { created(location(&headers, &name), body) } else { Json(body).into_response() })
}

pub(super) async fn patch_config(State(herder): State<Herder>, Path(name): Path<String>, body: Bytes) -> Answer {
    Ok(Json(info_json(&herder.patch_config(&name, config_of(&parse(&body)?)?).await?)))
}

pub(super) async fn delete(State(herder): State<Herder>, Path(name): Path<String>) -> Answer<StatusCode> {
    herder.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn status(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    let status = herder.status(&name)?;
    Ok(Json(status_json(&herder, &name, &status)))
}

pub(super) async fn tasks(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    let configs = herder.task_configs(&name)?;
    let entry = |(task, config): (usize, &Props)| json!({"id": {"connector": name, "task": task}, "config": props_json(config)});
    Ok(Json(Value::Array(configs.iter().enumerate().map(entry).collect())))
}

pub(super) async fn tasks_config(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    let configs = herder.task_configs(&name)?;
    let entry = |(task, config): (usize, &Props)| (format!("{name}-{task}"), props_json(config));
    Ok(Json(Value::Object(configs.iter().enumerate().map(entry).collect())))
}

/// The number of a task in a path; what is none is not found.
fn task_number(text: &str) -> Answer<usize> {
    text.parse().map_err(|_| Problem::new(404, "HTTP 404 Not Found"))
}

pub(super) async fn task_status(State(herder): State<Herder>, Path((name, task)): Path<(String, String)>) -> Answer {
    let task = task_number(&task)?;
    let unknown = || Problem::new(404, format!("No status found for task {name}-{task}"));
    let status = herder.status(&name).map_err(|_| unknown())?;
    let (id, found) = status.tasks.iter().find(|(id, _)| *id == task).ok_or_else(unknown)?;
    Ok(Json(state_json(Some(*id), found, herder.notes(&name).get(id))))
}

pub(super) async fn restart_task(
    State(herder): State<Herder>,
    Path((name, task)): Path<(String, String)>,
) -> Answer<StatusCode> {
    herder.restart_task(&name, task_number(&task)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restart(
    State(herder): State<Herder>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let is = |key: &str| has(query.as_deref(), &format!("{key}=true"));
    let (tasks, only_failed) = (is("includeTasks"), is("onlyFailed"));
    if !tasks && !only_failed {
        herder.restart_connector(&name).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let status = herder.restart(&name, tasks, only_failed).await?;
    Ok((StatusCode::ACCEPTED, Json(status_json(&herder, &name, &status))).into_response())
}

pub(super) async fn pause(State(herder): State<Herder>, Path(name): Path<String>) -> Answer<StatusCode> {
    herder.set_target(&name, TargetState::Paused).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn resume(State(herder): State<Herder>, Path(name): Path<String>) -> Answer<StatusCode> {
    herder.set_target(&name, TargetState::Started).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn stop(State(herder): State<Herder>, Path(name): Path<String>) -> Answer<StatusCode> {
    herder.set_target(&name, TargetState::Stopped).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn topics(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    let topics = herder.topics(&name)?;
    Ok(Json(json!({name: {"topics": topics}})))
}

pub(super) async fn reset_topics(State(herder): State<Herder>, Path(name): Path<String>) -> Answer<StatusCode> {
    herder.reset_topics(&name).await?;
    Ok(StatusCode::ACCEPTED)
}
