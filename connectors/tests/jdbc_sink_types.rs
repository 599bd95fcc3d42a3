//! The sink: which values go into which columns, and which names into which names.

use std::sync::Arc;

use towline_connectors::api::ErrorKind;
use towline_connectors::data::{self, Datum, Schema, Type, Value};

use crate::jdbc_harness::{Sink, at, map, object, props, structure};
use crate::postgres_server::{Database, shared};

async fn table(sql: &str) -> Database {
    let db = shared().database().await;
    db.run(sql).await;
    db
}

fn text() -> Schema {
    Schema::new(Type::String).optional()
}

fn int() -> Schema {
    Schema::new(Type::Int32).optional()
}

/// Writes one record and shows the row.
async fn written(db: &Database, entries: &[(&str, &str)], value: Datum) -> String {
    let mut sink = Sink::open(&props(db, entries)).await.unwrap();
    let rejected = sink.task.put(&[at(0, Datum::default(), value)]).await.unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    db.text("SELECT string_agg(t::text, ' ') FROM t").await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_into_whatever_reads_them() {
    let columns = [
        ("i2", "smallint", "-5", "-5"),
        ("f4", "real", "1.5e3", "1500"),
        ("f8", "double precision", "-Infinity", "-Infinity"),
        ("n", "numeric(10,3)", "12.3456", "12.346"),
        ("nn", "numeric", "NaN", "NaN"),
        ("m", "money", "12.34", "$12.34"),
        ("b", "boolean", "off", "false"),
        ("bt", "bit(3)", "101", "101"),
        ("vb", "varbit", "10101", "10101"),
        ("c", "char(3)", "a", "a"),
        ("qc", "\"char\"", "x", "x"),
        ("by", "bytea", "\\x01ff", "\\x01ff"),
        ("d", "date", "2024-02-29", "2024-02-29"),
        ("ti", "time", "12:30:45.123456", "12:30:45.123456"),
        ("tz", "timetz", "12:30:45+09", "12:30:45+09"),
        ("ts", "timestamp", "2024-02-29 12:30:45.123456", "2024-02-29 12:30:45.123456"),
        ("tt", "timestamptz", "-infinity", "-infinity"),
        ("iv", "interval", "P1DT2H", "1 day 02:00:00"),
        ("u", "uuid", "{ABABABAB-abab-abab-abab-abababababab}", "abababab-abab-abab-abab-abababababab"),
        ("j", "json", "{\"a\" : 1}", "{\"a\" : 1}"),
        ("jb", "jsonb", "{\"a\" : 1}", "{\"a\": 1}"),
        ("x", "xml", "<a/>", "<a/>"),
        ("ip", "inet", "10.0.0.1", "10.0.0.1/32"),
        ("ci", "cidr", "10.0.0.0/8", "10.0.0.0/8"),
        ("ma", "macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
        ("r", "int4range", "[1,5]", "[1,6)"),
        ("mr", "nummultirange", "{[1,2],[5,6)}", "{[1,2],[5,6)}"),
        ("p", "point", "(1,2)", "(1,2)"),
        ("a", "int[]", "{1,NULL,3}", "{1,NULL,3}"),
        ("ua", "uuid[]", "{abababab-abab-abab-abab-abababababab}", "{abababab-abab-abab-abab-abababababab}"),
        ("tv", "tsvector", "'a':1", "'a':1"),
        ("o", "oid", "4294967295", "4294967295"),
        ("l", "pg_lsn", "16/B374D848", "16/B374D848"),
        ("e", "mood", "happy", "happy"),
        ("ea", "mood[]", "{sad,happy}", "{sad,happy}"),
        ("dm", "positive", "7", "7"),
        ("ct", "citext", "Ab", "Ab"),
        ("h", "hstore", "a=>1", "\"a\"=>\"1\""),
        ("co", "pair", "(1,x)", "(1,x)"),
    ];
    let made: Vec<String> = columns.iter().map(|(name, kind, ..)| format!("{name} {kind}")).collect();
    let types = "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'happy'); \
                 CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text)";
    let db = table(&format!("{types}; CREATE TABLE t ({})", made.join(", "))).await;
    let fields = |value: fn(&str) -> Value| {
        columns.iter().map(|(name, _, given, _)| (*name, text(), value(given))).collect::<Vec<_>>()
    };
    written(&db, &[], structure(fields(|given| Value::from(given)))).await;
    for (name, kind, _, shown) in columns {
        assert_eq!(db.text(&format!("SELECT {name} FROM t")).await, shown, "{kind}");
    }
    // Each alone: as the key of upserts, updates and deletions, and null.
    for (name, kind, given, _) in columns {
        if ["json", "xml", "point"].contains(&kind) {
            // These have no equality.
            continue;
        }
        db.run(&format!(
            "DROP TABLE IF EXISTS k; CREATE TABLE k (k {kind} {}, v int)",
            if kind == "nummultirange" { "" } else { "PRIMARY KEY" }
        ))
        .await;
        let key = || structure(vec![("k", text(), Value::from(given))]);
        let value = |n: i32| structure(vec![("v", int(), Value::Int32(n))]);
        let base = [
            ("table.name.format", "k"),
            ("pk.mode", "record_key"),
            ("delete.enabled", "true"),
            ("sink.exactly.once", "disabled"),
        ];
        let mode = |mode| props(&db, &[&base[..], &[("insert.mode", mode)]].concat());
        let mut upsert = Sink::open(&mode(if kind == "nummultirange" { "insert" } else { "upsert" })).await.unwrap();
        assert!(upsert.task.put(&[at(0, key(), value(1))]).await.unwrap().is_empty(), "{name}");
        let mut update = Sink::open(&mode("update")).await.unwrap();
        assert!(update.task.put(&[at(1, key(), value(2))]).await.unwrap().is_empty(), "{name}");
        assert_eq!(db.text("SELECT string_agg(v::text, ',') FROM k").await, "2", "{kind}");
        assert!(update.task.put(&[at(2, key(), Datum::default())]).await.unwrap().is_empty(), "{name}");
        assert_eq!(db.text("SELECT count(*) FROM k").await, "0", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn structures_go_into_json_and_arrays() {
    let db = table(
        "CREATE EXTENSION hstore; CREATE TABLE t (s json, m jsonb, l jsonb, h hstore, x text, a text[], n numeric[], \
         u uuid[], ts timestamptz[], d date[], jb jsonb[], by bytea[], aa int[][], f float4[], b boolean[], al jsonb)",
    )
    .await;
    let inner = || {
        let fields = vec![
            ("a", int(), Value::Int32(1)),
            ("b", data::decimal(2).optional(), Value::Bytes(vec![0x30, 0x39].into())),
        ];
        structure(fields)
    };
    let of = |datum: Datum| ((*datum.schema.unwrap()).clone(), datum.value);
    let (inner_schema, inner_value) = of(inner());
    let inner_schema = inner_schema.optional();
    let array = |items: Schema| Schema::array(Arc::new(items)).optional();
    let texts = Schema::map(Arc::new(text()), Arc::new(text())).optional();
    let nested = || map(vec![("k\"1", Value::from("v'\\")), ("n", Value::Null)]);
    let list = |items: &[Value]| Value::Array(items.to_vec());
    let value = structure(vec![
        ("s", inner_schema.clone(), inner_value.clone()),
        ("m", texts.clone(), nested()),
        ("l", array(inner_schema.clone()), list(&[inner_value.clone(), Value::Null])),
        ("h", texts.clone(), nested()),
        ("x", texts, nested()),
        ("a", array(text()), list(&[Value::from("a\"b,{}\\"), Value::Null, Value::from("NULL"), Value::from("")])),
        ("n", array(data::decimal(1).optional()), list(&[Value::Bytes(vec![0x0f].into())])),
        ("u", array(text()), list(&[Value::from("abababab-abab-abab-abab-abababababab")])),
        ("ts", array(data::timestamp()), list(&[Value::Int64(1_709_209_845_123)])),
        ("d", array(data::date()), list(&[Value::Int32(0)])),
        ("jb", array(inner_schema), list(&[inner_value])),
        ("by", array(Schema::new(Type::Bytes)), list(&[Value::Bytes(vec![1, 0xff].into())])),
        (
            "aa",
            array(array(int())),
            list(&[list(&[Value::Int32(1), Value::Null]), list(&[Value::Int32(3), Value::Int32(4)])]),
        ),
        ("f", array(Schema::new(Type::Float32)), list(&[Value::Float32(f32::NAN), Value::Float32(0.1)])),
        ("b", array(Schema::new(Type::Boolean)), list(&[Value::Boolean(true)])),
        ("al", array(int()), list(&[])),
    ]);
    written(&db, &[], value).await;
    for (column, shown) in [
        ("s", "{\"a\":1,\"b\":123.45}"),
        ("m", "{\"n\": null, \"k\\\"1\": \"v'\\\\\"}"),
        ("l", "[{\"a\": 1, \"b\": 123.45}, null]"),
        ("h", "\"n\"=>NULL, \"k\\\"1\"=>\"v'\\\\\""),
        ("x", "{\"k\\\"1\":\"v'\\\\\",\"n\":null}"),
        ("a", "{\"a\\\"b,{}\\\\\",NULL,\"NULL\",\"\"}"),
        ("n", "{1.5}"),
        ("u", "{abababab-abab-abab-abab-abababababab}"),
        ("ts", "{\"2024-02-29 12:30:45.123+00\"}"),
        ("d", "{1970-01-01}"),
        ("jb", "{\"{\\\"a\\\": 1, \\\"b\\\": 123.45}\"}"),
        ("by", "{\"\\\\x01ff\"}"),
        ("aa", "{{1,NULL},{3,4}}"),
        ("f", "{NaN,0.1}"),
        ("b", "{t}"),
        ("al", "[]"),
    ] {
        assert_eq!(db.text(&format!("SELECT {column} FROM t")).await, shown, "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_without_schemas_follow_the_columns() {
    let columns = "id bigint PRIMARY KEY, i smallint, n numeric(8,2), f real, b boolean, v varchar(9), j jsonb, js json, a int[], \
                   ta text[], by bytea, d date, ti time, ts timestamp, tz timestamptz, iso timestamptz, u uuid, h hstore, c char(4), \
                   nu text, def int DEFAULT 7, ip inet, o text";
    let db = table(&format!("CREATE EXTENSION hstore; CREATE TABLE t ({columns})")).await;
    let value = || {
        object(vec![
            ("id", Value::Int64(1)),
            ("i", Value::from("12")),
            ("n", Value::Float64(1.25)),
            ("f", Value::Int64(3)),
            ("b", Value::Boolean(true)),
            ("v", Value::Int64(5)),
            ("j", map(vec![("a", Value::Array(vec![Value::Int64(1), Value::Boolean(false), Value::Null]))])),
            ("js", Value::Float64(0.5)),
            ("a", Value::Array(vec![Value::Int64(1), Value::Null])),
            ("ta", Value::Array(vec![Value::from("x"), Value::Int64(2)])),
            ("by", Value::from("Af8=")),
            ("d", Value::Int64(19_782)),
            ("ti", Value::Int64(45_045_123)),
            ("ts", Value::Int64(1_709_209_845_123)),
            ("tz", Value::Int64(1_709_209_845_123)),
            ("iso", Value::from("2024-02-29T12:30:45.123456Z")),
            ("u", Value::from("abababab-abab-abab-abab-abababababab")),
            ("h", map(vec![("k", Value::from("v"))])),
            ("c", Value::from("ab")),
            ("nu", Value::Null),
            ("ip", Value::from("::1")),
            ("o", map(vec![("a", Value::from("b"))])),
        ])
    };
    let upsert = [("insert.mode", "upsert"), ("pk.mode", "record_value"), ("pk.fields", "id")];
    assert_eq!(
        written(&db, &upsert, value()).await,
        "(1,12,1.25,3,t,5,\"{\"\"a\"\": [1, false, null]}\",0.5,\"{1,NULL}\",\"{x,2}\",\"\\\\x01ff\",2024-02-29,12:30:45.123,\
         \"2024-02-29 12:30:45.123\",\"2024-02-29 12:30:45.123+00\",\"2024-02-29 12:30:45.123456+00\",\
         abababab-abab-abab-abab-abababababab,\"\"\"k\"\"=>\"\"v\"\"\",\"ab  \",,7,::1,\"{\"\"a\"\":\"\"b\"\"}\")"
    );
    // Records that do not fit are refused alone, with the column and never the content.
    let mut sink = Sink::open(&props(&db, &[])).await.unwrap();
    let records = [
        at(10, Datum::default(), object(vec![("id", Value::Int64(2)), ("i", Value::Boolean(true))])),
        at(11, Datum::default(), object(vec![("id", Value::Int64(3))])),
        at(12, Datum::default(), object(vec![("id", Value::Int64(4)), ("by", Value::from("not-base-64!"))])),
        at(13, Datum::default(), object(vec![("id", Value::Int64(5)), ("d", Value::from("yesterday-ish"))])),
        at(14, Datum::default(), Datum::schemaless(Value::Int64(1))),
    ];
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 2, 3, 4]);
    assert!(rejected[1].error.to_string().contains("\"by\"") && !rejected[1].error.to_string().contains("base-64"));
    assert!(!rejected[2].error.trace().contains("yesterday"), "{}", rejected[2].error.trace());
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "2");
    // Keys without schemas, too.
    let keyed = [("pk.mode", "record_key"), ("pk.fields", "id"), ("insert.mode", "upsert"), ("delete.enabled", "true")];
    let mut sink = Sink::open(&props(&db, &[&keyed[..], &[("sink.exactly.once", "disabled")]].concat())).await.unwrap();
    let key = |id: i64| Datum::schemaless(Value::Int64(id));
    let records = [at(0, key(1), object(vec![("v", Value::from("new"))])), at(1, key(3), Datum::default())];
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(id || v || i, ',') FROM t").await, "1new12");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_without_schemas_create_nothing_and_say_so() {
    let db = table("CREATE TABLE there (id int)").await;
    let value = || object(vec![("id", Value::Int64(1)), ("v", Value::from("x"))]);
    let mut sink = Sink::open(&props(&db, &[("auto.create", "true"), ("auto.evolve", "true")])).await.unwrap();
    let rejected = sink.task.put(&[at(0, Datum::default(), value())]).await.unwrap();
    assert!(rejected[0].error.to_string().contains("schemas.enable=true"), "{}", rejected[0].error);
    let entries = [("table.name.format", "there"), ("auto.evolve", "true")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let rejected = sink.task.put(&[at(0, Datum::default(), value())]).await.unwrap();
    assert!(rejected[0].error.to_string().contains("could not add columns"), "{}", rejected[0].error);
    sink.task.close().await;
    // Without evolution a missing column is waited for, then the record is refused.
    let entries = [("table.name.format", "there"), ("max.retries", "1")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let fits = object(vec![("id", Value::Int64(2))]);
    let records = [at(0, Datum::default(), value()), at(1, Datum::default(), fits)];
    let error = sink.task.put(&records).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable);
    assert!(error.to_string().contains("is missing fields (v)"), "{error}");
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(id::text, ',') FROM there").await, "2");
}

/// A catalog is the database; rows for another one must not end up in this one.
#[tokio::test(flavor = "multi_thread")]
async fn names_may_say_the_database_that_is_connected_to() {
    let db = table("CREATE TABLE t (id int); CREATE SCHEMA s").await;
    let put = async |name: String| {
        let entries = [("table.name.format", name.as_str()), ("auto.create", "true"), ("max.retries", "0")];
        let record = at(0, Datum::default(), structure(vec![("id", int(), Value::Int32(1))]));
        Sink::open(&props(&db, &entries)).await.unwrap().task.put(&[record]).await
    };
    assert!(put(format!("{}.public.t", db.name)).await.unwrap().is_empty());
    let error = put("elsewhere.public.t".to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("cross-database references are not implemented"), "{error}");
    assert_eq!(db.text("SELECT count(*) FROM t").await, "1");
    let error = put(format!("a.{}.s.t", db.name)).await.unwrap_err();
    assert!(error.to_string().contains("no [[catalog.]schema.]table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_differ_by_case_and_length_and_look_alike() {
    let long = "l".repeat(70);
    let db = table("CREATE TABLE axb (id int); CREATE TABLE a_b (\"Id\" int, \"ID\" int, other int); CREATE TABLE \"Upper\" (id int)").await;
    let ints =
        |names: &[&str]| structure(names.iter().zip(1..).map(|(name, at)| (*name, int(), Value::Int32(at))).collect());
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "a_b")])).await.unwrap();
    assert!(sink.task.put(&[at(0, Datum::default(), ints(&["Id", "ID", "OTHER"]))]).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT a::text FROM a_b a").await, "(1,2,3)");
    // Two fields never share a column.
    let error = sink.task.put(&[at(1, Datum::default(), ints(&["other", "Other"]))]).await.unwrap_err();
    assert!(error.to_string().contains("is missing fields (Other)"), "{error}");
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "upper")])).await.unwrap();
    let error = sink.task.put(&[at(0, Datum::default(), ints(&["id"]))]).await.unwrap_err();
    assert!(error.to_string().contains("\"public\".\"Upper\""), "{error}");
    // The server cuts names after 63 bytes; the column is found again.
    let entries = [("table.name.format", long.as_str()), ("auto.create", "true"), ("auto.evolve", "true")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let column = "c".repeat(64);
    for offset in 0..2 {
        assert!(sink.task.put(&[at(offset, Datum::default(), ints(&["id", &column]))]).await.unwrap().is_empty());
        sink = Sink::open(&props(&db, &entries)).await.unwrap();
    }
    assert_eq!(db.text(&format!("SELECT count(*) FROM {}", &long[..63])).await, "2");
    // Without quotes names are in lower case, reserved words or not.
    for (key, value) in [("sql.quote.identifiers", "false"), ("quote.sql.identifiers", "NEVER")] {
        let entries = [("table.name.format", "Order"), ("auto.create", "true"), (key, value)];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        assert!(sink.task.put(&[at(0, Datum::default(), ints(&["User"]))]).await.unwrap().is_empty());
        db.run("SELECT \"user\" FROM \"order\"; DROP TABLE \"order\", towline_offsets").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_server_fills_are_left_to_it() {
    let db = table(
        "CREATE TABLE always (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (id * 2) STORED); \
         CREATE TABLE keyed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int); \
         CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
         CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10); \
         CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20)",
    )
    .await;
    let ints = |fields: &[(&'static str, i32)]| {
        structure(fields.iter().map(|(name, n)| (*name, int(), Value::Int32(*n))).collect())
    };
    let upsert = |table: &'static str| {
        [("table.name.format", table), ("insert.mode", "upsert"), ("pk.mode", "record_value"), ("pk.fields", "id")]
    };
    let mut sink = Sink::open(&props(&db, &upsert("always"))).await.unwrap();
    for offset in 0..2 {
        let value = ints(&[("id", 1), ("n", 50), ("twice", 99)]);
        assert!(sink.task.put(&[at(offset, Datum::default(), value)]).await.unwrap().is_empty());
    }
    assert_eq!(db.text("SELECT string_agg(a::text, ' ') FROM always a").await, "(1,50,2)");
    for mode in ["insert", "upsert"] {
        let mut entries = upsert("keyed");
        entries[1].1 = mode;
        let mut sink =
            Sink::open(&props(&db, &[&entries[..], &[("sink.exactly.once", "disabled")]].concat())).await.unwrap();
        let value = ints(&[("id", if mode == "insert" { 7 } else { 8 }), ("v", 1)]);
        assert!(sink.task.put(&[at(0, Datum::default(), value)]).await.unwrap().is_empty());
    }
    assert_eq!(db.text("SELECT string_agg(id::text, ',') FROM keyed").await, "7,8");
    // A partitioned table takes rows, deletions and columns; a row without a partition is refused alone.
    let entries = [&upsert("parts")[..], &[("auto.evolve", "true")]].concat();
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let records: Vec<_> = [(0, 1), (1, 11), (2, 30), (3, 1)]
        .map(|(offset, id)| {
            at(offset, Datum::default(), ints(&[("id", id), ("v", i32::try_from(offset).unwrap()), ("w", 5)]))
        })
        .to_vec();
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [2]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(p::text, ' ' ORDER BY id) FROM parts p").await, "(1,3,5) (11,1,5)");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_and_nulls() {
    let db = shared().database().await;
    let defaults = || {
        vec![
            ("id", Schema::new(Type::Int32), Value::Int32(1)),
            ("q", Schema::new(Type::String).with_default(Value::from("it's a \\ \"q\"")), Value::Null),
            ("by", Schema::new(Type::Bytes).with_default(Value::Bytes(vec![1, 0xff].into())), Value::Null),
            ("n", data::decimal(1).with_default(Value::Bytes(vec![0x0f].into())), Value::Null),
            ("d", data::date().with_default(Value::Int32(1)), Value::Null),
            ("ti", data::time().with_default(Value::Int32(1)), Value::Null),
            ("ts", data::timestamp().with_default(Value::Int64(1)), Value::Null),
            ("b", Schema::new(Type::Boolean).with_default(Value::Boolean(true)), Value::Null),
            ("f", Schema::new(Type::Float64).with_default(Value::Float64(-0.5)), Value::Null),
            ("a", Schema::array(Arc::new(text())).with_default(Value::Array(vec![Value::from("x'y")])), Value::Null),
        ]
    };
    let shown = "(1,\"it's a \\\\ \"\"q\"\"\",\"\\\\x01ff\",1.5,1970-01-02,00:00:00.001,\"1970-01-01 00:00:00.001\",t,-0.5,{x'y})";
    let create = [("auto.create", "true"), ("pk.mode", "record_value"), ("pk.fields", "id")];
    assert_eq!(written(&db, &create, structure(defaults())).await, shown);
    db.run("DELETE FROM t; INSERT INTO t (id) VALUES (1)").await;
    assert_eq!(db.text("SELECT t::text FROM t").await, shown);
    // A null that is meant as null.
    db.run("DELETE FROM t; DROP TABLE towline_offsets").await;
    let keep = [("replace.null.with.default", "false")];
    assert_eq!(written(&db, &keep, structure(defaults())).await, "(1,,,,,,,,,)");
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_calendars_and_listed_timestamps() {
    let db = table(
        "CREATE TABLE t (d date, ts timestamp, tz timestamptz, old date, n timestamp, s timestamp, c timestamptz)",
    )
    .await;
    let fields = || {
        structure(vec![
            ("d", data::date(), Value::Int32(0)),
            ("ts", data::timestamp(), Value::Int64(1_709_209_845_123)),
            ("tz", data::timestamp(), Value::Int64(1_709_209_845_123)),
            ("old", data::date(), Value::Int32(-171_655)),
            ("n", Schema::new(Type::Int64), Value::Int64(1_709_209_845_123_456)),
            ("s", text(), Value::from("2024-02-29T12:30:45.123456")),
            ("c", text(), Value::from("1709209845123456")),
        ])
    };
    let listed = ("timestamp.fields.list", "n,s,c");
    let new_york = [("db.timezone", "America/New_York"), listed];
    assert_eq!(
        written(&db, &new_york, fields()).await,
        "(1969-12-31,\"2024-02-29 07:30:45.123\",\"2024-02-29 12:30:45.123+00\",1499-12-31,\"2024-02-29 07:30:45.123456\",\
         \"2024-02-29 12:30:45.123456\",\"2024-02-29 12:30:45.123456+00\")"
    );
    db.run("DELETE FROM t; DROP TABLE towline_offsets").await;
    let other = [("date.timezone", "UTC"), ("date.calendar.system", "PROLEPTIC_GREGORIAN"), listed, new_york[0]];
    assert!(
        written(&db, &other, fields())
            .await
            .starts_with("(1970-01-01,\"2024-02-29 07:30:45.123\",\"2024-02-29 12:30:45.123+00\",1500-01-10,")
    );
    db.run("DROP TABLE t, towline_offsets").await;
    let made = structure(vec![
        ("n", Schema::new(Type::Int64), Value::Int64(1_709_209_845_123_456_789)),
        ("s", text(), Value::Null),
    ]);
    let create = [("auto.create", "true"), listed, ("timestamp.precision.mode", "nanoseconds")];
    assert_eq!(written(&db, &create, made).await, "(\"2024-02-29 12:30:45.123457\",)");
    assert_eq!(db.text("SELECT pg_typeof(s) FROM t").await, "timestamp without time zone");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_texts_fill_one_column() {
    let db = table("CREATE TABLE t (k int, line text)").await;
    let entries = [("string.output.value.column.name", "line"), ("pk.mode", "record_key"), ("pk.fields", "k")];
    let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
    let key = Datum::new(Arc::new(int()), Value::Int32(1));
    let value = Datum::new(Arc::new(text()), Value::from("x"));
    let bare = Datum::schemaless(Value::from("y"));
    assert!(sink.task.put(&[at(0, key.clone(), value.clone()), at(1, key.clone(), bare)]).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT string_agg(t::text, ' ') FROM t").await, "(1,x) (1,y)");
    let mut narrow =
        Sink::open(&props(&db, &[("fields.whitelist", "line"), ("sink.exactly.once", "disabled")])).await.unwrap();
    let rejected = narrow.task.put(&[at(2, key, value)]).await.unwrap();
    assert!(rejected[0].error.to_string().contains("has no fields"), "{}", rejected[0].error);
}

#[tokio::test(flavor = "multi_thread")]
async fn aivens_keys() {
    let db = table("CREATE TABLE a_b (id int); CREATE TABLE mapped (id int)").await;
    let value = || structure(vec![("id", int(), Value::Int32(1))]);
    let put = async |topic: &str, entries: &[(&str, &str)]| {
        let config = props(&db, &[entries, &[("sink.exactly.once", "disabled")]].concat());
        let mut record = at(0, Datum::default(), value());
        record.record.topic = topic.into();
        Sink::open(&config).await.unwrap().task.put(&[record]).await
    };
    assert!(put("a-b", &[("table.name.normalize", "true"), ("insert.mode", "multi")]).await.unwrap().is_empty());
    let mapping = [("topics.to.tables.mapping", "x:mapped,y:a_b")];
    assert!(put("x", &mapping).await.unwrap().is_empty());
    assert!(put("z", &mapping).await.unwrap_err().to_string().contains("no entry for topic z"));
    assert_eq!(db.text("SELECT (SELECT count(*) FROM a_b) || ' ' || (SELECT count(*) FROM mapped)").await, "1 1");
}
