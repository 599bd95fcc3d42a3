//! One request and one answer, free of any HTTP library: path segments decoded once, contexts
//! taken out of the path, query values, content negotiation.

use std::str::FromStr;

use axum::http::{HeaderMap, Method, Uri, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::subject::{Subject, context_from_path, is_qualified};

pub(super) const V1_JSON: &str = "application/vnd.schemaregistry.v1+json";
const VND_JSON: &str = "application/vnd.schemaregistry+json";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A request on its way to a resource.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) segments: Vec<String>,
    pub(super) body: Bytes,
    query: Vec<(String, String)>,
    context: Option<String>,
}

/// What a resource answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// A JSON document.
    Json(Value),
    /// A text that is a document already.
    Raw(String),
    /// 204.
    Empty,
}

impl Exchange {
    pub(super) fn new(method: Method, uri: &Uri, body: Bytes) -> Result<Exchange, Error> {
        let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments: Vec<String> =
            if path.is_empty() { Vec::new() } else { path.split('/').map(|part| decode(part, false)).collect() };
        let mut context = None;
        if segments.len() > 2 && segments[0] == "contexts" {
            context = Some(context_from_path(&segments[1])?);
            segments.drain(..2);
        }
        let query = uri.query().unwrap_or_default();
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Ok(Exchange { method, segments, body, query: query.collect(), context })
    }

    /// A subject as written in the path, within the context of the path.
    pub(super) fn subject(&self, written: &str) -> Subject {
        match &self.context {
            Some(context) if !is_qualified(written) => Subject::in_context(context, written),
            _ => Subject::parse(written),
        }
    }

    /// The scope of `/config` and `/mode` without a subject.
    pub(super) fn scope(&self, written: Option<&str>) -> Subject {
        self.subject(written.unwrap_or_default())
    }

    /// The `subject` parameter, or the context of the path.
    pub(super) fn subject_parameter(&self) -> Option<Subject> {
        let written = self.parameter("subject").filter(|subject| !subject.is_empty());
        written.map(|written| self.subject(written)).or_else(|| self.context.as_ref().map(|_| self.scope(None)))
    }

    /// A prefix parameter, within the context of the path.
    pub(super) fn prefix(&self, default: &str) -> String {
        let written = self.parameter("subjectPrefix");
        match &self.context {
            Some(context) if !written.is_some_and(is_qualified) => {
                format!(":{context}:{}", written.unwrap_or_default())
            }
            _ => written.unwrap_or(default).to_owned(),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch: only `true`, in any case, is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The slice of a list that `offset` and `limit` ask for.
    pub(super) fn page<T>(&self, items: Vec<T>, most: usize) -> Vec<T> {
        let number = |name| self.parameter(name).and_then(|value| i64::from_str(value).ok()).unwrap_or(0);
        let offset = usize::try_from(number("offset")).unwrap_or(0);
        let limit = usize::try_from(number("limit")).ok().filter(|limit| (1..=most).contains(limit)).unwrap_or(most);
        items.into_iter().skip(offset).take(limit).collect()
    }

    /// The body as JSON of a shape.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let json: Value = serde_json::from_slice(&self.body).map_err(|err| {
            if self.body.is_empty() {
                missing_body()
            } else {
                Error::BadRequest(format!("Unable to process JSON: {err}"))
            }
        })?;
        if json.is_null() {
            return Err(missing_body());
        }
        serde_json::from_value(json).map_err(|err| Error::BadRequest(format!("Unable to process JSON: {err}")))
    }
}

fn missing_body() -> Error {
    Error::UnprocessableBody("request body must not be null".to_owned())
}

/// An error of the HTTP layer with the reason phrase as text.
pub(super) fn http_error(status: axum::http::StatusCode) -> Error {
    let reason = status.canonical_reason().unwrap_or_default();
    Error::Http { status: status.as_u16(), message: format!("HTTP {} {reason}", status.as_u16()) }
}

/// The type to answer with, by the order of the server's preference; `None` if none is acceptable.
pub(super) fn answer_type(headers: &HeaderMap) -> Option<&'static str> {
    let accepted: Vec<String> = media_types(headers, header::ACCEPT);
    if accepted.is_empty() || accepted.iter().any(|media| matches!(media.as_str(), "*/*" | "application/*")) {
        return Some(V1_JSON);
    }
    [V1_JSON, VND_JSON, JSON].into_iter().find(|media| accepted.iter().any(|accepted| accepted == media))
}

/// True if a body of the request's type can be read.
pub(super) fn is_readable(headers: &HeaderMap) -> bool {
    let types = media_types(headers, header::CONTENT_TYPE);
    types.first().is_none_or(|media| [V1_JSON, VND_JSON, JSON, BYTES].contains(&media.as_str()))
}

fn media_types(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    types
        .map(|media| media.split(';').next().unwrap_or_default().trim().to_lowercase())
        .filter(|m| !m.is_empty())
        .collect()
}

/// A text with its percent escapes decoded.
pub(crate) fn percent_decoded(text: &str) -> String {
    decode(text, false)
}

/// Percent-decoding; what is no valid escape stays as it is.
fn decode(text: &str, plus_is_blank: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(escape(&[*high, *low]).unwrap_or(b'%'));
                rest = after;
            }
            (b'+', _) if plus_is_blank => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(uri: &str) -> Exchange {
        Exchange::new(Method::GET, &uri.parse().unwrap(), Bytes::new()).unwrap()
    }

    #[test]
    fn segments_are_decoded_once_and_contexts_taken_out() {
        let request = exchange("/contexts/c/subjects/a%2Fb%2525/versions?subject=x+y&normalize=TRUE");
        assert_eq!(request.segments, ["subjects", "a/b%25", "versions"]);
        assert_eq!(request.subject("s").to_string(), ":.c:s");
        assert_eq!(request.subject(":.d:s").to_string(), ":.d:s");
        assert_eq!(request.subject_parameter().unwrap().to_string(), ":.c:x y");
        assert!(request.flag("normalize"));
    }

    #[test]
    fn pages_keep_to_the_maximum() {
        let request = exchange("/x?offset=1&limit=2");
        assert_eq!(request.page(vec![1, 2, 3, 4], 9), [2, 3]);
        assert_eq!(exchange("/x?limit=-1").page(vec![1, 2, 3], 2), [1, 2]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_decodes_without_panic(text: String) {
            let _ = decode(&text, true);
        }
    }
}
