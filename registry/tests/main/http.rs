//! Registering, reading, looking up and comparing over HTTP.

use serde_json::{Value, json};
use towline_registry::Options;

use crate::server::{Server, record};

const A: &str = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"string"}]}"#;

#[tokio::test]
async fn registering_answers_as_confluent_8_does() {
    let server = Server::start().await;
    let first = server.register("t-value", A).await;
    assert_eq!(first["id"], 1);
    assert_eq!(first["version"], 1);
    assert_eq!(first["schemaType"], "AVRO");
    assert_eq!(first["schema"], A);
    assert_eq!(first["guid"].as_str().unwrap().len(), 36);
    assert_eq!(server.register("t-value", &format!(" {A} ")).await, first);
    assert_eq!(server.register("u-value", A).await, first);

    let latest = server.get("/subjects/t-value/versions/latest").await;
    assert_eq!(latest["subject"], "t-value");
    assert_eq!(latest["deleted"], false);
    assert_eq!(server.get("/subjects/t-value/versions/-1").await, latest);
    assert_eq!(server.get("/subjects/t-value/versions/1").await, latest);
    let by_id = server.get("/schemas/ids/1?fetchMaxId=true").await;
    assert_eq!((&by_id["schema"], &by_id["maxId"]), (&json!(A), &json!(1)));
    assert_eq!(server.get("/schemas/ids/1/subjects").await, json!(["t-value", "u-value"]));
    assert_eq!(
        server.get("/schemas/ids/1/versions").await,
        json!([{"subject": "t-value", "version": 1}, {"subject": "u-value", "version": 1}])
    );
    assert_eq!(server.get("/schemas/ids/1/schema").await.to_string(), A);
    assert_eq!(server.get("/subjects/t-value/versions/1/schema").await.to_string(), A);
    let guid = first["guid"].as_str().unwrap();
    assert_eq!(server.get(&format!("/schemas/guids/{guid}")).await["schema"], A);
    assert_eq!(server.get(&format!("/schemas/guids/{guid}/ids")).await, json!([{"context": ".", "id": 1}]));
    assert_eq!(server.get("/subjects").await, json!(["t-value", "u-value"]));
    assert_eq!(server.get("/subjects?subjectPrefix=u").await, json!(["u-value"]));
    assert_eq!(server.get("/schemas?latestOnly=true&limit=1").await.as_array().unwrap().len(), 1);
    assert_eq!(server.get("/subjects/t-value/versions").await, json!([1]));
}

#[tokio::test]
async fn the_cp7_profile_leaves_newer_members_out() {
    let server = Server::cp7().await;
    assert_eq!(server.register("t", A).await, json!({"id": 1}));
    let latest = server.get("/subjects/t/versions/latest").await;
    assert_eq!(latest, json!({"subject": "t", "version": 1, "id": 1, "schema": A}));
    assert_eq!(server.get("/schemas/ids/1").await, json!({"schema": A}));
    server.fails("GET", "/schemas/guids/x", Value::Null, 404).await;
    let bad = json!({"schema": record("A", &[("a", "int")])});
    let (status, answer) = server.call("POST", "/subjects/t/versions", bad).await;
    assert_eq!((status, &answer["error_code"]), (409, &json!(409)));
    assert_eq!(server.ok("PUT", "/config", json!({"compatibility": "full"})).await, json!({"compatibility": "full"}));
    let value = server.log.records()[0].1.clone().unwrap();
    assert!(!String::from_utf8_lossy(&value).contains("schemaType"));
}

#[tokio::test]
async fn incompatible_schemas_are_refused_with_confluents_texts() {
    let server = Server::start().await;
    server.register("t-value", A).await;
    let worse = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"int"},{"name":"b","type":"long"}]}"#;
    let body = json!({"schema": worse});
    let expected = [
        "{errorType:'TYPE_MISMATCH', description:'The type (path '/fields/0/type') of a field in the new schema does not match with the old schema', additionalInfo:'reader type: INT not compatible with writer type: STRING'}".to_owned(),
        "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at path '/fields/1' in the new schema has no default value and is missing in the old schema', additionalInfo:'b'}".to_owned(),
        "{oldSchemaVersion: 1}".to_owned(),
        format!("{{oldSchema: '{A}'}}"),
        "{validateFields: 'false', compatibility: 'BACKWARD'}".to_owned(),
    ];
    let path = "/compatibility/subjects/t-value/versions";
    for path in
        [format!("{path}/latest?verbose=true"), format!("{path}/1?verbose=true"), format!("{path}?verbose=true")]
    {
        let answer = server.ok("POST", &path, body.clone()).await;
        assert_eq!(answer, json!({"is_compatible": false, "messages": expected}));
    }
    assert_eq!(server.ok("POST", &format!("{path}/1"), body.clone()).await, json!({"is_compatible": false}));
    let message = server.fails("POST", "/subjects/t-value/versions", body.clone(), 40901).await;
    let details = expected.join(", ");
    assert_eq!(
        message,
        format!(
            "Schema being registered is incompatible with an earlier schema for subject \"t-value\", details: [{details}]"
        )
    );
    server.ok("POST", "/subjects/t-value/versions?force=true", body.clone()).await;

    let unknown = server.ok("POST", "/compatibility/subjects/none/versions/latest?verbose=true", body.clone()).await;
    assert_eq!(unknown, json!({"is_compatible": true, "messages": []}));
    server.fails("POST", "/compatibility/subjects/t-value/versions/9", body.clone(), 40402).await;
    server.fails("POST", "/compatibility/subjects/t-value/versions/zero", body, 42202).await;
    server.fails("POST", &format!("{path}/1"), json!({"schema": "{"}), 42201).await;
    let verbose = server.ok("POST", &format!("{path}/1?verbose=true"), json!({"schema": "{"})).await;
    assert!(verbose["messages"][0].as_str().unwrap().starts_with("Invalid schema"), "{verbose}");
}

#[tokio::test]
async fn each_level_looks_at_its_versions_and_direction() {
    let optional = |fields: &[&str]| {
        let fields: Vec<Value> = fields.iter().map(|name| json!({"name": name, "type": "int", "default": 0})).collect();
        json!({"type": "record", "name": "A", "fields": fields}).to_string()
    };
    let required = record("A", &[("x", "int")]);
    // (level, versions, new, accepted)
    let cases = [
        ("NONE", vec![required.clone()], "\"int\"".to_owned(), true),
        ("BACKWARD", vec![optional(&["x"]), optional(&[])], required.clone(), false),
        ("BACKWARD", vec![optional(&[]), optional(&["x"])], required.clone(), true),
        ("BACKWARD_TRANSITIVE", vec![optional(&[]), optional(&["x"])], required.clone(), false),
        ("FORWARD", vec![required.clone(), optional(&["x"])], optional(&[]), true),
        ("FORWARD_TRANSITIVE", vec![required.clone(), optional(&["x"])], optional(&[]), false),
        ("FULL", vec![required.clone()], optional(&[]), false),
        ("FULL", vec![optional(&["x"])], optional(&["x", "y"]), true),
        ("FULL_TRANSITIVE", vec![required.clone(), optional(&["x"])], optional(&[]), false),
        ("FULL_TRANSITIVE", vec![optional(&[]), optional(&["x"])], optional(&["y"]), true),
    ];
    for (level, versions, new, accepted) in cases {
        let server = Server::start().await;
        server.set_level("", "NONE").await;
        for version in &versions {
            server.register("s", version).await;
        }
        server.set_level("/s", level).await;
        let (status, answer) = server.call("POST", "/subjects/s/versions", json!({"schema": new})).await;
        assert_eq!(status, if accepted { 200 } else { 409 }, "{level} {versions:?} {new}: {answer}");
    }
}

#[tokio::test]
async fn looking_up_finds_only_what_the_subject_holds() {
    let server = Server::start().await;
    server.register("s", A).await;
    let found = server.ok("POST", "/subjects/s", json!({"schema": A})).await;
    assert_eq!((&found["id"], &found["version"], &found["subject"]), (&json!(1), &json!(1), &json!("s")));
    assert_eq!(server.fails("POST", "/subjects/x", json!({"schema": A}), 40401).await, "Subject 'x' not found.");
    assert_eq!(server.fails("POST", "/subjects/s", json!({"schema": "\"int\""}), 40403).await, "Schema not found");
    let message = server.fails("POST", "/subjects/s", json!({"schema": "nonsense"}), 42201).await;
    assert!(message.contains("Invalid schema"));
}

#[tokio::test]
async fn unknown_things_have_their_codes() {
    let server = Server::start().await;
    server.register("s", A).await;
    assert_eq!(server.fails("GET", "/schemas/ids/9", Value::Null, 40403).await, "Schema 9 not found");
    assert_eq!(server.fails("GET", "/schemas/ids/9/versions", Value::Null, 40403).await, "Schema not found");
    server.fails("GET", "/schemas/ids/9/schema", Value::Null, 40403).await;
    server.fails("GET", "/schemas/guids/not-a-guid", Value::Null, 40403).await;
    server.fails("GET", "/subjects/x/versions", Value::Null, 40401).await;
    server.fails("GET", "/subjects/x/versions/1", Value::Null, 40401).await;
    assert_eq!(server.fails("GET", "/subjects/s/versions/2", Value::Null, 40402).await, "Version 2 not found.");
    for version in ["0", "-2", "earliest", "2147483648"] {
        server.fails("GET", &format!("/subjects/s/versions/{version}"), Value::Null, 42202).await;
    }
    assert_eq!(server.fails("GET", "/nowhere", Value::Null, 404).await, "HTTP 404 Not Found");
    assert_eq!(server.fails("PATCH", "/subjects", Value::Null, 405).await, "HTTP 405 Method Not Allowed");
    let request = server.request("GET", "/subjects").header("Accept", "text/html");
    assert_eq!(request.send().await.unwrap().status(), 406);
    let request = server.request("POST", "/subjects/s").header("Content-Type", "text/plain").body("{}");
    assert_eq!(request.send().await.unwrap().status(), 415);
    let request = server.request("POST", "/subjects/s").header("Content-Type", "application/json").body("{");
    assert_eq!(request.send().await.unwrap().status(), 400);
    server.fails("POST", "/subjects/s", Value::Null, 422).await;
}

#[tokio::test]
async fn invalid_schemas_and_subjects_are_refused() {
    let server = Server::start().await;
    let path = "/subjects/s/versions";
    assert_eq!(server.fails("POST", path, json!({"schema": ""}), 42201).await, "Empty schema");
    let bad_default =
        json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": "int", "default": "x"}]}).to_string();
    let message = server.fails("POST", path, json!({"schema": bad_default}), 42201).await;
    assert!(message.starts_with("Invalid schema {subject=s"), "{message}");
    assert!(message.ends_with("Invalid default for field a: \"x\" not a \"int\""), "{message}");
    server.fails("POST", path, json!({"schema": record("bad-name", &[])}), 42201).await;
    let message = server.fails("POST", path, json!({"schema": "{}", "schemaType": "JSON"}), 42201).await;
    assert!(message.contains("not supported yet"), "{message}");
    server.fails("POST", "/subjects/__GLOBAL/versions", json!({"schema": A}), 42208).await;
    server.fails("POST", "/subjects/a%01b/versions", json!({"schema": A}), 42208).await;
    let rules = json!({"domainRules": [{"name": "r", "type": "CEL"}, {"name": "r", "type": "CEL"}]});
    let message = server.fails("POST", path, json!({"schema": A, "ruleSet": rules}), 42210).await;
    assert_eq!(message, "Found rule with duplicate name 'r'");
    server.ok("PUT", "/config/s", json!({"validateNewSchemas": false})).await;
    server.register("s", &bad_default).await;
    let nested = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(5000), "}".repeat(5000));
    server.fails("POST", path, json!({"schema": nested}), 42201).await;
}

#[tokio::test]
async fn normalized_schemas_are_stored_normalized() {
    let server = Server::start().await;
    let messy =
        r#"{"type":"record","name":"A","doc":"","fields":[{"name":"a","type":"float","default":1}],"z":1,"b":2}"#;
    let tidy = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"float","default":1.0}],"b":2,"z":1}"#;
    let answer = server.ok("POST", "/subjects/s/versions?normalize=true", json!({"schema": messy})).await;
    assert_eq!(answer["schema"], tidy);
    let found = server.ok("POST", "/subjects/s?normalize=true", json!({"schema": messy})).await;
    assert_eq!(found["version"], 1);
    server.ok("PUT", "/config/t", json!({"normalize": true})).await;
    assert_eq!(server.register("t", messy).await["schema"], tidy);
}

#[tokio::test]
async fn metadata_and_rules_make_versions_of_their_own() {
    let server = Server::start().await;
    server.register("s", A).await;
    let with = json!({"schema": A, "metadata": {"properties": {"owner": "x"}}, "ruleSet": {"domainRules": [
        {"name": "r", "kind": "CONDITION", "mode": "WRITE", "type": "CEL", "expr": "true"}]}});
    let second = server.ok("POST", "/subjects/s/versions", with.clone()).await;
    assert_eq!((&second["id"], &second["version"]), (&json!(2), &json!(2)));
    assert_eq!(second["metadata"], with["metadata"]);
    assert_eq!(second["ruleSet"]["domainRules"][0]["expr"], "true");
    let copied = server.ok("POST", "/subjects/s/versions", json!({"schema": ""})).await;
    assert_eq!(copied["id"], 2);
    let found = server.get("/subjects/s/metadata?key=owner&value=x").await;
    assert_eq!(found["version"], 2);
    server.fails("GET", "/subjects/s/metadata?key=owner&value=y", Value::Null, 40403).await;
    server.fails("GET", "/subjects/x/metadata", Value::Null, 40401).await;
    let message = server.fails("POST", "/subjects/s/versions", json!({"schema": "\"int\"", "version": 9}), 42201).await;
    assert_eq!(message, "Version is not one more than previous version");
    let third = server.ok("POST", "/subjects/s/versions", json!({"schema": A, "version": 3})).await;
    assert_eq!(third["metadata"]["properties"]["confluent:version"], "3");
    let again = server.ok("POST", "/subjects/s/versions", json!({"schema": A, "version": -1})).await;
    assert_eq!(again["version"], 3);
}

#[tokio::test]
async fn references_are_resolved_and_guarded() {
    let server = Server::start().await;
    let inner = r#"{"type":"record","name":"In","namespace":"n","fields":[{"name":"x","type":"int"}]}"#;
    let outer = r#"{"type":"record","name":"Out","namespace":"n","fields":[{"name":"in","type":"In"}]}"#;
    server.register("inner", inner).await;
    let reference = json!([{"name": "n.In", "subject": "inner", "version": -1}]);
    let request = json!({"schema": outer, "references": reference});
    server.fails("POST", "/subjects/outer/versions", json!({"schema": outer}), 42201).await;
    let stored = server.ok("POST", "/subjects/outer/versions", request.clone()).await;
    assert_eq!(stored["schema"], outer);
    assert_eq!(stored["references"], json!([{"name": "n.In", "subject": "inner", "version": 1}]));
    let inlined = server.get("/subjects/outer/versions/1?format=resolved").await["schema"].clone();
    assert!(inlined.as_str().unwrap().contains("\"fields\":[{\"name\":\"x\""), "{inlined}");
    let found = server.ok("POST", "/subjects/outer", json!({"schema": inlined})).await;
    assert_eq!(found["version"], 1);
    assert_eq!(server.register("outer", inlined.as_str().unwrap()).await["version"], 1);
    assert_eq!(server.get("/subjects/inner/versions/1/referencedby").await, json!([2]));

    let message = server.fails("DELETE", "/subjects/inner/versions/1", Value::Null, 42206).await;
    assert_eq!(message, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=inner,version=1}.");
    server.fails("DELETE", "/subjects/inner", Value::Null, 42206).await;
    server.delete("/subjects/outer").await;
    server.delete("/subjects/inner/versions/1").await;
    server.fails("DELETE", "/subjects/inner/versions/1?permanent=true", Value::Null, 42206).await;
    let message = server.fails("POST", "/subjects/again/versions", request.clone(), 42201).await;
    assert!(message.contains("No schema reference found for subject \"inner\" and version -1"), "{message}");
    assert_eq!(server.ok("POST", "/subjects/outer?deleted=true", json!({"schema": inlined})).await["version"], 1);
    server.delete("/subjects/outer?permanent=true").await;
    server.delete("/subjects/inner/versions/1?permanent=true").await;
    let bad = json!({"schema": outer, "references": [{"name": "", "subject": "inner", "version": 1}]});
    assert!(server.fails("POST", "/subjects/o/versions", bad, 42201).await.contains("Invalid reference"));
}

#[tokio::test]
async fn concurrent_registrations_agree() {
    let server = Server::start().await;
    let same = (0..20).map(|_| server.register("same", A));
    let answers = futures_join(same).await;
    assert!(answers.iter().all(|answer| answer["id"] == 1 && answer["version"] == 1));
    server.set_level("", "NONE").await;
    let texts: Vec<String> = (0..20).map(|i| record("A", &[(&format!("f{i}"), "int")])).collect();
    let answers = futures_join(texts.iter().map(|text| server.register("many", text))).await;
    let mut ids: Vec<u64> = answers.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..22).collect::<Vec<_>>());
}

async fn futures_join<F: Future<Output = Value>>(futures: impl Iterator<Item = F>) -> Vec<Value> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<Value>> = vec![None; pending.len()];
    std::future::poll_fn(|context| {
        for (future, done) in pending.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn server_facts_and_headers_are_served() {
    let headers = vec![("X-Frame-Options".to_owned(), "DENY".to_owned())];
    let options = Options { response_headers: headers, reject_empty_subject: true, ..Options::default() };
    let server = Server::with(options).await;
    assert_eq!(server.get("/").await, json!({}));
    assert_eq!(server.get("/schemas/types").await, json!(["JSON", "PROTOBUF", "AVRO"]));
    assert_eq!(server.get("/master_available").await, json!({"master_available": true}));
    assert_eq!(server.get("/v1/metadata/id").await["scope"]["clusters"]["schema-registry-cluster"], "schema-registry");
    assert!(server.get("/v1/metadata/version").await["version"].is_string());
    assert_eq!(server.get("/v1/metadata/deployment").await, json!({}));
    let response = server.request("GET", "/").send().await.unwrap();
    assert_eq!(response.headers()["X-Frame-Options"], "DENY");
    assert_eq!(response.headers()["Content-Type"], "application/vnd.schemaregistry.v1+json");
    let response = server.request("GET", "/").header("Accept", "application/json").send().await.unwrap();
    assert_eq!(response.headers()["Content-Type"], "application/json");
    server.fails("POST", "/subjects//versions", json!({"schema": A}), 42208).await;
}

#[tokio::test]
async fn a_failing_log_is_a_store_error() {
    let server = Server::start().await;
    server.log.set_failing(true);
    let message = server.fails("POST", "/subjects/s/versions", json!({"schema": A}), 50001).await;
    assert_eq!(message, "Register schema operation failed while writing to the Kafka store");
    server.log.set_failing(false);
    assert_eq!(server.register("s", A).await["id"], 1);
}
