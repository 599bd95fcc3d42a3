//! The REST server. One fallback handler decodes the path itself, because subjects may hold `%2F`
//! and contexts and aliases rewrite paths before they are routed.
//!
//! Resources are plain functions from `Exchange` to `Answer`; they know
//! neither axum nor the log.

mod compatibility;
mod exchange;
mod present;
mod schemas;
mod scopes;
mod subjects;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::Error;
use crate::registry::{Profile, Registry};
use crate::schema::avro::to_java_json;
use exchange::{Answer, Exchange, V1_JSON, answer_type, http_error, is_readable};

pub(crate) use exchange::percent_decoded;

/// The router that serves every path of the registry.
pub fn router(registry: Registry) -> Router {
    Router::new().fallback(handle).with_state(registry)
}

async fn handle(State(registry): State<Registry>, request: Request) -> Response {
    let media = answer_type(request.headers());
    let answer = match media {
        Some(_) => answer(&registry, request).await,
        None => Err(http_error(StatusCode::NOT_ACCEPTABLE)),
    };
    if let Err(err) = &answer {
        match err.status() {
            500.. => tracing::error!(error = %err, code = err.code(), "registry request failed"),
            _ => tracing::debug!(error = %err, code = err.code(), "registry request refused"),
        }
    }
    respond(&registry, media.unwrap_or(V1_JSON), answer)
}

async fn answer(registry: &Registry, request: Request) -> Result<Answer, Error> {
    let (parts, body) = request.into_parts();
    let has_body = parts.method == Method::POST || parts.method == Method::PUT;
    if has_body && !is_readable(&parts.headers) {
        return Err(http_error(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let body = to_bytes(body, registry.options().max_body).await;
    let body = body.map_err(|_| http_error(StatusCode::PAYLOAD_TOO_LARGE))?;
    let exchange = Exchange::new(parts.method, &parts.uri, body)?;
    dispatch(registry, &exchange).await
}

async fn dispatch(registry: &Registry, exchange: &Exchange) -> Result<Answer, Error> {
    let path: Vec<&str> = exchange.segments.iter().map(String::as_str).collect();
    if !registry.ready() && !path.is_empty() {
        return Err(Error::NotReady);
    }
    match path.as_slice() {
        [] => match exchange.method {
            Method::GET | Method::POST => Ok(Answer::Json(json!({}))),
            _ => Err(method_not_allowed()),
        },
        ["subjects", rest @ ..] => subjects::dispatch(registry, exchange, rest).await,
        ["schemas", rest @ ..] => schemas::dispatch(registry, exchange, rest),
        ["compatibility", rest @ ..] => compatibility::dispatch(registry, exchange, rest),
        ["config", rest @ ..] => scopes::config(registry, exchange, rest).await,
        ["mode", rest @ ..] => scopes::mode(registry, exchange, rest).await,
        ["contexts", rest @ ..] => contexts(registry, exchange, rest).await,
        ["master_available"] if exchange.method == Method::GET => Ok(Answer::Json(json!({"master_available": true}))),
        ["v1", "metadata", what] if exchange.method == Method::GET => server_metadata(registry, what),
        _ => Err(not_found()),
    }
}

async fn contexts(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    match (exchange.method.as_str(), path) {
        ("GET", []) => {
            let prefix = exchange.parameter("contextPrefix").unwrap_or_default();
            let mut contexts = registry.state().contexts();
            contexts.retain(|context| context.starts_with(prefix));
            Ok(Answer::Json(json!(exchange.page(contexts, usize::MAX))))
        }
        ("DELETE", [context]) => {
            registry.delete_context(&crate::subject::context_from_path(context)?).await?;
            Ok(Answer::Empty)
        }
        (_, [] | [_]) => Err(method_not_allowed()),
        _ => Err(not_found()),
    }
}

fn server_metadata(registry: &Registry, what: &str) -> Result<Answer, Error> {
    let options = registry.options();
    Ok(Answer::Json(match what {
        "id" => {
            let clusters = json!({"kafka-cluster": options.cluster_id, "schema-registry-cluster": options.group_id});
            json!({"scope": {"path": [], "clusters": clusters}, "id": ""})
        }
        "version" => {
            let generation = if options.profile == Profile::Cp8 { "8.0.0" } else { "7.9.0" };
            json!({"version": format!("{generation}-towline-{}", env!("CARGO_PKG_VERSION")), "commitId": ""})
        }
        "deployment" => json!({}),
        _ => return Err(not_found()),
    }))
}

fn respond(registry: &Registry, media: &'static str, answer: Result<Answer, Error>) -> Response {
    let (status, body) = match answer {
        Ok(Answer::Json(json)) => (StatusCode::OK, to_java_json(&json)),
        Ok(Answer::Raw(text)) => (StatusCode::OK, text),
        Ok(Answer::Empty) => (StatusCode::NO_CONTENT, String::new()),
        Err(err) => error_body(registry, &err),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    for (name, value) in &registry.options().response_headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn error_body(registry: &Registry, err: &Error) -> (StatusCode, String) {
    let code = match (err, registry.options().profile) {
        (Error::Incompatible { .. }, Profile::Cp7) => 409,
        _ => err.code(),
    };
    let status = StatusCode::from_u16(err.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body: Value = json!({"error_code": code, "message": err.to_string()});
    (status, to_java_json(&body))
}

fn not_found() -> Error {
    http_error(StatusCode::NOT_FOUND)
}

fn method_not_allowed() -> Error {
    http_error(StatusCode::METHOD_NOT_ALLOWED)
}
