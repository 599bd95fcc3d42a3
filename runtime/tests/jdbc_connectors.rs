//! The JDBC connectors as they are used: their keys in forms, Debezium's sink, exact mode, and connections over TLS, to
//! several hosts, IPv6 and services.

use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Postgres, Towline, TowlineOptions, eventually, free_port, produce, topics};

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
const SOURCE: &str = "io.confluent.connect.jdbc.JdbcSourceConnector";
const SINK: &str = "io.confluent.connect.jdbc.JdbcSinkConnector";
const DEBEZIUM: &str = "io.debezium.connector.jdbc.JdbcSinkConnector";

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

/// Each row of a table as PostgreSQL prints it.
async fn printed(pool: &PgPool, table: &str) -> Vec<String> {
    let sql = format!("select t::text from {table} t order by id");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap_or_default()
}

async fn arrive(pool: &PgPool, table: &str, expected: &[String]) {
    eventually(&format!("{expected:?} in {table}"), || async {
        (printed(pool, table).await == expected).then_some(())
    })
    .await;
}

/// A config with more entries.
fn with(mut config: Value, more: Value) -> Value {
    let Value::Object(entries) = more else { panic!("entries are expected") };
    config.as_object_mut().unwrap().extend(entries);
    config
}

fn source_of(url: &str, table: &str) -> Value {
    json!({
        "connector.class": SOURCE, "connection.url": url, "connection.user": "tester",
        "connection.password": "tester-secret", "table.whitelist": table, "mode": "incrementing",
        "incrementing.column.name": "id", "poll.interval.ms": 50
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_tables_with_rows_are_there_at_once_and_of_no_other() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    for table in ["x", "y", "z"] {
        run(&source_db, &format!("create table {table} (id serial primary key, v text)")).await;
    }
    run(&source_db, "insert into x (v) values ('a'), ('b'); insert into y (v) values ('c')").await;
    let towline = Towline::start().await;
    let config = with(source_of(&source.jdbc("source"), "x,y,z"), json!({"topic.prefix": "at-once-"}));
    towline.create("src", config).await;
    let config = json!({
        "connector.class": SINK, "connection.url": target.jdbc("target"), "connection.user": "tester",
        "connection.password": "tester-secret", "topics": "at-once-x,at-once-y,at-once-z", "auto.create": true,
        "pk.mode": "record_value", "pk.fields": "id", "insert.mode": "upsert",
        "table.name.format": "${topic}", "table.name.normalize": true, "tasks.max": 2
    });
    towline.create("snk", config).await;
    arrive(&target_db, "at_once_x", &["(1,a)".to_owned(), "(2,b)".to_owned()]).await;
    arrive(&target_db, "at_once_y", &["(1,c)".to_owned()]).await;
    let own = |topic: &String| topic.starts_with("at-once-");
    let mut found: Vec<String> = topics(&towline.kafka).into_iter().filter(own).collect();
    found.sort();
    assert_eq!(found, ["at-once-x", "at-once-y"]);
    run(&source_db, "insert into z (v) values ('d')").await;
    arrive(&target_db, "at_once_z", &["(1,d)".to_owned()]).await;
}

/// What validate says of a key.
async fn validated(towline: &Towline, config: &Value, key: &str) -> Value {
    let class = config["connector.class"].as_str().unwrap();
    let path = format!("/connector-plugins/{class}/config/validate");
    let (status, report) = towline.rest(Method::PUT, &path, Some(config)).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    report["configs"].as_array().unwrap().iter().find(|c| c["value"]["name"] == key).unwrap()["value"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_show_every_key_and_what_the_database_has() {
    let postgres = Postgres::start().await;
    let db = postgres.database("shop").await;
    run(
        &db,
        "create schema s; create table s.orders (id bigserial primary key, at timestamptz, note text); \
         create table people (number int primary key)",
    )
    .await;
    let towline = Towline::start().await;
    for class in [SOURCE, SINK, DEBEZIUM] {
        let (_, keys) = towline.rest(Method::GET, &format!("/connector-plugins/{class}/config"), None).await;
        for key in keys.as_array().unwrap() {
            let name = key["name"].as_str().unwrap();
            assert!(!key["documentation"].as_str().unwrap().is_empty(), "{name}");
            assert!(key["group"].is_string() && key["order"].as_i64().unwrap() > 0, "{name}");
            assert!(key["width"] != "NONE" && key["importance"].is_string(), "{name}");
            assert_ne!(key["display_name"], name);
        }
        let names = || keys.as_array().unwrap().iter().map(|key| &key["name"]);
        for dependent in keys.as_array().unwrap().iter().flat_map(|key| key["dependents"].as_array().unwrap()) {
            assert!(names().any(|name| name == dependent), "{class}: {dependent}");
        }
    }
    let source = with(source_of(&postgres.jdbc("shop"), "s.orders"), json!({"name": "forms", "topic.prefix": "t-"}));
    let offered = async |key: &str| validated(&towline, &source, key).await["recommended_values"].clone();
    assert_eq!(offered("table.whitelist").await, json!(["public.people", "s.orders"]));
    assert_eq!(offered("table.include.list").await, json!(["public\\.people", "s\\.orders"]));
    assert_eq!(offered("schema.pattern").await, json!(["public", "s"]));
    assert_eq!(offered("incrementing.column.name").await, json!(["id"]));
    assert_eq!(offered("timestamp.column.name").await, json!(["at"]));
    assert_eq!(offered("validate.non.null").await, json!(["true", "false"]));
    let query =
        with(source.clone(), json!({"query": "select number as n, now() as t from people", "table.whitelist": ""}));
    assert_eq!(validated(&towline, &query, "incrementing.column.name").await["recommended_values"], json!(["n"]));
    assert_eq!(validated(&towline, &query, "timestamp.column.name").await["recommended_values"], json!(["t"]));
    let sink = json!({
        "connector.class": SINK, "name": "sink", "topics": "t", "connection.url": postgres.jdbc("shop"),
        "connection.user": "tester", "connection.password": "tester-secret", "table.name.format": "s.orders"
    });
    let offered = async |key: &str| validated(&towline, &sink, key).await["recommended_values"].clone();
    assert_eq!(offered("table.name.format").await, json!(["public.people", "s.orders"]));
    assert_eq!(offered("pk.fields").await, json!(["id", "at", "note"]));
    // Where topics name the table, theirs are looked at.
    for (topics, format) in [("people, s.orders", None), ("orders,nothing", Some("s.${topic}"))] {
        let mut named = with(sink.clone(), json!({"topics": topics}));
        named.as_object_mut().unwrap().remove("table.name.format");
        let named = format.map_or(named.clone(), |format| with(named, json!({"table.name.format": format})));
        let expected =
            if format.is_some() { json!(["id", "at", "note"]) } else { json!(["number", "id", "at", "note"]) };
        for key in ["pk.fields", "fields.whitelist"] {
            assert_eq!(validated(&towline, &named, key).await["recommended_values"], expected, "{topics}");
        }
    }

    // Where errors are told.
    for (wrong, key, part) in [
        (json!({"connection.password": "guess"}), "connection.url", "the password of user \"tester\" is wrong"),
        (
            json!({"connection.url": "jdbc:postgresql://127.0.0.1:1/x"}),
            "connection.url",
            "Could not connect to database",
        ),
        (
            json!({"connection.url": "jdbc:postgresql://?service=none"}),
            "connection.url",
            "\"none\" is in no pg_service.conf",
        ),
        (json!({"incrementing.column.mapping": "t"}), "incrementing.column.mapping", "<regex>:<column>"),
        (json!({"timestamp.columns.mapping": "public.t1:ts"}), "timestamp.columns.mapping", "with brackets"),
        (
            json!({"table.include.list": "public.t1", "table.whitelist": "", "incrementing.column.name": ""}),
            "incrementing.column.mapping",
            "must be set in this mode",
        ),
        (json!({"query.suffix": "WHERE id > 5"}), "query.suffix", "set the condition in query"),
        (
            json!({"jdbc.credentials.provider.class": "my.Vault"}),
            "jdbc.credentials.provider.class",
            "no class can be loaded",
        ),
    ] {
        let errors = validated(&towline, &with(source.clone(), wrong), key).await["errors"].to_string();
        assert!(errors.replace("\\\"", "\"").contains(part), "{key}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_confluent_cloud_move_rows() {
    let postgres = Postgres::start().await;
    let (from, to) = (postgres.database("from_here").await, postgres.database("to_there").await);
    run(&from, "create table t (id serial primary key, v text); insert into t (v) values ('a'), ('b')").await;
    let towline = Towline::start().await;
    let place = json!({
        "connection.host": postgres.host, "connection.port": postgres.port, "connection.user": "tester",
        "connection.password": "tester-secret", "ssl.mode": "prefer", "kafka.auth.mode": "KAFKA_API_KEY"
    });
    let source = json!({
        "connector.class": "PostgresSource", "db.name": "from_here", "table.whitelist": "t", "topic.prefix": "cloud-",
        "mode": "incrementing", "output.data.format": "JSON"
    });
    let sink = json!({
        "connector.class": "PostgresSink", "db.name": "to_there", "topics": "cloud-t", "insert.mode": "UPSERT",
        "pk.mode": "record_value", "pk.fields": "id", "auto.create": true, "quote.sql.identifiers": "ALWAYS",
        "table.name.format": "t", "input.data.format": "JSON", "batch.sizes": 3
    });
    towline.create("source", with(place.clone(), source)).await;
    towline.create("sink", with(place, sink)).await;
    arrive(&to, "t", &["(1,a)".to_owned(), "(2,b)".to_owned()]).await;
}

/// One change of a row: operation, id, the name before and the name after.
type Change = (&'static str, i64, Option<&'static str>, Option<&'static str>);

const CHANGES: &[Change] = &[
    ("r", 1, None, Some("Ada")),
    ("c", 2, None, Some("Bob")),
    ("c", 3, None, Some("김")),
    ("u", 1, Some("Ada"), Some("Ada L.")),
    ("d", 2, Some("Bob"), None),
];

/// Debezium's events as its JSON converter writes them.
fn json_event((op, id, before, after): Change) -> Value {
    let row = |field: &str| {
        json!({
            "type": "struct", "optional": true, "field": field, "name": "shop.public.people.Value",
            "fields": [
                {"type": "int64", "optional": false, "field": "id"},
                {"type": "string", "optional": true, "field": "name"},
                {"type": "int32", "optional": true, "field": "born", "name": "io.debezium.time.Date", "version": 1},
                {"type": "int64", "optional": true, "field": "seen", "name": "io.debezium.time.MicroTimestamp", "version": 1}
            ]
        })
    };
    let value = |name: Option<&str>| name.map(|name| json!({"id": id, "name": name, "born": -1, "seen": 1_000_001}));
    json!({
        "schema": {
            "type": "struct", "optional": false, "name": "shop.public.people.Envelope",
            "fields": [
                row("before"), row("after"),
                {"type": "struct", "optional": false, "field": "source", "fields": [
                    {"type": "string", "optional": false, "field": "table"}]},
                {"type": "string", "optional": false, "field": "op"}
            ]
        },
        "payload": {"before": value(before), "after": value(after), "source": {"table": "people"}, "op": op}
    })
}

fn json_key(id: i64) -> Value {
    let field = json!({"type": "int64", "optional": false, "field": "id"});
    json!({"schema": {"type": "struct", "optional": false, "fields": [field]}, "payload": {"id": id}})
}

/// Avro's bytes, as few as are needed here.
#[derive(Default)]
struct AvroBytes(Vec<u8>);

impl AvroBytes {
    fn long(mut self, number: i64) -> Self {
        let mut rest = (number << 1) ^ (number >> 63);
        while rest & !0x7f != 0 {
            self.0.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest = ((rest as u64) >> 7) as i64;
        }
        self.0.push(u8::try_from(rest).unwrap());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut out = self.long(i64::try_from(text.len()).unwrap());
        out.0.extend_from_slice(text.as_bytes());
        out
    }

    /// A row or null, each field but the id a union with null.
    fn row(self, id: i64, name: Option<&str>) -> Self {
        match name {
            None => self.long(0),
            Some(name) => self.long(1).long(id).long(1).text(name).long(1).long(-1).long(1).long(1_000_001),
        }
    }
}

async fn registered(towline: &Towline, subject: &str, schema: Value) -> Vec<u8> {
    let path = format!("/subjects/{subject}/versions");
    let (status, answer) = towline.registry(Method::POST, &path, Some(&json!({"schema": schema.to_string()}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let id = u32::try_from(answer["id"].as_u64().unwrap()).unwrap();
    [&[0][..], &id.to_be_bytes()].concat()
}

/// Debezium's events as its Avro converter writes them.
async fn produce_avro(towline: &Towline) {
    let named = |kind: &str, name: &str| json!(["null", {"type": kind, "connect.version": 1, "connect.name": name}]);
    let row = json!({
        "type": "record", "name": "Value", "namespace": "shop.public.people", "fields": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": ["null", "string"], "default": null},
            {"name": "born", "type": named("int", "io.debezium.time.Date"), "default": null},
            {"name": "seen", "type": named("long", "io.debezium.time.MicroTimestamp"), "default": null}
        ], "connect.name": "shop.public.people.Value"
    });
    let source = json!({"type": "record", "name": "Source", "fields": [{"name": "table", "type": "string"}]});
    let envelope = json!({
        "type": "record", "name": "Envelope", "namespace": "shop.public.people", "fields": [
            {"name": "before", "type": ["null", row], "default": null},
            {"name": "after", "type": ["null", "Value"], "default": null},
            {"name": "source", "type": source},
            {"name": "op", "type": "string"}
        ], "connect.name": "shop.public.people.Envelope"
    });
    let key = json!({
        "type": "record", "name": "Key", "namespace": "shop.public.people",
        "fields": [{"name": "id", "type": "long"}], "connect.name": "shop.public.people.Key"
    });
    let value_head = registered(towline, "events-avro-value", envelope).await;
    let key_head = registered(towline, "events-avro-key", key).await;
    for (op, id, before, after) in CHANGES.iter().copied() {
        let value = AvroBytes(value_head.clone()).row(id, before).row(id, after).text("people").text(op).0;
        let key = AvroBytes(key_head.clone()).long(id).0;
        produce(&towline.kafka, "events-avro", Some(&key), Some(&value));
        if op == "d" {
            produce(&towline.kafka, "events-avro", Some(&key), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debeziums_events_become_rows_through_json_and_avro() {
    let postgres = Postgres::start().await;
    let db = postgres.database("target").await;
    let towline = Towline::start().await;
    let registry = format!("http://{}", towline.registry);
    for (name, converters) in [
        ("json", json!({"key.converter": JSON, "value.converter": JSON})),
        (
            "avro",
            json!({
                "key.converter": AVRO, "value.converter": AVRO, "key.converter.schema.registry.url": registry,
                "value.converter.schema.registry.url": registry
            }),
        ),
    ] {
        let sink = json!({
            "connector.class": DEBEZIUM, "topics": format!("events-{name}"), "connection.url": postgres.jdbc("target"),
            "connection.username": "tester", "connection.password": "tester-secret", "insert.mode": "upsert",
            "delete.enabled": true, "primary.key.mode": "record_key", "schema.evolution": "basic",
            "collection.name.format": format!("${{source.table}}_{name}")
        });
        towline.create(&format!("sink-{name}"), with(sink, converters)).await;
    }
    for (op, id, before, after) in CHANGES.iter().copied() {
        let (key, value) = (json_key(id).to_string(), json_event((op, id, before, after)).to_string());
        produce(&towline.kafka, "events-json", Some(key.as_bytes()), Some(value.as_bytes()));
        if op == "d" {
            produce(&towline.kafka, "events-json", Some(key.as_bytes()), None);
        }
    }
    produce_avro(&towline).await;
    let rows = |name: &str| format!("(1,\"{name}\",1969-12-31,\"1970-01-01 00:00:01.000001\")");
    let expected = [rows("Ada L."), "(3,김,1969-12-31,\"1970-01-01 00:00:01.000001\")".to_owned()];
    for table in ["people_json", "people_avro"] {
        arrive(&db, table, &expected).await;
        let keys = format!("select count(*) from pg_constraint where conrelid = '{table}'::regclass and contype = 'p'");
        let keys: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(keys)).fetch_one(&db).await.unwrap();
        assert_eq!(keys, 1, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_mode_makes_the_same_table_through_json_and_avro() {
    let postgres = Postgres::start().await;
    let (from, to) = (postgres.database("from_here").await, postgres.database("to_there").await);
    run(
        &from,
        "create table t (id bigserial primary key, price numeric(12,2), any_ numeric, at timestamptz, clock time(3), \
         day date, span interval, tags text[], grid int[], ip inet, range_ tstzrange, bits bit(5), cash money, blob bytea); \
         insert into t (price, any_, at, clock, day, span, tags, grid, ip, range_, bits, cash, blob) values \
         ('NaN', '-Infinity', 'infinity', '24:00', '0044-03-15 BC', '1 mon -2 days 00:00:00.000001', '{a,\"b,\\\"c\",NULL}', \
          '{{1,2},{3,NULL}}', '::1/64', '[2024-01-01,infinity)', B'10101', 1234.5::numeric::money, '\\x00ff'), \
         (-0.01, 1e-100, '2024-02-29 12:30:45.123456+00', '23:59:59.999', 'infinity', '0', '{}', '{}', '10.0.0.1', \
          'empty', B'00000', 0::numeric::money, ''), \
         (null, null, null, null, null, null, null, null, null, null, null, null, null)",
    )
    .await;
    let expected = printed(&from, "t").await;
    let towline = Towline::start().await;
    let registry = format!("http://{}", towline.registry);
    for (name, converter) in [
        ("json", json!({"value.converter": JSON})),
        ("avro", json!({"value.converter": AVRO, "value.converter.schema.registry.url": registry})),
    ] {
        let exact = json!({"type.mapping": "exact", "topic.prefix": format!("{name}-")});
        let source = with(source_of(&postgres.jdbc("from_here"), "t"), exact);
        let sink = json!({
            "connector.class": DEBEZIUM, "topics": format!("{name}-t"), "connection.url": postgres.jdbc("to_there"),
            "connection.username": "tester", "connection.password": "tester-secret", "insert.mode": "upsert",
            "primary.key.mode": "record_value", "primary.key.fields": "id", "schema.evolution": "basic",
            "collection.name.format": format!("t_{name}")
        });
        towline.create(&format!("source-{name}"), with(source, converter.clone())).await;
        towline.create(&format!("sink-{name}"), with(sink, converter)).await;
        arrive(&to, &format!("t_{name}"), &expected).await;
        let types = |table: &str| {
            format!(
                "select string_agg(format_type(atttypid, atttypmod), ' ' order by attnum) from pg_attribute \
                 where attrelid = '{table}'::regclass and attnum > 0"
            )
        };
        let (was, is) = (types("t"), types(&format!("t_{name}")));
        let was: String = sqlx::query_scalar(sqlx::AssertSqlSafe(was)).fetch_one(&from).await.unwrap();
        let is: String = sqlx::query_scalar(sqlx::AssertSqlSafe(is)).fetch_one(&to).await.unwrap();
        assert_eq!(is, was, "{name}");
    }
}

/// Runs a program that has to work.
fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for `localhost` that signs itself, and its key, readable by the server alone.
fn make_certificate(folder: &Path) {
    let (key, certificate) = (folder.join("server.key"), folder.join("server.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]);
    must(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    must(Command::new("chmod").arg("600").arg(&key));
    must(Command::new("chmod").arg("755").arg(folder));
    // Only root may give files away, and only root has to.
    let _ = Command::new("chown").arg("postgres").arg(&key).arg(&certificate).output();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_move_over_tls_several_hosts_ipv6_and_a_service() {
    let files = tempfile::tempdir().unwrap();
    make_certificate(files.path());
    let file = |name: &str| files.path().join(name).display().to_string();
    let six = std::net::TcpListener::bind("[::1]:0").is_ok();
    let address = if six { "::1" } else { "127.0.0.1" };
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start_at(address, free_port(address)));
    let (from, to) = (source.database("from_here").await, target.database("to_there").await);
    run(&from, "create table t (id serial primary key, v text); insert into t (v) values ('a'), ('b')").await;
    for (setting, value) in
        [("ssl_cert_file", file("server.crt")), ("ssl_key_file", file("server.key")), ("ssl", "on".to_owned())]
    {
        run(&from, &format!("alter system set {setting} = '{value}'")).await;
    }
    run(&from, "select pg_reload_conf()").await;
    // A pool keeps its connections: whether a new one is encrypted is seen in the end only.
    std::fs::write(
        file("services"),
        format!(
            "[there]\nhost={address}\nport={}\ndbname=to_there\nuser=tester\npassword=tester-secret\n",
            target.port
        ),
    )
    .unwrap();
    let environment = vec![("PGSERVICEFILE".to_owned(), file("services"))];
    let towline = Towline::start_with(TowlineOptions { environment, ..TowlineOptions::default() }).await;
    let nobody = free_port("127.0.0.1");
    let url = format!(
        "jdbc:postgresql://[::1]:{nobody},localhost:{nobody},localhost:{}/from_here?sslmode=verify-full&sslrootcert={}",
        source.port,
        file("server.crt")
    );
    towline.create("source", with(source_of(&url, "t"), json!({"topic.prefix": "far-"}))).await;
    let sink = json!({
        "connector.class": SINK, "connection.url": "jdbc:postgresql://?service=there", "topics": "far-t",
        "table.name.format": "t", "auto.create": true
    });
    towline.create("sink", sink).await;
    arrive(&to, "t", &["(1,a)".to_owned(), "(2,b)".to_owned()]).await;
    let encrypted = "select bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) \
                     where a.application_name = 'Towline source'";
    let encrypted: Option<bool> = sqlx::query_scalar(encrypted).fetch_one(&from).await.unwrap();
    assert_eq!(encrypted, Some(true));
    // Another authority is not trusted, and that is told before anything runs.
    let strange = with(source_of(&url.replace("server.crt", "strange.crt"), "t"), json!({"name": "strange"}));
    std::fs::copy(file("server.crt"), file("strange.crt")).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=strange", "-keyout"]);
    must(openssl.arg(file("strange.key")).arg("-out").arg(file("strange.crt")));
    let errors = validated(&towline, &strange, "connection.url").await["errors"].to_string();
    assert!(errors.contains("is not trusted"), "{errors}");
}
