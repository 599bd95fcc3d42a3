//! `kill -9` at random moments: nothing acknowledged is lost, connectors resume by themselves, and the target ends equal
//! to the source.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Postgres, Towline, eventually, eventually_within};

const TABLE: &str = "create table iris_data (id serial primary key, timestamp timestamp, sepal_length float8, \
    sepal_width float8, petal_length float8, petal_width float8, target int)";
const ROWS: i64 = 200_000;
const KILLS: u32 = 20;

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from iris_data").fetch_one(pool).await.unwrap()
}

/// Count and a checksum that no order of rows changes.
async fn checksum(pool: &PgPool) -> (i64, String) {
    let sql = "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from iris_data t";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

fn pipeline(source: &Postgres, target: &Postgres) -> (Value, Value) {
    let source = json!({
        "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
        "connection.url": source.jdbc("source"), "connection.user": "tester", "connection.password": "tester-secret",
        "table.whitelist": "iris_data", "topic.prefix": "crash-", "mode": "incrementing",
        "incrementing.column.name": "id", "poll.interval.ms": 50
    });
    let target = json!({
        "connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector",
        "connection.url": target.jdbc("target"), "connection.user": "tester", "connection.password": "tester-secret",
        "table.name.format": "iris_data", "topics": "crash-iris_data"
    });
    (source, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_during_a_transfer_lose_and_double_nothing() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql(TABLE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(TABLE).execute(&target_db).await.unwrap();
    let mut towline = Towline::start().await;
    let (source_config, sink_config) = pipeline(&source, &target);
    towline.create("src", source_config).await;
    towline.create("snk", sink_config).await;

    // Rows arrive in portions, so that every kill falls into a transfer under way.
    let portion = ROWS / i64::from(KILLS);
    for kill in 0..KILLS {
        let insert = "insert into iris_data (timestamp, sepal_length, sepal_width, petal_length, petal_width, target) \
            select date_trunc('milliseconds', clock_timestamp()), random(), random(), random(), random(), i % 3 \
            from generate_series(1, $1) i";
        sqlx::query(insert).bind(portion).execute(&source_db).await.unwrap();
        // A moment that differs from round to round: some before anything of the portion is read, some midway.
        let moment = u64::from(kill.wrapping_mul(2_654_435_761) % 400);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        towline.kill();
        towline.resume().await;
    }
    let patience = Duration::from_secs(120);
    eventually_within(patience, "all rows in the target", || async { (count(&target_db).await >= ROWS).then_some(()) })
        .await;
    assert_eq!(checksum(&source_db).await, checksum(&target_db).await);
    for name in ["src", "snk"] {
        towline.task_in_state(name, "RUNNING").await;
        let status = towline.status(name).await;
        assert!(!status.to_string().contains("FAILED"), "{status:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_goes_on_where_it_was_and_exits_cleanly() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql(TABLE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(TABLE).execute(&target_db).await.unwrap();
    let mut towline = Towline::start().await;
    let (source_config, sink_config) = pipeline(&source, &target);
    towline.create("src", source_config).await;
    towline.create("snk", sink_config).await;
    for round in 1..=3_i64 {
        sqlx::raw_sql("insert into iris_data (target) select i from generate_series(1, 100) i")
            .execute(&source_db)
            .await
            .unwrap();
        eventually("the rows in the target", || async { (count(&target_db).await == round * 100).then_some(()) }).await;
        assert_eq!(towline.terminate(), Some(0));
        towline.resume().await;
    }
    assert_eq!(checksum(&source_db).await, checksum(&target_db).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_go_away_come_back_without_a_failed_task() {
    let (mut source, mut target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql(TABLE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(TABLE).execute(&target_db).await.unwrap();
    let towline = Towline::start().await;
    let (source_config, sink_config) = pipeline(&source, &target);
    towline.create("src", source_config).await;
    towline.create("snk", sink_config).await;
    sqlx::raw_sql("insert into iris_data (target) values (1)").execute(&source_db).await.unwrap();
    eventually("the first row", || async { (count(&target_db).await == 1).then_some(()) }).await;

    target.stop();
    sqlx::raw_sql("insert into iris_data (target) values (2)").execute(&source_db).await.unwrap();
    let noted = eventually("the status telling of the outage", || async {
        let status = towline.status("snk").await;
        status["tasks"][0]["retrying"].as_str().map(str::to_owned)
    })
    .await;
    assert!(noted.contains("retrying"), "{noted}");
    target.resume().await;
    let target_db = target.connect("target").await;
    eventually("the second row", || async { (count(&target_db).await == 2).then_some(()) }).await;

    source.stop();
    eventually("the status telling of the outage", || async {
        towline.status("src").await["tasks"][0]["retrying"].as_str().map(str::to_owned)
    })
    .await;
    source.resume().await;
    let source_db = source.connect("source").await;
    sqlx::raw_sql("insert into iris_data (target) values (3)").execute(&source_db).await.unwrap();
    eventually("the third row", || async { (count(&target_db).await == 3).then_some(()) }).await;
    eventually("a status without notes", || async {
        let text = format!("{}{}", towline.status("src").await, towline.status("snk").await);
        (!text.contains("retrying") && !text.contains("FAILED")).then_some(())
    })
    .await;
}
