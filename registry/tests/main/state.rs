//! What the log says after a restart, and records that others wrote.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use towline_registry::memory::MemoryLog;
use towline_registry::registry::{RegisterFlags, SchemaRequest, Version};
use towline_registry::subject::Subject;
use towline_registry::{Options, Registry};

use crate::server::{Server, record};

fn record_of(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    (Bytes::from(key.to_owned()), (!value.is_empty()).then(|| Bytes::from(value.to_owned())))
}

#[tokio::test]
async fn a_restart_replays_to_the_same_state() {
    let server = Server::start().await;
    server.register("s", &record("A", &[("a", "int")])).await;
    server.register("t", &record("B", &[("a", "int")])).await;
    server.delete("/subjects/t").await;
    server.set_level("/s", "FULL").await;
    let log = Arc::new(MemoryLog::with_records(server.log.records()));
    let base = crate::server::serve(log.attach(Options::default())).await;
    for path in ["/schemas?deleted=true", "/subjects?deleted=true", "/config/s"] {
        let again: serde_json::Value =
            serde_json::from_slice(&reqwest::get(format!("{base}{path}")).await.unwrap().bytes().await.unwrap())
                .unwrap();
        assert_eq!(again, server.get(path).await);
    }
}

#[tokio::test]
async fn garbled_and_unknown_records_are_skipped() {
    let log = Arc::new(MemoryLog::with_records(vec![
        record_of("not json", "{}"),
        record_of(r#"{"keytype":"ASSOC","magic":0}"#, "{}"),
        record_of(r#"{"keytype":"NOOP","magic":0}"#, ""),
        record_of(r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#, "[]"),
        record_of(
            r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#,
            r#"{"subject":"s","version":1,"id":5,"schema":"\"int\"","deleted":false}"#,
        ),
        record_of(
            r#"{"keytype":"SCHEMA","subject":"s","version":2,"magic":1}"#,
            r#"{"subject":"s","version":2,"id":5,"schema":"\"long\"","deleted":false}"#,
        ),
    ]));
    let registry = log.attach(Options::default());
    let subject = Subject::parse("s");
    assert_eq!(registry.version(&subject, Version::Latest, false).unwrap().version, 1);
    let request: SchemaRequest = serde_json::from_value(json!({"schema": "\"long\""})).unwrap();
    let registered = registry.register(&subject, &request, RegisterFlags::default()).await.unwrap();
    assert_eq!((registered.schema.id, registered.schema.version), (6, 2));
}

#[tokio::test]
async fn writing_a_key_buries_its_other_byte_forms() {
    let old = r#"{"subject":null,"magic":0,"keytype":"CONFIG"}"#;
    let log = Arc::new(MemoryLog::with_records(vec![record_of(old, r#"{"compatibilityLevel":"NONE"}"#)]));
    let registry = log.attach(Options::default());
    let global = Subject::parse("");
    let config = registry.delete_config(&global).await.unwrap();
    assert_eq!(config.to_json(), json!({"compatibilityLevel": "NONE"}));
    let written: Vec<_> = log.records().into_iter().skip(1).collect();
    assert_eq!(written, [record_of(old, ""), record_of(r#"{"keytype":"CONFIG","magic":0}"#, "")]);
}

#[tokio::test]
async fn requests_wait_for_the_replay() {
    let log = Arc::new(MemoryLog::default());
    let registry = Registry::new(log, Options::default());
    let base = crate::server::serve(registry.clone()).await;
    assert_eq!(reqwest::get(format!("{base}/subjects")).await.unwrap().status(), 503);
    registry.append_noop().await.unwrap();
    registry.set_ready();
    assert_eq!(reqwest::get(format!("{base}/subjects")).await.unwrap().status(), 200);
}
