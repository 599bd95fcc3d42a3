//! Bad input: each gets an error that says what happened and what to do; nothing is lost, nothing panics.

use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Consumer, Postgres, Towline, eventually, produce};

fn message(body: &Value) -> String {
    body["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_in_connects_words() {
    let towline = Towline::start().await;
    let url = format!("http://{}/connectors", towline.connect);
    let post = async |body: &str| towline.request(Method::POST, &url, Some(body.to_owned())).await;

    let (status, body) = post("{not json").await;
    assert_eq!((status, body["error_code"].as_i64()), (StatusCode::INTERNAL_SERVER_ERROR, Some(500)));
    let (status, body) = post(r#"{"name":"x","config":{"connector.class":"no.such.Class"}}"#).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        message(&body)
            .starts_with("Failed to find any class that implements Connector and which name matches no.such.Class")
    );
    let (status, body) = post(r#"{"name":"x","config":{"topics":"t"}}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&body).contains("contains no connector type"), "{body}");
    let (status, body) = post(r#"{"name":"x","config":{"connector.class":"JdbcSinkConnector","topics":"t"}}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message(&body).starts_with("Connector configuration is invalid and contains the following"), "{body}");
    assert!(message(&body).contains("connection.url"), "{body}");
    assert!(message(&body).ends_with("You can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`"));
    let (status, body) =
        post(r#"{"name":"x","config":{"connector.class":"JdbcSinkConnector","topics":"t","a":{"b":1}}}"#).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(message(&body).contains("Cannot deserialize value"), "{body}");
    let (status, body) = post(r#"{"name":"x","config":{"connector.class":"JdbcSourceConnector","name":"y"}}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(message(&body), "Connector name configuration (y) doesn't match connector name in the URL (x)");
    let (status, body) = towline.rest(Method::GET, "/connectors/none", None).await;
    assert_eq!((status, message(&body).as_str()), (StatusCode::NOT_FOUND, "Connector none not found"));
    let (status, body) = towline.rest(Method::GET, "/nowhere", None).await;
    assert_eq!((status, message(&body).as_str()), (StatusCode::NOT_FOUND, "HTTP 404 Not Found"));
    let (status, _) = towline.rest(Method::DELETE, "/connectors", None).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_urls_and_passwords_are_told_before_a_connector_is_made() {
    let server = Postgres::start().await;
    server.database("db").await;
    let towline = Towline::start().await;
    let attempt = async |url: &str, password: &str| {
        let config = json!({
            "connector.class": "JdbcSourceConnector", "connection.url": url, "connection.user": "tester",
            "connection.password": password, "mode": "bulk", "topic.prefix": "x-", "table.whitelist": "t",
            "connection.attempts": 1, "connection.backoff.ms": 10
        });
        let (status, body) =
            towline.rest(Method::POST, "/connectors", Some(&json!({"name": "bad", "config": config}))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!message(&body).contains("wrong-secret"), "{body}");
        message(&body)
    };
    let text = attempt("jdbc:postgres://h/db", "x").await;
    assert!(text.contains("jdbc:postgresql://"), "{text}");
    let text = attempt(&server.jdbc("db"), "wrong-secret").await;
    assert!(text.contains("password"), "{text}");
    let text = attempt(&server.jdbc("nosuchdb"), "tester-secret").await;
    assert!(text.contains("nosuchdb"), "{text}");
    assert!(towline.rest(Method::GET, "/connectors", None).await.1 == json!([]));
}

async fn sink(server: &Postgres, extra: Value) -> Value {
    let mut config = json!({
        "connector.class": "JdbcSinkConnector", "connection.url": server.jdbc("target"), "connection.user": "tester",
        "connection.password": "tester-secret", "table.name.format": "t", "max.retries": 1, "retry.backoff.ms": 20
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn envelope(id: i64, text: &str) -> String {
    json!({
        "schema": {"type": "struct", "optional": false, "fields": [
            {"type": "int64", "optional": false, "field": "id"}, {"type": "string", "optional": true, "field": "note"}
        ]},
        "payload": {"id": id, "note": text}
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_fails_the_task_naming_its_place_or_goes_to_the_dead_letters() {
    let server = Postgres::start().await;
    let db = server.database("target").await;
    sqlx::raw_sql("create table t (id bigint primary key, note varchar(5) check (note <> 'evil'))")
        .execute(&db)
        .await
        .unwrap();
    let towline = Towline::start().await;
    let ids = async || -> Vec<i64> { sqlx::query_scalar("select id from t order by id").fetch_all(&db).await.unwrap() };

    // Not JSON at all: the converter fails.
    produce(&towline.kafka, "poison", None, Some(envelope(1, "a").as_bytes()));
    produce(&towline.kafka, "poison", None, Some(b"{not json"));
    produce(&towline.kafka, "poison", None, Some(envelope(2, "b").as_bytes()));
    towline.create("strict", sink(&server, json!({"topics": "poison"})).await).await;
    let failed = towline.task_in_state("strict", "FAILED").await;
    let trace = failed["trace"].as_str().unwrap();
    assert!(trace.contains("Tolerance exceeded in error handler") && trace.contains("poison-0@1"), "{trace}");
    assert!(trace.contains("Caused by:"), "{trace}");
    towline.rest(Method::DELETE, "/connectors/strict", None).await;

    // The same with a dead letter queue, and rows that the target refuses.
    produce(&towline.kafka, "poison", None, Some(envelope(3, "too long").as_bytes()));
    produce(&towline.kafka, "poison", None, Some(envelope(4, "evil").as_bytes()));
    produce(&towline.kafka, "poison", None, Some(envelope(5, "c").as_bytes()));
    let tolerant = json!({
        "topics": "poison", "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dead",
        "errors.deadletterqueue.topic.replication.factor": 1, "errors.deadletterqueue.context.headers.enable": true
    });
    towline.create("tolerant", sink(&server, tolerant).await).await;
    eventually("the good rows", || async { (ids().await == [1, 2, 5]).then_some(()) }).await;
    let dead = Consumer::of(&towline.kafka, "dead").take(3);
    let names: Vec<&str> = dead[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "topic",
        "partition",
        "offset",
        "connector.name",
        "task.id",
        "stage",
        "class.name",
        "exception.class.name",
        "exception.message",
        "exception.stacktrace",
    ];
    assert_eq!(names, expected.map(|name| format!("__connect.errors.{name}")));
    assert_eq!(dead[0].value.as_deref(), Some(&b"{not json"[..]));
    let header = |index: usize, name: &str| {
        let found = dead[index].headers.iter().find(|(n, _)| n == &format!("__connect.errors.{name}")).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    };
    let mut offsets: Vec<String> = (0..3).map(|index| header(index, "offset")).collect();
    offsets.sort();
    assert_eq!(offsets, ["1", "3", "4"]);
    assert_eq!(header(0, "stage"), "VALUE_CONVERTER");
    assert_eq!(header(1, "stage"), "TASK_PUT");
    assert_eq!(towline.task_in_state("tolerant", "RUNNING").await["state"], "RUNNING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_named_and_picked_up_after_a_restart() {
    let server = Postgres::start().await;
    let db = server.database("target").await;
    let towline = Towline::start().await;
    produce(&towline.kafka, "rows", None, Some(envelope(1, "a").as_bytes()));
    towline.create("snk", sink(&server, json!({"topics": "rows"})).await).await;
    let failed = towline.task_in_state("snk", "FAILED").await;
    let trace = failed["trace"].as_str().unwrap();
    assert!(trace.contains("missing and auto-creation is disabled"), "{trace}");
    sqlx::raw_sql("create table t (id bigint primary key, note text)").execute(&db).await.unwrap();
    let (status, body) =
        towline.rest(Method::POST, "/connectors/snk/restart?includeTasks=true&onlyFailed=true", None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(body["tasks"][0]["state"], "RESTARTING");
    eventually("the row", || async {
        (sqlx::query_scalar::<_, i64>("select count(*) from t").fetch_one(&db).await.unwrap() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_by_the_port_and_by_the_folder() {
    let towline = Towline::start().await;
    let output = towline.command().stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another program has this port") && text.contains("HOST:PORT"), "{text}");

    let mut other = std::process::Command::new(env!("CARGO_BIN_EXE_towline"));
    other.arg("up").arg("--data-dir").arg(towline.data_dir());
    other.args([
        "--kafka",
        "127.0.0.1:0",
        "--registry",
        "127.0.0.1:0",
        "--connect",
        "127.0.0.1:0",
        "--ui",
        "127.0.0.1:0",
    ]);
    let output = other.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(text.contains("lock") || text.contains("in use"), "{text}");

    let mut nowhere = std::process::Command::new(env!("CARGO_BIN_EXE_towline"));
    nowhere.args(["up", "--data-dir", "/proc/towline", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"]);
    let output =
        nowhere.args(["--connect", "127.0.0.1:0", "--ui", "127.0.0.1:0"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/proc/towline"), "{text}");
}
