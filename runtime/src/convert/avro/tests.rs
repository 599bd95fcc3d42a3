use proptest::prelude::*;
use serde_json::Value as Json;
use towline_connectors::data::{Field, Type};
use towline_registry::{Options, memory};

use super::*;

const GOLDEN: &str = include_str!("../../../tests/data/connect-avro.jsonl");

fn settings_of(conf: &Json) -> Settings {
    let mut props: Props = conf
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    props.insert("schema.registry.url".into(), "http://localhost:1".into());
    settings::read(false, &props).unwrap().0
}

/// Reads an envelope as JsonConverter does.
fn envelope(json: &Json) -> Datum {
    let mut converter = super::super::build("Json", false, &Props::new()).unwrap();
    converter.decode("t", Some(&Bytes::from(json.to_string()))).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

fn encode(datum: &Datum, mapping: &Mapping) -> Result<(avro::Schema, Bytes)> {
    let plan = plan_writer(datum.schema.as_ref().unwrap(), mapping)?;
    let mut out = BytesMut::new();
    plan.writer.write(&datum.value, &mut out)?;
    Ok((plan.avro, out.freeze()))
}

fn decode(schema: &avro::Schema, bytes: &Bytes, mapping: &Mapping) -> Result<Datum> {
    let (schema, reader) = from_avro(schema, mapping, None)?;
    let value = reader.read(&mut Input::new(bytes, 0)).map_err(|error| Error::data(error.to_string()))?;
    Ok(Datum::new(Arc::new(schema), value))
}

/// The JSON of a schema, for comparing the order of its parts too.
fn json_of(datum: &Datum) -> String {
    let mut out = BytesMut::new();
    super::super::build("Json", false, &Props::new())
        .unwrap()
        .encode("t", datum.schema.as_ref(), &datum.value, &mut out)
        .unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn connect_data_maps_as_in_the_original() {
    let mut failures = Vec::new();
    for (number, line) in GOLDEN.lines().enumerate() {
        let case: Json = serde_json::from_str(line).unwrap();
        if let Err(reason) = check(&case) {
            failures.push(format!("line {}: {reason}", number + 1));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn check(case: &Json) -> Result<(), String> {
    let (given, wanted) = (&case["in"], &case["out"]);
    let settings = settings_of(&given["conf"]);
    let same = |what: &str, ours: String, theirs: &Json| {
        let theirs = theirs.as_str().map_or_else(|| theirs.to_string(), str::to_owned);
        if ours == theirs { Ok(()) } else { Err(format!("{what}\n  ours   {ours}\n  theirs {theirs}")) }
    };
    if given["connect"].is_object() {
        let datum = envelope(&given["connect"]);
        let (schema, bytes) = match encode(&datum, &settings.mapping) {
            Ok(encoded) => encoded,
            Err(_) if wanted["error"].is_string() && wanted["hex"].is_null() => return Ok(()),
            Err(error) => return Err(error.trace()),
        };
        if wanted["avroSchema"].is_null() {
            return Err(format!("expected {}", wanted["error"]));
        }
        same("schema", schema.canonical(), &wanted["avroSchema"])?;
        same("bytes", hex(&bytes), &wanted["hex"])?;
        if wanted["back"].is_object() {
            let back = decode(&schema, &bytes, &settings.mapping).map_err(|error| error.trace())?;
            let theirs = envelope(&wanted["back"]);
            same("back", json_of(&back), &Json::String(json_of(&theirs)))?;
        }
        return Ok(());
    }
    let schema = avro::Schema::from_json(&given["avro"]).unwrap();
    let connect = match from_avro(&schema, &settings.mapping, None) {
        Ok((connect, _)) => connect,
        Err(_) if wanted["error"].is_string() => return Ok(()),
        Err(error) => return Err(error.trace()),
    };
    let bare = Datum::new(Arc::new(connect.optional()), Value::Null);
    let mut theirs = serde_json::json!({ "schema": wanted["connectSchema"], "payload": null });
    theirs["schema"]["optional"] = Json::Bool(true);
    same("connect schema", json_of(&bare), &Json::String(json_of(&envelope(&theirs))))?;
    if let Some(bytes) = given["hex"].as_str() {
        let datum = decode(&schema, &unhex(bytes), &settings.mapping).map_err(|error| error.trace())?;
        same("value", json_of(&datum), &Json::String(json_of(&envelope(&wanted["connect"]))))?;
    }
    Ok(())
}

fn row() -> (Arc<Schema>, Value) {
    let fields = vec![
        Field::new("id", Arc::new(Schema::new(Type::Int32))),
        Field::new("name", Arc::new(Schema::new(Type::String).optional())),
    ];
    (Arc::new(Schema::structure(fields).with_name("n.Row")), Value::Struct(vec![1.into(), "x".into()]))
}

async fn registry() -> (String, tokio::task::JoinHandle<()>) {
    let registry = memory::registry(Options::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        axum::serve(listener, towline_registry::http::router(registry)).await.unwrap();
    });
    (url, server)
}

fn converter(url: &str, entries: &[(&str, &str)]) -> AvroConverter {
    let mut props: Props = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    props.insert("schema.registry.url".into(), url.to_owned());
    AvroConverter::new(false, &props).unwrap()
}

async fn write(converter: &mut AvroConverter, datum: &Datum) -> Result<Bytes> {
    let mut out = BytesMut::new();
    match converter.encode("topic", datum.schema.as_ref(), &datum.value, &mut out) {
        Ok(_) => {}
        Err(Failure::Record(error)) => return Err(error),
        Err(Failure::Miss(miss)) => {
            converter.resolve(miss).await?;
            converter.encode("topic", datum.schema.as_ref(), &datum.value, &mut out).unwrap();
        }
    }
    Ok(out.freeze())
}

#[tokio::test]
async fn records_go_through_a_registry() {
    let (url, server) = registry().await;
    let (schema, value) = row();
    let datum = Datum::new(schema, value);
    let mut writer = converter(&url, &[]);
    let bytes = write(&mut writer, &datum).await.unwrap();
    assert_eq!(hex(&bytes), "0000000001".to_owned() + "02" + "020278");
    let mut again = BytesMut::new();
    assert!(writer.encode("topic", datum.schema.as_ref(), &datum.value, &mut again).unwrap());
    assert_eq!(again, bytes);
    assert!(!writer.encode("topic", None, &Value::Null, &mut again).unwrap());

    let mut reader = converter(&url, &[]);
    let Err(Failure::Miss(miss)) = reader.decode("topic", Some(&bytes)) else { panic!("the schema is not known yet") };
    reader.resolve(miss).await.unwrap();
    let read = reader.decode("topic", Some(&bytes)).unwrap();
    assert_eq!(read.value, datum.value);
    let schema = read.schema.clone().unwrap();
    assert_eq!((schema.name(), schema.version), (Some("n.Row"), Some(1)));
    let second = reader.decode("topic", Some(&bytes)).unwrap();
    assert!(Arc::ptr_eq(second.schema.as_ref().unwrap(), &schema));

    let mut latest = converter(&url, &[("auto.register.schemas", "false"), ("use.latest.version", "true")]);
    assert_eq!(write(&mut latest, &datum).await.unwrap(), bytes);
    let mut find = converter(&url, &[("auto.register.schemas", "false")]);
    let other = Datum::new(Arc::new(Schema::new(Type::Boolean)), true.into());
    assert!(write(&mut find, &other).await.is_err());
    server.abort();
}

#[tokio::test]
async fn an_incompatible_schema_ends_the_task_with_the_registrys_reason() {
    let (url, server) = registry().await;
    let (schema, value) = row();
    let mut writer = converter(&url, &[]);
    write(&mut writer, &Datum::new(schema, value)).await.unwrap();
    let fields = vec![Field::new("id", Arc::new(Schema::new(Type::String)))];
    let changed = Schema::structure(fields).with_name("n.Row");
    let datum = Datum::new(Arc::new(changed), Value::Struct(vec!["x".into()]));
    let error = write(&mut writer, &datum).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let trace = error.trace();
    assert!(trace.contains("incompatible with an earlier schema") && trace.contains("error code: 409"), "{trace}");
    server.abort();
}

#[test]
fn foreign_bytes_are_named() {
    let mut converter = converter("http://localhost:1", &[]);
    let Err(Failure::Record(error)) = converter.decode("topic", Some(&Bytes::from_static(b"{\"a\":1}"))) else {
        panic!("json is no avro")
    };
    assert_eq!(error.to_string(), "Failed to deserialize data for topic topic to Avro: ");
    assert!(error.trace().contains("Unknown magic byte!"));
}

#[test]
fn names_are_scrubbed_as_confluent_does() {
    let settings = settings_of(&serde_json::json!({ "scrub.invalid.names": "true" }));
    assert_eq!(settings.mapping.scrub_part("a-b c.d"), "a_b_c_d");
    assert_eq!(settings.mapping.scrub_part("é"), "_C3_A9");
    assert_eq!(settings.mapping.scrub_part("1a"), "x1a");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let schema = avro::Schema::parse(r#"{"type":"record","name":"R","fields":[
            {"name":"a","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}},
            {"name":"m","type":{"type":"map","values":["null","string"]}},
            {"name":"u","type":["null","int","string",{"type":"enum","name":"S","symbols":["A"]}]},
            {"name":"f","type":{"type":"fixed","name":"F","size":3}},
            {"name":"d","type":"double"},{"name":"s","type":"string"}]}"#).unwrap();
        let mapping = settings_of(&serde_json::json!({})).mapping;
        let _ = decode(&schema, &Bytes::from(bytes), &mapping);
    }

    #[test]
    fn what_is_written_is_read_back(a: i64, b: Option<i32>, text: String, c: f64, bytes: Vec<u8>, list: Vec<i16>) {
        let fields = vec![
            Field::new("a", Arc::new(Schema::new(Type::Int64))),
            Field::new("b", Arc::new(Schema::new(Type::Int32).optional())),
            Field::new("t", Arc::new(Schema::new(Type::String))),
            Field::new("c", Arc::new(Schema::new(Type::Float64))),
            Field::new("y", Arc::new(Schema::new(Type::Bytes).optional())),
            Field::new("l", Arc::new(Schema::array(Arc::new(Schema::new(Type::Int16))))),
        ];
        let value = Value::Struct(vec![
            a.into(),
            b.map_or(Value::Null, Value::Int32),
            text.into(),
            if c.is_nan() { 0.0 } else { c }.into(),
            Value::Bytes(bytes.into()),
            Value::Array(list.into_iter().map(Value::Int16).collect()),
        ]);
        let datum = Datum::new(Arc::new(Schema::structure(fields).with_name("n.S")), value);
        let mapping = settings_of(&serde_json::json!({})).mapping;
        let (schema, bytes) = encode(&datum, &mapping).unwrap();
        prop_assert_eq!(decode(&schema, &bytes, &mapping).unwrap(), datum);
        for end in 0..bytes.len() {
            prop_assert!(decode(&schema, &bytes.slice(..end), &mapping).is_err());
        }
    }
}
