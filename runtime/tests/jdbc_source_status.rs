//! The JDBC source as an operator sees it over REST: offsets that are set, tables that make trouble, tasks that fail.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Consumer, Postgres, Towline, eventually};

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

fn source(postgres: &Postgres, database: &str, more: Value) -> Value {
    let mut config = json!({
        "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector", "connection.url": postgres.jdbc(database),
        "connection.user": "tester", "connection.password": "tester-secret", "mode": "incrementing",
        "incrementing.column.name": "id", "poll.interval.ms": 20, "table.poll.interval.ms": 50,
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": false
    });
    let Value::Object(more) = more else { panic!("entries are expected") };
    config.as_object_mut().unwrap().extend(more);
    config
}

/// The next rows of a topic.
fn rows(consumer: &Consumer, count: usize) -> Vec<Value> {
    let records = consumer.take(count);
    records.into_iter().map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap()).collect()
}

/// Waits until a task's status says under `retrying` what it should.
async fn retries(towline: &Towline, name: &str, part: &str) {
    eventually(&format!("{name} retrying: {part}"), || async {
        let status = towline.status(name).await;
        status["tasks"][0]["retrying"].as_str().is_some_and(|said| said.contains(part)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_would_not_be_understood_are_refused_and_nothing_is_read_again() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    run(&db, "create table o (id serial primary key); insert into o select from generate_series(1, 10)").await;
    let towline = Towline::start().await;
    towline.create("o", source(&postgres, "shop", json!({"topic.prefix": "s-", "table.whitelist": "o"}))).await;
    let topic = Consumer::of(&towline.kafka, "s-o");
    assert_eq!(rows(&topic, 10).last(), Some(&json!({"id": 10})));
    let path = "/connectors/o/offsets";
    let stored = async |expected: i64| {
        let table = json!({"protocol": "1", "table": "public.o"});
        let expected = json!({"offsets": [{"partition": table, "offset": {"incrementing": expected}}]});
        eventually("the stored offset", || async {
            (towline.rest(Method::GET, path, None).await.1 == expected).then_some(())
        })
        .await;
    };
    stored(10).await;
    towline.rest(Method::PUT, "/connectors/o/stop", None).await;
    let patch = async |partition: &str, offset: &str| {
        let body = format!(r#"{{"offsets":[{{"partition":{partition},"offset":{offset}}}]}}"#);
        let url = format!("http://{}{path}", towline.connect);
        towline.request(Method::PATCH, &url, Some(body)).await
    };
    let table = r#"{"protocol":"1","table":"public.o"}"#;
    eventually("the connector's stop", || async {
        let (status, _) = patch(table, r#"{"incrementing":10}"#).await;
        (status == StatusCode::OK).then_some(())
    })
    .await;
    for (partition, offset, part) in [
        (table, r#"{"incrementing":"5"}"#, "'incrementing'"),
        (table, r#"{"incrementing":5.5}"#, "'incrementing'"),
        (table, r#"{"incrementing":null}"#, "'incrementing'"),
        (table, r#"{"incrementing":99999999999999999999}"#, "'incrementing'"),
        (table, r#"{"incrementing":[5]}"#, "incrementing"),
        (table, r#"{"foo":5}"#, "'foo'"),
        (table, r#"{"timestamp":"x","incrementing":5}"#, "'timestamp'"),
        (r#"{"foo":"query"}"#, r#"{"incrementing":5}"#, r#"{"protocol":"1","table":"<schema>.<table>"}"#),
        (r#"{"protocol":"2","table":"public.o"}"#, r#"{"incrementing":5}"#, r#"{"protocol":"2","table":"public.o"}"#),
    ] {
        let (status, answer) = patch(partition, offset).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{partition} {offset}: {answer}");
        assert_eq!(answer["error_code"], 400);
        assert!(answer["message"].as_str().unwrap().contains(part), "{answer}");
    }
    stored(10).await;
    // What is right, and forgetting what is not there.
    assert_eq!(patch(table, r#"{"incrementing":8}"#).await.0, StatusCode::OK);
    assert_eq!(patch(r#"{"foo":"query"}"#, "null").await.0, StatusCode::OK);
    towline.rest(Method::PUT, "/connectors/o/resume", None).await;
    assert_eq!(rows(&topic, 2), [json!({"id": 9}), json!({"id": 10})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_tables_says_so_until_there_is_one() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    let towline = Towline::start().await;
    towline.create("later", source(&postgres, "shop", json!({"topic.prefix": "s-", "table.whitelist": "o"}))).await;
    let status = eventually("a word of the connector", || async {
        let status = towline.status("later").await;
        status["connector"]["retrying"].is_string().then_some(status)
    })
    .await;
    assert_eq!((&status["connector"]["state"], &status["tasks"]), (&json!("RUNNING"), &json!([])));
    let said = status["connector"]["retrying"].as_str().unwrap();
    assert!(said.contains("no table of") && said.contains("schema.table"), "{said}");
    run(&db, "create table o (id serial primary key); insert into o default values").await;
    assert_eq!(rows(&Consumer::of(&towline.kafka, "s-o"), 1), [json!({"id": 1})]);
    assert!(towline.status("later").await["connector"].get("retrying").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_comes_without_columns_stops_no_other_and_the_status_names_it() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    run(
        &db,
        "create table a (id serial primary key); create table b (id serial primary key); insert into a default values",
    )
    .await;
    let towline = Towline::start().await;
    towline.create("all", source(&postgres, "shop", json!({"topic.prefix": "s-"}))).await;
    let (a, b) = (Consumer::of(&towline.kafka, "s-a"), Consumer::of(&towline.kafka, "s-b"));
    assert_eq!(rows(&a, 1), [json!({"id": 1})]);
    run(&db, "create table zz ()").await;
    retries(&towline, "all", "public.zz is not read").await;
    run(&db, "insert into b default values").await;
    assert_eq!(rows(&b, 1), [json!({"id": 1})]);
    assert_eq!(towline.status("all").await["tasks"][0]["state"], "RUNNING");
    // As soon as it can be read, it is.
    run(&db, "alter table zz add id serial primary key; insert into zz default values").await;
    assert_eq!(rows(&Consumer::of(&towline.kafka, "s-zz"), 1), [json!({"id": 1})]);
    eventually("no more troubles", || async {
        towline.status("all").await["tasks"][0].get("retrying").is_none().then_some(())
    })
    .await;
    // A task that has failed retries nothing any more.
    run(&db, "alter table a rename id to x; alter table b rename id to x").await;
    retries(&towline, "all", "public.a is not read").await;
    run(&db, "alter table zz rename id to x").await;
    let failed = towline.task_in_state("all", "FAILED").await;
    assert!(failed["trace"].as_str().unwrap().contains("none of the task's 3 tables"), "{failed}");
    assert!(failed.get("retrying").is_none(), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_before_one_that_fails_the_task_are_in_the_topic() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    run(&db, "create table n (id numeric(10,2) primary key, v int); insert into n values (1, 7), (1.5, 8)").await;
    let towline = Towline::start().await;
    towline.create("n", source(&postgres, "shop", json!({"topic.prefix": "s-", "table.whitelist": "n"}))).await;
    let failed = towline.task_in_state("n", "FAILED").await;
    assert!(failed["trace"].as_str().unwrap().contains("a number with a fraction"), "{failed}");
    let topic = Consumer::of(&towline.kafka, "s-n");
    assert_eq!(rows(&topic, 1)[0]["v"], 7);
    // Mended, it goes on behind them.
    run(&db, "update n set id = 2 where id = 1.5").await;
    towline.rest(Method::POST, "/connectors/n/tasks/0/restart", None).await;
    assert_eq!(rows(&topic, 1)[0]["v"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_before_a_value_without_a_form_are_in_the_topic_and_come_once() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    let towline = Towline::start().await;
    let transform = json!({"transforms": "t", "transforms.t.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
               "transforms.t.exclude": "at"});
    for (name, mode, more) in [
        ("plain", "incrementing", json!({})),
        ("changed", "incrementing", transform),
        ("timed", "timestamp", json!({"timestamp.column.name": "at"})),
    ] {
        // The second time is that of the third row too: in timestamp mode no offset stands between them.
        run(
            &db,
            &format!(
                "create table {name} (id serial primary key, n numeric(10,2), at timestamptz not null); \
                 insert into {name} (n, at) values (1, '2024-01-01'), (2, '2024-01-02'), ('NaN', '2024-01-02'), (4, '2024-01-04')"
            ),
        )
        .await;
        let entries = json!({"topic.prefix": "s-", "table.whitelist": name, "mode": mode});
        let mut config = source(&postgres, "shop", entries);
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if mode == "timestamp" {
            config.as_object_mut().unwrap().remove("incrementing.column.name");
        }
        towline.create(name, config).await;
        let failed = towline.task_in_state(name, "FAILED").await;
        assert!(failed["trace"].as_str().unwrap().contains("NaN"), "{failed}");
        let topic = Consumer::of(&towline.kafka, &format!("s-{name}"));
        let before = if mode == "timestamp" { 0 } else { 2 };
        let mut seen = rows(&topic, before);
        run(&db, &format!("update {name} set n = 3 where id = 3")).await;
        towline.rest(Method::POST, &format!("/connectors/{name}/tasks/0/restart"), None).await;
        seen.extend(rows(&topic, 4 - before));
        let seen: Vec<i64> = seen.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(seen, [1, 2, 3, 4], "{name}");
    }
}
