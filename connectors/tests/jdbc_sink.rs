//! The sink: modes, DDL, bad rows, redelivered rows, exactly once, databases that go away.

use std::sync::Arc;

use towline_connectors::api::{
    ConsumerGroup, ErrorKind, Health, Origin, Record, SinkConnector, SinkContext, SinkRecord, TopicPartition,
};
use towline_connectors::data::{Datum, Field, Schema, Type, Value};
use towline_connectors::jdbc::JdbcSinkConnector;

use crate::jdbc_harness::{Sink, props};
use crate::postgres_server::{Database, PostgresServer, shared};

pub(crate) fn schema(fields: &[(&str, Type)]) -> Arc<Schema> {
    let field = |(name, kind): &(&str, Type)| Field::new(*name, Arc::new(Schema::new(*kind).optional()));
    Arc::new(Schema::structure(fields.iter().map(field).collect()))
}

pub(crate) fn record(offset: i64, key: Option<i32>, schema: &Arc<Schema>, values: Vec<Value>) -> SinkRecord {
    let value = Datum::new(Arc::clone(schema), Value::Struct(values));
    let mut record = Record::of_value("t".into(), value);
    if let Some(key) = key {
        record.key = Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Int32(key));
    }
    SinkRecord { record, origin: Origin { topic: "t".into(), partition: 0, offset } }
}

fn tombstone(offset: i64, key: i32) -> SinkRecord {
    let mut record = record(offset, Some(key), &schema(&[]), Vec::new());
    record.record.value = Datum::default();
    record
}

fn rows(from: i64, count: i64, schema: &Arc<Schema>) -> Vec<SinkRecord> {
    (from..from + count)
        .map(|at| {
            record(at, None, schema, vec![Value::Int32(i32::try_from(at).unwrap()), Value::from(format!("v{at}"))])
        })
        .collect()
}

pub(crate) async fn table(sql: &str) -> Database {
    let db = shared().database().await;
    db.run(sql).await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_deletes_and_their_order() {
    let db = table("CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (9, 'old')").await;
    let config = props(
        &db,
        &[("insert.mode", "upsert"), ("pk.mode", "record_key"), ("pk.fields", "k"), ("delete.enabled", "true")],
    );
    let mut sink = Sink::open(&config).await.unwrap();
    let s = schema(&[("v", Type::String)]);
    let set = |offset, key, text: &str| record(offset, Some(key), &s, vec![Value::from(text)]);
    let records = [
        set(0, 1, "a"),
        set(1, 1, "b"),
        set(2, 2, "c"),
        tombstone(3, 2),
        set(4, 3, "d"),
        tombstone(5, 3),
        set(6, 3, "e"),
        tombstone(7, 9),
    ];
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(k || v, ',' ORDER BY k) FROM t").await, "1b,3e");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_touch_only_what_is_there() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v text, w text); INSERT INTO t VALUES (1, 'a', 'w')").await;
    let config = props(&db, &[("insert.mode", "update"), ("pk.mode", "record_value"), ("pk.fields", "id")]);
    let mut sink = Sink::open(&config).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    assert!(sink.task.put(&rows(0, 3, &s)).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(id || v || w, ',') FROM t").await, "1v1w");
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_and_evolves_tables() {
    let db = shared().database().await;
    let config = props(
        &db,
        &[
            ("auto.create", "true"),
            ("auto.evolve", "true"),
            ("pk.mode", "record_value"),
            ("pk.fields", "id"),
            ("insert.mode", "upsert"),
        ],
    );
    let mut sink = Sink::open(&config).await.unwrap();
    let first = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let second = schema(&[("id", Type::Int32), ("v", Type::String), ("n", Type::Float64)]);
    let mut records = rows(0, 2, &first);
    records.push(record(2, None, &second, vec![Value::Int32(1), Value::from("new"), Value::Float64(0.5)]));
    records.extend(rows(3, 1, &first));
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(
        db.text("SELECT string_agg(id || v || coalesce(n::text, '-'), ',' ORDER BY id) FROM t").await,
        "0v0-,1new0.5,3v3-"
    );
    assert_eq!(
        db.text(
            "SELECT string_agg(attname, ',') FROM pg_index, pg_attribute WHERE indrelid = 't'::regclass \
                        AND indisprimary AND attrelid = indrelid AND attnum = indkey[0]"
        )
        .await,
        "id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_go_into_any_type() {
    let db = table(
        "CREATE TABLE t (i int, n numeric(5,2), b boolean, d date, ts timestamptz, u uuid, ip inet, a int[], j jsonb)",
    )
    .await;
    let names = ["i", "n", "b", "d", "ts", "u", "ip", "a", "j"];
    let s = schema(&names.map(|name| (name, Type::String)));
    let text = [
        "7",
        "1.50",
        "yes",
        "2024-02-29",
        "2024-02-29T12:00:00Z",
        "abababab-abab-abab-abab-abababababab",
        "::1",
        "{1,2}",
        "{}",
    ];
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    assert!(sink.task.put(&[record(0, None, &s, text.map(Value::from).to_vec())]).await.unwrap().is_empty());
    assert_eq!(
        db.text("SELECT t::text FROM t").await,
        "(7,1.50,t,2024-02-29,\"2024-02-29 12:00:00+00\",abababab-abab-abab-abab-abababababab,::1,\"{1,2}\",{})"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_bad_rows_are_rejected() {
    let db = table("CREATE TABLE t (id smallint PRIMARY KEY, v varchar(5) CHECK (v <> 'v7'))").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let mut records = rows(0, 100, &s);
    records.push(record(100, None, &s, vec![Value::Int32(70_000), Value::from("x")]));
    records.push(record(101, None, &s, vec![Value::Int32(101), Value::from("secret")]));
    records.push(record(102, None, &s, vec![Value::Int32(102), Value::from("a\0b")]));
    records.push(record(103, None, &s, vec![Value::Null, Value::from("n")]));
    records.extend(rows(104, 10, &s));
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [7, 100, 101, 102, 103]);
    for rejected in &rejected {
        let text = rejected.error.trace();
        assert_eq!(rejected.error.kind(), ErrorKind::Data);
        assert!(text.contains("\"public\".\"t\"") && text.contains("t-0@") && !text.contains("secret"), "{text}");
    }
    assert!(rejected[1].error.to_string().contains("column \"id\""));
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "109");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_over_a_bad_row_leaves_nothing_half_written() {
    let db = table("CREATE TABLE t (id smallint, v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let mut records = rows(0, 3, &s);
    records[1] = record(1, None, &s, vec![Value::Int32(70_000), Value::from("x")]);
    assert_eq!(sink.task.put(&records).await.unwrap().len(), 1);
    sink.task.close().await;
    assert_eq!(db.text("SELECT count(*) FROM t").await, "0");
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    assert!(sink.task.assigned(&[(partition, 100)]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_rows_are_recognised_and_others_rejected() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v text, j json)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String), ("j", Type::String)]);
    let row = |offset: i64, id: i32, v: &str| {
        record(offset, None, &s, vec![Value::Int32(id), Value::from(v), Value::from("{\"a\":1}")])
    };
    let first: Vec<_> = (0..1000).map(|id| row(i64::from(id), id, "v")).collect();
    assert!(sink.task.put(&first).await.unwrap().is_empty());
    // The same rows at new offsets, some new ones, one twice in the batch, one that differs.
    let mut again: Vec<_> = (500..1500).map(|id| row(i64::from(id) + 500, id, "v")).collect();
    again.push(row(2000, 1499, "v"));
    again.push(row(2001, 3, "other"));
    again.push(row(2002, 2000, "v"));
    let rejected = sink.task.put(&again).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1001]);
    assert!(rejected[0].error.to_string().contains("upsert"), "{}", rejected[0].error);
    assert!(sink.task.put(&[row(2003, 2000, "v")]).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) || ' ' || count(DISTINCT v) FROM t").await, "1501 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_redelivered_rows_are_quick() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let first = rows(0, 200_000, &s);
    assert!(sink.task.put(&first).await.unwrap().is_empty());
    let mut again = rows(0, 200_000, &s);
    again.iter_mut().for_each(|record| record.origin.offset += 200_000);
    let start = std::time::Instant::now();
    for batch in again.chunks(50_000) {
        assert!(sink.task.put(batch).await.unwrap().is_empty());
    }
    println!("200,000 redelivered rows in {:?}", start.elapsed());
    assert_eq!(db.text("SELECT count(*) FROM t").await, "200000");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_stored_with_the_rows() {
    let db = table("CREATE TABLE t (id int, v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    let assigned = [(partition.clone(), 100)];
    assert!(sink.task.assigned(&assigned).await.unwrap().is_empty());
    sink.task.put(&rows(0, 10, &s)).await.unwrap();
    // A second task takes over and gets what the group had not committed, and more.
    let mut other = Sink::open(&props(&db, &[])).await.unwrap();
    assert_eq!(other.task.assigned(&assigned).await.unwrap(), [(partition.clone(), 10)]);
    other.task.put(&rows(5, 10, &s)).await.unwrap();
    // The first one does not know that yet.
    sink.task.put(&rows(10, 10, &s)).await.unwrap();
    assert_eq!(db.text("SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await, "20 20");
    assert_eq!(db.text("SELECT next_offset FROM towline_offsets").await, "20");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_privilege_records_come_at_least_once_and_the_status_says_so() {
    let db = table("CREATE TABLE t (id int, v text); REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let role = format!("poor_{}", db.name);
    db.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON t TO {role}")).await;
    let entries = [("connection.user", role.as_str()), ("connection.password", "x")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    assert!(sink.health.message().unwrap().contains("sink.exactly.once"));
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    assert!(sink.task.put(&rows(0, 3, &s)).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) FROM t").await, "3");
    let mut strict = props(&db, &entries);
    strict.insert("sink.exactly.once".to_owned(), "required".to_owned());
    assert!(Sink::open(&strict).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_waited_for_then_its_records_are_refused() {
    let db = shared().database().await;
    let mut sink = Sink::open(&props(&db, &[("max.retries", "2")])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let records = rows(0, 3, &s);
    let error = sink.task.put(&records).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable);
    assert!(error.to_string().contains("is missing and auto-creation is disabled"), "{error}");
    db.run("CREATE TABLE t (id int, v text)").await;
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert!(sink.health.message().is_none());
    db.run("DROP TABLE t").await;
    let more = rows(3, 3, &s);
    for _ in 0..2 {
        assert_eq!(sink.task.put(&more).await.unwrap_err().kind(), ErrorKind::Retriable);
    }
    // Waited for long enough: now the records are at fault, and the config says what happens to such.
    let rejected = sink.task.put(&more).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(rejected[0].error.to_string().contains("auto-creation is disabled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_and_schemaless_values_are_rejected_with_advice() {
    let db = table("CREATE TABLE t (id int, v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let mut bare = record(1, None, &s, Vec::new());
    bare.record.value = Datum::schemaless(Value::Map(Vec::new()));
    let records = [tombstone(0, 1), bare, record(2, None, &s, vec![Value::Int32(1), Value::from("x")])];
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1]);
    assert!(rejected[0].error.to_string().contains("delete.enabled"));
    assert!(rejected[1].error.to_string().contains("no fields"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_and_doubles_nothing() {
    let server = PostgresServer::start();
    let db = server.database().await;
    db.run("CREATE TABLE t (id int, v text)").await;
    let mut sink = Sink::open(&props(&db, &[("max.retries", "1")])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    assert!(sink.task.put(&rows(0, 10, &s)).await.unwrap().is_empty());
    db.run("CHECKPOINT").await;
    server.crash();
    let records = rows(10, 10, &s);
    for _ in 0..5 {
        let error = sink.task.put(&records).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retriable, "outages do not count: {error}");
    }
    assert!(sink.health.message().is_some());
    server.resume();
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert!(sink.health.message().is_none());
    assert_eq!(db.text("SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await, "20 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_told_at_the_url() {
    let db = shared().database().await;
    let config = props(&db, &[("connection.password", "wrong")]);
    let keys: Vec<_> = JdbcSinkConnector::CONFLUENT.check(&config).await.into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["connection.url"]);
    let context = SinkContext {
        connector: "s".into(),
        task: 0,
        group: ConsumerGroup { cluster: "k".into(), name: "g".into() },
        stop: tokio_util::sync::CancellationToken::new(),
        health: Health::default(),
    };
    assert_eq!(JdbcSinkConnector::CONFLUENT.open(&config, context).await.err().unwrap().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_tombstone_makes_gets_its_columns_from_rows() {
    let db = shared().database().await;
    let entries = [
        ("auto.create", "true"),
        ("auto.evolve", "true"),
        ("pk.mode", "record_key"),
        ("pk.fields", "k"),
        ("delete.enabled", "true"),
        ("insert.mode", "upsert"),
    ];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    assert!(sink.task.put(&[tombstone(0, 1)]).await.unwrap().is_empty());
    assert_eq!(
        db.text("SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")
            .await,
        "k"
    );
    let s = schema(&[("v", Type::String)]);
    let set = |offset, key, text: &str| record(offset, Some(key), &s, vec![Value::from(text)]);
    // Deleted and written again, written and deleted, within one batch.
    let records = [set(1, 1, "a"), tombstone(2, 1), set(3, 1, "b"), set(4, 2, "c"), tombstone(5, 2), tombstone(6, 3)];
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(k || v, ' ') FROM t").await, "1b");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_unique_key_equal_rows_are_rows_of_their_own() {
    let db = table("CREATE TABLE t (id int CHECK (id < 100), v text); INSERT INTO t VALUES (1, 'v1')").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let row = |offset, id: i32| record(offset, None, &s, vec![Value::Int32(id), Value::from(format!("v{id}"))]);
    // The bad row makes the batch be written carefully.
    let rejected = sink.task.put(&[row(0, 1), row(1, 1), row(2, 100)]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [2]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t WHERE id = 1").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_in_the_batch_that_creates_the_table_fails_only_itself() {
    let db = shared().database().await;
    let entries = [("auto.create", "true"), ("pk.mode", "record_value"), ("pk.fields", "id")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    let row = |offset, id: i32, v: &str| record(offset, None, &s, vec![Value::Int32(id), Value::from(v)]);
    let rejected = sink.task.put(&[row(0, 1, "a"), row(1, 1, "b"), row(2, 2, "c")]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(v, '' ORDER BY id) FROM t").await, "ac");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_create_and_evolve_one_table_at_once_all_go_on() {
    let db = shared().database().await;
    let (narrow, wide) =
        (schema(&[("id", Type::Int32)]), schema(&[("id", Type::Int32), ("v", Type::String), ("w", Type::String)]));
    let tasks: Vec<_> = (0..8)
        .map(|task: i32| {
            let (db, narrow, wide) = (db.clone(), Arc::clone(&narrow), Arc::clone(&wide));
            tokio::spawn(async move {
                let entries = [("auto.create", "true"), ("auto.evolve", "true")];
                let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
                for round in 0..4 {
                    let (shape, mut values) = if round % 2 == 0 { (&narrow, vec![]) } else { (&wide, vec![]) };
                    values.push(Value::Int32(task));
                    values.resize(shape.fields.len(), Value::from("x"));
                    let mut record = record(round, None, shape, values);
                    record.record.topic = format!("t{}", round / 2).into();
                    record.origin.partition = task;
                    assert!(sink.task.put(&[record]).await.unwrap().is_empty());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(db.text("SELECT (SELECT count(*) FROM t0) || ' ' || (SELECT count(v || w) FROM t1)").await, "16 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_refuse_or_twist_copy_get_inserts() {
    let db = table(
        "CREATE TABLE base (id int, v text UNIQUE); CREATE VIEW a_view AS SELECT id, v FROM base; \
         CREATE TABLE ruled (id int, v text); \
         CREATE RULE r AS ON INSERT TO ruled DO INSTEAD INSERT INTO base VALUES (NEW.id, NEW.v); \
         CREATE TABLE secured (id int, v text); ALTER TABLE secured ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON secured USING (true) WITH CHECK (id < 100)",
    )
    .await;
    let role = format!("plain_{}", db.name);
    db.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT ALL ON SCHEMA public TO {role}"
    ))
    .await;
    let s = schema(&[("id", Type::Int32), ("v", Type::String)]);
    for name in ["a_view", "ruled", "secured"] {
        let entries = [("table.name.format", name), ("connection.user", role.as_str()), ("connection.password", "x")];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        let first = rows(if name == "ruled" { 10 } else { 0 }, 3, &s);
        assert!(sink.task.put(&first).await.unwrap().is_empty(), "{name}");
    }
    assert_eq!(db.text("SELECT (SELECT count(*) FROM base) || ' ' || (SELECT count(*) FROM secured)").await, "6 3");
    // A value that no index takes is the row's fault.
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "base")])).await.unwrap();
    let noise: String =
        (0..20_000_u32).map(|at| char::from(b'!' + (at.wrapping_mul(at ^ 0x9e37_79b9) >> 13) as u8 % 90)).collect();
    let records = [record(0, None, &s, vec![Value::Int32(50), Value::from(noise)]), rows(51, 1, &s).remove(0)];
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0]);
}
