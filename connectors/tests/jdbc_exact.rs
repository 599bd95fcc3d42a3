//! Exact mode: whatever a table holds arrives as it was, compared by PostgreSQL. Tables and rows are made at random from
//! all types, with the extremes of each.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use towline_connectors::jdbc::JdbcSinkConnector;

use towline_connectors::data::Value;

use crate::jdbc_harness::{Sink, Source, props};
use crate::jdbc_source::field;
use crate::postgres_server::{Database, shared};

const TYPES: &str = "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; \
     CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
     CREATE TYPE pair AS (a int, b text)";

/// Types with values of each, as SQL expressions.
const COLUMNS: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767", "0", "(random() * 1000)::int"]),
    ("integer", &["-2147483648", "2147483647", "(random() * 1e9)::int"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "(random() * 1e18)::int8"]),
    ("oid", &["0", "4294967295"]),
    ("numeric", &["'NaN'", "'Infinity'", "1e-200", "-1e300", "0.10", "123456789012345678901234567890.123456789"]),
    ("numeric(12,2)", &["'NaN'", "-9999999999.99", "0.05", "(random() * 1e9)::numeric"]),
    ("numeric(30,0)", &["'NaN'", "123456789012345678901234567890", "-1"]),
    ("numeric(5,-2)", &["'NaN'", "1234500", "-100"]),
    ("real", &["'NaN'", "'-Infinity'", "3.4028235e38", "1e-45", "random()"]),
    (
        "double precision",
        &["'NaN'", "'Infinity'", "1.7976931348623157e308", "5e-324", "random() * 1e10", "-0.0::float8"],
    ),
    ("money", &["'-92233720368547758.08'::numeric::money", "1234.56::numeric::money", "0::money"]),
    ("boolean", &["true", "false"]),
    ("bit(1)", &["B'1'", "B'0'"]),
    ("bit(8)", &["B'10101010'", "B'11111111'"]),
    ("bit(70)", &["repeat('10', 35)::bit(70)"]),
    ("bit varying", &["B''", "B'101'"]),
    ("bit varying(5)", &["B'10'"]),
    ("\"char\"", &["'c'", "''"]),
    ("char(5)", &["'ab'", "''", "'\u{4e2d}'"]),
    ("varchar(20)", &["'it''s'", "E'\\\\ \\t\\n'", "''"]),
    ("text", &["'\u{4e2d}\u{1f600}'", "''", "'{}\"'", "'NULL'", "repeat('x', 3000)"]),
    ("name", &["'name'"]),
    ("citext", &["'Ab'"]),
    ("mood", &["'sad'", "'it''s \"ok\"'"]),
    ("positive", &["1", "2147483647"]),
    ("bytea", &["'\\x00ff'", "''", "decode(md5(random()::text), 'hex')"]),
    (
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
            "'1582-10-10'",
            "'0001-01-01'",
            "'2024-02-29'",
        ],
    ),
    ("time", &["'24:00'", "'00:00'", "'23:59:59.999999'"]),
    ("time(2)", &["'12:30:45.12'"]),
    ("timetz", &["'12:30:45.000001+09:30'", "'00:00-15:59'", "'24:00+00'"]),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'2024-03-31 02:30:00.123456'",
            "'1582-10-10 12:00'",
            "now()::timestamp",
        ],
    ),
    (
        "timestamptz",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-02 00:00:00+00 BC'",
            "'2024-10-27 02:30:00.123456+01'",
            "'1500-06-01 00:00:00.000001+00'",
            "now()",
        ],
    ),
    ("timestamp(3)", &["'2024-02-29 12:30:45.123'"]),
    ("interval", &["'1 year -2 mons +3 days -04:05:06.789'", "'0'", "'178000000 years'"]),
    ("interval day to second(3)", &["'1 day 02:03:04.567'"]),
    ("uuid", &["gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"]),
    ("json", &["'{\"a\" : [1, null]}'", "'null'", "'\"\\u00e9\"'"]),
    ("jsonb", &["'{\"a\": [1, null, 1e400]}'", "'null'", "'\"s\"'"]),
    ("xml", &["'<a b=\"c\">t</a>'", "'text'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("inet", &["'10.0.0.1/8'", "'::1'", "'10.0.0.1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("point", &["'(1.5,-0.1)'"]),
    ("box", &["'(1,2),(0,0)'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("tsvector", &["to_tsvector('simple', 'a fat cat''s')"]),
    ("tsquery", &["to_tsquery('simple', 'a & !b')"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("ltree", &["'a.b.c'"]),
    ("hstore", &["'a=>\"x\\\"y\", b=>NULL'", "''"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("numrange", &["'(0.1,2.50]'"]),
    ("tstzrange", &["tstzrange(now(), 'infinity')"]),
    ("nummultirange", &["'{[1,2],(5.5,)}'", "'{}'"]),
    ("pair", &["ROW(1, 'a,\"b')::pair", "ROW(NULL, NULL)::pair"]),
    ("integer[]", &["'{1,NULL,-3}'", "'{}'", "'{{1,2},{3,4}}'", "'[0:1]={1,2}'"]),
    ("text[]", &["ARRAY['a\"b', 'c,d', NULL, 'NULL', '', E'\\\\', '{}']"]),
    ("uuid[]", &["ARRAY[gen_random_uuid()]"]),
    ("timestamptz[]", &["ARRAY[now(), 'infinity']"]),
    ("jsonb[]", &["ARRAY['{\"a\": \"b\\\"\"}'::jsonb, 'null']"]),
    ("bytea[]", &["ARRAY['\\x00ff'::bytea]"]),
    ("numeric[]", &["ARRAY['NaN'::numeric, 0.10]"]),
    ("mood[]", &["ARRAY['sad'::mood]"]),
    ("pair[]", &["ARRAY[ROW(1, 'x y')::pair]"]),
];

/// Column types with their constraint, and rows of expressions.
#[derive(Debug)]
struct Case {
    columns: Vec<(usize, bool)>,
    rows: Vec<Vec<Option<usize>>>,
    zone: &'static str,
}

fn case() -> impl Strategy<Value = Case> {
    let columns = proptest::collection::vec((0..COLUMNS.len(), any::<bool>()), 1..25);
    let zones = prop_oneof![Just("UTC"), Just("Asia/Seoul"), Just("America/New_York"), Just("Europe/Berlin")];
    (columns, 1..30_usize, zones).prop_flat_map(|(columns, rows, zone)| {
        let cell = |(kind, required): &(usize, bool)| {
            let any = (0..COLUMNS[*kind].1.len()).prop_map(Some).boxed();
            if *required { any } else { prop_oneof![4 => any, 1 => Just(None)].boxed() }
        };
        let row = columns.iter().map(cell).collect::<Vec<_>>();
        (Just(columns), proptest::collection::vec(row, rows..=rows), Just(zone))
            .prop_map(|(columns, rows, zone)| Case { columns, rows, zone })
    })
}

impl Case {
    fn sql(&self) -> String {
        let definitions = self.columns.iter().enumerate().map(|(at, (kind, required))| {
            format!(", \"C {at}\" {}{}", COLUMNS[*kind].0, if *required { " NOT NULL" } else { "" })
        });
        let rows = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&self.columns).map(|(cell, (kind, _))| match cell {
                Some(at) => format!(", ({})::{}", COLUMNS[*kind].1[*at], COLUMNS[*kind].0),
                None => ", NULL".to_owned(),
            });
            format!("(DEFAULT{})", cells.collect::<String>())
        });
        format!(
            "CREATE TABLE source (id serial PRIMARY KEY{}); INSERT INTO source VALUES {}; CREATE TABLE target (LIKE source INCLUDING INDEXES)",
            definitions.collect::<String>(),
            rows.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Cells that differ between two tables.
async fn difference(db: &Database, a: &str, b: &str) -> String {
    db.text(&format!(
        "SELECT string_agg(d::text, '; ') FROM ((SELECT s::text FROM {a} s EXCEPT ALL SELECT t::text FROM {b} t) \
         UNION ALL (SELECT t::text FROM {b} t EXCEPT ALL SELECT s::text FROM {a} s)) d"
    ))
    .await
}

async fn copied(db: &Database, zone: &str, rows: usize) {
    let entries =
        [("mode", "incrementing"), ("table.whitelist", "source"), ("type.mapping", "exact"), ("db.timezone", zone)];
    let mut source = Source::open(&props(db, &entries), Vec::new()).await.unwrap();
    let records = source.take(rows).await;
    source.task.close().await;
    // Written, written over, and written over again where it is there.
    for mode in ["insert", "upsert", "update"] {
        let entries = [
            ("table.name.format", "target"),
            ("db.timezone", zone),
            ("insert.mode", mode),
            ("pk.mode", "record_value"),
            ("pk.fields", "id"),
            ("sink.exactly.once", "disabled"),
        ];
        let mut sink = Sink::open(&props(db, &entries)).await.unwrap();
        let rejected = sink.put(&records).await.unwrap();
        assert!(rejected.is_empty(), "{mode}: {rejected:?}");
        sink.task.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_tables_arrive_unchanged() {
    let mut runner = TestRunner::deterministic();
    for round in 0..12 {
        let case = case().new_tree(&mut runner).unwrap().current();
        let db = shared().database().await;
        let sql = case.sql();
        db.run(&format!("{TYPES}; {sql}")).await;
        copied(&db, case.zone, case.rows.len()).await;
        assert_eq!(difference(&db, "source", "target").await, "null", "round {round}, {}: {sql}", case.zone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_extreme_arrives_unchanged() {
    let most = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap();
    let case = Case {
        columns: (0..COLUMNS.len()).map(|kind| (kind, false)).collect(),
        rows: (0..most).map(|row| COLUMNS.iter().map(|(_, values)| Some(row % values.len())).collect()).collect(),
        zone: "Europe/Berlin",
    };
    let db = shared().database().await;
    db.run(&format!("{TYPES}; {}", case.sql())).await;
    // What the server would print by itself does not matter.
    for setting in
        ["IntervalStyle = sql_standard", "DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Tokyo'", "bytea_output = escape"]
    {
        db.run(&format!("ALTER DATABASE {} SET {setting}", db.name)).await;
    }
    copied(&db, case.zone, most).await;
    assert_eq!(difference(&db, "source", "target").await, "null");
}

#[tokio::test(flavor = "multi_thread")]
async fn debeziums_class_makes_columns_of_the_sources_types() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE source (id int PRIMARY KEY, ts timestamp(3), tz timestamptz, ip inet, a int[], r tstzrange, n numeric, \
         b bit(4), m money, iv interval, p numeric(12,2), j jsonb, k json, u uuid, x xml, c char(4), v varchar(9), o oid, \
         txt text); \
         INSERT INTO source VALUES (1, now(), now(), '::1', '{1,NULL}', '[2024-01-01,)', 0.10, B'1010', 5, '1 mon', 'NaN', \
         '[1]', '{ }', '00000000-0000-0000-0000-000000000001', '<a/>', 'ab', 'v', 4000000000, 't')",
    )
    .await;
    let entries = [("mode", "bulk"), ("table.whitelist", "source"), ("type.mapping", "exact")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let mut records = source.take(1).await;
    records.truncate(1);
    let mut config = props(
        &db,
        &[
            ("collection.name.format", "copy"),
            ("schema.evolution", "basic"),
            ("primary.key.mode", "record_value"),
            ("primary.key.fields", "id"),
        ],
    );
    config.insert("connection.username".to_owned(), "postgres".to_owned());
    let mut sink = Sink::of(&JdbcSinkConnector::DEBEZIUM, &config).await.unwrap();
    assert!(sink.put(&records).await.unwrap().is_empty());
    assert_eq!(difference(&db, "source", "copy").await, "null");
    let types = |table: &str| {
        format!(
            "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute \
                 WHERE attrelid = '{table}'::regclass AND attnum > 0"
        )
    };
    assert_eq!(db.text(&types("copy")).await, db.text(&types("source")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_stay_numbers_where_their_mapping_is_said() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, whole numeric(9,0), part numeric(12,2), any_ numeric); \
         INSERT INTO t VALUES (1, 7, 0.05, 'NaN')",
    )
    .await;
    for (mapping, expected) in [
        ("none", [Value::from("7"), Value::from("0.05"), Value::from("NaN")]),
        ("best_fit", [Value::Int32(7), Value::Bytes(vec![5].into()), Value::from("NaN")]),
    ] {
        let entries =
            [("mode", "bulk"), ("table.whitelist", "t"), ("type.mapping", "exact"), ("numeric.mapping", mapping)];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let records = source.take(1).await;
        for (name, value) in ["whole", "part", "any_"].into_iter().zip(expected) {
            assert_eq!(field(&records[0], name), value, "{mapping} {name}");
        }
    }
    // Where a form for NaN is missing, the error says how to get one.
    db.run("UPDATE t SET part = 'NaN'").await;
    let entries = [("mode", "bulk"), ("table.whitelist", "t")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let error = loop {
        let batches = source.task.poll().await.unwrap();
        if let Some(error) = batches.into_iter().find_map(|batch| batch.records.into_made().err()) {
            break error;
        }
    };
    assert!(error.to_string().contains("type.mapping=exact"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_numeric_id_is_read_beside_exact_columns() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id numeric PRIMARY KEY, n numeric); INSERT INTO t VALUES (1, 0.10), (2, 'NaN')").await;
    let entries = [
        ("mode", "incrementing"),
        ("table.whitelist", "t"),
        ("incrementing.column.name", "id"),
        ("type.mapping", "exact"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert_eq!(source.take(2).await.len(), 2);
    db.run("INSERT INTO t VALUES (3, 1)").await;
    assert_eq!(source.take(1).await.len(), 1);
}
