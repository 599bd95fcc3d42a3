//! What converters and the commonest transform cost for a row of eight columns.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use towline::convert::{Converter, build};
use towline_connectors::TRANSFORMS;
use towline_connectors::api::{Props, Record};
use towline_connectors::data::{Datum, Field, Schema, Type, Value, timestamp};

fn row() -> Datum {
    let optional = |kind| Arc::new(Schema::new(kind).optional());
    let schema = Schema::structure(vec![
        Field::new("id", Arc::new(Schema::new(Type::Int64))),
        Field::new("timestamp", Arc::new(timestamp().optional())),
        Field::new("name", optional(Type::String)),
        Field::new("sepal_length", optional(Type::Float64)),
        Field::new("sepal_width", optional(Type::Float64)),
        Field::new("petal_length", optional(Type::Float64)),
        Field::new("active", optional(Type::Boolean)),
        Field::new("target", optional(Type::Int32)),
    ])
    .with_name("iris_data");
    let value = Value::Struct(vec![
        1_234_567i64.into(),
        1_709_209_845_123i64.into(),
        "a text of about thirty letters".into(),
        5.1.into(),
        3.5.into(),
        1.4.into(),
        true.into(),
        2.into(),
    ]);
    Datum::new(Arc::new(schema), value)
}

fn json() -> Box<dyn Converter> {
    build("org.apache.kafka.connect.json.JsonConverter", false, &Props::new()).expect("the class is known")
}

fn convert(c: &mut Criterion) {
    let datum = row();
    let mut out = BytesMut::new();
    let mut converter = json();
    c.bench_function("json encode", |b| {
        b.iter(|| {
            out.clear();
            converter.encode("t", datum.schema.as_ref(), &datum.value, &mut out).is_ok()
        });
    });
    let bytes = out.split().freeze();
    c.bench_function("json decode", |b| b.iter(|| converter.decode("t", Some(black_box(&bytes))).is_ok()));
}

fn transform(c: &mut Criterion) {
    let class = "org.apache.kafka.connect.transforms.TimestampConverter$Value";
    let build = |target: &str| {
        let props = [("field", "timestamp"), ("format", "yyyy-MM-dd HH:mm:ss.S"), ("target.type", target)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let spec = TRANSFORMS.iter().find(|spec| spec.class == class).expect("it is registered");
        (spec.build)(&props).expect("the config is right")
    };
    let record = Record::of_value(Arc::from("t"), row());
    let mut print = build("string");
    c.bench_function("record clone", |b| b.iter(|| black_box(&record).clone()));
    c.bench_function("timestamp to text, with clone", |b| b.iter(|| print.apply(black_box(&record).clone()).is_ok()));
    let text = print.apply(record.clone()).expect("it is a timestamp").expect("nothing is dropped");
    let mut parse = build("Timestamp");
    c.bench_function("text to timestamp, with clone", |b| b.iter(|| parse.apply(black_box(&text).clone()).is_ok()));
}

criterion_group!(benches, convert, transform);
criterion_main!(benches);
