//! Settings of the client, read from Confluent's keys; secrets stay out of `Debug`.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use super::ClientError;

/// How to reach a registry.
#[derive(Clone)]
pub struct ClientConfig {
    /// Base URLs, tried in turn; may hold `user:password@`.
    pub urls: Vec<String>,
    /// `USER_INFO` credentials: user and password, for every URL.
    pub user_info: Option<(String, String)>,
    /// A bearer token, for every URL.
    pub bearer_token: Option<String>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for a whole request.
    pub request_timeout: Duration,
    /// Entries kept per cache; 0 turns caching off.
    pub cache_capacity: usize,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("urls", &self.urls.len()).finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// The defaults for a list of URLs.
    pub fn new(urls: Vec<String>) -> ClientConfig {
        ClientConfig {
            urls,
            user_info: None,
            bearer_token: None,
            connect_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            cache_capacity: 1000,
        }
    }

    /// Reads Confluent's serializer settings (`schema.registry.url`, `basic.auth.*`,
    /// `bearer.auth.*`, `http.*.timeout.ms`, `schemas.cache.config`).
    pub fn from_properties<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<ClientConfig, ClientError> {
        let urls = get("schema.registry.url").unwrap_or_default().split(',').map(str::trim);
        let mut config = ClientConfig::new(urls.filter(|url| !url.is_empty()).map(str::to_owned).collect());
        match get("basic.auth.credentials.source").unwrap_or("URL") {
            "USER_INFO" => {
                let info = get("basic.auth.user.info").or_else(|| get("schema.registry.basic.auth.user.info"));
                let pair = info.and_then(|info| info.split_once(':')).ok_or_else(|| ClientError::Config {
                    key: "basic.auth.user.info",
                    reason: "must be user:password".to_owned(),
                })?;
                config.user_info = Some((pair.0.to_owned(), pair.1.to_owned()));
            }
            "URL" => {}
            other => {
                return Err(ClientError::Config {
                    key: "basic.auth.credentials.source",
                    reason: format!("'{other}' is not supported, use URL or USER_INFO"),
                });
            }
        }
        match get("bearer.auth.credentials.source") {
            Some("STATIC_TOKEN") => config.bearer_token = get("bearer.auth.token").map(str::to_owned),
            None => {}
            Some(other) => {
                return Err(ClientError::Config {
                    key: "bearer.auth.credentials.source",
                    reason: format!("'{other}' is not supported, use STATIC_TOKEN"),
                });
            }
        }
        let number = |key: &'static str| match get(key).map(str::trim) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| ClientError::Config { key, reason: format!("'{text}' is not a number") }),
        };
        if let Some(millis) = number("http.connect.timeout.ms")? {
            config.connect_timeout = Duration::from_millis(millis);
        }
        if let Some(millis) = number("http.read.timeout.ms")? {
            config.request_timeout = Duration::from_millis(millis);
        }
        if let Some(entries) = number("schemas.cache.config")? {
            config.cache_capacity = usize::try_from(entries).unwrap_or(usize::MAX);
        }
        Ok(config)
    }
}

/// One base URL, freed of its credentials.
pub(super) struct Base {
    pub(super) url: Url,
    pub(super) shown: String,
    pub(super) user_info: Option<(String, String)>,
}

pub(super) fn base(written: &str, config: &ClientConfig) -> Result<Base, ClientError> {
    let invalid = |reason: &str| ClientError::Config { key: "schema.registry.url", reason: reason.to_owned() };
    let mut url: Url = written.trim_end_matches('/').parse().map_err(|_| invalid("not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("only http and https are supported"));
    }
    let in_url = (!url.username().is_empty())
        .then(|| (percent_decoded(url.username()), percent_decoded(url.password().unwrap_or_default())));
    // Neither can fail for a URL with a host, which http and https have.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let shown = url.to_string().trim_end_matches('/').to_owned();
    Ok(Base { url, shown, user_info: config.user_info.clone().or(in_url) })
}

/// User names and passwords are percent-encoded within URLs.
fn percent_decoded(text: &str) -> String {
    crate::http::percent_decoded(text)
}
