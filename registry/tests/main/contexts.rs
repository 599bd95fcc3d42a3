//! Contexts have their own ids, settings and subjects.

use serde_json::{Value, json};

use crate::server::{Server, record};

#[tokio::test]
async fn contexts_number_their_schemas_separately() {
    let server = Server::start().await;
    let (one, two) = (record("A", &[("a", "int")]), record("B", &[("b", "int")]));
    server.register("s", &one).await;
    let answer = server.ok("POST", "/contexts/c/subjects/s/versions", json!({"schema": two})).await;
    assert_eq!(answer["id"], 1);
    assert_eq!(server.get("/contexts").await, json!([".", ".c"]));
    assert_eq!(server.get("/subjects/:.c:s/versions/1").await["subject"], ":.c:s");
    assert_eq!(server.get("/subjects").await, json!([":.c:s", "s"]));
    assert_eq!(server.get("/contexts/.c/subjects").await, json!([":.c:s"]));
    assert_eq!(server.get("/schemas/ids/1").await["schema"], one);
    assert_eq!(server.get("/contexts/c/schemas/ids/1").await["schema"], two);
    assert_eq!(server.get("/schemas/ids/1?subject=:.c:s").await["schema"], two);
    server.ok("POST", "/subjects/:.c:only/versions", json!({"schema": one})).await;
    assert_eq!(server.get("/subjects/only/versions/latest").await["subject"], ":.c:only");
    let records = server.log.records();
    assert!(
        records
            .iter()
            .any(|(key, _)| { &key[..] == br#"{"keytype":"CONTEXT","tenant":"default","context":".c","magic":0}"# })
    );
}

#[tokio::test]
async fn contexts_have_their_own_settings() {
    let server = Server::start().await;
    server.ok("PUT", "/contexts/c/config", json!({"compatibility": "NONE"})).await;
    assert_eq!(server.get("/config/:.c:").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(server.get("/config/:.c:s?defaultToGlobal=true").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(server.get("/config").await, json!({"compatibilityLevel": "BACKWARD"}));
    server.ok("PUT", "/contexts/c/mode", json!({"mode": "READONLY"})).await;
    let body = json!({"schema": "\"int\""});
    server.fails("POST", "/subjects/:.c:s/versions", body.clone(), 42205).await;
    server.ok("PUT", "/mode/:.c:s", json!({"mode": "READWRITE"})).await;
    server.ok("POST", "/subjects/:.c:s/versions", body).await;
    server.ok("DELETE", "/mode/:.c:?recursive=true", Value::Null).await;
    server.fails("GET", "/mode/:.c:s", Value::Null, 40409).await;
    server.fails("DELETE", "/contexts/c", Value::Null, 42211).await;
    server.delete("/subjects/:.c:s").await;
    server.delete("/subjects/:.c:s?permanent=true").await;
    let (status, _) = server.call("DELETE", "/contexts/c", Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(server.get("/contexts").await, json!(["."]));
    server.fails("GET", "/contexts/a:b/subjects", Value::Null, 400).await;
}
