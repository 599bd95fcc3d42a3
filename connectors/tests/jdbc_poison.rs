//! The sink: rows that the target refuses are found and told, and nothing else is lost for them.

use std::sync::Arc;

use towline_connectors::api::{ErrorKind, SinkRecord};
use towline_connectors::data::{Datum, Schema, Type, Value};

use crate::jdbc_harness::{Sink, at, props, structure};
use crate::postgres_server::{Database, shared};

fn row(offset: i64, id: i32, text: &str) -> SinkRecord {
    let fields = vec![
        ("id", Schema::new(Type::Int32).optional(), Value::Int32(id)),
        ("v", Schema::new(Type::String).optional(), Value::from(text)),
    ];
    at(offset, Datum::default(), structure(fields))
}

fn rows(ids: impl Iterator<Item = i32>) -> Vec<SinkRecord> {
    ids.map(|id| row(i64::from(id), id, "fine")).collect()
}

/// A table whose trigger looks for a table that is not there when a row's text is `odd`.
const ODD_FAILS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.v = 'odd' THEN PERFORM * FROM nowhere; END IF; RETURN NEW; END $$;
    CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION look()";

async fn table(sql: &str) -> Database {
    let db = shared().database().await;
    db.run(sql).await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_violation_is_told_with_its_column_or_constraint() {
    let db = table(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 30); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF NEW.id = 12 THEN RAISE EXCEPTION 'not on Sundays' USING ERRCODE = 'SU001'; END IF; RETURN NEW; END $$; \
         CREATE TABLE t (id int NOT NULL CONSTRAINT has_parent REFERENCES parent, v varchar(6), d date, ip inet, n numeric(4,1), \
           CONSTRAINT small CHECK (id <> 25)); \
         CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let text = || Schema::new(Type::String).optional();
    let record = |id: i32, column: &'static str, value: Value| {
        let mut fields = vec![
            ("id", Schema::new(Type::Int32).optional(), if id < 0 { Value::Null } else { Value::Int32(id) }),
            ("v", text(), Value::from("fine")),
            ("d", text(), Value::from("2024-02-29")),
            ("ip", text(), Value::from("::1")),
            ("n", text(), Value::from("1")),
        ];
        if let Some(field) = fields.iter_mut().find(|(name, ..)| *name == column) {
            field.2 = value;
        }
        at(0, Datum::default(), structure(fields))
    };
    let bad = [
        (3, "v", "secret-too-long", "column \"v\" (STRING into character varying(6))"),
        (4, "d", "secret", "column \"d\" (STRING into date)"),
        (5, "ip", "secret", "column \"ip\" (STRING into inet)"),
        (6, "n", "secret", "column \"n\" (STRING into numeric(4,1))"),
        (7, "n", "123456", "22003"),
        (12, "", "", "not on Sundays"),
        (25, "", "", "small"),
        (99, "", "", "has_parent"),
        (-1, "", "", "\"id\""),
    ];
    let mut records: Vec<SinkRecord> = (0..3).map(|id| record(id, "", Value::Null)).collect();
    records.extend(bad.iter().map(|(id, column, value, _)| record(*id, column, Value::from(*value))));
    records.extend((20..23).map(|id| record(id, "", Value::Null)));
    records.iter_mut().zip(0..).for_each(|(record, offset)| record.origin.offset = offset);
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), (3..12).collect::<Vec<_>>());
    for (rejected, (.., part)) in rejected.iter().zip(bad) {
        let said = rejected.error.trace();
        assert_eq!(rejected.error.kind(), ErrorKind::Data);
        assert!(said.contains(part) && !said.contains("secret") && !said.contains("123456"), "{part}: {said}");
        assert!(said.contains(&format!("t-0@{}", rejected.index)) && said.contains("\"public\".\"t\""), "{said}");
    }
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM t").await, "0,1,2,20,21,22");
    assert_eq!(db.text("SELECT next_offset FROM towline_offsets").await, "15");
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_that_wait_for_the_commit_are_the_rows_fault_too() {
    let db = table(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 9); \
         CREATE TABLE t (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED, v text CHECK (v <> 'bad'))",
    )
    .await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let mut records = rows(0..10);
    records.push(row(10, 77, "orphan"));
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [10]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_a_bad_row_is_looked_for_rejects_no_good_row() {
    // A session that writes row 13 alone, or with few others, is ended by the server, until the fuse is gone.
    let db = table(
        "CREATE TABLE fuse (n int); INSERT INTO fuse VALUES (1); CREATE TABLE t (id int, v text CHECK (v <> 'bad')); \
         CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF (SELECT count(*) FROM written) <= 4 AND EXISTS (SELECT FROM written WHERE id = 13) AND EXISTS (SELECT FROM fuse) \
           THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$; \
         CREATE TRIGGER c AFTER INSERT ON t REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION cut()",
    )
    .await;
    let mut sink = Sink::open(&props(&db, &[("max.retries", "1")])).await.unwrap();
    let mut records = rows(0..32);
    records[12] = row(12, 12, "bad");
    for _ in 0..4 {
        let error = sink.task.put(&records).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retriable, "{error}");
        assert!(sink.health.message().is_some());
    }
    assert_eq!(db.text("SELECT count(*) FROM t").await, "0");
    db.run("DELETE FROM fuse").await;
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [12]);
    sink.task.flush().await.unwrap();
    assert!(sink.health.message().is_none());
    assert_eq!(db.text("SELECT count(*) || ' ' || count(DISTINCT id) FROM t").await, "31 31");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_among_upserts_and_deletions_are_found() {
    let db = table(
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(4)); CREATE TABLE kid (id int REFERENCES t); \
                    INSERT INTO t VALUES (1, 'old'), (2, 'old'), (3, 'old'); INSERT INTO kid VALUES (2)",
    )
    .await;
    let entries =
        [("insert.mode", "upsert"), ("pk.mode", "record_key"), ("pk.fields", "id"), ("delete.enabled", "true")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let key = |id: i32| Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Int32(id));
    let set = |offset, id, text: &str| {
        at(offset, key(id), structure(vec![("v", Schema::new(Type::String).optional(), Value::from(text))]))
    };
    let gone = |offset, id| at(offset, key(id), Datum::default());
    let records = [set(0, 1, "new"), gone(1, 2), set(2, 3, "too long"), gone(3, 9), set(4, 4, "four"), gone(5, 3)];
    let rejected = sink.task.put(&records).await.unwrap();
    // The row that is too long was deleted later, but is told all the same.
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 2]);
    assert!(rejected[0].error.to_string().contains("kid_id_fkey"), "{}", rejected[0].error);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(t::text, ' ' ORDER BY id) FROM t").await, "(1,new) (2,old) (4,four)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_takes_no_earlier_row_of_its_key_with_it() {
    let db = table(
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(4)); INSERT INTO t VALUES (2, 'old'); \
         CREATE TABLE other (id int PRIMARY KEY, v text)",
    )
    .await;
    let entries = [
        ("insert.mode", "upsert"),
        ("pk.mode", "record_value"),
        ("pk.fields", "id"),
        ("table.name.format", "${topic}"),
    ];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let other = |offset, id| {
        let mut other = row(offset, id, "there");
        other.record.topic = "other".into();
        other
    };
    // What the server refuses, then what has no form for it.
    for (at, bad) in [(0, "too long"), (10, "a\0")] {
        let records =
            [row(at, 1, "ok"), row(at + 1, 1, bad), other(at + 2, 1), row(at + 3, 2, "new"), row(at + 4, 2, "last")];
        let rejected = sink.task.put(&records).await.unwrap();
        assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1], "{bad}");
        sink.task.flush().await.unwrap();
        assert_eq!(db.text("SELECT string_agg(t::text, ' ' ORDER BY id) FROM t").await, "(1,ok) (2,last)");
        db.run("TRUNCATE t").await;
    }
    assert_eq!(db.text("SELECT count(*) FROM other").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_at_the_commit_is_found_beside_rows_without_a_form() {
    let db = table(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1); \
         CREATE TABLE t (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED, v text)",
    )
    .await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let rejected = sink.task.put(&[row(0, 1, "fine"), row(1, 1, "a\0"), row(2, 77, "orphan")]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 2]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_bad_rows_is_no_catastrophe() {
    let db = table("CREATE TABLE t (id int CHECK (id % 3 > 0), v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let start = std::time::Instant::now();
    let rejected = sink.task.put(&rows(0..3000)).await.unwrap();
    println!("1,000 bad rows of 3,000 in {:?}", start.elapsed());
    assert_eq!(rejected.len(), 1000);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_row_behind_many_rows_ends_the_straight_way_and_nothing_else() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let first = row(0, 0, "");
    let schema = first.record.value.schema.clone().unwrap();
    let filling = "x".repeat(200);
    let alike = |offset: i64, id: i32| {
        let values = vec![Value::Int32(id), Value::from(filling.as_str())];
        at(offset, Datum::default(), Datum::new(Arc::clone(&schema), Value::Struct(values)))
    };
    // The server has seen the row that it refuses long before the record without a value comes.
    for twice in [None, Some(5)] {
        let start = if twice.is_some() { 3000 } else { 0 };
        let mut records: Vec<SinkRecord> = (start..start + 2999)
            .map(|id| alike(id.into(), if twice.is_some() && id == 3001 { 3000 } else { id }))
            .collect();
        records.push(at(i64::from(start) + 2999, Datum::default(), Datum::default()));
        let rejected = sink.task.put(&records).await.unwrap();
        let places: Vec<usize> = rejected.iter().map(|rejected| rejected.index).collect();
        // A row that repeats another one in full is taken as redelivered.
        assert_eq!(places, [2999]);
        sink.task.flush().await.unwrap();
    }
    assert_eq!(db.text("SELECT concat_ws('|', count(*), max(id)) FROM t").await, "5997|5998");
    assert_eq!(db.text("SELECT next_offset FROM towline_offsets").await, "6000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_refused_and_not_cut() {
    let types = [
        ("varchar(3)[]", "{abc}", "{abcd}"),
        ("char(3)[]", "{abc}", "{abcd}"),
        ("bit(3)", "101", "1011"),
        ("varbit(3)", "101", "1011"),
        ("bit(3)[]", "{101}", "{1011}"),
        ("short", "abc", "abcd"),
        ("short_list", "{abc}", "{abcd}"),
    ];
    for (kind, good, bad) in types {
        for mode in ["insert", "update", "upsert"] {
            let db = table(&format!(
                "CREATE DOMAIN short AS varchar(3); CREATE DOMAIN short_list AS varchar(3)[]; \
                 CREATE TABLE t (id int PRIMARY KEY, v {kind})"
            ))
            .await;
            if mode != "insert" {
                db.run("INSERT INTO t VALUES (1), (2)").await;
            }
            let entries = [("insert.mode", mode), ("pk.mode", "record_value"), ("pk.fields", "id")];
            let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
            let row = |id: i32, v: &str| {
                let fields = vec![
                    ("id", Schema::new(Type::Int32).optional(), Value::Int32(id)),
                    ("v", Schema::new(Type::String).optional(), Value::from(v)),
                ];
                at(i64::from(id), Datum::default(), structure(fields))
            };
            let rejected = sink.task.put(&[row(1, good), row(2, bad)]).await.unwrap();
            assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1], "{kind} {mode}");
            sink.task.flush().await.unwrap();
            assert_eq!(db.text("SELECT v::text FROM t WHERE id = 1").await, good, "{kind} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_rounds_is_recognised_when_it_comes_again() {
    let db = table("CREATE TABLE t (at timestamp(3) PRIMARY KEY, n numeric(4,1)[])").await;
    let row = |offset| {
        let fields = vec![
            ("at", Schema::new(Type::String).optional(), Value::from("2024-02-29 12:30:45.1234")),
            ("n", Schema::new(Type::String).optional(), Value::from("{1.24}")),
        ];
        at(offset, Datum::default(), structure(fields))
    };
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    for offset in 0..2 {
        assert!(sink.task.put(&[row(offset)]).await.unwrap().is_empty());
    }
    assert_eq!(db.text("SELECT string_agg(t::text, ' ') FROM t").await, "(\"2024-02-29 12:30:45.123\",{1.2})");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_beyond_all_timestamps_is_refused() {
    let db = table("CREATE TABLE t (d timestamp)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let far = structure(vec![("d", towline_connectors::data::date(), Value::Int32(i32::MAX - 1))]);
    assert_eq!(sink.task.put(&[at(0, Datum::default(), far)]).await.unwrap().len(), 1);
}

/// Types of extensions and of text search report what they can't read as errors of the statement, with the value in
/// the words.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_pass_for_errors_of_the_statement_are_told_by_column() {
    let casts = [
        ("tsquery", "SECRET VALUE", "fine"),
        ("jsonpath", "$.SECRET VALUE", "$.fine"),
        ("regclass", "SECRET", "pg_class"),
        ("regtype", "SECRET", "int4"),
        ("hstore", "SECRET", "a=>1"),
        ("name", &"SECRET".repeat(20), "fine"),
        ("json", "{SECRET", "{}"),
        ("jsonb", "{\"a\":SECRET}", "{}"),
        ("bit(3)", "1111", "101"),
        ("varbit(2)", "111", "10"),
    ];
    for (kind, bad, good) in casts {
        for mode in ["insert", "upsert"] {
            let extension = if kind == "hstore" { "CREATE EXTENSION hstore;" } else { "" };
            let db = table(&format!("{extension} CREATE TABLE t (id int PRIMARY KEY, v {kind})")).await;
            let config = props(
                &db,
                &[("insert.mode", mode), ("pk.mode", "record_value"), ("pk.fields", "id"), ("max.retries", "0")],
            );
            let mut sink = Sink::open(&config).await.unwrap();
            let records = [row(0, 0, good), row(1, 1, bad), row(2, 2, good)];
            let rejected = sink.task.put(&records).await.unwrap();
            assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1], "{kind}, {mode}");
            let said = rejected[0].error.trace();
            assert!(said.contains("column \"v\"") && said.contains("t-0@1"), "{kind}: {said}");
            assert!(!said.to_lowercase().contains("secret"), "{kind}: {said}");
            sink.task.flush().await.unwrap();
            assert_eq!(db.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM t").await, "0,2", "{kind}, {mode}");
            // Alone too.
            assert_eq!(sink.task.put(&[row(3, 3, bad)]).await.unwrap().len(), 1, "{kind}, {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_works_for_no_row_is_no_row_s_fault() {
    let db = table(ODD_FAILS).await;
    let mut sink = Sink::open(&props(&db, &[("max.retries", "0")])).await.unwrap();
    let mixed: Vec<SinkRecord> =
        (0..40).map(|id| row(i64::from(id), id, if id % 9 == 0 { "odd" } else { "v" })).collect();
    let rejected = sink.task.put(&mixed).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 9, 18, 27, 36]);
    assert!(rejected[0].error.to_string().contains("42P01"), "{}", rejected[0].error);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "35");
    let odd: Vec<SinkRecord> = (40..80).map(|id| row(i64::from(id), id, "odd")).collect();
    let error = sink.task.put(&odd).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("max.retries=0"), "{error}");
    assert_eq!(db.text("SELECT count(*) FROM t").await, "35");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_values_that_a_type_refuses_are_all_rejected() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v regclass)").await;
    let mut sink = Sink::open(&props(&db, &[("max.retries", "0")])).await.unwrap();
    let bad: Vec<SinkRecord> = (0..60).map(|id| row(i64::from(id), id, "nowhere")).collect();
    assert_eq!(sink.task.put(&bad).await.unwrap().len(), 60);
    sink.task.flush().await.unwrap();
    let good: Vec<SinkRecord> = (60..90).map(|id| row(i64::from(id), id, "pg_class")).collect();
    assert!(sink.task.put(&good).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) FROM t").await, "30");
}

/// Nor is a type that may not be used the fault of all values.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_is_no_row_s_fault() {
    let db = table(
        "CREATE SCHEMA hidden; CREATE TYPE hidden.pair AS (a int, b int); CREATE TABLE t (id int, v hidden.pair);
         CREATE ROLE poor_reader LOGIN PASSWORD 'x'; GRANT SELECT, INSERT ON t TO poor_reader; GRANT CREATE ON SCHEMA public TO poor_reader",
    )
    .await;
    let entries = [("connection.user", "poor_reader"), ("connection.password", "x"), ("max.retries", "0")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let records: Vec<SinkRecord> = (0..40).map(|id| row(i64::from(id), id, "(1,2)")).collect();
    let error = sink.task.put(&records).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("permission denied"), "{error}");
    db.run("GRANT USAGE ON SCHEMA hidden TO poor_reader").await;
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    db.run("DROP TABLE t, towline_offsets; DROP OWNED BY poor_reader; DROP ROLE poor_reader").await;
}

/// A statement that changes nothing works too.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_beside_updates_of_nothing_fails_alone() {
    let db = table(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old');
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.v LIKE 'odd%' THEN EXECUTE format('SELECT 1 FROM %I', NEW.v); END IF; RETURN NEW; END $$;
         CREATE TRIGGER r BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look()",
    )
    .await;
    let entries = [("insert.mode", "update"), ("pk.mode", "record_value"), ("pk.fields", "id"), ("max.retries", "0")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let rejected = sink.task.put(&[row(0, 7, "v"), row(1, 1, "odd_secret"), row(2, 8, "v")]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1]);
    let said = rejected[0].error.trace();
    assert!(said.contains("SQLSTATE 42P01") && !said.contains("secret"), "{said}");
}

/// The first rows of a put may all be bad, and the stage not yet made when a load ends.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_come_first_and_more_than_a_few_fail() {
    let db = table(ODD_FAILS).await;
    let entries = [("insert.mode", "upsert"), ("pk.mode", "record_value"), ("pk.fields", "id"), ("max.retries", "0")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let rejected = sink.task.put(&[row(0, 1, "a\0b"), row(1, 1, "fine"), row(2, 2, "fine")]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0]);
    sink.task.flush().await.unwrap();
    let mixed: Vec<SinkRecord> = (3..63).map(|id| row(i64::from(id), id, if id < 40 { "odd" } else { "v" })).collect();
    let rejected = sink.task.put(&mixed).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), (0..37).collect::<Vec<_>>());
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "25");
}

/// What PostgreSQL's own casts refuse is refused here, and what they take is taken.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_read_as_the_server_reads_them() {
    let zeros = "0".repeat(131_071);
    let digits = "7".repeat(131_072);
    let cases = [
        ("double precision", "1e400", false),
        ("double precision", "1e-400", false),
        ("double precision", "0e-400", true),
        ("double precision", "-Infinity", true),
        ("real", "1e-50", false),
        ("real", "16777217", true),
        ("real", "1e39", false),
        ("numeric", "1e-40000", false),
        ("numeric", "1_000", false),
        ("numeric", "1e131071", true),
        ("numeric", "1e131072", false),
        ("numeric", &digits, true),
        ("numeric", &format!("{digits}7"), false),
        ("numeric", &format!("1{zeros}.5"), true),
        ("numeric", " -.5e1 ", true),
    ];
    for (kind, text, fits) in cases {
        let shown = &text[..text.len().min(20)];
        let db = table(&format!("CREATE TABLE t (id int, v {kind})")).await;
        let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
        let rejected = sink.task.put(&[row(0, 0, "1"), row(1, 1, text)]).await.unwrap();
        assert_eq!(rejected.len(), usize::from(!fits), "{kind} {shown}");
        sink.task.flush().await.unwrap();
        let theirs = format!("SELECT '{text}'::{kind} IS NOT DISTINCT FROM v FROM t WHERE id = 1");
        if fits {
            assert_eq!(db.text(&theirs).await, "true", "{kind} {shown}");
        }
        assert_eq!(db.text("SELECT count(*) FROM t").await, if fits { "2" } else { "1" });
    }
    let db = table("CREATE TABLE t (id int, v bytea)").await;
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let number = structure(vec![
        ("id", Schema::new(Type::Int32), Value::Int32(1)),
        ("v", Schema::new(Type::Int32), Value::Int32(5)),
    ]);
    let rejected = sink.task.put(&[at(0, Datum::default(), number)]).await.unwrap();
    assert!(rejected[0].error.to_string().contains("(INT32 into bytea)"), "{}", rejected[0].error);
}

/// A few bytes say that a number has two billion digits.
#[tokio::test(flavor = "multi_thread")]
async fn enormous_decimals_are_refused_or_written_with_exponents() {
    let db = table("CREATE TABLE t (id int, v numeric); CREATE TABLE u (id int, v text)").await;
    let decimal = |id: i32, unscaled: Vec<u8>, scale: i32| {
        let value = Value::Bytes(unscaled.into());
        let fields = vec![
            ("id", Schema::new(Type::Int32), Value::Int32(id)),
            ("v", towline_connectors::data::decimal(scale), value),
        ];
        at(i64::from(id), Datum::default(), structure(fields))
    };
    let records = [
        decimal(0, vec![5], 1),
        decimal(1, vec![5], i32::MIN),
        decimal(2, vec![5], i32::MAX),
        decimal(3, vec![0x7f; 54_431], 2),
        decimal(4, vec![5], -140_000),
        decimal(5, vec![5], 100_000),
        decimal(6, vec![5], -131_071),
    ];
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "t")])).await.unwrap();
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    sink.task.flush().await.unwrap();
    assert_eq!(
        db.text("SELECT string_agg(id || ':' || length(v::text), ',' ORDER BY id) FROM t").await,
        "0:3,6:131072"
    );
    let mut sink =
        Sink::open(&props(&db, &[("table.name.format", "u"), ("sink.exactly.once", "disabled")])).await.unwrap();
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT v FROM u WHERE id = 1").await, "5E2147483648");
    assert_eq!(db.text("SELECT length(v) FROM u WHERE id = 5").await, "100002");
}
