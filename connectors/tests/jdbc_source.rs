//! The source: modes, offsets, the horizon, tables that change, databases that go away.

use towline_connectors::api::{ErrorKind, Health, Position, SourceConnector};
use towline_connectors::data::Value;
use towline_connectors::jdbc::JdbcSourceConnector;

use crate::jdbc_harness::{Source, SourceRecord, props, until};
use crate::postgres_server::{PostgresServer, shared};

pub(crate) fn ids(records: &[SourceRecord]) -> Vec<i64> {
    records.iter().map(|record| field(record, "id").as_i64().unwrap()).collect()
}

pub(crate) fn field(record: &SourceRecord, name: &str) -> Value {
    let datum = &record.record.value;
    let (at, _) = datum.schema.as_ref().unwrap().field(name).unwrap();
    let Value::Struct(values) = &datum.value else { panic!("no struct") };
    values[at].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn incrementing_resumes_after_the_stored_offset() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 5)")
        .await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t"), ("topic.prefix", "a-")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(5).await;
    assert_eq!(ids(&records), [1, 2, 3, 4, 5]);
    assert_eq!(records[0].partition.to_json().to_string(), r#"{"protocol":"1","table":"public.t"}"#);
    assert!(records[..4].iter().all(|record| record.offset.is_none()));
    assert_eq!(records[4].offset.as_ref().unwrap().to_json().to_string(), r#"{"incrementing":5}"#);
    assert_eq!(records[0].record.value.schema.as_ref().unwrap().name(), Some("t"));
    let stored = source.stored.clone();
    source.task.close().await;
    db.run("INSERT INTO t (v) VALUES ('new')").await;
    let mut source = Source::open(&config, stored).await.unwrap();
    assert_eq!(ids(&source.take(1).await), [6]);
    source.task.close().await;
    let old = Position::of([("table", Value::from("t"))]);
    let mut source = Source::open(&config, vec![(old, Position::of([("incrementing", 4_i64.into())]))]).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_commit_late_with_a_smaller_id_are_not_skipped() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE TABLE other (id int)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let mut unrelated = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO other VALUES (1)").execute(&mut unrelated).await.unwrap();
    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO t (v) VALUES ('late')").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t (v) VALUES ('early')").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "id 2 must wait for id 1");
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [1, 2]);
    // Drawn before, written after: the lock on the sequence says so.
    sqlx::raw_sql("BEGIN; SELECT nextval('t_id_seq')").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t (v) VALUES ('early')").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "id 4 must wait for id 3");
    sqlx::raw_sql("INSERT INTO t VALUES (3, 'late'); COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_one_table_holds_up_no_other_table() {
    let db = shared().database().await;
    db.run("CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "a,b")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO a DEFAULT VALUES").execute(&mut late).await.unwrap();
    db.run("INSERT INTO a DEFAULT VALUES").await;
    for id in 1..4 {
        db.run("INSERT INTO b DEFAULT VALUES").await;
        let records = source.take(1).await;
        assert_eq!((&*records[0].record.topic, ids(&records)), ("b", vec![id]));
    }
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_lose_no_row() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, v int)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t"), ("poll.interval.ms", "1")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let writers: Vec<_> = (0..6)
        .map(|writer: i32| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut connection = db.connect().await;
                for _ in 0..100 {
                    let sql =
                        format!("BEGIN; INSERT INTO t (v) VALUES ({writer}); INSERT INTO t (v) VALUES (1); COMMIT");
                    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                }
            })
        })
        .collect();
    let records = source.take(1200).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let mut found = ids(&records);
    assert!(found.is_sorted());
    found.dedup();
    assert_eq!(found.len(), 1200);
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_wait_for_older_transactions_and_keep_ties_together() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); \
            INSERT INTO t (at) SELECT '2024-01-01' FROM generate_series(1, 2500); \
            INSERT INTO t (at) SELECT '2024-01-02 00:00:00.000001' FROM generate_series(1, 10); CREATE INDEX ON t (at)",
    )
    .await;
    let config = props(
        &db,
        &[("mode", "timestamp"), ("table.whitelist", "t"), ("timestamp.column.name", "at"), ("batch.max.rows", "1000")],
    );
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(2510).await;
    assert_eq!(records.len(), 2510);
    let marked: Vec<(usize, String)> = records
        .iter()
        .enumerate()
        .filter_map(|(at, record)| record.offset.as_ref().map(|offset| (at, offset.to_json().to_string())))
        .collect();
    // No offset inside a tie promises what was not handed over yet.
    assert!(marked.iter().all(|(at, offset)| *at >= 2499 || offset.contains(r#""timestamp":0,"#)), "{marked:?}");
    assert_eq!(marked.last().unwrap().1, r#"{"timestamp":1704153600000,"timestamp_nanos":1000}"#);

    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t DEFAULT VALUES").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "an older transaction may still write");
    sqlx::raw_sql("INSERT INTO t DEFAULT VALUES; COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [2512, 2511]);
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamp_and_id_see_updates() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL, at2 timestamp); \
            INSERT INTO t VALUES (2, '2024-01-01'), (1, '2024-01-01'), (3, '2024-01-02')",
    )
    .await;
    let config = props(
        &db,
        &[
            ("mode", "timestamp+incrementing"),
            ("table.whitelist", "t"),
            ("timestamp.column.name", "at2,at"),
            ("incrementing.column.name", "id"),
            ("db.timezone", "Asia/Seoul"),
        ],
    );
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(3).await;
    assert_eq!(ids(&records), [1, 2, 3]);
    assert_eq!(
        records[2].offset.as_ref().unwrap().to_json().to_string(),
        r#"{"incrementing":3,"timestamp":1704121200000,"timestamp_nanos":0}"#
    );
    db.run("UPDATE t SET at2 = '2024-01-03' WHERE id = 1").await;
    let records = source.take(1).await;
    assert_eq!(ids(&records), [1]);
    // The offset is of at2, the first that is named, though at stands before it in the table.
    assert_eq!(
        records[0].offset.as_ref().unwrap().to_json().to_string(),
        r#"{"incrementing":1,"timestamp":1704207600000,"timestamp_nanos":0}"#
    );
    db.run("ALTER TABLE t ALTER at2 TYPE timestamptz").await;
    let error = Source::open(&config, Vec::new()).await.err().unwrap();
    assert!(error.to_string().contains("mix types with and without time zone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_and_queries() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let mut source =
        Source::open(&props(&db, &[("mode", "bulk"), ("table.whitelist", "t")]), Vec::new()).await.unwrap();
    let records = source.take(4).await;
    assert_eq!(ids(&records)[..4], [1, 2, 1, 2]);
    assert!(records.iter().all(|record| record.offset.is_none()));
    let query =
        "SELECT a.id, a.v, b.v AS w, a.id + 0.5 AS n FROM t a LEFT JOIN t b ON b.id = a.id + 1 WHERE a.id > 0 -- all";
    let config = props(
        &db,
        &[("mode", "incrementing"), ("query", query), ("incrementing.column.name", "a.id"), ("topic.prefix", "q")],
    );
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(2).await;
    assert_eq!((ids(&records), &*records[0].record.topic), (vec![1, 2], "q"));
    assert_eq!(field(&records[1], "w"), Value::Null);
    assert_eq!(records[1].partition.to_json().to_string(), r#"{"query":"query"}"#);
    let schema = records[0].record.value.schema.as_ref().unwrap();
    assert_eq!(schema.name(), None);
    assert!(schema.field("w").unwrap().1.schema.optional);
    // A query over no table has no writers to wait for.
    let mut entries = config.clone();
    entries.insert("query".to_owned(), "SELECT id FROM generate_series(1, 3) id".to_owned());
    entries.insert("incrementing.column.name".to_owned(), "id".to_owned());
    assert_eq!(ids(&Source::open(&entries, Vec::new()).await.unwrap().take(3).await), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_while_running_shows_in_the_next_rows() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES").await;
    let mut source =
        Source::open(&props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]), Vec::new()).await.unwrap();
    assert_eq!(source.take(1).await[0].record.value.schema.as_ref().unwrap().fields.len(), 1);
    db.run("ALTER TABLE t ADD v text; INSERT INTO t (v) VALUES ('x')").await;
    let records = source.take(1).await;
    assert_eq!(field(&records[0], "v"), Value::from("x"));
    db.run("ALTER TABLE t DROP v; ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t DEFAULT VALUES").await;
    let records = source.take(1).await;
    assert_eq!(field(&records[0], "id"), Value::Int64(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_tables_and_notices_new_ones() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE a (id serial); CREATE TABLE b (id serial); CREATE SCHEMA s; CREATE TABLE s.c (id serial); \
            CREATE VIEW v AS TABLE a",
    )
    .await;
    let config = props(&db, &[("mode", "bulk"), ("table.poll.interval.ms", "10")]);
    let plans = JdbcSourceConnector.plan(&config, 2, &Health::default()).await.unwrap();
    let tables: Vec<_> = plans.iter().map(|plan| plan["tables"].as_str()).collect();
    assert_eq!(tables, [r#""public"."a","public"."b""#, r#""s"."c""#]);
    let changed = JdbcSourceConnector.replan(&config, &plans);
    tokio::select! {
        () = changed => panic!("nothing changed"),
        () = until("a few looks", { let mut looks = 0; async move || { looks += 1; tokio::time::sleep(std::time::Duration::from_millis(1)).await; looks > 50 } }) => {}
    }
    db.run("CREATE TABLE s.d (id serial)").await;
    tokio::time::timeout(crate::jdbc_harness::DEADLINE, JdbcSourceConnector.replan(&config, &plans)).await.unwrap();
    db.run("CREATE TABLE s.a (id serial)").await;
    let error = JdbcSourceConnector.plan(&config, 2, &Health::default()).await.unwrap_err();
    assert!(error.to_string().contains("public.a and s.a"), "{error}");
    let none = props(&db, &[("mode", "bulk"), ("table.whitelist", "nope")]);
    let health = Health::default();
    assert!(JdbcSourceConnector.plan(&none, 2, &health).await.unwrap().is_empty());
    assert!(health.message().unwrap().contains("no table"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configs_say_what_to_change() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int, v text)").await;
    let wrong = props(&db, &[("mode", "bulk"), ("connection.password", "wrong"), ("table.whitelist", "t")]);
    let error = JdbcSourceConnector.plan(&wrong, 1, &Health::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("connection.password") && !error.to_string().contains("wrong\""), "{error}");
    let keys: Vec<_> = JdbcSourceConnector.check(&wrong).await.into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["connection.url"]);
    let mut gone = wrong.clone();
    gone.insert("connection.url".to_owned(), format!("jdbc:postgresql://127.0.0.1:{}/nope", db.port));
    gone.insert("connection.password".to_owned(), "sesame".to_owned());
    let errors = JdbcSourceConnector.check(&gone).await;
    assert!(errors[0].key == "connection.url" && errors[0].message.contains("\"nope\" does not exist"), "{errors:?}");
    for (entries, part) in [
        ([("mode", "incrementing"), ("incrementing.column.name", "nope")], "whose columns are id, v"),
        ([("mode", "incrementing"), ("incrementing.column.name", "id")], "nullable"),
        ([("mode", "incrementing"), ("incrementing.column.name", "v")], "invalid type"),
        ([("mode", "incrementing"), ("incrementing.column.name", "")], "incrementing.column.name"),
    ] {
        let mut config = props(&db, &entries);
        config.insert("table.whitelist".to_owned(), "t".to_owned());
        let error = Source::open(&config, Vec::new()).await.err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
    }
    for (query, state, part) in [
        ("SELECT nope FROM t", "42703", "a column that it names does not exist at its character 8"),
        ("SELECT id FROM nowhere", "42P01", "does not exist at its character 16"),
        ("SELECT id FRM t", "42601", "its syntax is wrong"),
    ] {
        let errors = JdbcSourceConnector.check(&props(&db, &[("mode", "bulk"), ("query", query)])).await;
        let said = &errors[0].message;
        assert_eq!(errors[0].key, "query");
        assert!(said.contains(&format!("SQLSTATE {state}, vendor code 0")) && said.contains(part), "{said}");
        assert!(!said.contains("nope") && !said.contains("nowhere"), "{said}");
    }
}

/// The limit is the server's to keep: what it refuses is never sent.
#[tokio::test(flavor = "multi_thread")]
async fn values_above_the_limit_are_refused_before_they_are_read() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE texts (id serial PRIMARY KEY, v text, u xml); ALTER TABLE texts ALTER v SET STORAGE EXTERNAL;
         CREATE TABLE blobs (id serial PRIMARY KEY, v bytea); ALTER TABLE blobs ALTER v SET STORAGE EXTERNAL; CREATE TABLE docs (id serial PRIMARY KEY, v jsonb);
         INSERT INTO texts (v) VALUES ('a'), (repeat('x', 2000000)); INSERT INTO blobs (v) SELECT convert_to(v, 'UTF8') FROM texts;
         INSERT INTO docs (v) SELECT jsonb_object_agg(i, md5(i::text)) FROM generate_series(1, 60000) i;
         CREATE TABLE whole (id int, v text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF whole DEFAULT;
         INSERT INTO whole SELECT id, v FROM texts",
    )
    .await;
    let of = |table, limit| {
        let entries = [
            ("mode", "bulk"),
            ("table.whitelist", table),
            ("max.value.bytes", limit),
            ("table.types", "TABLE,PARTITIONED TABLE"),
        ];
        props(&db, &entries)
    };
    for (table, found) in
        [("texts", "2000000 bytes"), ("blobs", "2000000 bytes"), ("docs", "bytes"), ("whole", "2000000 bytes")]
    {
        let mut source = Source::open(&of(table, "1000000"), Vec::new()).await.unwrap();
        let error = loop {
            match source.task.poll().await {
                Ok(batches) => assert!(batches.is_empty(), "{table}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Fatal);
        for part in [found, "in column \"v\"", table, "max.value.bytes=1000000", "producer.override.max.request.size"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    // What the user limits is limited however small it is kept.
    db.run("CREATE TABLE small (id int, v text); ALTER TABLE small ALTER v SET STORAGE MAIN; INSERT INTO small SELECT id, v FROM texts").await;
    let mut source = Source::open(&of("small", "1000000"), Vec::new()).await.unwrap();
    let error = loop {
        if let Err(error) = source.task.poll().await {
            break error;
        }
    };
    assert!(error.to_string().contains("2000000 bytes"), "{error}");
    for (limit, size) in [("-1", None), ("1000000", Some("2000000")), ("2000000", None)] {
        let mut config = of("texts", limit);
        if let Some(size) = size {
            config.shift_remove("max.value.bytes");
            config.insert("producer.override.max.request.size".to_owned(), size.to_owned());
        }
        assert_eq!(Source::open(&config, Vec::new()).await.unwrap().take(2).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_after_a_crash_of_the_database() {
    let server = PostgresServer::start();
    let db = server.database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t SELECT FROM generate_series(1, 3)").await;
    let config = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    source.take(3).await;
    server.crash();
    let health = source.health.clone();
    until("the health says so", async || {
        assert!(source.task.poll().await.unwrap().is_empty());
        health.message().is_some()
    })
    .await;
    server.resume();
    db.run("INSERT INTO t DEFAULT VALUES").await;
    let records = source.take(1).await;
    assert!(ids(&records)[0] > 3);
    until("the health is well again", async || health.message().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_repeat_are_cut_neither_by_pages_nor_by_offsets() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int NOT NULL, n int); INSERT INTO t SELECT i / 3, i FROM generate_series(0, 8999) i; \
            CREATE INDEX ON t (id)",
    )
    .await;
    let config = props(
        &db,
        &[
            ("mode", "incrementing"),
            ("table.whitelist", "t"),
            ("incrementing.column.name", "id"),
            ("batch.max.rows", "100"),
        ],
    );
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(9000).await;
    assert_eq!(records.len(), 9000);
    for (at, record) in records.iter().enumerate() {
        if let Some(offset) = &record.offset {
            let done = offset.get("incrementing").and_then(Value::as_i64).unwrap();
            let next = records.get(at + 1).map_or(i64::MAX, |next| field(next, "id").as_i64().unwrap());
            // All that is complete is promised, and nothing more.
            assert_eq!(done, if next == i64::MAX { 2999 } else { next - 1 }, "record {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_has_the_fraction_digits_of_the_server() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, m money); INSERT INTO t VALUES (1, '-1234.56'), (2, NULL)").await;
    let config = props(&db, &[("mode", "bulk"), ("table.whitelist", "t")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    let records = source.take(2).await;
    assert_eq!((field(&records[0], "m"), field(&records[1], "m")), (Value::Float64(-1234.56), Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_waits_for_what_the_primary_has_in_flight() {
    let server = PostgresServer::start();
    let db = server.database().await;
    // Numbers that are cached warn, and stop nothing.
    db.run(
        "CREATE TABLE t (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); \
            ALTER SEQUENCE t_id_seq CACHE 5; INSERT INTO t DEFAULT VALUES",
    )
    .await;
    let standby = server.standby();
    let copy = standby.copy_of(&db);
    let by_id = props(&copy, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let mut by_time = props(&copy, &[("mode", "timestamp"), ("table.whitelist", "t")]);
    by_time.insert("timestamp.column.name".to_owned(), "at".to_owned());
    let mut sources =
        [Source::open(&by_id, Vec::new()).await.unwrap(), Source::open(&by_time, Vec::new()).await.unwrap()];
    for source in &mut sources {
        assert_eq!(ids(&source.take(1).await), [1]);
    }
    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO t (id) VALUES (2)").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t (id) VALUES (3)").await;
    until("the row is replayed", async || copy.text("SELECT count(*) FROM t").await == "2").await;
    for source in &mut sources {
        for _ in 0..3 {
            assert!(source.task.poll().await.unwrap().is_empty(), "id 3 must wait for id 2");
        }
    }
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    for source in &mut sources {
        assert_eq!(ids(&source.take(2).await), [2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_task_leaves_no_query_running() {
    let db = shared().database().await;
    let config = props(&db, &[("mode", "bulk"), ("query", "SELECT 1 AS id, pg_sleep(600)::text AS v")]);
    let source = Source::open(&config, Vec::new()).await.unwrap();
    let sleeping = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state = 'active' AND query LIKE 'COPY%pg_sleep%'",
        db.name
    );
    until("the query runs", async || db.text(&sleeping).await == "1").await;
    source.task.close().await;
    until("the query ends", async || db.text(&sleeping).await == "0").await;
}
