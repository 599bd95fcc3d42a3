//! What holds for every schema: printing and parsing are inverse, nothing panics.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};
use towline_registry::compat::{Role, avro::incompatibilities};
use towline_registry::schema::avro::{Schema, Strictness};

/// Any schema; names are numbered afterwards so that none is defined twice.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
            .prop_map(Value::from),
        Just(json!({"type": "int", "logicalType": "date", "connect.version": 1})),
        (0u32..9).prop_map(|size| json!({"type": "fixed", "name": "N", "size": size})),
        Just(json!({"type": "enum", "name": "N", "symbols": ["A", "B"], "default": "B", "doc": "d\n%s"})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items, "p": 1.5e10})),
            inner.clone().prop_map(|values| json!({"type": "map", "values": values})),
            (prop::collection::vec(inner, 0..4), any::<bool>(), any::<Option<String>>()).prop_map(
                |(types, spaced, doc)| {
                    let fields: Vec<Value> = types
                        .into_iter()
                        .enumerate()
                        .map(|(i, kind)| json!({"name": format!("f{i}"), "type": kind, "doc": doc, "aliases": ["x"]}))
                        .collect();
                    let mut record = json!({"type": "record", "name": "N", "fields": fields});
                    if spaced {
                        record["namespace"] = "a.b".into();
                        record["aliases"] = json!(["Old", "c.Older"]);
                    }
                    record
                }
            ),
        ]
    })
    .prop_map(|mut schema| {
        number_names(&mut schema, &mut 0);
        schema
    })
}

fn number_names(schema: &mut Value, next: &mut u32) {
    if schema.get("name").is_some_and(|name| name == "N") {
        schema["name"] = format!("N{next}").into();
        *next += 1;
    }
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| number_names(item, next)),
        Value::Object(members) => members.values_mut().for_each(|member| number_names(member, next)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(json in schema()) {
        let parsed = Schema::from_json(&json).unwrap();
        let again = Schema::parse_with(&parsed.canonical(), &[], Strictness::New).unwrap();
        prop_assert_eq!(again.canonical(), parsed.canonical());
        prop_assert!(again.same_as(&parsed));
        let normalized = parsed.normalized().unwrap();
        prop_assert_eq!(normalized.normalized().unwrap().canonical(), normalized.canonical());
    }

    #[test]
    fn every_schema_reads_its_own_data(json in schema()) {
        let parsed = Schema::from_json(&json).unwrap();
        let problems = incompatibilities(&parsed, &parsed.clone(), Role::New);
        // Fields here share an alias, which only matters when a writer has a field of that name.
        prop_assert!(problems.is_empty(), "{:?}", problems);
    }

    #[test]
    fn backward_and_forward_are_each_others_mirror(left in schema(), right in schema()) {
        let (left, right) = (Schema::from_json(&left).unwrap(), Schema::from_json(&right).unwrap());
        let (new, old) = (incompatibilities(&left, &right, Role::New), incompatibilities(&left, &right, Role::Old));
        prop_assert_eq!(new.len(), old.len());
    }

    #[test]
    fn any_text_parses_or_fails_without_panic(text in ".{0,80}") {
        let _ = Schema::parse(&text);
        let _ = Schema::parse(&format!("{{\"type\":\"record\",\"name\":\"A\",\"fields\":[{text}]}}"));
    }
}

#[test]
fn comments_forward_references_and_deep_nesting_are_handled() {
    let commented = "/* c */ {\"type\":\"array\", // items\n\"items\":\"string\",\"p\":\"/*kept*/\"}";
    assert_eq!(Schema::parse(commented).unwrap().canonical(), r#"{"type":"array","items":"string","p":"/*kept*/"}"#);
    let forward = r#"{"type":"record","name":"A","fields":[{"name":"b","type":"B"},{"name":"c","type":{"type":"fixed","name":"B","size":1}}]}"#;
    let defined_first = r#"{"type":"record","name":"A","fields":[{"name":"b","type":{"type":"fixed","name":"B","size":1}},{"name":"c","type":"B"}]}"#;
    assert_eq!(Schema::parse(forward).unwrap().canonical(), defined_first);
    assert_eq!(Schema::parse("\"Nope\"").unwrap_err().message(), "Undefined schema: Nope");
    assert_eq!(Schema::parse(r#"["int","int"]"#).unwrap_err().message(), "Duplicate in union:int");
    assert!(Schema::parse(r#"[["int"]]"#).is_err());
    assert!(Schema::parse(r#"{"type":{"type":"string"}}"#).is_err());

    // A chain of records through forward references is deep without being nested in the text.
    let link = |i: u32| {
        json!({"name": format!("f{i}"), "type": {"type": "record", "name": format!("R{i}"),
        "fields": [{"name": "next", "type": format!("R{}", i + 1)}]}})
    };
    let mut fields: Vec<Value> = (0..20_000).map(link).collect();
    fields.push(json!({"name": "last", "type": {"type": "record", "name": "R20000", "fields": []}}));
    let deep = json!({"type": "record", "name": "Top", "fields": fields});
    assert!(Schema::from_json(&deep).unwrap_err().message().contains("levels deep"));
}

#[test]
fn cycles_of_different_lengths_end_with_an_answer() {
    let cycle = |length: u32| {
        let mut next = json!("R0");
        for i in (0..length).rev() {
            let field = json!({"name": "next", "type": next});
            next = json!({"type": "record", "name": format!("R{i}"), "fields": [field]});
        }
        Schema::from_json(&next).unwrap()
    };
    let (reader, writer) = (cycle(31), cycle(37));
    assert!(!incompatibilities(&reader, &writer, Role::New).is_empty());
    assert!(!reader.same_as(&writer));
    assert!(incompatibilities(&reader, &cycle(31), Role::New).is_empty());
}
