//! The HTTP client: the only way a converter reaches any registry, ours or another.
//!
//! Answers that cannot change (a schema by id, the id of a registered text) are cached. A URL that
//! fails is passed over for the next one. Credentials never appear in errors or `Debug` output.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::Reference;

const MEDIA: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json";
/// References nested deeper than this are not followed.
const MAX_REFERENCES: usize = 1000;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings make no sense.
    #[error("invalid registry client setting '{key}': {reason}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry answered with an error.
    #[error("registry at {url} refused to {what}: {message} (error code {code}, status {status})")]
    Refused {
        /// Base URL, without credentials.
        url: String,
        /// What was attempted.
        what: String,
        /// HTTP status.
        status: u16,
        /// The registry's error code.
        code: i64,
        /// The registry's text.
        message: String,
    },
    /// No answer.
    #[error("could not reach the registry at {url} to {what}")]
    Unreachable {
        /// Base URL, without credentials.
        url: String,
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not what a registry answers.
    #[error("the registry at {url} gave an answer that could not be understood to {what}")]
    Garbled {
        /// Base URL, without credentials.
        url: String,
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// True if the same request may succeed later: no connection, or status 408, 429 or 5xx.
    pub fn retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// The registry's error code, if it answered.
    pub fn error_code(&self) -> Option<i64> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

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

/// A schema as text, with its type and references.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaText {
    /// The text.
    pub schema: String,
    /// `AVRO`, `JSON` or `PROTOBUF`.
    #[serde(default = "avro")]
    pub schema_type: String,
    /// What the text refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

fn avro() -> String {
    "AVRO".to_owned()
}

impl SchemaText {
    /// An Avro schema without references.
    pub fn avro(schema: impl Into<String>) -> SchemaText {
        SchemaText { schema: schema.into(), schema_type: avro(), references: Vec::new() }
    }
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegisteredSchema {
    /// The id to put in front of values.
    pub id: i32,
    /// The version; registries before 8.0 do not tell.
    #[serde(default)]
    pub version: Option<i32>,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version.
    pub version: i32,
    /// The id.
    pub id: i32,
    /// The schema itself.
    #[serde(flatten)]
    pub text: SchemaText,
}

type RegisterKey = (String, SchemaText, bool);

/// A client of one registry (or of several URLs of it); share it between converters.
pub struct Client {
    http: reqwest::Client,
    config: ClientConfig,
    bases: Vec<Base>,
    current: AtomicUsize,
    by_id: Cache<i32, Arc<SchemaText>>,
    registered: Cache<RegisterKey, RegisteredSchema>,
}

struct Base {
    url: Url,
    shown: String,
    user_info: Option<(String, String)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.bases.iter().map(|base| base.shown.as_str()).collect();
        f.debug_struct("Client").field("urls", &urls).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; connects to nothing yet.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let invalid = |reason: String| ClientError::Config { key: "schema.registry.url", reason };
        let bases = config.urls.iter().map(|written| base(written, &config)).collect::<Result<Vec<_>, _>>()?;
        if bases.is_empty() {
            return Err(invalid("no URL given".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .timeout(config.request_timeout)
            .build()
            .map_err(|err| invalid(err.to_string()))?;
        let capacity = config.cache_capacity;
        Ok(Client {
            http,
            config,
            bases,
            current: AtomicUsize::new(0),
            by_id: Cache::new(capacity),
            registered: Cache::new(capacity),
        })
    }

    /// Registers a schema, or finds the one registered before.
    pub async fn register(
        &self,
        subject: &str,
        schema: &SchemaText,
        normalize: bool,
    ) -> Result<RegisteredSchema, ClientError> {
        let key = (subject.to_owned(), schema.clone(), normalize);
        if let Some(known) = self.registered.find(&key) {
            return Ok(known);
        }
        let what = format!("register a schema under subject '{subject}'");
        let call = Call::post(&["subjects", subject, "versions"], what, json!(schema)).normalize(normalize);
        let answer: RegisteredSchema = self.send(&call).await?;
        self.registered.keep(key, answer.clone());
        Ok(answer)
    }

    /// The version of a subject that holds this schema.
    pub async fn lookup(
        &self,
        subject: &str,
        schema: &SchemaText,
        normalize: bool,
    ) -> Result<SubjectVersion, ClientError> {
        let what = format!("look up a schema under subject '{subject}'");
        self.send(&Call::post(&["subjects", subject], what, json!(schema)).normalize(normalize)).await
    }

    /// The schema of an id, as found in front of a value.
    pub async fn by_id(&self, id: i32) -> Result<Arc<SchemaText>, ClientError> {
        if let Some(known) = self.by_id.find(&id) {
            return Ok(known);
        }
        let call = Call::get(&["schemas", "ids", &id.to_string()], format!("read the schema of id {id}"));
        let schema: Arc<SchemaText> = Arc::new(self.send(&call).await?);
        self.by_id.keep(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The newest version of a subject; never cached.
    pub async fn latest(&self, subject: &str) -> Result<SubjectVersion, ClientError> {
        let what = format!("read the latest version of subject '{subject}'");
        self.send(&Call::get(&["subjects", subject, "versions", "latest"], what)).await
    }

    /// One version of a subject, also a deleted one.
    pub async fn version(&self, subject: &str, version: i32) -> Result<SubjectVersion, ClientError> {
        let what = format!("read version {version} of subject '{subject}'");
        let mut call = Call::get(&["subjects", subject, "versions", &version.to_string()], what);
        call.query.push(("deleted", "true"));
        self.send(&call).await
    }

    /// The texts that a schema refers to, in the order in which they must be parsed.
    pub async fn resolve(&self, schema: &SchemaText) -> Result<Vec<String>, ClientError> {
        // A stack instead of recursion: a reference is opened once, and its text taken when its
        // own references are done.
        let mut seen: Vec<String> = Vec::new();
        let mut texts = Vec::new();
        let mut stack: Vec<(Reference, Option<String>)> =
            schema.references.iter().rev().map(|reference| (reference.clone(), None)).collect();
        while let Some((reference, text)) = stack.pop() {
            if let Some(text) = text {
                texts.push(text);
                continue;
            }
            if seen.contains(&reference.name) || seen.len() > MAX_REFERENCES {
                continue;
            }
            seen.push(reference.name.clone());
            let found = self.version(&reference.subject, reference.version).await?.text;
            stack.push((reference, Some(found.schema)));
            stack.extend(found.references.into_iter().rev().map(|reference| (reference, None)));
        }
        Ok(texts)
    }

    async fn send<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        let start = self.current.load(Ordering::Relaxed);
        let mut failure = None;
        for attempt in 0..self.bases.len() {
            let index = (start + attempt) % self.bases.len();
            match self.send_to(&self.bases[index], call).await {
                Err(err) if err.retriable() => {
                    tracing::debug!(error = %err, "registry url failed");
                    failure = Some(err);
                }
                outcome => {
                    self.current.store(index, Ordering::Relaxed);
                    return outcome;
                }
            }
        }
        // There is at least one base, so at least one failure.
        Err(failure
            .unwrap_or_else(|| ClientError::Config { key: "schema.registry.url", reason: "no URL given".to_owned() }))
    }

    async fn send_to<T: DeserializeOwned>(&self, base: &Base, call: &Call) -> Result<T, ClientError> {
        let unreachable = |source: reqwest::Error| ClientError::Unreachable {
            url: base.shown.clone(),
            what: call.what.clone(),
            source: source.without_url(),
        };
        let mut request = self.http.request(call.method.clone(), call.url(&base.url)).header("Accept", ACCEPT);
        if let Some((user, password)) = &base.user_info {
            request = request.basic_auth(user, Some(password));
        } else if let Some(token) = &self.config.bearer_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &call.body {
            request = request.header("Content-Type", MEDIA).body(body.to_string());
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(refused(base, call, status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Garbled {
            url: base.shown.clone(),
            what: call.what.clone(),
            source,
        })
    }
}

fn base(written: &str, config: &ClientConfig) -> Result<Base, ClientError> {
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

fn refused(base: &Base, call: &Call, status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct ErrorBody {
        error_code: i64,
        #[serde(default)]
        message: String,
    }
    let answer = serde_json::from_slice(body).unwrap_or_else(|_| ErrorBody {
        error_code: i64::from(status.as_u16()),
        message: status.canonical_reason().unwrap_or("no reason given").to_owned(),
    });
    ClientError::Refused {
        url: base.shown.clone(),
        what: call.what.clone(),
        status: status.as_u16(),
        code: answer.error_code,
        message: answer.message,
    }
}

struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, &'static str)>,
    what: String,
    body: Option<Value>,
}

impl Call {
    fn get(path: &[&str], what: String) -> Call {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Call { method: Method::GET, path, query: Vec::new(), what, body: None }
    }

    fn post(path: &[&str], what: String, body: Value) -> Call {
        Call { method: Method::POST, body: Some(body), ..Call::get(path, what) }
    }

    fn normalize(mut self, normalize: bool) -> Call {
        if normalize {
            self.query.push(("normalize", "true"));
        }
        self
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// A bounded map; when full it starts anew, which costs one request per entry still in use.
struct Cache<K, V> {
    capacity: usize,
    entries: Mutex<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn new(capacity: usize) -> Self {
        Cache { capacity, entries: Mutex::default() }
    }

    fn find(&self, key: &K) -> Option<V> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: K, value: V) {
        if self.capacity == 0 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            entries.clear();
        }
        entries.insert(key, value);
    }
}
