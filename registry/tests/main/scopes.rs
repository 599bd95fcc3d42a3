//! Config and mode.

use serde_json::{Value, json};
use towline_registry::Options;
use towline_registry::compat::Level;

use crate::server::{Server, record};

#[tokio::test]
async fn config_is_set_resolved_and_removed() {
    let server = Server::start().await;
    assert_eq!(server.get("/config").await, json!({"compatibilityLevel": "BACKWARD"}));
    let missing = server.fails("GET", "/config/none", Value::Null, 40408).await;
    assert_eq!(missing, "Subject 'none' does not have subject-level compatibility configured");
    assert_eq!(server.get("/config/none?defaultToGlobal=true").await, json!({"compatibilityLevel": "BACKWARD"}));
    let put = server.ok("PUT", "/config/s", json!({"compatibility": "full"})).await;
    assert_eq!(put, json!({"compatibility": "FULL"}));
    assert_eq!(server.get("/config/s").await, json!({"compatibilityLevel": "FULL"}));
    server.fails("PUT", "/config/s", json!({"compatibility": "fuller"}), 42203).await;
    server.ok("PUT", "/config/s", json!({"compatibilityGroup": "major"})).await;
    assert_eq!(server.get("/config/s").await, json!({"compatibilityLevel": "FULL", "compatibilityGroup": "major"}));
    server.ok("PUT", "/config/s", json!({"compatibilityGroup": null})).await;
    assert_eq!(server.delete("/config/s").await, json!({"compatibilityLevel": "FULL"}));
    server.fails("DELETE", "/config/s", Value::Null, 40401).await;
    server.set_level("", "NONE").await;
    assert_eq!(server.get("/config/:.:").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(server.delete("/config").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(server.get("/config").await, json!({"compatibilityLevel": "BACKWARD"}));
    server.fails("PUT", "/config/__EMPTY", json!({"compatibility": "FULL"}), 42208).await;
    server.fails("POST", "/config", json!({}), 405).await;
}

#[tokio::test]
async fn a_fresh_registrys_level_is_a_setting() {
    let server = Server::with(Options { default_level: Level::FullTransitive, ..Options::default() }).await;
    assert_eq!(server.get("/config").await, json!({"compatibilityLevel": "FULL_TRANSITIVE"}));
}

#[tokio::test]
async fn aliases_send_requests_to_another_subject() {
    let server = Server::start().await;
    let schema = record("A", &[("a", "int")]);
    server.register("real%2Fone", &schema).await;
    server.ok("PUT", "/config/nick", json!({"alias": "real/one"})).await;
    assert_eq!(server.get("/subjects/nick/versions/latest").await["subject"], "real/one");
    assert_eq!(server.get("/config/nick").await["alias"], "real/one");
}

#[tokio::test]
async fn groups_limit_what_is_compared() {
    let server = Server::start().await;
    server.ok("PUT", "/config/s", json!({"compatibilityGroup": "major"})).await;
    let version = |kind: &str, major: &str| json!({"schema": record("A", &[("a", kind)]), "metadata": {"properties": {"major": major}}});
    server.ok("POST", "/subjects/s/versions", version("int", "1")).await;
    server.ok("POST", "/subjects/s/versions", version("string", "2")).await;
    server.fails("POST", "/subjects/s/versions", version("boolean", "1"), 40901).await;
}

#[tokio::test]
async fn read_only_mode_blocks_every_write() {
    let server = Server::start().await;
    let schema = record("A", &[("a", "int")]);
    server.register("s", &schema).await;
    assert_eq!(server.get("/mode").await, json!({"mode": "READWRITE"}));
    let missing = server.fails("GET", "/mode/s", Value::Null, 40409).await;
    assert_eq!(missing, "Subject 's' does not have subject-level mode configured");
    assert_eq!(server.ok("PUT", "/mode", json!({"mode": "READONLY"})).await, json!({"mode": "READONLY"}));
    assert_eq!(server.get("/mode/s?defaultToGlobal=true").await, json!({"mode": "READONLY"}));
    let body = json!({"schema": "\"int\""});
    let message = server.fails("POST", "/subjects/s/versions", body.clone(), 42205).await;
    assert_eq!(message, "Subject s in context . is in read-only mode");
    server.fails("DELETE", "/subjects/s", Value::Null, 42205).await;
    server.fails("DELETE", "/subjects/s/versions/1", Value::Null, 42205).await;
    server.fails("PUT", "/config/s", json!({"compatibility": "FULL"}), 42205).await;
    server.ok("PUT", "/mode/s", json!({"mode": "READWRITE"})).await;
    server.set_level("/s", "NONE").await;
    server.ok("POST", "/subjects/s/versions", body).await;
    assert_eq!(server.delete("/mode/s").await, json!({"mode": "READWRITE"}));
    server.fails("DELETE", "/mode/s", Value::Null, 40401).await;
    assert_eq!(server.delete("/mode").await, json!({"mode": "READONLY"}));
    server.fails("PUT", "/mode", json!({"mode": "WRITEONLY"}), 42204).await;
    server.fails("PUT", "/mode", json!({"mode": "FORWARD"}), 42204).await;
    server.ok("PUT", "/mode/:.__GLOBAL:", json!({"mode": "READONLY"})).await;
    server.fails("DELETE", "/subjects/s", Value::Null, 42205).await;
    let fixed = Server::with(Options { mode_mutability: false, ..Options::default() }).await;
    assert_eq!(fixed.fails("PUT", "/mode", json!({"mode": "READONLY"}), 42205).await, "Mode changes are not allowed");
}

#[tokio::test]
async fn import_mode_takes_ids_and_versions_as_given() {
    let server = Server::start().await;
    let (one, two) = (record("A", &[("a", "int")]), record("A", &[("a", "string")]));
    server.register("s", &one).await;
    let with_id = |schema: &str, id: i32, version: i32| json!({"schema": schema, "id": id, "version": version});
    let message = server.fails("POST", "/subjects/s/versions", with_id(&two, 9, 2), 42205).await;
    assert_eq!(message, "Subject s in context . is not in import mode");
    let message = server.fails("PUT", "/mode/s", json!({"mode": "IMPORT"}), 42205).await;
    assert_eq!(message, "Cannot import since found existing subjects");
    server.delete("/subjects/s").await;
    server.ok("PUT", "/mode/s", json!({"mode": "IMPORT"})).await;
    assert_eq!(server.get("/subjects?deleted=true").await, json!([]));
    server.fails("POST", "/subjects/s/versions", json!({"schema": one}), 42205).await;
    for (schema, id, version) in [(&one, 10, 1), (&one, 10, 2), (&one, 10, 1), (&two, 12, 7)] {
        let answer = server.ok("POST", "/subjects/s/versions", with_id(schema, id, version)).await;
        assert_eq!((&answer["id"], &answer["version"]), (&json!(id), &json!(version)));
    }
    let message = server.fails("POST", "/subjects/s/versions", with_id(&two, 10, 3), 42205).await;
    assert_eq!(message, "Overwrite new schema with id 10 in context . is not permitted.");
    server.fails("POST", "/subjects/s/versions", with_id(&record("B", &[]), 13, 1), 42207).await;
    server.ok("PUT", "/mode/s", json!({"mode": "READWRITE"})).await;
    assert_eq!(server.register("t", &record("C", &[])).await["id"], 13);
    server.ok("PUT", "/mode/t?force=true", json!({"mode": "IMPORT"})).await;
}
