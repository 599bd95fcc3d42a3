//! Every PostgreSQL type of the source's table, with extreme and NULL values, from table to table through Avro and
//! through JSON: PostgreSQL itself says whether the rows are equal.

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Postgres, Towline, eventually};

const TABLE: &str = "create table every_type (
    id bigint primary key, small smallint, whole integer, big bigint, number_id oid,
    price numeric(12,2), huge numeric(38,10), single real, double_ double precision, truth boolean,
    letters char(5), words varchar(200), essay text, mood mood, blob bytea, day date, moment time, at timestamp,
    at_zone timestamptz, token uuid, document json, binary_document jsonb, markup xml, port integer_port)";

const ROWS: &str = r#"insert into every_type values
    (1, -32768, -2147483648, -9223372036854775808, 0, -9999999999.99, -9999999999999999999999999999.9999999999,
     '-3.4028235e38', '-1.7976931348623157e308', false, 'a', '', '', 'sad', '', '0001-01-01', '00:00:00',
     '0001-01-01 00:00:00', '0001-01-01 00:00:00Z', '00000000-0000-0000-0000-000000000000', '{}', '[]', '<a/>', 1),
    (2, 32767, 2147483647, 9223372036854775807, 4294967295, 9999999999.99, 9999999999999999999999999999.9999999999,
     '1.1754944e-38', '5e-324', true, 'abcde', E'tab\tquote''back\\', E'line\nbreak "double" \u0001 \U0001F980 한글',
     'happy', '\x00ff10', '9999-12-31', '23:59:59.999', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999Z',
     'ffffffff-ffff-ffff-ffff-ffffffffffff', '{"a": [1, null, "x\u00e9"]}', '{"k": {"n": 1.50}}', '<a b="c">d</a>', 65535),
    (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
     null, null, null, null, null),
    (4, 0, 0, 0, 1, 0.00, 0.0000000001, 'NaN', 'Infinity', true, '', ' x ', 'null', 'sad', '\x', '1970-01-01',
     '12:30:45.005', '1969-12-31 23:59:59.999', '2024-02-29 12:30:45.123+09', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
     '"text"', '1e3', '<x>&amp;</x>', 80)"#;

/// Count and checksum, values compared as PostgreSQL prints them.
async fn printed(pool: &PgPool, table: &str) -> Vec<String> {
    let sql = format!("select t::text from {table} t order by id");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_survives_json_and_avro() {
    let (source, target) = tokio::join!(Postgres::start(), Postgres::start());
    let (source_db, target_db) = (source.database("source").await, target.database("target").await);
    let prelude = "create type mood as enum ('sad', 'happy'); create domain integer_port as integer check (value > 0);";
    for pool in [&source_db, &target_db] {
        sqlx::raw_sql(prelude).execute(pool).await.unwrap();
    }
    sqlx::raw_sql(TABLE).execute(&source_db).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&source_db).await.unwrap();
    let towline = Towline::start().await;
    let converters = [
        ("json", json!({"value.converter": "org.apache.kafka.connect.json.JsonConverter"})),
        (
            "avro",
            json!({
                "value.converter": "io.confluent.connect.avro.AvroConverter",
                "value.converter.schema.registry.url": format!("http://{}", towline.registry)
            }),
        ),
    ];
    let expected = printed(&source_db, "every_type").await;
    for (name, converter) in converters {
        let table = format!("every_type_{name}");
        let sql = TABLE.replace("every_type", &table);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&target_db).await.unwrap();
        let mut source_config = json!({
            "connector.class": "io.confluent.connect.jdbc.JdbcSourceConnector", "connection.url": source.jdbc("source"),
            "connection.user": "tester", "connection.password": "tester-secret", "table.whitelist": "every_type",
            "topic.prefix": format!("{name}-"), "mode": "incrementing", "incrementing.column.name": "id",
            "date.calendar.system": "PROLEPTIC_GREGORIAN"
        });
        let mut sink_config = json!({
            "connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector", "connection.url": target.jdbc("target"),
            "connection.user": "tester", "connection.password": "tester-secret", "table.name.format": table,
            "topics": format!("{name}-every_type"), "date.calendar.system": "PROLEPTIC_GREGORIAN"
        });
        for (key, value) in converter.as_object().unwrap() {
            source_config[key] = value.clone();
            sink_config[key] = value.clone();
        }
        towline.create(&format!("src-{name}"), source_config).await;
        towline.create(&format!("snk-{name}"), sink_config).await;
        let arrived = eventually("four rows", || async {
            let rows = printed(&target_db, &table).await;
            (rows.len() == 4).then_some(rows)
        })
        .await;
        for (expected, arrived) in expected.iter().zip(&arrived) {
            assert_eq!(expected, arrived, "through {name}");
        }
    }
}
