//! Rows from a table through the source and the sink into another table, compared by PostgreSQL.

use crate::jdbc_harness::{Sink, Source, props};
use crate::postgres_server::shared;

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
     CREATE TABLE source (id bigserial PRIMARY KEY, i2 smallint, i4 integer, i8 bigint, o oid, n numeric, n2 numeric(12,2), \
     n0 numeric(30,0), f4 real, f8 double precision, b boolean, b1 bit(1), b3 bit(3), b12 bit(12), c5 char(5), v varchar(20), t text, \
     nm name, ch \"char\", e mood, d positive, by bytea, da date, ti time(3), tz timetz(3), ts timestamp(3), \
     tstz timestamptz(3), u uuid, j json, jb jsonb, x xml)";

const ROWS: &str = "INSERT INTO source (i2, i4, i8, o, n, n2, n0, f4, f8, b, b1, b3, b12, c5, v, t, nm, ch, e, d, by, da, ti, \
     tz, ts, tstz, u, j, jb, x) VALUES \
     (-32768, -2147483648, -9223372036854775808, 0, -0.000000001, -9999999999.99, -123456789012345678901234567890, \
      '-infinity', 'NaN', false, B'0', B'101', B'101010101010', 'ab', '', '', 'n', 'c', 'sad', 1, '\\x00ff', '0001-01-01', '00:00', \
      '00:00+00', '0001-01-01', '1582-10-04 23:59:59.999+00', '00000000-0000-0000-0000-000000000000', '{\"a\": 1}', '[1, {\"b\":null}]', '<a/>'), \
     (32767, 2147483647, 9223372036854775807, 4294967295, 123456789012345678901234567890.123, 9999999999.99, 0, \
      3.4e38, 1.7976931348623157e308, true, B'1', B'011', B'000000000001', 'abcde', 'it''s \\ \"q\"', E'line\\ntab\\t\\u00e9\\u4e2d', \
      'name', 'z', 'happy', 2147483647, '', '9999-12-31', '23:59:59.999', '23:59:59.999+00', '9999-12-31 23:59:59.999', \
      '1970-01-01 00:00:00.001+09', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[]', '{}', '<b>t</b>'), \
     (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
      NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
     (0, 0, 0, 1, 10000, 0.05, 10000, 0, 1e-300, true, B'1', B'000', B'111111111111', '', 'x', 'y', '', '', 'sad', 5, '\\x01', 'infinity', \
      '24:00', '12:30:45.123+00', 'infinity', '-infinity', 'abababab-abab-abab-abab-abababababab', 'null', '\"s\"', 'text')";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_unchanged() {
    for zone in ["UTC", "Asia/Seoul"] {
        let db = shared().database().await;
        db.run(&format!("{TYPES}; {ROWS}; CREATE TABLE target (LIKE source)")).await;
        let entries = [("mode", "incrementing"), ("table.whitelist", "source"), ("db.timezone", zone)];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let records = source.take(4).await;
        let entries = [("table.name.format", "target"), ("db.timezone", zone), ("date.timezone", "UTC")];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        let rejected = sink.put(&records).await.unwrap();
        assert!(rejected.is_empty(), "{rejected:?}");
        // In another zone 24:00 is 00:00, and a timetz shows the same instant in that zone.
        let unlike = if zone == "UTC" { "false" } else { "key = 'tz' OR (key = 'ti' AND id = 4)" };
        let cells = "SELECT id, key, value FROM (SELECT id, to_jsonb(r) AS row FROM {} r) t, jsonb_each_text(row)";
        let difference = format!(
            "SELECT string_agg(id || ' ' || key || ' ' || coalesce(value, 'null'), '; ') FROM ({} EXCEPT {}) d WHERE NOT ({unlike})",
            cells.replace("{}", "source"),
            cells.replace("{}", "target")
        );
        assert_eq!(db.text(&difference).await, "null", "{zone}: lost on the way");
        assert_eq!(db.text("SELECT count(*) FROM target").await, "4");
        source.task.close().await;
        sink.task.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn granularities_keep_microseconds() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE source (id serial PRIMARY KEY, ts timestamp, tstz timestamptz); \
            INSERT INTO source (ts, tstz) VALUES ('2024-02-29 12:30:45.123456', '2024-02-29 12:30:45.123456+00'), \
            ('infinity', '-infinity'), (NULL, NULL)",
    )
    .await;
    for (number, granularity) in
        ["micros_long", "nanos_long", "micros_iso_datetime_string", "nanos_iso_datetime_string"].iter().enumerate()
    {
        db.run(&format!("CREATE TABLE target{number} (LIKE source)")).await;
        let entries =
            [("mode", "incrementing"), ("table.whitelist", "source"), ("timestamp.granularity", *granularity)];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let records = source.take(3).await;
        let table = format!("target{number}");
        let unit = if granularity.starts_with("nanos") { "nanoseconds" } else { "microseconds" };
        let entries = [
            ("table.name.format", table.as_str()),
            ("timestamp.fields.list", "ts,tstz"),
            ("timestamp.precision.mode", unit),
        ];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        let rejected = sink.put(&records).await.unwrap();
        assert!(rejected.is_empty(), "{rejected:?}");
        let difference = format!("SELECT count(*) FROM (TABLE source EXCEPT TABLE {table}) d");
        assert_eq!(db.text(&difference).await, "0", "{granularity}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_types_are_left_out_or_sent_as_text() {
    let db = shared().database().await;
    db.run("CREATE TABLE source (id serial PRIMARY KEY, a int[], ip inet, iv interval, v text); \
            INSERT INTO source (a, ip, iv, v) VALUES ('{1,NULL,3}', '10.0.0.1/8', '1 day 02:00', 'x'), (NULL, NULL, NULL, NULL); \
            CREATE TABLE target (LIKE source)").await;
    let skip = [("mode", "incrementing"), ("table.whitelist", "source")];
    let mut source = Source::open(&props(&db, &skip), Vec::new()).await.unwrap();
    let records = source.take(2).await;
    let names: Vec<_> =
        records[0].record.value.schema.as_ref().unwrap().fields.iter().map(|field| field.name.to_string()).collect();
    assert_eq!(names, ["id", "v"]);
    let text = [("mode", "incrementing"), ("table.whitelist", "source"), ("unsupported.types", "text")];
    let mut source = Source::open(&props(&db, &text), Vec::new()).await.unwrap();
    let records = source.take(2).await;
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "target")])).await.unwrap();
    assert!(sink.put(&records).await.unwrap().is_empty());
    assert_eq!(db.text("SELECT count(*) FROM (TABLE source EXCEPT TABLE target) d").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_in_big_batches() {
    let db = shared().database().await;
    db.run("CREATE TABLE iris (id serial PRIMARY KEY, timestamp timestamp(3), sl float8, sw float8, pl float8, pw float8, target int); \
            INSERT INTO iris (timestamp, sl, sw, pl, pw, target) SELECT now(), i * 0.1, 3.5, 1.4, 0.2, i % 3 \
            FROM generate_series(1, 100000) i; CREATE TABLE copy (LIKE iris INCLUDING ALL)").await;
    let entries = [("mode", "incrementing"), ("table.whitelist", "iris"), ("topic.prefix", "p-")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let start = std::time::Instant::now();
    let records = source.take(100_000).await;
    let read = start.elapsed();
    assert_eq!(&*records[0].record.topic, "p-iris");
    assert!(records.iter().filter(|record| record.offset.is_some()).count() < 60);
    let mut sink = Sink::open(&props(&db, &[("table.name.format", "copy")])).await.unwrap();
    let start = std::time::Instant::now();
    for batch in records.chunks(10_000) {
        assert!(sink.put(batch).await.unwrap().is_empty());
    }
    println!("read 100,000 rows in {read:?}, wrote them in {:?}", start.elapsed());
    assert_eq!(db.text("SELECT count(*) FROM (TABLE iris EXCEPT TABLE copy) d").await, "0");
}
