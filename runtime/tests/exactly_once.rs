//! Exactly once from table to table, where the target has no key that could tell a row from its double: whatever is
//! killed, at whatever moment, counts and checksums are equal in the end.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Postgres, Towline, eventually_within};

const SOURCE: &str = "create table moved (id bigserial primary key, amount numeric(12, 2), note text)";
const TARGET: &str = "create table moved (id bigint, amount numeric(12, 2), note text)";
const PATIENCE: Duration = Duration::from_secs(120);

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9` of our process.
    Towline,
    /// `pg_terminate_backend` of whoever writes to the target.
    TargetBackend,
    /// The same, of whoever reads the source.
    SourceBackend,
    /// An immediate stop of the target's server, and a start.
    TargetServer,
    /// The same, of the source's.
    SourceServer,
}

const FAULTS: [Fault; 5] =
    [Fault::Towline, Fault::TargetBackend, Fault::SourceBackend, Fault::TargetServer, Fault::SourceServer];

/// Count and a checksum that no order of rows changes; none while the server is away.
async fn checksum(pool: &PgPool) -> Option<(i64, String)> {
    let sql = "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from moved t";
    sqlx::query_as(sql).fetch_one(pool).await.ok()
}

async fn terminate_backends(pool: &PgPool) {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
        where pid <> pg_backend_pid() and datname = current_database() and application_name <> 'test'";
    let _ = sqlx::raw_sql(sql).execute(pool).await;
}

async fn restart(server: &mut Postgres, pool: &mut PgPool, database: &str) {
    pool.close().await;
    server.stop();
    server.resume().await;
    *pool = server.connect(database).await;
}

/// Moves rows while faults happen at moments that differ from round to round.
async fn faults(rounds: u32, rows: i64) {
    let (mut source, mut target) = tokio::join!(Postgres::start(), Postgres::start());
    let (mut source_db, mut target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql(SOURCE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(TARGET).execute(&target_db).await.unwrap();
    let mut towline = Towline::start().await;
    towline
        .create(
            "src",
            json!({
                "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector",
                "connection.url": source.jdbc("source"), "connection.user": "tester",
                "connection.password": "tester-secret", "table.whitelist": "moved", "topic.prefix": "once-",
                "mode": "incrementing", "incrementing.column.name": "id", "poll.interval.ms": 20
            }),
        )
        .await;
    towline
        .create(
            "snk",
            json!({
                "connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector",
                "connection.url": target.jdbc("target"), "connection.user": "tester",
                "connection.password": "tester-secret", "table.name.format": "moved", "topics": "once-moved",
                "retry.backoff.ms": 200
            }),
        )
        .await;
    let mut total = 0;
    for round in 0..rounds {
        let insert = "insert into moved (amount, note) select i / 100.0, 'row ' || i from generate_series(1, $1) i";
        sqlx::query(insert).bind(rows).execute(&source_db).await.unwrap();
        total += rows;
        let moment = u64::from(round.wrapping_mul(2_654_435_761) % 300);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        match FAULTS[round as usize % FAULTS.len()] {
            Fault::Towline => {
                towline.kill();
                towline.resume().await;
            }
            Fault::TargetBackend => terminate_backends(&target_db).await,
            Fault::SourceBackend => terminate_backends(&source_db).await,
            Fault::TargetServer => restart(&mut target, &mut target_db, "target").await,
            Fault::SourceServer => restart(&mut source, &mut source_db, "source").await,
        }
    }
    eventually_within(PATIENCE, "all rows in the target", || async {
        checksum(&target_db).await.filter(|(count, _)| *count >= total).map(drop)
    })
    .await;
    assert_eq!(checksum(&source_db).await, checksum(&target_db).await);
    for name in ["src", "snk"] {
        let status = towline.task_in_state(name, "RUNNING").await;
        assert!(!status.to_string().contains("FAILED"), "{status:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_every_kind_lose_and_double_nothing_without_a_key() {
    faults(15, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the slow tail: a hundred faults of each kind"]
async fn a_hundred_faults_of_every_kind_lose_and_double_nothing_without_a_key() {
    faults(500, 3_000).await;
}

/// Records without source offsets are committed too: a bulk read stores none.
#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_read_arrives_without_offsets_to_store() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    sqlx::raw_sql(SOURCE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(TARGET).execute(&target_db).await.unwrap();
    sqlx::raw_sql("insert into moved (note) select 'row ' || i from generate_series(1, 1000) i")
        .execute(&source_db)
        .await
        .unwrap();
    let towline = Towline::start().await;
    let login = |config: serde_json::Value| {
        let mut config = config;
        config["connection.user"] = json!("tester");
        config["connection.password"] = json!("tester-secret");
        config
    };
    let read = json!({
        "connector.class": "JdbcSourceConnector", "connection.url": source.jdbc("source"), "mode": "bulk",
        "table.whitelist": "moved", "topic.prefix": "bulk-", "poll.interval.ms": 3_600_000
    });
    towline.create("src", login(read)).await;
    let write = json!({
        "connector.class": "JdbcSinkConnector", "connection.url": target.jdbc("target"), "topics": "bulk-moved",
        "table.name.format": "moved"
    });
    towline.create("snk", login(write)).await;
    eventually_within(PATIENCE, "the rows of one read", || async {
        checksum(&target_db).await.filter(|(count, _)| *count == 1_000).map(drop)
    })
    .await;
    assert_eq!(checksum(&source_db).await, checksum(&target_db).await);
}
