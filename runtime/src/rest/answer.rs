//! Bodies: what comes in as JSON, and errors as they go out.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::herder::Refusal;

/// An error body: `{"error_code":404,"message":"…"}`.
#[derive(Debug)]
pub(super) struct Problem(Refusal);

impl Problem {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self(Refusal::new(status, message))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"error_code": self.0.status, "message": self.0.message}))).into_response()
    }
}

/// Reads a JSON body; what is not JSON is answered as Kafka Connect does, with 500 and the parser's words.
pub(super) fn parse(body: &[u8]) -> Result<Value, Problem> {
    if body.is_empty() {
        return Err(Problem::new(400, "The request has no body; send JSON with Content-Type: application/json"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(500, format!("Cannot deserialize value: the body is not valid JSON: {error}")))
}

/// Reads a config: text as it is, numbers and booleans as their text, null kept.
pub(super) fn config_of(value: &Value) -> Result<Vec<(String, Option<String>)>, Problem> {
    let Some(object) = value.as_object() else {
        return Err(Problem::new(
            500,
            format!("Cannot deserialize value of type `java.util.LinkedHashMap<String,String>` from {value}"),
        ));
    };
    object
        .iter()
        .map(|(key, value)| {
            let text = match value {
                Value::String(text) => Some(text.clone()),
                Value::Null => None,
                Value::Array(_) | Value::Object(_) => {
                    return Err(Problem::new(
                        500,
                        format!("Cannot deserialize value of type `java.lang.String` from {value} (key {key})"),
                    ));
                }
                other => Some(other.to_string()),
            };
            Ok((key.clone(), text))
        })
        .collect()
}

/// A created resource with its place.
pub(super) fn created(location: String, body: Value) -> Response {
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response()
}

/// Whether every `%` of a path is followed by two hexadecimal digits.
pub(super) fn percent_decode_ok(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}
