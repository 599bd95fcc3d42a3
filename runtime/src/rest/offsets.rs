//! `/connectors/{name}/offsets` (KIP-875).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::answer::{Problem, parse};
use crate::herder::Herder;

type Answer = Result<Json<Value>, Problem>;

pub(super) async fn show(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    Ok(Json(herder.offsets(&name).await?))
}

pub(super) async fn alter(State(herder): State<Herder>, Path(name): Path<String>, body: Bytes) -> Answer {
    let message = herder.alter_offsets(&name, &parse(&body)?).await?;
    Ok(Json(json!({ "message": message })))
}

pub(super) async fn reset(State(herder): State<Herder>, Path(name): Path<String>) -> Answer {
    Ok(Json(json!({ "message": herder.reset_offsets(&name).await? })))
}
