//! A registry on a real port, and requests with what they must answer.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use towline_registry::memory::{self, MemoryLog};
use towline_registry::{Options, Profile, Registry};

pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) log: Arc<MemoryLog>,
    http: reqwest::Client,
}

/// A record of one field with its default, as the text of a schema.
pub(crate) fn record(name: &str, fields: &[(&str, &str)]) -> String {
    let fields: Vec<Value> = fields.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    json!({"type": "record", "name": name, "fields": fields}).to_string()
}

pub(crate) async fn serve(registry: Registry) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, towline_registry::http::router(registry)).await });
    base
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with(Options::default()).await
    }

    pub(crate) async fn cp7() -> Server {
        Server::with(Options { profile: Profile::Cp7, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Server {
        let (registry, log) = memory::open(options);
        Server { base: serve(registry).await, log, http: reqwest::Client::new() }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }

    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        self.ok("DELETE", path, Value::Null).await
    }

    /// The request fails with this code; returns the message.
    pub(crate) async fn fails(&self, method: &str, path: &str, body: Value, code: u64) -> String {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(answer["error_code"], code, "{method} {path}: {answer}");
        let expected = if code >= 10_000 { code / 100 } else { code };
        assert_eq!(u64::from(status), expected, "{method} {path}: {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn register(&self, subject: &str, schema: &str) -> Value {
        self.ok("POST", &format!("/subjects/{subject}/versions"), json!({"schema": schema})).await
    }

    pub(crate) async fn set_level(&self, scope: &str, level: &str) {
        self.ok("PUT", &format!("/config{scope}"), json!({"compatibility": level})).await;
    }
}
