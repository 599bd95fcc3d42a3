//! The sink: rows on their way through the stage, and which of one key stays.

use std::sync::Arc;

use towline_connectors::api::SinkRecord;
use towline_connectors::data::{Datum, Schema, Type, Value};

use crate::jdbc_harness::{Sink, props};
use crate::jdbc_sink::{record, schema, table};

/// Rows are staged by threes here, and a key that comes again ends a load; so many of them are sorted first.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_each_key_stays_however_rows_are_staged() {
    let s = schema(&[("v", Type::String)]);
    for (mode, left) in [("upsert", 40), ("update", 20)] {
        for keys in [40, 7, 2] {
            let db = table(
                "CREATE TABLE t (k int PRIMARY KEY, v text, written int DEFAULT 0);
                 INSERT INTO t SELECT generate_series(0, 19), 'old'",
            )
            .await;
            let keyed = [("insert.mode", mode), ("pk.mode", "record_key"), ("pk.fields", "k"), ("batch.size", "3")];
            let mut sink = Sink::open(&props(&db, &keyed)).await.unwrap();
            let puts: Vec<SinkRecord> = (0..100)
                .map(|at| record(at, Some((at % keys) as i32), &s, vec![Value::from(format!("v{at}"))]))
                .collect();
            for put in puts.chunks(50) {
                assert!(sink.task.put(put).await.unwrap().is_empty());
            }
            let wrong = format!(
                "SELECT count(*) FROM t WHERE v IS DISTINCT FROM CASE WHEN k < {keys}
                 THEN 'v' || (SELECT max(at) FROM generate_series(0, 99) at WHERE at % {keys} = k) ELSE 'old' END"
            );
            assert_eq!(db.text(&wrong).await, "0", "{mode}, {keys} keys");
            assert_eq!(db.text("SELECT count(*) FROM t").await, left.min(keys.max(20)).to_string());
        }
    }
}

/// To ON CONFLICT a null equals nothing.
#[tokio::test(flavor = "multi_thread")]
async fn upserts_without_a_key_are_rows_of_their_own() {
    for (kind, size) in [("int", 10), ("int", 60), ("numeric", 60)] {
        let db = table(&format!("CREATE TABLE t (k {kind} UNIQUE, v text)")).await;
        let config = props(&db, &[("insert.mode", "upsert"), ("pk.mode", "record_value"), ("pk.fields", "k")]);
        let mut sink = Sink::open(&config).await.unwrap();
        let s = schema(&[("k", Type::Int32), ("v", Type::String)]);
        let put: Vec<SinkRecord> =
            (0..size).map(|at| record(at, None, &s, vec![Value::Null, Value::from(format!("v{at}"))])).collect();
        assert!(sink.task.put(&put).await.unwrap().is_empty());
        assert_eq!(db.text("SELECT count(DISTINCT v) FROM t").await, size.to_string(), "{kind}");
    }
}

/// Keys may be equal to the server only: the last row of each counts all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_keys_that_differ_in_bytes_stays() {
    let s = schema(&[("k", Type::String), ("v", Type::String)]);
    let put = |keys: &[&str]| -> Vec<SinkRecord> {
        let row =
            |(at, key): (i64, &&str)| record(at, None, &s, vec![Value::from(*key), Value::from(format!("{key}{at}"))]);
        (0..).zip(keys).map(row).collect()
    };
    for (kind, one, same) in [
        ("citext", "a", "A"),
        ("numeric", "1.0", "1.00"),
        ("char(3)", "b", "b "),
        ("inet", "::1", "0::1"),
        ("timestamptz", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00+00"),
        ("numeric(4,1)", "1.01", "1.02"),
    ] {
        for mode in ["update", "upsert"] {
            let extension = if kind == "citext" { "CREATE EXTENSION citext;" } else { "" };
            let db = table(&format!(
                "{extension} CREATE TABLE t (k {kind} PRIMARY KEY, v text); INSERT INTO t VALUES ('{one}', 'old')"
            ))
            .await;
            let config = props(&db, &[("insert.mode", mode), ("pk.mode", "record_value"), ("pk.fields", "k")]);
            let mut sink = Sink::open(&config).await.unwrap();
            assert!(sink.task.put(&put(&[one, same, one, same])).await.unwrap().is_empty());
            assert_eq!(db.text("SELECT string_agg(v, ',') FROM t").await, format!("{same}3"), "{kind}, {mode}");
        }
    }
    let db = table("CREATE EXTENSION citext; CREATE TABLE t (k citext PRIMARY KEY, v text)").await;
    let keyed = [("insert.mode", "upsert"), ("pk.mode", "record_key"), ("pk.fields", "k"), ("delete.enabled", "true")];
    let mut sink = Sink::open(&props(&db, &keyed)).await.unwrap();
    let of = |offset, key: &str, v: Option<&str>| {
        let value = schema(&[("v", Type::String)]);
        let mut made = record(offset, None, &value, vec![Value::from(v.unwrap_or_default())]);
        if v.is_none() {
            made.record.value = Datum::default();
        }
        made.record.key = Datum::new(Arc::new(Schema::new(Type::String)), Value::from(key));
        made
    };
    let put = [of(0, "A", Some("gone")), of(1, "a", None), of(2, "b", None), of(3, "B", Some("there"))];
    assert!(sink.task.put(&put).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(k || v, ',') FROM t").await, "Bthere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_among_staged_ones_fails_alone_and_in_its_place() {
    let db = table("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'v5'), w inet)").await;
    let config =
        props(&db, &[("insert.mode", "upsert"), ("pk.mode", "record_value"), ("pk.fields", "id"), ("batch.size", "4")]);
    let mut sink = Sink::open(&config).await.unwrap();
    let s = schema(&[("id", Type::Int32), ("v", Type::String), ("w", Type::String)]);
    let row = |at: i64, id: i32, w: &str| {
        record(at, None, &s, vec![Value::Int32(id), Value::from(format!("v{at}")), Value::from(w)])
    };
    let mut put: Vec<SinkRecord> = (0..12).map(|at| row(at, at as i32, "10.0.0.1")).collect();
    put[9] = row(9, 2, "none");
    let rejected = sink.task.put(&put).await.unwrap();
    assert_eq!(rejected.iter().map(|rejected| rejected.index).collect::<Vec<_>>(), [5, 9]);
    sink.task.flush().await.unwrap();
    assert_eq!(
        db.text("SELECT string_agg(id || v, ',' ORDER BY id) FROM t").await,
        "0v0,1v1,2v2,3v3,4v4,6v6,7v7,8v8,10v10,11v11"
    );
}
