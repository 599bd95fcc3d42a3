//! `/compatibility`: would this schema be accepted?

use axum::http::Method;
use serde_json::json;

use super::exchange::{Answer, Exchange};
use super::{method_not_allowed, not_found};
use crate::error::Error;
use crate::registry::{Registry, SchemaRequest, Version};

pub(super) fn dispatch(registry: &Registry, exchange: &Exchange, path: &[&str]) -> Result<Answer, Error> {
    let (subject, version) = match path {
        ["subjects", subject, "versions"] => (subject, None),
        ["subjects", subject, "versions", version] => (subject, Some(version)),
        _ => return Err(not_found()),
    };
    if exchange.method != Method::POST {
        return Err(method_not_allowed());
    }
    let version = version.map(|version| version.parse::<Version>()).transpose()?;
    let subject = registry.aliased(&exchange.subject(subject));
    let request: SchemaRequest = exchange.body()?;
    let verbose = exchange.flag("verbose");
    let messages = match registry.check_compatibility(&subject, version, &request, exchange.flag("normalize")) {
        Err(Error::InvalidSchema(text)) if verbose => vec![text],
        messages => messages?,
    };
    let compatible = messages.is_empty();
    Ok(Answer::Json(match verbose {
        true => json!({"is_compatible": compatible, "messages": messages}),
        false => json!({"is_compatible": compatible}),
    }))
}
