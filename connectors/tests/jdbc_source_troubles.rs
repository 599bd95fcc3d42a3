//! The source: a table that can't be read stops no other, is told in the status, and is read as soon as it is mended; a row
//! that can't be read ends the task behind the rows before it.

use towline_connectors::api::{Error, ErrorKind, Position};
use towline_connectors::data::Value;

use crate::jdbc_harness::{DEADLINE, Source, SourceRecord, flat, props, until};
use crate::jdbc_source::{field, ids};
use crate::postgres_server::{Database, shared};

async fn database(sql: &str) -> Database {
    let db = shared().database().await;
    db.run(sql).await;
    db
}

async fn told(source: &Source, parts: &[&str]) {
    until(&format!("a status with {parts:?}"), async || {
        let said = source.health.message().unwrap_or_default();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        parts.iter().all(|part| said.contains(part))
    })
    .await;
}

async fn well(source: &Source) {
    until("a status without troubles", async || {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        source.health.message().is_none()
    })
    .await;
}

fn rows(records: &[SourceRecord]) -> Vec<(String, i64)> {
    records.iter().map(|record| record.record.topic.to_string()).zip(ids(records)).collect()
}

/// What comes until the task ends, and why it ends.
async fn to_the_end(source: &mut Source) -> (Vec<SourceRecord>, Error) {
    let all = async {
        let mut records = Vec::new();
        loop {
            match source.task.poll().await {
                Ok(batches) => records.extend(flat(batches)),
                Err(error) => return (records, error),
            }
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_fit_the_config_stops_no_other_and_is_read_once_it_does() {
    let db =
        database("CREATE TABLE a1 (id serial PRIMARY KEY); CREATE TABLE a2 (x int); INSERT INTO a1 DEFAULT VALUES")
            .await;
    let entries = [("mode", "incrementing"), ("incrementing.column.name", "id"), ("table.whitelist", "a1,a2")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    assert_eq!(rows(&source.take(1).await), [("a1".to_owned(), 1)]);
    told(&source, &["public.a2 is not read", "column \"id\"", "whose columns are x", "table filters"]).await;
    db.run("INSERT INTO a1 DEFAULT VALUES").await;
    assert_eq!(rows(&source.take(1).await), [("a1".to_owned(), 2)]);
    db.run("ALTER TABLE a2 ADD id serial PRIMARY KEY; INSERT INTO a2 DEFAULT VALUES").await;
    assert_eq!(rows(&source.take(1).await), [("a2".to_owned(), 1)]);
    well(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_without_columns_stops_no_table_that_was_read_before() {
    let db = database("CREATE TABLE m (id serial PRIMARY KEY); INSERT INTO m DEFAULT VALUES").await;
    let config = props(&db, &[("mode", "incrementing"), ("incrementing.column.name", "id")]);
    let mut source = Source::open(&config, Vec::new()).await.unwrap();
    source.take(1).await;
    let stored = source.stored.clone();
    source.task.close().await;
    // Before and behind it in the list.
    db.run("CREATE TABLE aa (); CREATE TABLE zz (); INSERT INTO m DEFAULT VALUES").await;
    let mut source = Source::open(&config, stored).await.unwrap();
    assert_eq!(rows(&source.take(1).await), [("m".to_owned(), 2)]);
    told(&source, &["public.aa is not read", "public.zz is not read", "which has no columns"]).await;
    source.task.close().await;
    // As in the original, a new connector is told at once that its first table does not fit.
    let error = Source::open(&config, Vec::new()).await.err().unwrap();
    assert!(error.to_string().contains("public.aa") && error.to_string().contains("has no columns"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_the_privilege_waits_for_it_alone() {
    let db = database(
        "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY); CREATE TABLE c (id serial PRIMARY KEY); \
         INSERT INTO a DEFAULT VALUES; INSERT INTO b DEFAULT VALUES; INSERT INTO c DEFAULT VALUES; \
         CREATE ROLE some_tables LOGIN PASSWORD 'sesame'; GRANT SELECT ON b, c TO some_tables",
    )
    .await;
    for mode in ["incrementing", "bulk"] {
        let config = props(&db, &[("mode", mode), ("connection.user", "some_tables"), ("poll.interval.ms", "600000")]);
        let mut source = Source::open(&config, Vec::new()).await.unwrap();
        assert_eq!(rows(&source.take(2).await), [("b".to_owned(), 1), ("c".to_owned(), 1)], "{mode}");
        told(&source, &["public.a is not read", "42501", "GRANT SELECT ON public.a"]).await;
        db.run("GRANT SELECT ON a TO some_tables").await;
        assert_eq!(rows(&source.take(1).await), [("a".to_owned(), 1)], "{mode}");
        well(&source).await;
        source.task.close().await;
        db.run("REVOKE SELECT ON a FROM some_tables").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_column_that_is_renamed_stops_its_table_alone_until_it_is_back() {
    let db = database(
        "CREATE TABLE pa (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); CREATE TABLE pb (LIKE pa INCLUDING ALL); \
         INSERT INTO pa DEFAULT VALUES; INSERT INTO pb (id) VALUES (1)",
    )
    .await;
    for (mode, column) in [("incrementing", "id"), ("timestamp+incrementing", "at")] {
        let entries = [("mode", mode), ("incrementing.column.name", "id"), ("timestamp.column.name", "at")];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let first = db.text("SELECT (SELECT count(*) FROM pa) + (SELECT count(*) FROM pb)").await.parse().unwrap();
        source.take(first).await;
        db.run(&format!(
            "ALTER TABLE pa RENAME {column} TO other; INSERT INTO pa DEFAULT VALUES; INSERT INTO pb (id) VALUES (2)"
        ))
        .await;
        assert_eq!(rows(&source.take(1).await), [("pb".to_owned(), 2)], "{mode}");
        told(&source, &["public.pa is not read", &format!("column \"{column}\""), "other"]).await;
        db.run(&format!("ALTER TABLE pa RENAME other TO {column}")).await;
        let record = source.take(1).await.remove(0);
        assert_eq!(&*record.record.topic, "pa", "{mode}: nothing is lost and nothing comes twice");
        well(&source).await;
        source.task.close().await;
        db.run("DELETE FROM pb WHERE id = 2").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_holds_up_no_other() {
    let db = database(
        "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY); INSERT INTO a DEFAULT VALUES; \
         INSERT INTO b DEFAULT VALUES",
    )
    .await;
    let config = props(&db, &[("mode", "incrementing"), ("incrementing.column.name", "id")]);
    let mut altering = db.connect().await;
    for round in 0..2 {
        // Once before the start, once while it runs.
        let mut source = if round == 0 { None } else { Some(Source::open(&config, Vec::new()).await.unwrap()) };
        if let Some(source) = &mut source {
            source.take(4).await;
        }
        sqlx::raw_sql("BEGIN; ALTER TABLE a ADD x int; INSERT INTO a DEFAULT VALUES")
            .execute(&mut altering)
            .await
            .unwrap();
        let mut source = match source {
            Some(source) => source,
            None => Source::open(&config, Vec::new()).await.unwrap(),
        };
        if round == 0 {
            assert_eq!(rows(&source.take(1).await), [("b".to_owned(), 1)]);
        }
        db.run("INSERT INTO b DEFAULT VALUES").await;
        assert_eq!(rows(&source.take(1).await), [("b".to_owned(), round + 2)]);
        told(&source, &["public.a is locked by another session"]).await;
        sqlx::raw_sql("COMMIT").execute(&mut altering).await.unwrap();
        let count = if round == 0 { 2 } else { 1 };
        assert!(source.take(count).await.iter().all(|record| &*record.record.topic == "a"));
        well(&source).await;
        source.task.close().await;
        db.run("ALTER TABLE a DROP x").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_none_of_whose_tables_can_be_read_fails() {
    let db = database("CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id serial PRIMARY KEY)").await;
    let config = |tables| {
        let entries = [("mode", "incrementing"), ("incrementing.column.name", "id"), ("table.whitelist", tables)];
        props(&db, &entries)
    };
    let mut both = Source::open(&config("a,b"), Vec::new()).await.unwrap();
    let mut one = Source::open(&config("b"), Vec::new()).await.unwrap();
    db.run("ALTER TABLE a RENAME id TO x").await;
    told(&both, &["public.a is not read"]).await;
    db.run("ALTER TABLE b RENAME id TO x").await;
    let (_, error) = to_the_end(&mut both).await;
    let said = error.to_string();
    assert!(said.contains("none of the task's 2 tables") && said.contains("of public.a: column \"id\""), "{said}");
    let (_, error) = to_the_end(&mut one).await;
    assert!(
        error.to_string().starts_with("column \"id\" of incrementing.column.name does not exist in public.b"),
        "{error}"
    );
    let started = Source::open(&config("a,b"), Vec::new()).await.err().unwrap();
    assert!(started.to_string().contains("could not start reading public.a"), "{started}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_breaks_gives_its_rows_up_to_there_and_stops_no_table() {
    let db = database(
        "CREATE TABLE t (id serial PRIMARY KEY, n int); INSERT INTO t (n) VALUES (1), (1), (0), (1); \
         CREATE VIEW v AS SELECT id, 10 / n AS q FROM t",
    )
    .await;
    let entries = [
        ("mode", "incrementing"),
        ("incrementing.column.name", "id"),
        ("table.types", "TABLE,VIEW"),
        ("validate.non.null", "false"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let seen = async |source: &mut Source, count| {
        let mut seen = rows(&source.take(count).await);
        seen.sort();
        seen
    };
    let all: Vec<(String, i64)> = (1..=4).map(|id| ("t".to_owned(), id)).collect();
    assert_eq!(seen(&mut source, 4).await, all);
    told(&source, &["public.v is not read", "22012"]).await;
    db.run("UPDATE t SET n = 5 WHERE n = 0").await;
    let of_view: Vec<(String, i64)> = (1..=4).map(|id| ("v".to_owned(), id)).collect();
    assert_eq!(seen(&mut source, 4).await, of_view);
    well(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_before_one_whose_id_is_no_whole_number_are_handed_over() {
    for (kind, bad, what) in [
        ("numeric(10,2)", "1.5", "a number with a fraction"),
        ("numeric(10,2)", "1.4", "a number with a fraction"),
        ("numeric(30,0)", "9223372036854775808", "a number beyond 64 bits"),
        ("numeric", "'NaN'", "NaN or infinity"),
    ] {
        let db = database(&format!(
            "CREATE TABLE t (id {kind} PRIMARY KEY, v int); INSERT INTO t VALUES (1, 7), ({bad}, 8)"
        ))
        .await;
        for horizon in ["transactions", "none"] {
            let entries = [
                ("mode", "incrementing"),
                ("incrementing.column.name", "id"),
                ("table.whitelist", "t"),
                ("read.horizon", horizon),
            ];
            let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
            let (records, error) = to_the_end(&mut source).await;
            assert_eq!(records.len(), 1, "{kind} {bad}");
            assert_eq!(field(&records[0], "v"), Value::Int32(7));
            assert_eq!(records[0].offset, Some(Position::of([("incrementing", Value::Int64(1))])));
            assert_eq!(error.kind(), ErrorKind::Fatal);
            let said = error.to_string();
            assert!(
                said.contains(what) && said.contains("\"id\" of public.t") && said.contains("behind id 1"),
                "{said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_before_a_value_above_the_limit_come_but_those_at_the_last_offset() {
    let db = database(
        "CREATE TABLE t (id serial PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
         INSERT INTO t (v) SELECT repeat('x', 1000000) FROM generate_series(1, 4); INSERT INTO t (v) VALUES (repeat('x', 2000000))",
    )
    .await;
    // Read along the index, as larger tables are.
    let entries = [
        ("mode", "incrementing"),
        ("table.whitelist", "t"),
        ("max.value.bytes", "1000000"),
        ("connection.options", "-c enable_seqscan=off -c enable_bitmapscan=off"),
    ];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let (mut records, error) = to_the_end(&mut source).await;
    assert!(error.to_string().contains("above max.value.bytes"), "{error}");
    let offset = records.last().unwrap().offset.clone().unwrap();
    let stored = vec![((*records[0].partition).clone(), offset)];
    let mut config = props(&db, &entries);
    config.insert("max.value.bytes".to_owned(), "2000000".to_owned());
    let mut source = Source::open(&config, stored).await.unwrap();
    let left = 5 - records.len();
    assert!((1..=2).contains(&left), "{left} of 5 rows are left");
    records.extend(source.take(left).await);
    assert_eq!(ids(&records), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_in_the_suffix_is_told_where_it_belongs() {
    let db = database("CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES").await;
    let entries = [("mode", "incrementing"), ("table.whitelist", "t"), ("query.suffix", "WHERE id > 5")];
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let (_, error) = to_the_end(&mut source).await;
    let said = error.to_string();
    assert!(
        said.contains("query.suffix=\"WHERE id > 5\"") && said.contains("query=SELECT * FROM public.t WHERE"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_elsewhere_that_holds_times_back_is_told() {
    let db = database(
        "CREATE TABLE other (id int); CREATE TABLE t (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
    )
    .await;
    let entries = [("mode", "timestamp"), ("timestamp.column.name", "at"), ("table.whitelist", "t")];
    for (begin, end) in [
        ("BEGIN; INSERT INTO other VALUES (1)", "ROLLBACK"),
        ("BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'elsewhere'", "ROLLBACK PREPARED 'elsewhere'"),
    ] {
        let mut open = db.connect().await;
        sqlx::raw_sql(begin).execute(&mut open).await.unwrap();
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        db.run("INSERT INTO t DEFAULT VALUES").await;
        told(&source, &["reading public.t is held back", "transaction"]).await;
        sqlx::raw_sql(end).execute(&mut open).await.unwrap();
        source.take(1).await;
        well(&source).await;
        source.task.close().await;
        db.run("TRUNCATE t").await;
    }
}
