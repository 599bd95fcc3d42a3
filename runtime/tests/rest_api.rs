//! The worker's REST API: shapes, codes and states, through a real worker.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Consumer, Towline, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_lives_through_all_its_states() {
    let towline = Towline::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.txt");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let (_, root) = towline.rest(Method::GET, "/", None).await;
    assert!(root["version"].is_string() && root["commit"].is_string() && root["kafka_cluster_id"].is_string());
    let config = json!({
        "connector.class": "FileStreamSource", "file": file, "topic": "lines", "tasks.max": 1,
        "value.converter": "org.apache.kafka.connect.storage.StringConverter"
    });
    let made = towline.create("lines", config.clone()).await;
    let keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name", "config", "tasks", "type"]);
    let lines = Consumer::of(&towline.kafka, "lines");
    assert_eq!(
        lines.take(2).into_iter().map(|r| r.value.unwrap()).collect::<Vec<_>>(),
        [b"one".to_vec(), b"two".to_vec()]
    );

    let (status, again) =
        towline.rest(Method::POST, "/connectors", Some(&json!({"name": "lines", "config": config}))).await;
    assert_eq!((status, again["message"].as_str()), (StatusCode::CONFLICT, Some("Connector lines already exists")));
    let (status, _) = towline.rest(Method::PUT, "/connectors/lines/config", Some(&config)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, patched) = towline
        .rest(Method::PATCH, "/connectors/lines/config", Some(&json!({"batch.size": 10, "tasks.max": null})))
        .await;
    assert_eq!((status, patched["config"]["batch.size"].as_str()), (StatusCode::OK, Some("10")));
    assert!(patched["config"].get("tasks.max").is_none());

    let (_, tasks) = towline.rest(Method::GET, "/connectors/lines/tasks", None).await;
    assert_eq!(tasks[0]["id"], json!({"connector": "lines", "task": 0}));
    let (_, topics) = towline.rest(Method::GET, "/connectors/lines/topics", None).await;
    assert_eq!(topics, json!({"lines": {"topics": ["lines"]}}));
    let status = towline.task_in_state("lines", "RUNNING").await;
    assert!(status.get("trace").is_none());

    let state = async |wanted: &str| {
        eventually(&format!("state {wanted}"), || async {
            (towline.status("lines").await["connector"]["state"] == wanted).then_some(())
        })
        .await;
    };
    let (status, _) = towline.rest(Method::PUT, "/connectors/lines/pause", None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    state("PAUSED").await;
    towline.task_in_state("lines", "PAUSED").await;
    let (status, refused) = towline.rest(Method::DELETE, "/connectors/lines/offsets", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["message"].as_str().unwrap().contains("must be in the STOPPED state"));
    let (status, _) = towline.rest(Method::PUT, "/connectors/lines/resume", None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    towline.task_in_state("lines", "RUNNING").await;
    state("RUNNING").await;

    let (status, _) = towline.rest(Method::PUT, "/connectors/lines/stop", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    state("STOPPED").await;
    eventually("no tasks", || async { (towline.status("lines").await["tasks"] == json!([])).then_some(()) }).await;
    let (_, offsets) = towline.rest(Method::GET, "/connectors/lines/offsets", None).await;
    let expected = json!({"offsets": [{"partition": {"filename": file}, "offset": {"position": 8}}]});
    assert_eq!(offsets, expected);
    let rewind = json!({"offsets": [{"partition": {"filename": file}, "offset": {"position": 4}}]});
    let (status, done) = towline.rest(Method::PATCH, "/connectors/lines/offsets", Some(&rewind)).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let (_, _) = towline.rest(Method::PUT, "/connectors/lines/resume", None).await;
    assert_eq!(lines.take(1)[0].value.as_deref(), Some(&b"two"[..]), "read again from the altered offset");

    let (status, _) = towline.rest(Method::POST, "/connectors/lines/restart", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = towline.rest(Method::POST, "/connectors/lines/tasks/0/restart", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = towline.rest(Method::POST, "/connectors/lines/tasks/7/restart", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (_, expanded) = towline.rest(Method::GET, "/connectors?expand=status&expand=info", None).await;
    assert_eq!(expanded["lines"]["info"]["type"], "source");
    assert_eq!(expanded["lines"]["status"]["name"], "lines");
    let (status, _) = towline.rest(Method::DELETE, "/connectors/lines", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (_, all) = towline.rest(Method::GET, "/connectors", None).await;
    assert_eq!(all, json!([]));
    let (status, _) = towline.rest(Method::GET, "/connectors/lines/status", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_made_stopped_has_no_tasks_until_it_is_resumed() {
    let towline = Towline::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({"connector.class": "FileStreamSource", "file": file.path(), "topic": "t"});
    let body = json!({"name": "later", "config": config, "initial_state": "STOPPED"});
    let (status, _) = towline.rest(Method::POST, "/connectors", Some(&body)).await;
    assert_eq!(status, StatusCode::CREATED);
    eventually("state STOPPED", || async {
        (towline.status("later").await["connector"]["state"] == "STOPPED").then_some(())
    })
    .await;
    assert_eq!(towline.status("later").await["tasks"], json!([]));
    towline.rest(Method::PUT, "/connectors/later/resume", None).await;
    towline.task_in_state("later", "RUNNING").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_listed_and_validated() {
    let towline = Towline::start().await;
    let (_, plugins) = towline.rest(Method::GET, "/connector-plugins", None).await;
    let classes: Vec<&str> = plugins.as_array().unwrap().iter().map(|p| p["class"].as_str().unwrap()).collect();
    for class in ["io.confluent.connect.jdbc.JdbcSinkConnector", "io.confluent.connect.jdbc.JdbcSourceConnector"] {
        assert!(classes.contains(&class), "{classes:?}");
    }
    let (_, all) = towline.rest(Method::GET, "/connector-plugins?connectorsOnly=false", None).await;
    let all = all.to_string();
    for class in ["JsonConverter", "AvroConverter", "TimestampConverter$Value", "RegexRouter", "TopicNameMatches"] {
        assert!(all.contains(class), "{class}");
    }
    let config = json!({
        "connector.class": "JdbcSourceConnector", "mode": "sideways", "transaction.boundary": "connector"
    });
    let (status, report) =
        towline.rest(Method::PUT, "/connector-plugins/JdbcSourceConnector/config/validate", Some(&config)).await;
    assert_eq!(status, StatusCode::OK);
    let errors = |name: &str| {
        let configs = report["configs"].as_array().unwrap();
        configs.iter().find(|c| c["value"]["name"] == name).unwrap()["value"]["errors"].to_string()
    };
    assert!(errors("mode").contains("Invalid value sideways for configuration mode"), "{}", errors("mode"));
    assert!(errors("transaction.boundary").contains("does not support connector-defined transaction boundaries"));
    assert!(errors("name").contains("Missing required configuration \\\"name\\\" which has no default value."));
    assert_eq!(report["groups"][0], "Common");
    let (status, _) =
        towline.rest(Method::PUT, "/connector-plugins/JdbcSinkConnector/config/validate", Some(&config)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
