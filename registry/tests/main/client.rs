//! The client against our own server and against servers that fail.

use axum::Router;
use axum::http::HeaderMap;
use towline_registry::client::{Client, ClientConfig, ClientError, SchemaText};
use towline_registry::schema::Reference;
use towline_registry::schema::avro::{Schema, Strictness};

use crate::server::Server;

async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

fn client(urls: &[&str]) -> Client {
    Client::new(ClientConfig::new(urls.iter().map(|url| (*url).to_owned()).collect())).unwrap()
}

/// An address where nobody listens.
async fn dead() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn registers_reads_and_looks_up() {
    let server = Server::start().await;
    let client = client(&[&server.base]);
    let schema = SchemaText::avro("\"int\"");
    let registered = client.register("a/b c", &schema, false).await.unwrap();
    assert_eq!((registered.id, registered.version), (1, Some(1)));
    assert_eq!(*client.by_id(1).await.unwrap(), schema);
    let found = client.lookup("a/b c", &schema, true).await.unwrap();
    assert_eq!((found.id, found.version, found.subject.as_str()), (1, 1, "a/b c"));
    assert_eq!(client.latest("a/b c").await.unwrap(), found);
    server.delete("/subjects/a%2Fb%20c").await;
    assert_eq!(client.register("a/b c", &schema, false).await.unwrap(), registered, "from the cache");
    let missing = client.latest("a/b c").await.unwrap_err();
    assert_eq!(missing.error_code(), Some(40401));
    assert!(!missing.retriable());
    assert!(missing.to_string().contains("Subject 'a/b c' not found."), "{missing}");
}

#[tokio::test]
async fn resolves_references_in_parsing_order() {
    let server = Server::start().await;
    let client = client(&[&server.base]);
    let inner = SchemaText::avro(r#"{"type":"fixed","name":"n.F","size":2}"#);
    client.register("f", &inner, false).await.unwrap();
    let reference = |name: &str, subject: &str| Reference { name: name.into(), subject: subject.into(), version: 1 };
    let mut middle = SchemaText::avro(r#"{"type":"record","name":"n.M","fields":[{"name":"f","type":"F"}]}"#);
    middle.references = vec![reference("n.F", "f")];
    client.register("m", &middle, false).await.unwrap();
    let mut outer = SchemaText::avro(r#"{"type":"array","items":"n.M"}"#);
    outer.references = vec![reference("n.M", "m")];
    let id = client.register("o", &outer, false).await.unwrap().id;
    let read = client.by_id(id).await.unwrap();
    let texts = client.resolve(&read).await.unwrap();
    assert_eq!(texts.len(), 2);
    Schema::parse_with(&read.schema, &texts, Strictness::Stored).unwrap();
}

#[tokio::test]
async fn passes_over_urls_that_fail() {
    let server = Server::start().await;
    let broken = listen(Router::new().fallback(|| async { (axum::http::StatusCode::BAD_GATEWAY, "oops") })).await;
    let dead = dead().await;
    let good = client(&[&dead, &broken, &server.base]);
    assert_eq!(good.register("s", &SchemaText::avro("\"int\""), false).await.unwrap().id, 1);
    let all_dead = client(&[&dead]).by_id(1).await.unwrap_err();
    assert!(matches!(all_dead, ClientError::Unreachable { .. }) && all_dead.retriable(), "{all_dead}");
    let bad_gateway = client(&[&broken]).by_id(1).await.unwrap_err();
    assert!(bad_gateway.retriable());
    assert_eq!(bad_gateway.error_code(), Some(502));
    let garbled = listen(Router::new().fallback(|| async { "[" })).await;
    let garbled = client(&[&garbled]).by_id(1).await.unwrap_err();
    assert!(matches!(garbled, ClientError::Garbled { .. }) && !garbled.retriable(), "{garbled}");
}

#[tokio::test]
async fn sends_credentials_and_never_shows_them() {
    let guarded = Router::new().fallback(|headers: HeaderMap| async move {
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
        // user:p@ss
        if sent == "Basic dXNlcjpwQHNz" || sent == "Bearer token" {
            (axum::http::StatusCode::OK, r#"{"schema":"\"int\""}"#)
        } else {
            (axum::http::StatusCode::UNAUTHORIZED, r#"{"error_code":401,"message":"no"}"#)
        }
    });
    let base = listen(guarded).await;
    let host = base.strip_prefix("http://").unwrap();
    let with = |pairs: &'static [(&'static str, &'static str)], url: String| {
        let url: &'static str = url.leak();
        let find = move |key: &str| {
            if key == "schema.registry.url" {
                Some(url)
            } else {
                pairs.iter().find(|(name, _)| *name == key).map(|p| p.1)
            }
        };
        ClientConfig::from_properties(find)
    };
    let info = &[("basic.auth.credentials.source", "USER_INFO"), ("basic.auth.user.info", "user:p@ss")];
    let bearer = &[("bearer.auth.credentials.source", "STATIC_TOKEN"), ("bearer.auth.token", "token")];
    for config in
        [with(info, base.clone()), with(&[], format!("http://user:p%40ss@{host}")), with(bearer, base.clone())]
    {
        let client = Client::new(config.unwrap()).unwrap();
        assert_eq!(client.by_id(1).await.unwrap().schema_type, "AVRO");
        assert!(!format!("{client:?}").contains("ss@"));
    }
    let refused = client(&[&base]).by_id(1).await.unwrap_err();
    assert_eq!(refused.error_code(), Some(401));
    assert!(with(&[("basic.auth.credentials.source", "SASL_INHERIT")], base).is_err());
    assert!(Client::new(ClientConfig::new(vec!["mock://x".to_owned()])).is_err());
}
