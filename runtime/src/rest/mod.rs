//! The REST API on :8083, in the shapes of Kafka Connect's: one file a resource.

mod answer;
mod connectors;
mod offsets;
mod plugins;
mod root;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use crate::herder::Herder;
use answer::{Problem, percent_decode_ok};

/// The whole API.
pub fn router(herder: Herder) -> Router {
    Router::new()
        .route("/", get(root::root))
        .route("/health", get(root::health))
        .route("/connectors", get(connectors::list).post(connectors::create))
        .route("/connectors/{name}", get(connectors::info).delete(connectors::delete))
        .route(
            "/connectors/{name}/config",
            get(connectors::config).put(connectors::put_config).patch(connectors::patch_config),
        )
        .route("/connectors/{name}/status", get(connectors::status))
        .route("/connectors/{name}/tasks", get(connectors::tasks))
        .route("/connectors/{name}/tasks-config", get(connectors::tasks_config))
        .route("/connectors/{name}/tasks/{task}/status", get(connectors::task_status))
        .route("/connectors/{name}/tasks/{task}/restart", post(connectors::restart_task))
        .route("/connectors/{name}/restart", post(connectors::restart))
        .route("/connectors/{name}/pause", put(connectors::pause))
        .route("/connectors/{name}/resume", put(connectors::resume))
        .route("/connectors/{name}/stop", put(connectors::stop))
        .route("/connectors/{name}/topics", get(connectors::topics))
        .route("/connectors/{name}/topics/reset", put(connectors::reset_topics))
        .route("/connectors/{name}/offsets", get(offsets::show).patch(offsets::alter).delete(offsets::reset))
        .route("/connector-plugins", get(plugins::list))
        .route("/connector-plugins/{class}/config", get(plugins::config))
        .route("/connector-plugins/{class}/config/validate", put(plugins::validate))
        .fallback(|| async { Problem::new(404, "HTTP 404 Not Found") })
        .method_not_allowed_fallback(|| async { Problem::new(405, "HTTP 405 Method Not Allowed") })
        .layer(from_fn(check_media_type))
        .with_state(herder)
}

/// Refuses bodies that are not JSON and clients that do not take JSON.
async fn check_media_type(request: Request, next: Next) -> Response {
    match refusal(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request) -> Option<Problem> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let accepts = text(header::ACCEPT).is_none_or(|accept| {
        accept.split(',').any(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            matches!(kind, "*/*" | "application/*" | "application/json" | "")
        })
    });
    if !accepts {
        return Some(Problem::new(406, "HTTP 406 Not Acceptable"));
    }
    let has_body = text(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || request.headers().contains_key(header::TRANSFER_ENCODING);
    let carries = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let json = text(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim() == "application/json");
    if carries && has_body && !json {
        return Some(Problem::new(415, "HTTP 415 Unsupported Media Type"));
    }
    (!percent_decode_ok(request.uri().path()))
        .then(|| Problem::new(400, "the path has a % that no two hexadecimal digits follow"))
}
