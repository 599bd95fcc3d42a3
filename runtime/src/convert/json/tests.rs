use std::sync::Arc;

use proptest::prelude::*;
use towline_connectors::data::{Field, Type, decimal, timestamp};

use super::*;

fn converter(entries: &[(&str, &str)]) -> JsonConverter {
    let props = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    JsonConverter::new(&props).unwrap()
}

fn encode(schema: Schema, value: Value) -> String {
    encode_with(&[], schema, value)
}

fn encode_with(entries: &[(&str, &str)], schema: Schema, value: Value) -> String {
    let mut out = BytesMut::new();
    converter(entries).write(Some(&Arc::new(schema)), &value, &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

/// Reads over a value that was used before, as the record loop does.
fn read_with(converter: &mut JsonConverter, bytes: &[u8]) -> Result<Datum, ReadError> {
    let mut datum = Datum::schemaless(Value::Struct(vec![Value::Int32(7)]));
    converter.read(&Bytes::copy_from_slice(bytes), &mut datum)?;
    Ok(datum)
}

fn decode(text: &str) -> Result<Datum> {
    Ok(read_with(&mut converter(&[]), text.as_bytes())?)
}

fn error(text: &str) -> String {
    decode(text).unwrap_err().to_string()
}

fn iris() -> (Arc<Schema>, Value) {
    let optional = |kind| Arc::new(Schema::new(kind).optional());
    let schema = Schema::structure(vec![
        Field::new("id", Arc::new(Schema::new(Type::Int32))),
        Field::new("timestamp", optional(Type::String)),
        Field::new("sepal_length", optional(Type::Float64)),
        Field::new("target", optional(Type::Int32)),
    ])
    .with_name("iris_data");
    let value =
        Value::Struct(vec![Value::Int32(1), "2024-02-29 12:30:45.123".into(), Value::Float64(5.0), Value::Null]);
    (Arc::new(schema), value)
}

#[test]
fn the_bytes_are_those_of_the_java_converter() {
    let (schema, value) = iris();
    assert_eq!(
        encode(Schema::clone(&schema), value),
        r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},{"type":"string","optional":true,"field":"timestamp"},{"type":"double","optional":true,"field":"sepal_length"},{"type":"int32","optional":true,"field":"target"}],"optional":false,"name":"iris_data"},"payload":{"id":1,"timestamp":"2024-02-29 12:30:45.123","sepal_length":5.0,"target":null}}"#
    );
    let int32 = || Arc::new(Schema::new(Type::Int32));
    let string = || Arc::new(Schema::new(Type::String));
    let case = |schema: Schema, value: Value, text: &str| assert_eq!(encode(schema, value), text);
    case(Schema::new(Type::Float64), 1e10.into(), r#"{"schema":{"type":"double","optional":false},"payload":1.0E10}"#);
    case(
        Schema::new(Type::Float64),
        f64::NAN.into(),
        r#"{"schema":{"type":"double","optional":false},"payload":"NaN"}"#,
    );
    case(
        Schema::new(Type::Bytes),
        Value::Bytes("test".into()),
        r#"{"schema":{"type":"bytes","optional":false},"payload":"dGVzdA=="}"#,
    );
    case(
        Schema::array(int32()),
        Value::Array(vec![1.into(), 2.into()]),
        r#"{"schema":{"type":"array","items":{"type":"int32","optional":false},"optional":false},"payload":[1,2]}"#,
    );
    case(
        Schema::map(string(), int32()),
        Value::Map(vec![("k".into(), 12.into())]),
        r#"{"schema":{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"int32","optional":false},"optional":false},"payload":{"k":12}}"#,
    );
    case(
        Schema::map(int32(), int32()),
        Value::Map(vec![(1.into(), 12.into()), (2.into(), 15.into())]),
        r#"{"schema":{"type":"map","keys":{"type":"int32","optional":false},"values":{"type":"int32","optional":false},"optional":false},"payload":[[1,12],[2,15]]}"#,
    );
    case(
        decimal(2),
        Value::Bytes(Bytes::from_static(&[0, 0x9c])),
        r#"{"schema":{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"}},"payload":"AJw="}"#,
    );
    let numeric = encode_with(
        &[("decimal.format", "numeric"), ("schemas.enable", "false")],
        decimal(2),
        Value::Bytes(Bytes::from_static(&[0x3c, 0xf0])),
    );
    assert_eq!(numeric, "156.00");
    case(
        Schema::structure(vec![Field::new("a", Arc::new(Schema::new(Type::Int32).with_default(7.into())))]),
        Value::Struct(vec![Value::Null]),
        r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"default":7,"field":"a"}],"optional":false},"payload":{"a":7}}"#,
    );
    assert_eq!(
        encode_with(&[("schemas.enable", "false")], Schema::new(Type::String), "a\"\\/\n\u{1f}é".into()),
        "\"a\\\"\\\\/\\n\\u001Fé\""
    );
    assert_eq!(encode_with(&[("schemas.enable", "false")], Schema::new(Type::String).optional(), Value::Null), "null");
}

#[test]
fn schemaless_values_and_tombstones() {
    let mut out = BytesMut::new();
    let map = Datum::schemaless(Value::Map(vec![("a".into(), 1i64.into())]));
    assert!(converter(&[]).write(map.schema.as_ref(), &map.value, &mut out).unwrap());
    assert_eq!(out, r#"{"schema":null,"payload":{"a":1}}"#);
    assert_eq!(decode(r#"{"schema":null,"payload":{"a":1}}"#).unwrap(), map);
    assert!(!converter(&[]).write(None, &Value::Null, &mut out).unwrap());
    let mut plain = converter(&[("schemas.enable", "false")]);
    assert_eq!(read_with(&mut plain, b"null").unwrap(), Datum::default());
    assert_eq!(read_with(&mut plain, b"").unwrap(), Datum::default());
    assert_eq!(read_with(&mut plain, b"1.5").unwrap().value, Value::Float64(1.5));
    assert_eq!(read_with(&mut plain, b"007").unwrap().value, Value::Int64(7));
}

#[test]
fn records_of_one_envelope_share_their_schema() {
    let (schema, value) = iris();
    let text = encode(Schema::clone(&schema), value.clone());
    let mut converter = converter(&[]);
    let bytes = Bytes::from(text);
    let first = read_with(&mut converter, &bytes).unwrap();
    let second = read_with(&mut converter, &bytes).unwrap();
    assert_eq!(first.value, value);
    assert_eq!(first.schema.as_deref(), Some(&*schema));
    assert!(Arc::ptr_eq(first.schema.as_ref().unwrap(), second.schema.as_ref().unwrap()));
    assert_eq!(second, first);
}

#[test]
fn members_in_any_order_and_blanks() {
    let text = r#" { "payload" : { "extra" : [1,{"x":"}"}], "b" : "y" , "a" : 1 } , "schema" : {"type":"struct","fields":[{"type":"int32","field":"a"},{"type":"string","field":"b"},{"type":"int8","optional":true,"field":"c"}]} } "#;
    let datum = decode(text).unwrap();
    assert_eq!(datum.value, Value::Struct(vec![1.into(), "y".into(), Value::Null]));
}

#[test]
fn errors_read_as_in_java() {
    assert!(
        error("{\"a\":1}").starts_with("JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields")
    );
    assert!(error("null").starts_with("JsonConverter with schemas.enable"));
    assert!(error("").starts_with("JsonConverter with schemas.enable"));
    assert!(error(r#"{"schema":{"type":"int8"},"payload":1,"x":2}"#).starts_with("JsonConverter with schemas.enable"));
    assert_eq!(error("{"), "Converting byte[] to Kafka Connect data failed due to serialization error: ");
    for (schema, payload, text) in [
        (r#"{}"#, "1", "Schema must contain 'type' field"),
        (r#"{"type":"x"}"#, "1", "Unknown schema type: x"),
        (r#"{"type":"array"}"#, "1", "Array schema did not specify the element type"),
        (r#"{"type":"struct"}"#, "1", "Struct schema's \"fields\" argument is not an array."),
        (r#"{"type":"struct","fields":[{"type":"int8"}]}"#, "{}", "Struct schema's field name not specified properly"),
        (r#"{"type":"int8","parameters":{"a":1}}"#, "1", "Schema parameters must have string values."),
        (r#"{"type":"int32"}"#, "null", "Invalid null value for required INT32 field"),
        (r#"{"type":"struct","fields":[]}"#, "1", "Structs should be encoded as JSON objects, but found NUMBER"),
        (
            r#"{"type":"map","keys":{"type":"int8"},"values":{"type":"int8"}}"#,
            "[[1]]",
            "Found invalid map entry, expected length 2 but found :1",
        ),
        (
            r#"{"type":"int32","name":"org.apache.kafka.connect.data.Date"}"#,
            "\"x\"",
            "Invalid type for Date, underlying representation should be integer but was STRING",
        ),
    ] {
        assert_eq!(error(&format!(r#"{{"schema":{schema},"payload":{payload}}}"#)), text);
    }
    let required = Datum::new(Arc::new(Schema::new(Type::Int32)), Value::Null);
    let mut out = BytesMut::new();
    assert_eq!(
        converter(&[]).write(required.schema.as_ref(), &required.value, &mut out).unwrap_err().to_string(),
        "Conversion error: null value for field that is required and has no default value"
    );
    let wrong = Datum::new(Arc::new(Schema::new(Type::Int32)), "x".into());
    assert_eq!(
        converter(&[]).write(wrong.schema.as_ref(), &wrong.value, &mut out).unwrap_err().to_string(),
        "Invalid type for INT32: class java.lang.String"
    );
}

#[test]
fn scalars_convert_as_jackson_does() {
    for (kind, payload, value) in [
        ("int8", "300", Value::Int8(44)),
        ("int32", "1e10", Value::Int32(1_410_065_408)),
        ("int32", "\"5\"", Value::Int32(0)),
        ("int64", "1.9", Value::Int64(1)),
        ("int64", "9223372036854775808", Value::Int64(i64::MIN)),
        ("boolean", "\"true\"", Value::Boolean(false)),
        ("int64", "1e999999999", Value::Int64(0)),
        ("int64", "1e-999999999", Value::Int64(0)),
        ("double", "\"NaN\"", Value::Float64(f64::NAN)),
        ("double", "7", Value::Float64(7.0)),
    ] {
        let read = decode(&format!(r#"{{"schema":{{"type":"{kind}"}},"payload":{payload}}}"#)).unwrap().value;
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
    }
    let read = decode(r#"{"schema":{"type":"string","optional":true},"payload":5}"#).unwrap().value;
    assert!(read.is_null());
    let text = decode(r#"{"schema":{"type":"string"},"payload":"\u00e9\ud83d\ude00\n\/"}"#).unwrap().value;
    assert_eq!(text, "é😀\n/".into());
}

#[test]
fn deep_nesting_is_refused() {
    let mut plain = converter(&[("schemas.enable", "false")]);
    for open in ["[", "{\"a\":"] {
        assert!(read_with(&mut plain, open.repeat(100_000).as_bytes()).is_err());
        assert!(decode(&format!("{{\"schema\":{}", open.repeat(100_000))).is_err());
    }
}

/// Values with schemas, nested a few levels.
fn datum() -> impl Strategy<Value = (Schema, Value)> {
    let leaf = prop_oneof![
        any::<i8>().prop_map(|n| (Schema::new(Type::Int8), Value::Int8(n))),
        any::<i64>().prop_map(|n| (Schema::new(Type::Int64), Value::Int64(n))),
        any::<i64>().prop_map(|n| (timestamp(), Value::Int64(n))),
        any::<i32>().prop_map(|n| (Schema::new(Type::Int32).optional(), Value::Int32(n))),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| (Schema::new(Type::Float64), Value::Float64(n))),
        any::<f32>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| (Schema::new(Type::Float32), Value::Float32(n))),
        any::<bool>().prop_map(|b| (Schema::new(Type::Boolean), Value::Boolean(b))),
        any::<String>().prop_map(|s| (Schema::new(Type::String).with_doc("d"), Value::from(s))),
        any::<Vec<u8>>().prop_map(|b| (Schema::new(Type::Bytes), Value::Bytes(b.into()))),
        Just((Schema::new(Type::String).optional(), Value::Null)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| {
                let (schemas, values): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
                let fields = schemas.into_iter().enumerate().map(|(i, s)| Field::new(format!("f{i}\""), Arc::new(s)));
                (Schema::structure(fields.collect()).with_name("n.S"), Value::Struct(values))
            }),
            inner.clone().prop_map(|(s, v)| (Schema::array(Arc::new(s)), Value::Array(vec![v.clone(), v]))),
            inner.prop_map(|(s, v)| {
                let keys = Arc::new(Schema::new(Type::Int32));
                (Schema::map(keys, Arc::new(s)), Value::Map(vec![(Value::Int32(1), v)]))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((schema, value) in datum()) {
        let mut converter = converter(&[]);
        let mut out = BytesMut::new();
        let datum = Datum::new(Arc::new(schema), value);
        converter.write(datum.schema.as_ref(), &datum.value, &mut out).unwrap();
        let bytes = out.freeze();
        prop_assert_eq!(&read_with(&mut converter, &bytes).unwrap(), &datum);
        prop_assert_eq!(&read_with(&mut converter, &bytes).unwrap(), &datum);
        for end in 0..bytes.len() {
            let _ = read_with(&mut converter, &bytes[..end]);
        }
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "[\\[\\]{}\":,\\\\0-9eEu.+a-z-]*") {
        let mut plain = converter(&[("schemas.enable", "false")]);
        let _ = read_with(&mut plain, &bytes);
        let _ = read_with(&mut plain, text.as_bytes());
        let _ = read_with(&mut converter(&[]), &bytes);
        let _ = decode(&format!("{{\"schema\":{text},\"payload\":1}}"));
        let _ = decode(&format!("{{\"schema\":{{\"type\":\"int32\"}},\"payload\":{text}}}"));
    }
}
