//! The source: what columns become under each setting, what is recommended, and what is refused with which words.

use towline_connectors::api::{ErrorKind, SourceConnector};
use towline_connectors::data::{Type, Value};
use towline_connectors::jdbc::JdbcSourceConnector;

use crate::jdbc_harness::{Source, props};
use crate::jdbc_source::field;
use crate::postgres_server::shared;

#[tokio::test(flavor = "multi_thread")]
async fn numerics_under_each_mapping() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, i8 numeric(2,0), i16 numeric(4), i32 numeric(9), i64 numeric(18), big numeric(19), \
         small numeric(10,2), wide numeric(20,2), rounded numeric(5,-2), free numeric); \
         INSERT INTO t VALUES (1, 99, 9999, 999999999, 999999999999999999, 9999999999999999999, 12345678.25, 0.5, 12300, 12.125)",
    )
    .await;
    use Type::{Bytes, Float64, Int8, Int16, Int32, Int64};
    let whole = [Int8, Int16, Int32, Int64, Bytes];
    for (mapping, rest) in [
        ("none", None),
        ("precision_only", Some([Bytes, Bytes, Bytes, Bytes])),
        ("BEST_FIT", Some([Float64, Bytes, Float64, Float64])),
        ("best_fit_eager_double", Some([Float64; 4])),
    ] {
        let mut source = Source::open(
            &props(&db, &[("mode", "bulk"), ("table.whitelist", "t"), ("numeric.mapping", mapping)]),
            Vec::new(),
        )
        .await
        .unwrap();
        let record = source.take(1).await.remove(0);
        let kinds: Vec<Type> =
            record.record.value.schema.as_ref().unwrap().fields[1..].iter().map(|field| field.schema.kind).collect();
        let expected = match rest {
            None => vec![Bytes; 9],
            Some(rest) => whole.iter().chain(&rest).copied().collect(),
        };
        assert_eq!(kinds, expected, "{mapping}");
        if mapping == "best_fit_eager_double" {
            assert_eq!(
                (field(&record, "free"), field(&record, "rounded")),
                (Value::Float64(12.125), Value::Float64(12300.0))
            );
        }
    }
    let old = props(&db, &[("mode", "bulk"), ("table.whitelist", "t"), ("numeric.precision.mapping", "true")]);
    let mut source = Source::open(&old, Vec::new()).await.unwrap();
    assert_eq!(field(&source.take(1).await[0], "i8"), Value::Int8(99));
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_under_each_granularity() {
    let db = shared().database().await;
    db.run("CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL); INSERT INTO t VALUES (1, '2024-02-29 12:30:45.123456')").await;
    for (granularity, expected) in [
        ("connect_logical", Value::Int64(1_709_177_445_123)),
        ("micros_long", Value::Int64(1_709_177_445_123_456)),
        ("micros_string", Value::from("1709177445123456")),
        ("micros_iso_datetime_string", Value::from("2024-02-29T12:30:45.123456")),
        ("nanos_long", Value::Int64(1_709_177_445_123_456_000)),
        ("nanos_string", Value::from("1709177445123456000")),
        ("NANOS_ISO_DATETIME_STRING", Value::from("2024-02-29T12:30:45.123456000")),
    ] {
        let entries = [
            ("mode", "timestamp"),
            ("timestamp.column.name", "at"),
            ("table.whitelist", "t"),
            ("timestamp.granularity", granularity),
            ("db.timezone", "Asia/Seoul"),
        ];
        let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
        let record = source.take(1).await.remove(0);
        assert_eq!(field(&record, "at"), expected, "{granularity}");
        let offset = record.offset.unwrap().to_json().to_string();
        assert_eq!(offset, r#"{"timestamp":1709177445123,"timestamp_nanos":123456000}"#, "{granularity}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_of_outer_joins_and_labels_that_repeat() {
    let db = shared().database().await;
    db.run("CREATE TABLE a (id int PRIMARY KEY, v text NOT NULL); INSERT INTO a VALUES (1, 'x'), (2, 'y')").await;
    let query = "SELECT l.id, r.v FROM a l LEFT JOIN a r ON r.id = l.id + 1";
    let mut source = Source::open(&props(&db, &[("mode", "bulk"), ("query", query)]), Vec::new()).await.unwrap();
    let records = source.take(2).await;
    assert_eq!((field(&records[0], "v"), field(&records[1], "v")), (Value::from("y"), Value::Null));
    assert!(records[0].record.value.schema.as_ref().unwrap().fields[1].schema.optional);
    let twice = props(&db, &[("mode", "bulk"), ("query", "SELECT l.*, r.* FROM a l JOIN a r USING (id)")]);
    let error = Source::open(&twice, Vec::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("two columns named \"id\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_offered_what_the_database_has() {
    let db = shared().database().await;
    db.run("CREATE TABLE a (id int, n numeric(9,0), v text, at timestamptz, day date); CREATE TABLE b (id bigint, other int)").await;
    let offered = JdbcSourceConnector.recommend(&props(&db, &[("table.whitelist", "a")])).await;
    let of = |key: &str| offered.iter().find(|(name, _)| *name == key).map(|(_, values)| values.join(",")).unwrap();
    assert_eq!(of("table.whitelist"), "public.a,public.b");
    assert_eq!(of("incrementing.column.name"), "id,n");
    assert_eq!(of("timestamp.column.name"), "at,day");
    let gone = props(&db, &[("connection.password", "wrong")]);
    assert!(JdbcSourceConnector.recommend(&gone).await.is_empty());
    let values = (JdbcSourceConnector.spec().config)().validate(&gone);
    let mode = values.iter().find(|value| value.name == "mode").unwrap();
    assert_eq!(mode.recommended_values, ["bulk", "timestamp", "incrementing", "timestamp+incrementing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_query_is_never_shown() {
    let db = shared().database().await;
    let errors = JdbcSourceConnector
        .check(&props(&db, &[("mode", "bulk"), ("query.masked", "SELECT secret FROM nowhere")]))
        .await;
    assert_eq!(errors[0].key, "query.masked");
    assert!(errors[0].message.contains("42P01") && !errors[0].message.contains("nowhere"), "{}", errors[0].message);
}

/// Takes the lines of the log that are warnings.
#[derive(Default)]
struct Warnings(std::sync::Mutex<Vec<String>>);

struct Logged(std::sync::Arc<Warnings>);

impl tracing::Subscriber for Logged {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_chosen_type_bends_are_told_once_with_a_cure() {
    let db = shared().database().await;
    db.run(
        "CREATE TABLE t (id serial PRIMARY KEY, at timestamp, zoned timestamptz, n numeric, fine timestamptz); \
         INSERT INTO t (at, zoned, n, fine) SELECT '1500-03-01', '2300-01-01', ('1' || repeat('0', 400))::numeric, 'infinity' \
         FROM generate_series(1, 3); INSERT INTO t (at, zoned, n) VALUES ('2024-01-01', '2024-01-01', 1.5)",
    )
    .await;
    let entries = [
        ("mode", "incrementing"),
        ("table.whitelist", "t"),
        ("timestamp.granularity", "nanos_long"),
        ("numeric.mapping", "best_fit"),
        ("batch.max.rows", "1"),
    ];
    let warnings = std::sync::Arc::new(Warnings::default());
    // Rows are decoded where they are taken: in this thread.
    let guard = tracing::subscriber::set_default(Logged(std::sync::Arc::clone(&warnings)));
    let mut source = Source::open(&props(&db, &entries), Vec::new()).await.unwrap();
    let records = source.take(4).await;
    drop(guard);
    assert_eq!(field(&records[0], "at"), Value::Int64(i64::MIN));
    assert_eq!(field(&records[0], "zoned"), Value::Int64(i64::MAX));
    assert_eq!(field(&records[0], "n"), Value::Float64(f64::INFINITY));
    let told = std::mem::take(&mut *warnings.0.lock().unwrap());
    let told: Vec<&String> = told.iter().filter(|line| line.contains("was sent as")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for (line, column, cure) in [
        (told[0], "column=at ", "timestamp.granularity=nanos_string or type.mapping=exact"),
        (told[1], "column=zoned ", "timestamp.granularity=nanos_string"),
        (told[2], "column=n ", "numeric.mapping=none"),
    ] {
        assert!(line.contains(column) && line.contains("table=public.t ") && line.contains(cure), "{line}");
    }
}
