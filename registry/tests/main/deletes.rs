//! Soft and permanent deletion.

use serde_json::{Value, json};

use crate::server::{Server, record};

#[tokio::test]
async fn versions_are_deleted_softly_then_for_good() {
    let server = Server::start().await;
    server.set_level("", "NONE").await;
    let (one, two) = (record("A", &[("a", "int")]), record("A", &[("b", "int")]));
    server.register("s", &one).await;
    server.register("s", &two).await;
    let early = server.fails("DELETE", "/subjects/s/versions/1?permanent=true", Value::Null, 40407).await;
    assert_eq!(early, "Subject 's' Version 1 was not deleted first before being permanently deleted");
    assert_eq!(server.delete("/subjects/s/versions/latest").await, json!(2));
    assert_eq!(server.get("/subjects/s/versions/latest").await["version"], 1);
    let twice = server.fails("DELETE", "/subjects/s/versions/2", Value::Null, 40406).await;
    assert_eq!(twice, "Subject 's' Version 2 was soft deleted.Set permanent=true to delete permanently");
    server.fails("GET", "/subjects/s/versions/2", Value::Null, 40402).await;
    assert_eq!(server.get("/subjects/s/versions/2?deleted=true").await["deleted"], true);
    assert_eq!(server.get("/subjects/s/versions?deleted=true").await, json!([1, 2]));
    assert_eq!(server.get("/subjects/s/versions?deletedOnly=true").await, json!([2]));
    assert_eq!(server.get("/subjects/s/versions?deletedAsNegative=true").await, json!([1, -2]));
    assert_eq!(server.get("/schemas/ids/2").await["schema"], two);
    assert_eq!(server.delete("/subjects/s/versions/2?permanent=true").await, json!(2));
    server.fails("GET", "/schemas/ids/2", Value::Null, 40403).await;
    for (path, code) in [("s/versions/9", 40402), ("x/versions/1", 40401), ("s/versions/0", 42202)] {
        server.fails("DELETE", &format!("/subjects/{path}"), Value::Null, code).await;
    }
}

#[tokio::test]
async fn subjects_are_deleted_softly_then_for_good() {
    let server = Server::start().await;
    let schema = record("A", &[("a", "int")]);
    server.register("s", &schema).await;
    server.set_level("/s", "FULL").await;
    server.fails("DELETE", "/subjects/x", Value::Null, 40401).await;
    let early = server.fails("DELETE", "/subjects/s?permanent=true", Value::Null, 40405).await;
    assert_eq!(early, "Subject 's' was not deleted first before being permanently deleted");
    assert_eq!(server.delete("/subjects/s").await, json!([1]));
    let twice = server.fails("DELETE", "/subjects/s", Value::Null, 40404).await;
    assert_eq!(twice, "Subject 's' was soft deleted.Set permanent=true to delete permanently");
    server.fails("GET", "/subjects/s/versions", Value::Null, 40401).await;
    assert_eq!(server.get("/subjects").await, json!([]));
    assert_eq!(server.get("/subjects?deleted=true").await, json!(["s"]));
    assert_eq!(server.get("/subjects?deletedOnly=true").await, json!(["s"]));
    assert_eq!(server.get("/config/s").await, json!({"compatibilityLevel": "FULL"}));
    let other = json!({"schema": "\"int\""});
    let answer = server.ok("POST", "/compatibility/subjects/s/versions/latest", other).await;
    assert_eq!(answer["is_compatible"], true);
    assert_eq!(server.delete("/subjects/s?permanent=true").await, json!([1]));
    server.fails("DELETE", "/subjects/s", Value::Null, 40401).await;
    server.fails("GET", "/config/s", Value::Null, 40408).await;
    let again = server.register("s", &schema).await;
    assert_eq!((&again["version"], &again["id"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn reviving_a_deleted_schema_keeps_its_id_and_continues_the_numbers() {
    let server = Server::start().await;
    server.set_level("", "NONE").await;
    let (one, two) = (record("A", &[("a", "int")]), record("A", &[("b", "int")]));
    server.register("s", &one).await;
    server.register("s", &two).await;
    server.delete("/subjects/s").await;
    let (first, second) = (server.register("s", &one).await, server.register("s", &two).await);
    assert_eq!((&first["id"], &first["version"]), (&json!(1), &json!(3)));
    assert_eq!((&second["id"], &second["version"]), (&json!(2), &json!(4)));
    server.fails("GET", "/subjects/s/versions/1", Value::Null, 40402).await;
    assert_eq!(server.get("/subjects/s/versions?deleted=true").await, json!([3, 4]));
}
