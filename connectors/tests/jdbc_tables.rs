//! Tables of every kind and name: foreign ones, materialized views, partitions, catalogs, names that need quotes, names
//! that the search path leads to, clocks that are set back.

use std::sync::Arc;

use towline_connectors::api::{Health, Position, SourceConnector};
use towline_connectors::data::{Datum, Schema, Type, Value};
use towline_connectors::jdbc::JdbcSourceConnector;

use crate::jdbc_harness::{Sink, Source, at, props, structure};
use crate::jdbc_source::{field, ids};
use crate::postgres_server::{Database, shared};

/// A database with a foreign table `t` over the table of another one.
async fn linked(columns: &str, far_sql: &str) -> (Database, Database) {
    let (near, far) = (shared().database().await, shared().database().await);
    far.run(far_sql).await;
    near.run(&format!(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw \
         OPTIONS (host '127.0.0.1', port '{}', dbname '{}'); \
         CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password 'sesame'); \
         CREATE FOREIGN TABLE t ({columns}) SERVER far",
        far.port, far.name
    ))
    .await;
    (near, far)
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_tables_are_read_in_every_mode() {
    let (near, far) = linked(
        "id int NOT NULL, at timestamptz NOT NULL, v text",
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, v text); \
         INSERT INTO t SELECT i, '2024-01-01'::timestamptz + i * interval '1 s', 'v' || i FROM generate_series(1, 5) i",
    )
    .await;
    for mode in ["bulk", "incrementing", "timestamp", "timestamp+incrementing"] {
        let mut config = props(&near, &[("mode", mode), ("table.types", "FOREIGN TABLE")]);
        for (needed, key, column) in [
            (mode.contains("incrementing"), "incrementing.column.name", "id"),
            (mode.contains("timestamp"), "timestamp.column.name", "at"),
        ] {
            if needed {
                config.insert(key.to_owned(), column.to_owned());
            }
        }
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        let records = source.take(5).await;
        assert_eq!(ids(&records[..5]), [1, 2, 3, 4, 5], "{mode}");
        assert_eq!(field(&records[4], "v"), Value::from("v5"));
        source.task.close().await;
        if mode != "bulk" {
            let mut again = Source::open(&config, source.stored).await.unwrap();
            let id = far.text("SELECT max(id) + 1 FROM t").await;
            far.run(&format!("INSERT INTO t VALUES ({id}, '2024-01-02'::timestamptz + {id} * interval '1 s')")).await;
            assert_eq!(ids(&again.take(1).await), [id.parse::<i64>().unwrap()], "{mode}");
            again.task.close().await;
            far.run("DELETE FROM t WHERE id > 5").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_tables_are_written_to() {
    let (near, far) =
        linked("k int NOT NULL, v text", "CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (9, 'old')")
            .await;
    let key = |k: i32| Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Int32(k));
    let row =
        |offset, k, v: &str| at(offset, key(k), structure(vec![("v", Schema::new(Type::String), Value::from(v))]));
    let entries = [("pk.mode", "record_key"), ("pk.fields", "k"), ("delete.enabled", "true")];
    let mut sink = Sink::open(&props(&near, &entries)).await.unwrap();
    let records = [row(0, 1, "a"), row(1, 2, "b"), at(2, key(9), Datum::default())];
    assert!(sink.task.put(&records).await.unwrap().is_empty());
    let updates = [&entries[..], &[("insert.mode", "update")]].concat();
    let mut sink = Sink::open(&props(&near, &updates)).await.unwrap();
    assert!(sink.task.put(&[row(3, 1, "new"), row(4, 7, "nobody")]).await.unwrap().is_empty());
    assert_eq!(far.text("SELECT string_agg(k || v, ' ' ORDER BY k) FROM t").await, "1new 2b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_view_shows_what_its_refresh_brought() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); \
         CREATE MATERIALIZED VIEW m AS SELECT id, id * 10 AS n FROM t",
    )
    .await;
    let entries = [
        ("mode", "incrementing"),
        ("incrementing.column.name", "id"),
        ("table.types", "MATERIALIZED VIEW"),
        ("validate.non.null", "false"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let records = source.take(1).await;
    assert_eq!((ids(&records), field(&records[0], "n")), (vec![1], Value::Int32(10)));
    db.run("INSERT INTO t VALUES (2)").await;
    assert!(source.task.poll().await.unwrap().is_empty());
    db.run("REFRESH MATERIALIZED VIEW m").await;
    assert_eq!(ids(&source.take(1).await), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_is_one_table_and_partitions_may_come() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id bigserial, day date NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
         CREATE TABLE t_old PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01'); \
         INSERT INTO t (day) SELECT '2024-01-10' FROM generate_series(1, 3)",
    )
    .await;
    let entries = [("mode", "incrementing"), ("table.types", "partitioned table")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let records = source.take(3).await;
    assert_eq!((ids(&records), &*records[0].record.topic), (vec![1, 2, 3], "t"));
    db.run("CREATE TABLE t_new PARTITION OF t FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')").await;
    // The new partition is waited for as the old one.
    let mut late = db.connect().await;
    sqlx::raw_sql("BEGIN; INSERT INTO t (day) VALUES ('2024-02-10')").execute(&mut late).await.unwrap();
    db.run("INSERT INTO t (day) VALUES ('2024-01-11')").await;
    assert!(source.task.poll().await.unwrap().is_empty(), "id 5 must wait for id 4");
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(ids(&source.take(2).await), [4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_rows_to_read_are_announced_before_the_first_row() {
    let database = shared().database().await;
    for table in ["a", "b", "c", "d"] {
        database
            .run(&format!(
                "CREATE TABLE {table} (id serial PRIMARY KEY, v int); INSERT INTO {table} (v) VALUES (1), (2)"
            ))
            .await;
    }
    database.run("DELETE FROM b; CREATE TABLE e (id int NOT NULL); INSERT INTO e VALUES (1)").await;
    let config = props(&database, &[("mode", "incrementing"), ("incrementing.column.name", "id")]);
    let read = (
        Position::of([("protocol", Value::from("1")), ("table", Value::from("public.c"))]),
        Position::of([("incrementing", Value::Int64(2))]),
    );
    let mut source = Source::open(&config, vec![read]).await.unwrap();
    let (mut announced, mut rows) = (Vec::new(), 0);
    while rows < 5 {
        for batch in source.task.poll().await.unwrap() {
            if batch.is_announcement() {
                assert_eq!(rows, 0);
                announced.push(batch.topic.to_string());
            } else {
                rows += batch.records.into_made().unwrap().len();
            }
        }
    }
    // Neither the empty table, nor one that was read, nor one that has no index to look into.
    assert_eq!(announced, ["a", "d"]);
    source.task.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_63_bytes_and_of_any_letters_go_through() {
    let db = shared().database().await;
    let long = "x".repeat(63);
    let odd = "Größe 名前 'q' \"d\" a.b,c\\";
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for name in [long.as_str(), odd, "select", "Ünïcödé"] {
        let (table, column) = (quoted(name), quoted(&format!("№ {name}").chars().take(50).collect::<String>()));
        db.run(&format!(
            "CREATE SCHEMA IF NOT EXISTS \"S p\"; CREATE TABLE \"S p\".{table} (id serial PRIMARY KEY, {column} text); \
             INSERT INTO \"S p\".{table} ({column}) VALUES ('a'), (NULL); \
             CREATE TABLE public.{table} (LIKE \"S p\".{table})"
        ))
        .await;
        let entries = [("mode", "incrementing"), ("schema.pattern", "S _")];
        let mut config = props(&db, &entries);
        // Names with commas can't stand in a list: a pattern finds them.
        config.insert("table.include.list".to_owned(), format!("S p[.]{}", regex_of(name)));
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        let records = source.take(2).await;
        assert_eq!(ids(&records), [1, 2], "{name}");
        assert_eq!(&*records[0].record.topic, name);
        source.task.close().await;
        let format = format!("public.{table}");
        let mut sink = Sink::open(&props(&db, &[("table.name.format", format.as_str())])).await.unwrap();
        assert!(sink.put(&records).await.unwrap().is_empty());
        let difference = format!("SELECT count(*) FROM (TABLE \"S p\".{table} EXCEPT TABLE public.{table}) d");
        assert_eq!(db.text(&difference).await, "0", "{name}");
    }
}

/// A pattern of a name, whose commas a list of patterns would take for its own.
fn regex_of(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == ' ' { c.to_string() } else { ".".to_owned() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_chooses_among_tables_of_one_name() {
    let db = shared().database().await;
    db.run(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id serial PRIMARY KEY, v text); \
         CREATE TABLE b.t (id serial PRIMARY KEY, v text); INSERT INTO a.t (v) VALUES ('of a'); \
         INSERT INTO b.t (v) VALUES ('of b')",
    )
    .await;
    let qualified = props(&db, &[("mode", "incrementing"), ("table.whitelist", "t")]);
    let refused = JdbcSourceConnector.plan(&qualified, 1, &Health::default()).await.unwrap_err();
    assert!(refused.to_string().contains("table.names.qualify=false"), "{refused}");
    for schema in ["a", "b"] {
        let mut config = qualified.clone();
        config.insert("table.names.qualify".to_owned(), "false".to_owned());
        config.insert("connection.currentSchema".to_owned(), schema.to_owned());
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        let records = source.take(1).await;
        assert_eq!(field(&records[0], "v"), Value::from(format!("of {schema}")));
        // The original's partition of a name without a schema.
        assert_eq!(records[0].partition.to_json().to_string(), r#"{"protocol":"1","table":"t"}"#);
        source.task.close().await;
        let mut again = Source::open(&config, source.stored).await.unwrap();
        db.run(&format!("INSERT INTO {schema}.t (v) VALUES ('next')")).await;
        assert_eq!(ids(&again.take(1).await), [2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_schemas_and_catalogs_choose_tables_and_empty_ones_none() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int); CREATE SCHEMA s; CREATE TABLE s.u (id int)").await;
    let planned = async |entries: &[(&str, &str)]| {
        let config = props(&db, &[&[("mode", "bulk")], entries].concat());
        let plan = JdbcSourceConnector.plan(&config, 1, &Health::default()).await.unwrap();
        plan.first().map(|task| task["tables"].clone()).unwrap_or_default()
    };
    let all = "\"public\".\"t\",\"s\".\"u\"";
    assert_eq!(planned(&[]).await, all);
    assert_eq!(planned(&[("catalog.pattern", db.name.as_str())]).await, all);
    assert_eq!(planned(&[("catalog.pattern", "test%")]).await, all);
    for (key, value, hint) in [
        ("schema.pattern", "", "schema.pattern=\"\" means tables without a schema"),
        ("schema.pattern", "nope", "schema.pattern=nope"),
        ("catalog.pattern", "", "catalog.pattern=\"\" means tables without a database"),
        ("catalog.pattern", "other", "catalog.pattern=other"),
    ] {
        let health = Health::default();
        let config = props(&db, &[("mode", "bulk"), (key, value)]);
        assert!(JdbcSourceConnector.plan(&config, 1, &health).await.unwrap().is_empty(), "{key}={value}");
        let said = health.message().unwrap();
        assert!(said.contains("no table of") && said.contains(hint), "{said}");
    }
    assert_eq!(planned(&[("schema.pattern", "_")]).await, "\"s\".\"u\"");
    assert_eq!(planned(&[("schema.pattern", "pg_catalog")]).await, "");
    let catalogs = planned(&[("table.types", "SYSTEM TABLE, system view")]).await;
    assert!(catalogs.contains("\"pg_catalog\".\"pg_class\"") && catalogs.contains("\"pg_catalog\".\"pg_locks\""));
    assert!(!catalogs.contains("\"public\"."));
    let entries = [("mode", "bulk"), ("table.types", "SYSTEM TABLE"), ("table.whitelist", "pg_catalog.pg_am")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert!(!source.take(1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_repeats_and_breaks_nothing() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id serial PRIMARY KEY, at timestamptz NOT NULL); INSERT INTO t (at) VALUES ('2024-01-05')")
        .await;
    for mode in ["timestamp", "timestamp+incrementing"] {
        let entries = [("mode", mode), ("table.whitelist", "t"), ("timestamp.column.name", "at")];
        let config = props(&db, &entries);
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        assert_eq!(ids(&source.take(1).await), [1]);
        // Stamped before what was read: lost to any reader by time, as docs/jdbc.md says. What follows is not.
        db.run("INSERT INTO t (at) VALUES ('2024-01-01'); INSERT INTO t (at) VALUES ('2024-01-06')").await;
        assert_eq!(ids(&source.take(1).await), [3], "{mode}");
        source.task.close().await;
        // An offset ahead of the clock waits for it, and reads nothing twice.
        let ahead = Position::of([("timestamp", 4_102_444_800_000_i64.into()), ("timestamp_nanos", 0_i64.into())]);
        let partition = source.stored.last().unwrap().0.clone();
        let mut waiting = Source::open(&config, vec![(partition, ahead)]).await.unwrap();
        assert!(waiting.task.poll().await.unwrap().is_empty(), "{mode}");
        assert_eq!(waiting.health.message(), None);
        waiting.task.close().await;
        db.run("TRUNCATE t RESTART IDENTITY; INSERT INTO t (at) VALUES ('2024-01-05')").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn created_columns_stand_where_the_originals_put_them() {
    let db = shared().database().await;
    let int = |names: &[&'static str]| {
        structure(names.iter().map(|name| (*name, Schema::new(Type::Int32), Value::Int32(1))).collect())
    };
    for (number, (mode, fields, key, expected)) in [
        ("record_key", "", int(&["z", "b", "m"]), "a b c m z"),
        ("record_key", "c", int(&["c"]), "a b c"),
        ("record_value", "c", Datum::default(), "a b c"),
        ("kafka", "", Datum::default(), "__connect_topic __connect_partition __connect_offset a b c"),
        ("kafka", "z,y,x", Datum::default(), "a b c x y z"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        let entries =
            [("table.name.format", table.as_str()), ("auto.create", "true"), ("pk.mode", mode), ("pk.fields", fields)];
        let mut sink = Sink::open(&props(&db, &entries)).await.unwrap();
        assert!(sink.task.put(&[at(0, key, int(&["a", "b", "c"]))]).await.unwrap().is_empty());
        let columns = format!(
            "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        );
        assert_eq!(db.text(&columns).await, expected, "{mode} {fields}");
    }
}
