//! The public tutorial's own connector files, verbatim: two servers by name on port 5432, JSON envelopes, the timestamp
//! through text and back.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::PgPool;

use crate::harness::{Consumer, Postgres, Towline, TowlineOptions, eventually};

const TABLE: &str = "create table iris_data (id serial primary key, timestamp timestamp, sepal_length float8, \
    sepal_width float8, petal_length float8, petal_width float8, target int)";

/// Two addresses of the loopback range that nobody else is likely to use.
fn addresses() -> (String, String) {
    let pid = std::process::id();
    let (a, b) = (pid / 250 % 250, pid % 250 + 1);
    (format!("127.77.{a}.{b}"), format!("127.78.{a}.{b}"))
}

async fn servers() -> (Postgres, Postgres, PgPool, PgPool, Towline) {
    let (source_address, target_address) = addresses();
    let source = Postgres::start_at(&source_address, 5432).await;
    let target = Postgres::start_at(&target_address, 5432).await;
    let source_db = owned(&source, "mydatabase", "myuser", "mypassword").await;
    let target_db = owned(&target, "targetdatabase", "targetuser", "targetpassword").await;
    let hosts =
        format!("127.0.0.1 localhost\n{source_address} postgres-server\n{target_address} target-postgres-server\n");
    let environment = [("CONNECT_KEY_CONVERTER", "org.apache.kafka.connect.storage.StringConverter")];
    let towline = Towline::start_with(TowlineOptions {
        hosts: Some(hosts),
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
    })
    .await;
    (source, target, source_db, target_db, towline)
}

/// A database with the table, owned by a user with a password.
async fn owned(server: &Postgres, database: &str, user: &str, password: &str) -> PgPool {
    let pool = server.database(database).await;
    let sql = format!(
        "create role {user} login password '{password}'; alter database {database} owner to {user}; \
         alter schema public owner to {user}; set role {user}; {TABLE}; reset role"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    pool
}

async fn insert(pool: &PgPool, rows: i32) {
    let sql = "insert into iris_data (timestamp, sepal_length, sepal_width, petal_length, petal_width, target) \
        select clock_timestamp(), 5.1 + i, 3.5, 1e10 * i, 0.0001 * i, i % 3 from generate_series(1, $1) i";
    sqlx::query(sql).bind(rows).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from iris_data").fetch_one(pool).await.unwrap()
}

/// Every row as text, timestamps to the millisecond that the tutorial's transform keeps.
async fn rows(pool: &PgPool) -> Vec<String> {
    let sql = "select concat_ws('|', id, to_char(date_trunc('milliseconds', timestamp), 'YYYY-MM-DD HH24:MI:SS.US'), \
        sepal_length, sepal_width, petal_length, petal_width, target) from iris_data order by id";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorials_files_run_verbatim() {
    let (_source, _target, source_db, target_db, towline) = servers().await;
    insert(&source_db, 50).await;
    let url = format!("http://{}/connectors", towline.connect);
    let (status, body) =
        towline.request(Method::POST, &url, Some(include_str!("data/tutorial/source_connector.json").to_owned())).await;
    assert_eq!(status, StatusCode::CREATED, "{body:#}");
    assert_eq!(body["name"], "postgres-source-connector");
    assert_eq!(body["type"], "source");
    assert_eq!(body["config"]["tasks.max"], "2", "numbers come back as text");
    assert_eq!(body["config"]["name"], "postgres-source-connector");
    let (status, body) =
        towline.request(Method::POST, &url, Some(include_str!("data/tutorial/sink_connector.json").to_owned())).await;
    assert_eq!(status, StatusCode::CREATED, "{body:#}");
    assert_eq!(body["config"]["auto.create"], "false", "booleans come back as text");

    eventually("50 rows in the target", || async { (count(&target_db).await == 50).then_some(()) }).await;
    insert(&source_db, 7).await;
    let began = Instant::now();
    eventually("57 rows in the target", || async { (count(&target_db).await == 57).then_some(()) }).await;
    // The tutorial polls every five seconds; a busy machine gets some more.
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(rows(&source_db).await, rows(&target_db).await);

    let (_, described, _) = towline.tool(&[
        "kafka-topics",
        "--bootstrap-server",
        &towline.kafka,
        "--describe",
        "--topic",
        "postgres-source-iris_data",
    ]);
    assert!(described.contains("PartitionCount: 1\tReplicationFactor: 1"), "{described}");

    let received = Consumer::of(&towline.kafka, "postgres-source-iris_data").take(57);
    let first = &received[0];
    assert_eq!(first.key, None);
    let text = std::str::from_utf8(first.value.as_deref().unwrap()).unwrap();
    let schema = concat!(
        r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},"#,
        r#"{"type":"string","optional":true,"field":"timestamp"},{"type":"double","optional":true,"field":"sepal_length"},"#,
        r#"{"type":"double","optional":true,"field":"sepal_width"},{"type":"double","optional":true,"field":"petal_length"},"#,
        r#"{"type":"double","optional":true,"field":"petal_width"},{"type":"int32","optional":true,"field":"target"}],"#,
        r#""optional":false,"name":"iris_data"},"payload":{"id":1,"timestamp":""#
    );
    assert!(text.starts_with(schema), "{text}");
    assert!(
        text.ends_with(
            r#""sepal_length":6.1,"sepal_width":3.5,"petal_length":1.0E10,"petal_width":1.0E-4,"target":1}}"#
        ),
        "{text}"
    );

    let (code, consumed, _) = towline.tool(&[
        "kafka-console-consumer",
        "--bootstrap-server",
        &towline.kafka,
        "--topic",
        "postgres-source-iris_data",
        "--from-beginning",
        "--max-messages",
        "1",
        "--timeout-ms",
        "20000",
    ]);
    assert_eq!(code, 0);
    assert_eq!(consumed.trim_end(), text);

    let status = towline.status("postgres-source-connector").await;
    assert_eq!(status["connector"]["state"], "RUNNING");
    assert_eq!(status["tasks"].as_array().map(Vec::len), Some(1), "one table is one task: {status:#}");
    let sink = towline.status("postgres-sink-connector").await;
    assert_eq!(sink["tasks"].as_array().map(Vec::len), Some(2));
    assert!(sink["tasks"].as_array().into_iter().flatten().all(|task| task["state"] == "RUNNING"), "{sink:#}");

    let offsets = eventually("the committed source offset", || async {
        let (_, offsets) = towline.rest(Method::GET, "/connectors/postgres-source-connector/offsets", None).await;
        (offsets["offsets"][0]["offset"]["incrementing"] == 57).then_some(offsets)
    })
    .await;
    assert_eq!(
        offsets["offsets"][0]["partition"].to_string(),
        r#"{"protocol":"1","table":"public.iris_data"}"#,
        "the order of the keys is part of the format"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_within_a_second_when_polled_often() {
    let source = Postgres::start().await;
    let target = Postgres::start().await;
    let source_db = owned(&source, "mydatabase", "myuser", "mypassword").await;
    let target_db = owned(&target, "targetdatabase", "targetuser", "targetpassword").await;
    let towline = Towline::start().await;
    let mut config: Value = serde_json::from_str(include_str!("data/tutorial/source_connector.json")).unwrap();
    config["config"]["connection.url"] = source.jdbc("mydatabase").into();
    config["config"]["poll.interval.ms"] = 50.into();
    towline.create("src", config["config"].clone()).await;
    let mut config: Value = serde_json::from_str(include_str!("data/tutorial/sink_connector.json")).unwrap();
    config["config"]["connection.url"] = target.jdbc("targetdatabase").into();
    towline.create("snk", config["config"].clone()).await;
    for round in 1..=5_i64 {
        insert(&source_db, 1).await;
        eventually("the row in the target", || async { (count(&target_db).await == round).then_some(()) }).await;
    }
    assert_eq!(rows(&source_db).await, rows(&target_db).await);
}
