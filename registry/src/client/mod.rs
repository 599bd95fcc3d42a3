//! The HTTP client: the only way a converter reaches any registry, ours or another.
//!
//! Answers that cannot change (a schema by id, the id of a registered text) are cached. A URL that
//! fails is passed over for the next one. Credentials never appear in errors or `Debug` output.

mod cache;
mod config;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::Reference;
use cache::Cache;
pub use config::ClientConfig;
use config::{Base, base};

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

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.bases.iter().map(|base| base.shown.as_str()).collect();
        f.debug_struct("Client").field("urls", &urls).finish_non_exhaustive()
    }
}

/// Whether servers may have to show certificates: those of https URLs, or a proxy that the environment names. Like Java's,
/// a client of http URLs follows no redirection to https.
fn may_use_tls(bases: &[Base]) -> bool {
    let named = |name: &&str| std::env::var_os(name).is_some();
    let proxied = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].iter().any(named);
    proxied || bases.iter().any(|base| base.url.scheme() == "https")
}

impl Client {
    /// A client; connects to nothing yet.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let invalid = |reason: String| ClientError::Config { key: "schema.registry.url", reason };
        let bases = config.urls.iter().map(|written| base(written, &config)).collect::<Result<Vec<_>, _>>()?;
        if bases.is_empty() {
            return Err(invalid("no URL given".to_owned()));
        }
        let mut http =
            reqwest::Client::builder().connect_timeout(config.connect_timeout).timeout(config.request_timeout);
        if !may_use_tls(&bases) {
            // Each task has a client, and each would read and parse the system's hundreds of certificates.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|err| invalid(err.to_string()))?;
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
