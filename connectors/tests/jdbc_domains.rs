//! Columns whose length is hidden in domains, arrays and composites: what is too long is refused, never cut.

use std::sync::Arc;

use towline_connectors::data::{Datum, Schema, Type, Value};

use crate::jdbc_harness::{Sink, Source, at, props, structure};
use crate::jdbc_source::field;
use crate::postgres_server::shared;

const TYPES: &str = "CREATE DOMAIN d1 AS varchar(3); CREATE DOMAIN d2 AS d1; CREATE DOMAIN d3 AS d2 NOT NULL; \
     CREATE DOMAIN c1 AS char(3); CREATE DOMAIN c2 AS c1; CREATE DOMAIN c3 AS c2; CREATE DOMAIN b1 AS bit varying(3); \
     CREATE DOMAIN b2 AS b1; CREATE DOMAIN b3 AS b2; CREATE DOMAIN arrays AS varchar(3)[]; CREATE DOMAIN arrays2 AS d3[]; \
     CREATE TYPE pair AS (a varchar(3), b d3); CREATE DOMAIN pairs AS pair; CREATE DOMAIN stamp AS timestamp(0); \
     CREATE DOMAIN stamp2 AS stamp; CREATE DOMAIN stamp3 AS stamp2";

const COLUMNS: &[(&str, &str, &str)] = &[
    ("d1", "abc", "abcdef"),
    ("d2", "abc", "abcdef"),
    ("d3", "abc", "abcdef"),
    ("c3", "abc", "abcdef"),
    ("b1", "101", "101101"),
    ("b3", "101", "101101"),
    ("d1[]", "{abc,NULL}", "{abc,abcdef}"),
    ("d3[]", "{abc}", "{abc,abcdef}"),
    ("c3[]", "{abc}", "{abcdef}"),
    ("b3[]", "{101}", "{101101}"),
    ("varchar(3)[]", "{abc}", "{abcdef}"),
    ("bit(3)[]", "{101}", "{101101}"),
    ("arrays", "{abc}", "{abcdef}"),
    ("arrays2", "{abc}", "{abcdef}"),
    ("pair", "(abc,abc)", "(abcdef,abc)"),
    ("pairs", "(abc,abc)", "(abc,abcdef)"),
    ("pair[]", "{\"(abc,abc)\"}", "{\"(abcdef,abc)\"}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_a_hidden_length_is_refused() {
    let db = shared().database().await;
    db.run(TYPES).await;
    for (number, (kind, good, long)) in COLUMNS.iter().enumerate() {
        let name = format!("t{number}");
        db.run(&format!("CREATE TABLE {name} (id int PRIMARY KEY, v {kind})")).await;
        let id = |id: i32| Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Int32(id));
        let row = |offset, key, text: &str| {
            at(offset, id(key), structure(vec![("v", Schema::new(Type::String), Value::from(text))]))
        };
        let mut offset = 0;
        for mode in ["insert", "upsert", "update"] {
            let entries = [
                ("table.name.format", name.as_str()),
                ("insert.mode", mode),
                ("pk.mode", "record_key"),
                ("pk.fields", "id"),
            ];
            let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
            let records = [row(offset, 1, good), row(offset + 1, 1, long)];
            let rejected = sink.task.put(&records).await.unwrap();
            sink.task.flush().await.unwrap();
            offset += 2;
            let at: Vec<usize> = rejected.iter().map(|rejected| rejected.index).collect();
            assert_eq!(at, [1], "{kind} {mode}: {rejected:?}");
            sink.task.close().await;
            let stored = db.text(&format!("SELECT string_agg(v::text, '|') FROM {name}")).await;
            assert_eq!(stored, *good, "{kind} {mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_too_long_deletes_no_other_row() {
    let db = shared().database().await;
    db.run(TYPES).await;
    for kind in ["d1", "d3", "c3", "b3", "varchar(3)", "char(3)", "d3[]", "arrays"] {
        let (key, long) = match kind {
            "b3" => ("101", "101101"),
            "d3[]" | "arrays" => ("{abc}", "{abcdef}"),
            _ => ("abc", "abcdef"),
        };
        db.run(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (k {kind} PRIMARY KEY); INSERT INTO t VALUES ('{key}')"
        ))
        .await;
        let entries = [
            ("table.name.format", "t"),
            ("pk.mode", "record_key"),
            ("pk.fields", "k"),
            ("delete.enabled", "true"),
            ("sink.exactly.once", "disabled"),
        ];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        let key_of = |text: &str| Datum::new(Arc::new(Schema::new(Type::String)), Value::from(text));
        let _ = sink.task.put(&[at(0, key_of(long), Datum::default())]).await;
        assert_eq!(db.text("SELECT count(*) FROM t").await, "1", "{kind}");
        assert!(sink.task.put(&[at(1, key_of(key), Datum::default())]).await.unwrap().is_empty(), "{kind}");
        assert_eq!(db.text("SELECT count(*) FROM t").await, "0", "{kind}");
        sink.task.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_over_domains_are_read_as_what_they_are() {
    let db = shared().database().await;
    db.run(TYPES).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, a d3, b stamp3, c c3); INSERT INTO t VALUES (1, 'abc', '2024-01-01 00:00:01', 'x')")
        .await;
    let entries = [("mode", "bulk"), ("table.whitelist", "t")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let records = source.take(1).await;
    assert_eq!(field(&records[0], "a"), Value::from("abc"));
    assert_eq!(field(&records[0], "b"), Value::Int64(1_704_067_201_000));
    assert_eq!(field(&records[0], "c"), Value::from("x  "));
    let schema = records[0].record.value.schema.clone().unwrap();
    assert!(!schema.field("a").unwrap().1.schema.optional, "NOT NULL of a domain counts");
    source.task.close().await;
    // The same of an expression.
    let entries = [("mode", "bulk"), ("query", "SELECT (a::text)::d3 AS a, b + '0 s' AS b FROM t")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert_eq!(field(&source.take(1).await[0], "a"), Value::from("abc"));
}
