//! `GET /` and `GET /health`.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::herder::Herder;

/// What the version reads like to clients that look for Kafka's.
const VERSION: &str = concat!("4.1.0-towline-", env!("CARGO_PKG_VERSION"));

pub(super) async fn root(State(herder): State<Herder>) -> Json<Value> {
    Json(json!({"version": VERSION, "commit": "towline", "kafka_cluster_id": herder.cluster_id()}))
}

pub(super) async fn health() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "message": "Worker has completed startup and is ready to handle requests."
    }))
}
