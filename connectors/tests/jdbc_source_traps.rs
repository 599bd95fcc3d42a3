//! The source: where rows get lost or doubled elsewhere. Ties, restarts, nulls, zones, writers that roll back, tables that
//! change, come and go.

use std::collections::BTreeMap;

use towline_connectors::api::{Health, Position, SourceConnector};
use towline_connectors::data::Value;
use towline_connectors::jdbc::JdbcSourceConnector;

use crate::jdbc_harness::{DEADLINE, Source, props, until};
use crate::jdbc_source::{field, ids};
use crate::postgres_server::shared;

fn offset(entries: &[(&'static str, i64)]) -> Position {
    Position::new(entries.iter().map(|(key, value)| ((*key).into(), Value::Int64(*value))).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_anywhere_in_a_tie_loses_nothing() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(6) NOT NULL); INSERT INTO t SELECT i, \
         timestamp '2024-01-01 00:00:00.000001' + (i / 7) * interval '1 microsecond' FROM generate_series(1, 40) i",
    )
    .await;
    for mode in ["timestamp", "timestamp+incrementing", "incrementing"] {
        let mut config = props(&db, &[("mode", mode), ("table.whitelist", "t"), ("batch.max.rows", "3")]);
        config.insert("incrementing.column.name".to_owned(), "id".to_owned());
        if mode.starts_with("timestamp") {
            config.insert("timestamp.column.name".to_owned(), "at".to_owned());
        }
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        let records = source.take(40).await;
        source.task.close().await;
        let offsets: Vec<(usize, Position)> =
            records.iter().enumerate().filter_map(|(at, record)| Some((at, record.offset.clone()?))).collect();
        assert!(offsets.len() > 5, "{mode}");
        for (at, stored) in offsets {
            let partition = (*records[at].partition).clone();
            let mut again = Source::open(&config, vec![(partition, stored)]).await.unwrap();
            // What is not promised comes again, what is promised does not: no tie is cut.
            let missing: Vec<i64> = ids(&records[at + 1..]);
            let mut seen: Vec<i64> = Vec::new();
            if !missing.is_empty() {
                while !missing.iter().all(|id| seen.contains(id)) {
                    seen.extend(ids(&again.take(1).await));
                }
            }
            assert_eq!(seen.len(), missing.len(), "{mode} {at}: {seen:?}");
            again.task.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_timestamp_come_when_they_get_one() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (1, NULL), (2, '2024-01-01'), (3, 'infinity'), \
            (4, '-infinity'), (5, now() + interval '1 hour')").await;
    let entries = [
        ("mode", "timestamp"),
        ("table.whitelist", "t"),
        ("timestamp.column.name", "at"),
        ("validate.non.null", "false"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert_eq!(ids(&source.take(1).await), [2]);
    db.run("UPDATE t SET at = now() WHERE id = 1").await;
    assert_eq!(ids(&source.take(1).await), [1]);
    // Rows of the future are not lost, they are late; a negative delay fetches them.
    let mut config = props(&db, &entries);
    config.insert("timestamp.delay.interval.ms".to_owned(), "-7200000".to_owned());
    let mut source = Source::open(&config, source.stored.clone()).await.unwrap();
    assert_eq!(ids(&source.take(1).await), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_where_the_config_says() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t VALUES (-5, '1960-01-01'), (1, '2024-01-01'), \
            (2, '2024-01-03')").await;
    let time = [("mode", "timestamp"), ("table.whitelist", "t"), ("timestamp.column.name", "at")];
    for (key, value, expected) in [
        ("timestamp.initial", "", &[1, 2][..]),
        ("timestamp.initial", "1704153600000", &[2]),
        ("timestamp.initial.ms", "-631152000000", &[-5, 1, 2]),
    ] {
        let mut config = props(&db, &time);
        if !value.is_empty() {
            config.insert(key.to_owned(), value.to_owned());
        }
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        assert_eq!(ids(&source.take(expected.len()).await), expected, "{key}={value}");
    }
    let mut config = props(&db, &time);
    config.insert("timestamp.initial".to_owned(), "-1".to_owned());
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    db.run("INSERT INTO t VALUES (9, clock_timestamp())").await;
    assert_eq!(ids(&source.take(1).await), [9]);
    let entries = [
        ("mode", "incrementing"),
        ("table.whitelist", "t"),
        ("incrementing.column.name", "id"),
        ("incrementing.initial", "-10"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert_eq!(ids(&source.take(4).await), [-5, 1, 2, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_are_skipped_or_come_twice_lose_no_row() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id serial PRIMARY KEY, at timestamp NOT NULL); \
         INSERT INTO t (at) SELECT g FROM generate_series(timestamp '2024-03-10 01:30', '2024-03-10 03:30', '15 minutes') g; \
         INSERT INTO t (at) SELECT g FROM generate_series(timestamp '2024-11-03 00:30', '2024-11-03 02:30', '15 minutes') g",
    )
    .await;
    let entries = [
        ("mode", "timestamp"),
        ("table.whitelist", "t"),
        ("timestamp.column.name", "at"),
        ("db.timezone", "America/New_York"),
        ("batch.max.rows", "1"),
    ];
    let config = props(&db, &entries);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(18).await;
    assert_eq!(ids(&records), (1..=18).collect::<Vec<_>>());
    // A skipped hour is not read again and again.
    assert!(source.task.poll().await.unwrap().is_empty());
    // Again from each offset: what comes is what had not come.
    for (at, record) in records.iter().enumerate() {
        let Some(stored) = &record.offset else { continue };
        let mut again = Source::open(&config, vec![((*record.partition).clone(), stored.clone())]).await.unwrap();
        let mut seen = Vec::new();
        while !((at as i64 + 2)..=18).all(|id| seen.contains(&id)) {
            seen.extend(ids(&again.take(1).await));
        }
        again.task.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_draw_ids_wait_and_roll_back_lose_no_row() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())").await;
    let by_id = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t"), ("poll.interval.ms", "1")]);
    let mut by_time =
        props(&db, &[("mode", "timestamp+incrementing"), ("table.whitelist", "t"), ("poll.interval.ms", "1")]);
    by_time.insert("timestamp.column.name".to_owned(), "at".to_owned());
    let mut sources =
        [Source::open(&by_id, Vec::new()).await.unwrap(), Source::open(&by_time, Vec::new()).await.unwrap()];
    let writers: Vec<_> = (0..6)
        .map(|writer: usize| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut connection = db.connect().await;
                for round in 0..40 {
                    // Each draws first and writes later; every third draws for nothing, every fourth waits for others.
                    let wait = if (round + writer).is_multiple_of(4) { "SELECT pg_sleep(0.02);" } else { "" };
                    let end = if (round + writer).is_multiple_of(3) { "ROLLBACK" } else { "COMMIT" };
                    let sql = format!(
                        "BEGIN; SELECT nextval('t_id_seq'); {wait} INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES; {end}"
                    );
                    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                }
            })
        })
        .collect();
    let mut found: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
    for (source, found) in sources.iter_mut().zip(&mut found) {
        found.extend(ids(&source.take(300).await));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let all = db.text("SELECT count(*) FROM t").await.parse::<usize>().unwrap();
    for (source, found) in sources.iter_mut().zip(&mut found) {
        found.extend(ids(&source.take(all - found.len()).await));
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!((found.len(), count), (all, all));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_restarts_goes_on_beyond_the_offset() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t SELECT FROM generate_series(1, 5)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    source.take(5).await;
    db.run("TRUNCATE t RESTART IDENTITY; INSERT INTO t SELECT FROM generate_series(1, 4)").await;
    assert!(source.task.poll().await.unwrap().is_empty());
    db.run("INSERT INTO t SELECT FROM generate_series(1, 2)").await;
    assert_eq!(ids(&source.take(1).await), [6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_and_go_are_in_the_next_records() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, a int, b int); INSERT INTO t (a, b) VALUES (1, 2)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let names = |record: &crate::jdbc_harness::SourceRecord| {
        let schema = record.record.value.schema.clone().unwrap();
        schema.fields.iter().map(|field| field.name.to_string()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(names(&source.take(1).await[0]), "id,a,b");
    db.run("ALTER TABLE t ADD c text DEFAULT 'x'; INSERT INTO t (a) VALUES (3)").await;
    let records = source.take(1).await;
    assert_eq!((names(&records[0]).as_str(), field(&records[0], "c")), ("id,a,b,c", Value::from("x")));
    db.run("ALTER TABLE t DROP a, ALTER b TYPE bigint; INSERT INTO t (b) VALUES (4)").await;
    let records = source.take(1).await;
    assert_eq!((names(&records[0]).as_str(), field(&records[0], "b")), ("id,b,c", Value::Int64(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_stops_no_other() {
    let db = shared().database().await;
    db.run("CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "a,b")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    db.run("DROP TABLE a").await;
    for id in 1..4 {
        db.run("INSERT INTO b DEFAULT VALUES").await;
        assert_eq!(ids(&source.take(1).await), [id]);
    }
    db.run("CREATE TABLE a (id serial PRIMARY KEY); INSERT INTO a DEFAULT VALUES").await;
    assert_eq!(&*source.take(1).await[0].record.topic, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tables_that_matter_cause_a_new_plan() {
    let db = shared().database().await;
    db.run("CREATE TABLE a1 (id serial PRIMARY KEY)").await;
    let config =
        props(&db, &[("mode", "bulk"), ("table.include.list", "public[.]a.*"), ("table.poll.interval.ms", "10")]);
    let health = Health::default();
    let plan = JdbcSourceConnector.plan(&config, 5, &health).await.unwrap();
    let mut stale = Box::pin(JdbcSourceConnector.replan(&config, &plan));
    db.run("CREATE TABLE other (id int); CREATE VIEW a_view AS SELECT * FROM other; INSERT INTO a1 DEFAULT VALUES")
        .await;
    let mut rounds = 0;
    // The monitor looks again a few times, and finds nothing new.
    until("some rounds", async || {
        rounds += 1;
        assert!(futures_util::FutureExt::now_or_never(&mut stale).is_none());
        db.text("SELECT 1").await;
        rounds > 20
    })
    .await;
    db.run("CREATE TABLE a2 (id serial PRIMARY KEY)").await;
    tokio::time::timeout(DEADLINE, stale).await.unwrap();
    assert_eq!(JdbcSourceConnector.plan(&config, 5, &health).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_table_is_read_if_it_is_asked_for() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1); \
         CREATE VIEW a_view AS SELECT id FROM plain; CREATE MATERIALIZED VIEW stored AS SELECT id FROM plain; \
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10); INSERT INTO parts VALUES (2); \
         CREATE TABLE \"Mixed Case\" (id int PRIMARY KEY); CREATE SCHEMA other; CREATE TABLE other.elsewhere (id int)",
    )
    .await;
    let planned = async |types: &str, schema: &str| {
        let config = props(&db, &[("mode", "bulk"), ("table.types", types), ("schema.pattern", schema)]);
        let plan = JdbcSourceConnector.plan(&config, 1, &Health::default()).await.unwrap();
        plan.first().map(|task| task["tables"].clone()).unwrap_or_default()
    };
    assert_eq!(
        planned("TABLE", "pub%").await,
        "\"public\".\"Mixed Case\",\"public\".\"parts_low\",\"public\".\"plain\""
    );
    assert_eq!(planned("view, Partitioned Table", "public").await, "\"public\".\"parts\",\"public\".\"a_view\"");
    assert_eq!(planned("MATERIALIZED VIEW,nonsense", "public").await, "\"public\".\"stored\"");
    assert_eq!(planned("TABLE", "other").await, "\"other\".\"elsewhere\"");
    let mut found = BTreeMap::new();
    for (table, types) in [("a_view", "VIEW"), ("parts", "PARTITIONED TABLE"), ("stored", "MATERIALIZED VIEW")] {
        let entries = [
            ("mode", "incrementing"),
            ("table.types", types),
            ("table.whitelist", table),
            ("incrementing.column.name", "id"),
            ("validate.non.null", "false"),
        ];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        found.insert(table, ids(&source.take(1).await));
    }
    assert_eq!(found.into_values().flatten().collect::<Vec<_>>(), [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_the_original_are_understood() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL); \
            INSERT INTO t SELECT i, timestamp '2024-01-01' + i * interval '1 millisecond' FROM generate_series(1, 3) i",
    )
    .await;
    let entries = [
        ("mode", "timestamp+incrementing"),
        ("table.whitelist", "t"),
        ("timestamp.column.name", "at"),
        ("incrementing.column.name", "id"),
    ];
    let v1 = Position::of([("protocol", Value::from("1")), ("table", Value::from("public.t"))]);
    let millis = 1_704_067_200_000_i64;
    for (stored, expected) in [
        (offset(&[("incrementing", 1), ("timestamp", millis + 1), ("timestamp_nanos", 1_000_000)]), &[2, 3][..]),
        (offset(&[("timestamp", millis + 2), ("incrementing", 2)]), &[3]),
        (offset(&[("timestamp", millis + 2)]), &[2, 3]),
    ] {
        let mut source = Source::open(&props(&db, &entries), vec![(v1.clone(), stored)]).await.unwrap();
        assert_eq!(ids(&source.take(expected.len()).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_took_the_name_of_another_is_waited_for_too() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    source.take(1).await;
    db.run(
        "CREATE TABLE next (id serial PRIMARY KEY); SELECT setval('next_id_seq', 1); ALTER TABLE t RENAME TO past; \
         ALTER TABLE next RENAME TO t",
    )
    .await;
    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO t DEFAULT VALUES").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t DEFAULT VALUES").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "id 3 must wait for id 2");
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_of_defaults_and_of_a_partitions_parent_are_waited_for() {
    for (table, sequence, sql) in [
        ("t", "ids", "CREATE SEQUENCE ids; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('ids'))"),
        (
            "t1",
            "t_id_seq",
            "CREATE TABLE t (id bigserial PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        ),
    ] {
        let db = shared().database().await;
        db.run(sql).await;
        let entries = [("mode", "incrementing"), ("table.whitelist", table), ("incrementing.column.name", "id")];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let mut late = db.connect().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; SELECT nextval('{sequence}')")))
            .execute(&mut late)
            .await
            .unwrap();
        db.run("INSERT INTO t DEFAULT VALUES").await;
        assert!(source.task.poll().await.unwrap().is_empty(), "{table}: id 2 must wait for id 1");
        sqlx::raw_sql("INSERT INTO t VALUES (1); COMMIT").execute(&mut late).await.unwrap();
        assert_eq!(ids(&source.take(2).await), [1, 2], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_the_name_while_another_is_waited_for_is_waited_for_too() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    source.take(1).await;
    let (mut first, mut second) = (db.connect().await, db.connect().await);
    sqlx::raw_sql("BEGIN; SELECT nextval('t_id_seq')").execute(&mut first).await.unwrap();
    db.run("INSERT INTO t DEFAULT VALUES").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "id 3 must wait for id 2");
    db.run(
        "CREATE TABLE next (id serial PRIMARY KEY); SELECT setval('next_id_seq', 1); ALTER TABLE t RENAME TO past; \
         ALTER TABLE next RENAME TO t",
    )
    .await;
    sqlx::raw_sql("BEGIN; INSERT INTO t DEFAULT VALUES").execute(&mut second).await.unwrap();
    db.run("INSERT INTO t DEFAULT VALUES").await;
    sqlx::raw_sql("COMMIT").execute(&mut first).await.unwrap();
    assert!(source.task.poll().await.unwrap().is_empty(), "id 3 of the new table must wait for id 2");
    sqlx::raw_sql("COMMIT").execute(&mut second).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [2, 3]);
}
