//! Our answers against those of Avro Java 1.12.1 and Confluent's Avro client, byte for byte.

use serde_json::Value;
use towline_registry::compat::{Earlier, Level, avro::incompatibilities, check};
use towline_registry::schema::Guid;
use towline_registry::schema::avro::{Schema, Strictness};

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn text_of(schema: &Value) -> String {
    schema.as_str().map_or_else(|| schema.to_string(), str::to_owned)
}

/// In the compatibility file a bare string is a type name, in the other one it is a JSON text.
fn type_of(schema: &Value) -> Schema {
    Schema::parse(&schema.to_string()).unwrap()
}

#[test]
fn canonical_and_normalized_texts_are_those_of_java() {
    for case in lines(include_str!("../data/avro-canonical.jsonl")) {
        let strictness = if case["in"]["validate"] == true { Strictness::New } else { Strictness::Stored };
        let parsed = Schema::parse_with(&text_of(&case["in"]["schema"]), &[], strictness);
        let out = &case["out"];
        match (parsed, out.get("error")) {
            (Ok(schema), None) => {
                let guid = Guid::of(&schema.canonical(), &[], None, None);
                assert_eq!(guid.to_string(), out["guid"].as_str().unwrap(), "{case}");
                assert_eq!(schema.canonical(), out["canonical"].as_str().unwrap(), "{case}");
                assert_eq!(schema.normalized().unwrap().canonical(), out["normalized"].as_str().unwrap(), "{case}");
            }
            (Err(err), Some(expected)) => {
                let expected = expected.as_str().unwrap();
                assert_eq!(err.message(), expected.split_once(": ").unwrap().1, "{case}");
            }
            (parsed, _) => panic!("{parsed:?} for {case}"),
        }
    }
}

#[test]
fn compatibility_messages_are_those_of_java() {
    let mut failures = Vec::new();
    for case in lines(include_str!("../data/avro-compatibility.jsonl")) {
        let level: Level = case["in"]["level"].as_str().unwrap().parse().unwrap();
        let new = type_of(&case["in"]["new"]);
        let mut earlier: Vec<Earlier<Schema>> = (1..)
            .zip(case["in"]["old"].as_array().unwrap())
            .map(|(version, old)| {
                let schema = type_of(old);
                Earlier { version, text: schema.canonical(), schema }
            })
            .collect();
        earlier.reverse();
        let messages = check(level, &new, &earlier, incompatibilities);
        assert_eq!(messages.is_empty(), case["out"]["compatible"] == true, "{case}");
        if serde_json::json!(messages) != case["out"]["messages"] {
            failures.push((messages, case));
        }
    }
    assert!(failures.is_empty(), "{} differ, first: {:#?}", failures.len(), failures[0]);
}
