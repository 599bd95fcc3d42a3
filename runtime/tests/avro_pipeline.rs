//! The pipeline with Avro values: schemas registered in the embedded registry, versions, refusals, and a table that
//! gains a column on the way.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Consumer, Postgres, Towline, eventually};

const AVRO: &str = "io.confluent.connect.avro.AvroConverter";

#[tokio::test(flavor = "multi_thread")]
async fn avro_values_have_registered_schemas_that_evolve() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql("create table people (id bigserial primary key, name text not null, born date, score numeric(8,2))")
        .execute(&source_db)
        .await
        .unwrap();
    let towline = Towline::start().await;
    let registry = format!("http://{}", towline.registry);
    towline
        .create(
            "src",
            json!({
                "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
                "connection.url": source.jdbc("source"), "connection.user": "tester",
                "connection.password": "tester-secret", "table.whitelist": "people", "topic.prefix": "avro-",
                "mode": "incrementing", "incrementing.column.name": "id", "poll.interval.ms": 50,
                "value.converter": AVRO, "value.converter.schema.registry.url": registry
            }),
        )
        .await;
    towline
        .create(
            "snk",
            json!({
                "connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector",
                "connection.url": target.jdbc("target"), "connection.user": "tester",
                "connection.password": "tester-secret", "table.name.format": "people", "topics": "avro-people",
                "auto.create": true, "auto.evolve": true, "insert.mode": "upsert", "pk.mode": "record_value",
                "pk.fields": "id", "value.converter": AVRO, "value.converter.schema.registry.url": registry
            }),
        )
        .await;
    sqlx::raw_sql("insert into people (name, born, score) values ('Ada', '1815-12-10', 1.5), ('김', null, -99999.99)")
        .execute(&source_db)
        .await
        .unwrap();
    let rows = async |columns: &str| -> Vec<String> {
        let sql = format!("select concat_ws('|', {columns}) from people order by id");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&target_db).await.unwrap_or_default()
    };
    let expected = vec!["1|Ada|1815-12-10|1.50".to_owned(), "2|김|-99999.99".to_owned()];
    eventually("both rows in the target", || async { (rows("id, name, born, score").await == expected).then_some(()) })
        .await;

    let (status, version) = towline.registry(Method::GET, "/subjects/avro-people-value/versions/1", None).await;
    assert_eq!(status, StatusCode::OK);
    let schema: Value = serde_json::from_str(version["schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["name"], "people");
    assert_eq!(schema["fields"][0], json!({"name": "id", "type": "long"}));
    let value = Consumer::of(&towline.kafka, "avro-people").take(1).remove(0).value.unwrap();
    assert_eq!(value[0], 0, "the magic byte");
    assert_eq!(Value::from(u32::from_be_bytes([value[1], value[2], value[3], value[4]])), version["id"]);

    // A column of another type is incompatible.
    let mut other = schema.clone();
    other["fields"][0]["type"] = "string".into();
    let body = json!({ "schema": other.to_string() });
    let (status, refusal) = towline.registry(Method::POST, "/subjects/avro-people-value/versions", Some(&body)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let reason = refusal["message"].as_str().unwrap();
    assert!(reason.contains("incompatible with an earlier schema") && reason.contains("TYPE_MISMATCH"), "{reason}");

    // A nullable column is compatible: version 2, and both the topic and the target take it.
    sqlx::raw_sql("alter table people add column note text; insert into people (name, note) values ('Grace', 'new')")
        .execute(&source_db)
        .await
        .unwrap();
    eventually("the new column in the target", || async {
        (rows("id, name, note").await.last()? == "3|Grace|new").then_some(())
    })
    .await;
    let (_, versions) = towline.registry(Method::GET, "/subjects/avro-people-value/versions", None).await;
    assert_eq!(versions, json!([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_registry_refuses_fails_the_task_with_the_reason() {
    let source = Postgres::start().await;
    let source_db = source.database("source").await;
    sqlx::raw_sql("create table t (id serial primary key, a int); insert into t (a) values (1)")
        .execute(&source_db)
        .await
        .unwrap();
    let towline = Towline::start().await;
    let schema = json!({"type": "record", "name": "t", "fields": [{"name": "id", "type": "string"}]});
    let body = json!({ "schema": schema.to_string() });
    let (status, _) = towline.registry(Method::POST, "/subjects/refused-t-value/versions", Some(&body)).await;
    assert_eq!(status, StatusCode::OK);
    towline
        .create(
            "src",
            json!({
                "connector.class": "JdbcSource", "connection.url": source.jdbc("source"), "connection.user": "tester",
                "connection.password": "tester-secret", "table.whitelist": "t", "topic.prefix": "refused-",
                "mode": "incrementing", "incrementing.column.name": "id", "value.converter": AVRO,
                "value.converter.schema.registry.url": format!("http://{}", towline.registry)
            }),
        )
        .await;
    let failed = towline.task_in_state("src", "FAILED").await;
    let trace = failed["trace"].as_str().unwrap();
    assert!(
        trace.starts_with("org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler"),
        "{trace}"
    );
    assert!(trace.contains("incompatible with an earlier schema"), "{trace}");
}
