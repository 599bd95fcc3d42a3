//! The sink under Debezium's class: its keys, change events, tombstones, and named types.

use std::sync::Arc;

use towline_connectors::api::{Header, Origin, Props, Record, SinkConnector, SinkRecord};
use towline_connectors::data::{self, Datum, Field, Schema, Type, Value};
use towline_connectors::jdbc::JdbcSinkConnector;

use crate::jdbc_harness::{Sink, at, map, object, structure};
use crate::postgres_server::{Database, shared};

/// A config as Debezium's documentation writes it.
fn props(database: &Database, entries: &[(&str, &str)]) -> Props {
    let url = database.jdbc_url();
    let own = [
        ("connection.url", url.as_str()),
        ("connection.username", "postgres"),
        ("connection.password", "sesame"),
        ("connection.pool.max_size", "4"),
        ("hibernate.dialect", "x"),
        ("flush.retry.delay.ms", "10"),
    ];
    own.iter().chain(entries).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn open(database: &Database, entries: &[(&str, &str)]) -> Sink {
    let props = props(database, entries);
    let errors = JdbcSinkConnector::DEBEZIUM.validate(&props);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(JdbcSinkConnector::DEBEZIUM.check(&props).await.is_empty());
    Sink::of(&JdbcSinkConnector::DEBEZIUM, &props).await.unwrap()
}

fn row_schema() -> Arc<Schema> {
    let fields = vec![
        Field::new("id", Arc::new(Schema::new(Type::Int32))),
        Field::new("V", Arc::new(Schema::new(Type::String).optional())),
    ];
    Arc::new(Schema { name: Some("server.s.orders.Value".into()), ..Schema::structure(fields).optional() })
}

fn row(id: i32, text: &str) -> Value {
    Value::Struct(vec![Value::Int32(id), Value::from(text)])
}

fn key(id: i32) -> Datum {
    let field = Field::new("id", Arc::new(Schema::new(Type::Int32)));
    Datum::new(Arc::new(Schema::structure(vec![field])), Value::Struct(vec![Value::Int32(id)]))
}

fn envelope() -> Arc<Schema> {
    let text = Arc::new(Schema::new(Type::String));
    let source =
        Schema::structure(vec![Field::new("schema", Arc::clone(&text)), Field::new("table", Arc::clone(&text))]);
    let fields = vec![
        Field::new("before", row_schema()),
        Field::new("after", row_schema()),
        Field::new("source", Arc::new(source)),
        Field::new("op", text),
    ];
    Arc::new(Schema { name: Some("server.s.orders.Envelope".into()), ..Schema::structure(fields) })
}

/// A change event; which row it is about is said by its key.
fn event(schema: &Arc<Schema>, op: &str, id: i32, before: Value, after: Value) -> Record {
    let source = Value::Struct(vec![Value::from("s"), Value::from("orders")]);
    let value = Value::Struct(vec![before, after, source, Value::from(op)]);
    let mut record = Record::of_value("server.s.orders".into(), Datum::new(Arc::clone(schema), value));
    record.key = key(id);
    record
}

fn tombstone(id: i32) -> Record {
    Record { key: key(id), ..Record::of_value("server.s.orders".into(), Datum::default()) }
}

fn consumed(records: Vec<Record>) -> Vec<SinkRecord> {
    let origin = |offset| Origin { topic: "server.s.orders".into(), partition: 0, offset };
    records.into_iter().zip(0..).map(|(record, offset)| SinkRecord { record, origin: origin(offset) }).collect()
}

const KEYED: [(&str, &str); 4] = [
    ("insert.mode", "upsert"),
    ("primary.key.mode", "record_key"),
    ("schema.evolution", "basic"),
    ("delete.enabled", "true"),
];

#[tokio::test(flavor = "multi_thread")]
async fn change_events_become_rows() {
    let db = shared().database().await;
    let mut sink = open(&db, &KEYED).await;
    let e = envelope();
    let records = consumed(vec![
        event(&e, "t", 0, Value::Null, Value::Null),
        event(&e, "r", 1, Value::Null, row(1, "a")),
        event(&e, "c", 2, Value::Null, row(2, "b")),
        event(&e, "u", 1, row(1, "a"), row(1, "a2")),
        event(&e, "c", 3, Value::Null, row(3, "c")),
        event(&e, "d", 2, row(2, "b"), Value::Null),
        tombstone(2),
        event(&e, "m", 9, Value::Null, Value::Null),
    ]);
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    // Names are in lower case where quote.identifiers is not set.
    assert_eq!(db.text("SELECT string_agg(id || v, ',' ORDER BY id) FROM server_s_orders").await, "1a2,3c");
    assert_eq!(db.text("SELECT next_offset FROM towline_offsets").await, "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_meaning_is_passed_over() {
    let db = shared().database().await;
    db.run("CREATE TABLE server_s_orders (id int PRIMARY KEY, v text)").await;
    let mut sink = open(&db, &[]).await;
    let e = envelope();
    let change = Schema::new(Type::Struct).with_name("io.debezium.connector.postgresql.SchemaChangeValue");
    let records = consumed(vec![
        tombstone(1),
        event(&e, "c", 1, Value::Null, row(1, "a")),
        event(&e, "d", 1, row(1, "a"), Value::Null),
        tombstone(1),
        event(&e, "t", 1, Value::Null, Value::Null),
        event(&e, "q", 2, Value::Null, row(2, "unknown")),
        Record::of_value("server.s.orders".into(), Datum::new(Arc::new(change), Value::Struct(Vec::new()))),
    ]);
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) FROM server_s_orders").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncations_empty_the_table_and_keys_come_from_rows() {
    let db = shared().database().await;
    db.run(
        "CREATE SCHEMA s; CREATE TABLE s.orders (id int PRIMARY KEY, v text); INSERT INTO s.orders VALUES (7, 'old')",
    )
    .await;
    let entries = [
        ("insert.mode", "upsert"),
        ("primary.key.mode", "record_value"),
        ("primary.key.fields", "id"),
        ("delete.enabled", "true"),
        ("truncate.enabled", "true"),
        ("collection.name.format", "${source.schema}.${source.table}"),
    ];
    let mut sink = open(&db, &entries).await;
    let e = envelope();
    let mut plain = event(&e, "c", 1, Value::Null, Value::Null);
    plain.value = Datum::new(row_schema(), row(9, "flat"));
    let mut records = vec![
        event(&e, "c", 1, Value::Null, row(1, "gone")),
        event(&e, "t", 0, Value::Null, Value::Null),
        event(&e, "c", 2, Value::Null, row(2, "b")),
        event(&e, "c", 3, Value::Null, row(3, "c")),
        event(&e, "d", 2, row(2, "b"), Value::Null),
        tombstone(3),
        plain,
    ];
    records.iter_mut().for_each(|record| record.key = Datum::default());
    let rejected = sink.task.put(&consumed(records)).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [6]);
    assert!(rejected[0].error.to_string().contains("no source"), "{}", rejected[0].error);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(id || v, ',') FROM s.orders").await, "3c");
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_rows_with_keys_in_headers() {
    let db = shared().database().await;
    let entries = [
        ("insert.mode", "upsert"),
        ("primary.key.mode", "record_header"),
        ("primary.key.fields", "tenant"),
        ("schema.evolution", "basic"),
        ("delete.enabled", "true"),
        ("quote.identifiers", "true"),
        ("table.name.format", "copy_of_${topic}"),
        ("field.exclude.list", "server.s.orders:id"),
    ];
    let mut sink = open(&db, &entries).await;
    let with_header = |value: Datum, tenant: i64| {
        let mut record = Record::of_value("server.s.orders".into(), value);
        let value = Datum::new(Arc::new(Schema::new(Type::Int64)), Value::Int64(tenant));
        record.headers =
            vec![Header { key: "other".into(), value: Datum::default() }, Header { key: "tenant".into(), value }];
        record
    };
    let flat = |text: &str| Datum::new(row_schema(), row(1, text));
    let gone = Datum::new(row_schema(), Value::Null);
    let mut headless = with_header(flat("x"), 5);
    headless.headers.clear();
    let records = consumed(vec![
        with_header(flat("a"), 1),
        with_header(flat("b"), 2),
        with_header(flat("c"), 1),
        with_header(gone, 2),
        headless,
    ]);
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [4]);
    assert!(rejected[0].error.to_string().contains("no header \"tenant\""), "{}", rejected[0].error);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT string_agg(t::text, ' ') FROM \"copy_of_server_s_orders\" t").await, "(1,c)");
}

fn named(kind: Type, name: &str) -> Schema {
    Schema::new(kind).with_name(format!("io.debezium.{name}")).optional()
}

/// Fields of named types, with a value each, and what PostgreSQL shows of it.
fn named_fields() -> Vec<(&'static str, Schema, Value, &'static str)> {
    let variable = Schema {
        name: Some("io.debezium.data.VariableScaleDecimal".into()),
        ..Schema::structure(vec![
            Field::new("scale", Arc::new(Schema::new(Type::Int32))),
            Field::new("value", Arc::new(Schema::new(Type::Bytes))),
        ])
    };
    let text = Arc::new(Schema::new(Type::String));
    let stamps = Schema::array(Arc::new(named(Type::Int64, "time.MicroTimestamp")));
    vec![
        ("d", named(Type::Int32, "time.Date"), Value::Int32(-141_428), "1582-10-14"),
        ("t3", named(Type::Int32, "time.Time"), Value::Int32(45_045_123), "12:30:45.123"),
        ("t6", named(Type::Int64, "time.MicroTime"), Value::Int64(86_399_999_999), "23:59:59.999999"),
        ("t9", named(Type::Int64, "time.NanoTime"), Value::Int64(1_500), "00:00:00.000002"),
        ("ts3", named(Type::Int64, "time.Timestamp"), Value::Int64(-1), "1969-12-31 23:59:59.999"),
        (
            "ts6",
            named(Type::Int64, "time.MicroTimestamp"),
            Value::Int64(1_709_209_845_123_456),
            "2024-02-29 12:30:45.123456",
        ),
        (
            "ts9",
            named(Type::Int64, "time.NanoTimestamp"),
            Value::Int64(1_709_209_845_123_456_789),
            "2024-02-29 12:30:45.123457",
        ),
        (
            "iso",
            named(Type::String, "time.IsoTimestamp"),
            Value::from("2024-02-29T12:30:45.123456Z"),
            "2024-02-29 12:30:45.123456",
        ),
        ("isod", named(Type::String, "time.IsoDate"), Value::from("2024-02-29Z"), "2024-02-29"),
        ("isot", named(Type::String, "time.IsoTime"), Value::from("12:30:45Z"), "12:30:45"),
        (
            "z",
            named(Type::String, "time.ZonedTimestamp"),
            Value::from("2024-02-29T12:30:45.123456+09:00"),
            "2024-02-29 03:30:45.123456+00",
        ),
        ("zi", named(Type::String, "time.ZonedTimestamp"), Value::from("infinity"), "infinity"),
        ("zt", named(Type::String, "time.ZonedTime"), Value::from("12:30:45.5Z"), "12:30:45.5+00"),
        ("du", named(Type::Int64, "time.MicroDuration"), Value::Int64(90_000_000), "00:01:30"),
        (
            "iv",
            named(Type::String, "time.Interval"),
            Value::from("P1Y2M3DT4H5M6.78S"),
            "1 year 2 mons 3 days 04:05:06.78",
        ),
        ("j", named(Type::String, "data.Json"), Value::from("{\"a\": 1}"), "{\"a\": 1}"),
        (
            "u",
            named(Type::String, "data.Uuid"),
            Value::from("ABABABAB-abab-abab-abab-abababababab"),
            "abababab-abab-abab-abab-abababababab",
        ),
        ("x", named(Type::String, "data.Xml"), Value::from("<a/>"), "<a/>"),
        ("e", named(Type::String, "data.Enum").with_parameter("allowed", "a,b"), Value::from("a"), "a"),
        (
            "b",
            named(Type::Bytes, "data.Bits").with_parameter("length", "10"),
            Value::Bytes(vec![0b0000_0101, 0b10].into()),
            "1000000101",
        ),
        (
            "v",
            variable.optional(),
            Value::Struct(vec![Value::Int32(3), Value::Bytes(vec![0xff, 0x85].into())]),
            "-0.123",
        ),
        (
            "n",
            data::decimal(2).with_parameter("connect.decimal.precision", "8"),
            Value::Bytes(vec![0x30, 0x39].into()),
            "123.45",
        ),
        (
            "ip",
            Schema::new(Type::String).with_parameter("__debezium.source.column.type", "INET"),
            Value::from("10.0.0.1/8"),
            "10.0.0.1/8",
        ),
        (
            "h",
            Schema::map(Arc::clone(&text), text),
            Value::Map(vec![(Value::from("k\""), Value::from("a=>b"))]),
            "\"k\\\"\"=>\"a=>b\"",
        ),
        ("a", stamps, Value::Array(vec![Value::Int64(0), Value::Null]), "{\"1970-01-01 00:00:00\",NULL}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn named_types_make_columns_and_fill_columns_that_are_there() {
    let db = shared().database().await;
    db.run("CREATE EXTENSION hstore").await;
    let fields = named_fields();
    let schema = Arc::new(Schema::structure(
        fields.iter().map(|(name, schema, ..)| Field::new(*name, Arc::new(schema.clone()))).collect(),
    ));
    let value = Value::Struct(fields.iter().map(|(_, _, value, _)| value.clone()).collect());
    let record = |topic: &str| SinkRecord {
        record: Record::of_value(topic.into(), Datum::new(Arc::clone(&schema), value.clone())),
        origin: Origin { topic: topic.into(), partition: 0, offset: 0 },
    };
    let mut sink = open(&db, &[("schema.evolution", "basic")]).await;
    assert!(sink.task.put(&[record("made")]).await.unwrap().is_empty());
    for (name, _, _, shown) in &fields {
        assert_eq!(db.text(&format!("SELECT {name} FROM made")).await, *shown, "{name}");
    }
    let types = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) \
                 FROM pg_attribute WHERE attrelid = 'made'::regclass AND attnum > 0";
    assert_eq!(
        db.text(types).await,
        "d date, t3 time(3) without time zone, t6 time(6) without time zone, t9 time(6) without time zone, \
         ts3 timestamp(3) without time zone, ts6 timestamp(6) without time zone, ts9 timestamp(6) without time zone, \
         iso timestamp(6) without time zone, isod date, isot time(6) without time zone, z timestamp(6) with time zone, \
         zi timestamp(6) with time zone, zt time(6) with time zone, du interval, iv interval, j json, u uuid, x xml, \
         e text, b bit(10), v numeric, n numeric(8,2), ip inet, h hstore, a timestamp(6) without time zone[]"
    );
    // A column that is there decides: enums, other zones, plain numbers, Confluent's class.
    db.run("CREATE TYPE letter AS ENUM ('a', 'b'); CREATE TABLE there (e letter, d timestamptz, ts6 timestamptz, ts3 bigint, \
            b varbit, v float8, h jsonb, ts9 date, a jsonb, du text)").await;
    let chosen = ("field.include.list", "e,d,ts6,ts3,b,v,h,ts9,a,du");
    let mut sink = open(&db, &[chosen, ("use.time.zone", "Asia/Seoul")]).await;
    assert!(sink.task.put(&[record("there")]).await.unwrap().is_empty());
    assert_eq!(
        db.text("SELECT t::text FROM there t").await,
        "(a,\"1582-10-13 15:32:08+00\",\"2024-02-29 03:30:45.123456+00\",-1,1000000101,-0.123,\"{\"\"k\\\\\"\"\"\": \"\"a=>b\"\"}\",\
         2024-02-29,\"[0, null]\",90000000)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_schemas_fill_tables_that_are_there() {
    let db = shared().database().await;
    db.run("CREATE TABLE server_s_orders (id int PRIMARY KEY, v text, at timestamptz)").await;
    let mut sink = open(&db, &KEYED).await;
    let map = |entries: &[(&str, Value)]| {
        Value::Map(entries.iter().map(|(name, value)| (Value::from(*name), value.clone())).collect())
    };
    let event = |op: &str, id: i64, after: Value| {
        let value = map(&[("op", Value::from(op)), ("after", after), ("source", map(&[])), ("before", Value::Null)]);
        let mut record = Record::of_value("server.s.orders".into(), Datum::schemaless(value));
        record.key = Datum::schemaless(map(&[("id", Value::Int64(id))]));
        record
    };
    let full = |id: i64| map(&[("id", Value::Int64(id)), ("v", Value::from("a")), ("at", Value::Int64(1_000))]);
    let records = vec![event("c", 1, full(1)), event("c", 2, full(2)), event("d", 1, Value::Null)];
    assert!(sink.task.put(&consumed(records)).await.unwrap().is_empty());
    assert_eq!(
        db.text("SELECT string_agg(t::text, ' ') FROM server_s_orders t").await,
        "(2,a,\"1970-01-01 00:00:01+00\")"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_offered_tables_and_columns() {
    let db = shared().database().await;
    db.run("CREATE TABLE a (id int, v text); CREATE VIEW b AS SELECT id FROM a").await;
    let offered = JdbcSinkConnector::DEBEZIUM.recommend(&props(&db, &[("collection.name.format", "a")])).await;
    let expected = [
        ("collection.name.format", vec!["public.a".to_owned(), "public.b".to_owned()]),
        ("primary.key.fields", vec!["id".to_owned(), "v".to_owned()]),
        ("field.include.list", vec!["id".to_owned(), "v".to_owned()]),
    ];
    assert_eq!(offered, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_more_than_a_day_are_intervals_or_refused() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int, i interval, z timetz)").await;
    let entries = [("collection.name.format", "t")];
    let mut sink = open(&db, &entries).await;
    let row = |offset: i64, column: &'static str| {
        let time = Schema::new(Type::Int64).with_name("io.debezium.time.MicroTime").optional();
        at(offset, Datum::default(), structure(vec![(column, time, Value::Int64(108_000_000_000))]))
    };
    let rejected = sink.task.put(&[row(0, "i"), row(1, "z")]).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1]);
    assert!(rejected[0].error.to_string().contains("range"), "{}", rejected[0].error);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT i::text FROM t").await, "30:00:00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_of_a_table_without_a_name_is_refused_alone() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int)").await;
    let entries = [("collection.name.format", "${source.table}"), ("truncate.enabled", "true")];
    let mut sink = open(&db, &entries).await;
    let event = |offset: i64, op: &str, table: &str, after: Value| {
        let source = map(vec![("table", Value::from(table))]);
        let entries = vec![("op", Value::from(op)), ("source", source), ("before", Value::Null), ("after", after)];
        at(offset, Datum::default(), object(entries))
    };
    let records = [event(0, "t", "a.", Value::Null), event(1, "c", "t", map(vec![("id", Value::Int64(1))]))];
    let rejected = sink.task.put(&records).await.unwrap();
    assert_eq!(rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0]);
    sink.task.flush().await.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM t").await, "1");
}
